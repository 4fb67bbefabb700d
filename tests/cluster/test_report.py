"""Promises: every figure that the dashboard knows is published by a job, those of the engines by role; what an accepted rollout costs
counts the GPUs of all roles."""

from __future__ import annotations

from collections import Counter

from cluster.committer import CommitStats
from cluster.dispatcher import Progress
from cluster.gauges import FIGURES
from cluster.report import by_role, live_metrics
from cluster.serving import Figures, FleetFigures


def test_every_figure_is_published() -> None:
    progress = Progress(
        planned=9, outcomes=Counter(accepted=4, rejected=1), completion_tokens=50, prompt_tokens=200, cached_tokens=150
    )
    teacher = FleetFigures(ready=2, wanted=3, running=7, kv_use_max=0.5, metrics_age_s=1.5, gpu_seconds=30)
    fleets = {"teacher": teacher, "user": FleetFigures(ready=1, wanted=1, gpu_seconds=10)}
    figures = Figures(limit=8, fleets=fleets, saved=CommitStats(buffered=3, oldest_s=2.5))
    found = by_role(live_metrics(progress, figures, 10.0))
    assert set().union(*found.values()) == set(FIGURES)
    assert (found[""]["commit_lag"], found[""]["buffered_rollouts"], found[""]["prefix_hit_rate"]) == (2.5, 3, 0.75)
    assert found[""]["gpu_s_per_accepted"] == 10
    assert (found["teacher"]["requests_running"], found["teacher"]["metrics_age"]) == (7, 1.5)
    assert (found["user"]["replicas_ready"], found["user"]["gpu_hours"]) == (1, 10 / 3600)


def test_without_models_there_are_no_engines() -> None:
    found = by_role(live_metrics(Progress(planned=1, outcomes=Counter(accepted=1)), Figures(), 1.0))
    assert list(found) == [""] and "gpu_s_per_accepted" not in found[""]
