"""The job's live figures as Prometheus metrics, through Ray's own exporter.

Owns the table of names (`FIGURES`) and `publish`. A figure `in_flight` is the metric `agentscaler_in_flight`; Ray exports it as
`ray_agentscaler_in_flight`, and a counter with `_total` behind it (`exported_name`). Invariants: no name outside the table is ever
published; a counter takes the total so far and never goes down; without Ray every call does nothing, so that callers need not ask.
`write_targets` tells Prometheus where the engines are, whose own metrics (`vllm:…`) we do not repeat.

It decides nothing and computes no figure: the driver does, once a tick. One caller, in one process.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from ray.util.metrics import Counter, Gauge

PREFIX = "agentscaler_"
RAY_PREFIX = "ray_"
# `run` tells jobs on one cluster apart; `role` the fleets of a job (teacher, user), empty for what is of the whole job.
TAG_KEYS = ("run", "role")


@dataclass(frozen=True, slots=True)
class Figure:
    kind: Literal["counter", "gauge"]
    unit: str
    description: str


FIGURES: dict[str, Figure] = {
    # the work
    "rollouts_finished": Figure(
        "counter", "rollouts", "Rollouts that ended, whatever the verdict; void work is among them"
    ),
    "rollouts_accepted": Figure("counter", "rollouts", "Rollouts whose world ended as the reference's"),
    "rollouts_rejected": Figure("counter", "rollouts", "Rollouts that the verifier rejected"),
    "rollouts_void": Figure("counter", "rollouts", "Rollouts that a fault ended for good; never data"),
    "attempts_failed": Figure("counter", "attempts", "Tries that ended in a fault, retried ones among them"),
    "planned": Figure("gauge", "rollouts", "Rollouts that the plan holds"),
    "resumed": Figure("gauge", "rollouts", "Rollouts that were committed before this run began"),
    "in_flight": Figure("gauge", "rollouts", "Rollouts being played"),
    "admission_limit": Figure("gauge", "rollouts", "Rollouts that may be in flight now"),
    # the engines
    "replicas_ready": Figure("gauge", "replicas", "Engines that take requests"),
    "replicas_wanted": Figure("gauge", "replicas", "Engines that there should be"),
    "kv_use_mean": Figure("gauge", "ratio", "Part of the KV cache in use, mean over the engines"),
    "kv_use_max": Figure("gauge", "ratio", "Part of the KV cache in use, of the fullest engine"),
    "requests_running": Figure("gauge", "requests", "Requests being computed, over all engines"),
    "requests_waiting": Figure("gauge", "requests", "Requests queued inside engines, over all of them"),
    "preemptions": Figure("counter", "requests", "Requests put out of the KV cache to be computed again"),
    "prefix_hit_rate": Figure(
        "gauge", "ratio", "Prompt tokens found in the prefix cache, of all prompt tokens of this run"
    ),
    "metrics_age": Figure(
        "gauge", "s", "Age of the oldest engine figures in use; admission does not grow on stale ones"
    ),
    "prompt_tokens": Figure("counter", "tokens", "Prompt tokens of finished rollouts"),
    "output_tokens": Figure("counter", "tokens", "Output tokens of finished rollouts"),
    "engine_restarts": Figure("counter", "restarts", "Engines started again after they died or hung"),
    "gpu_hours": Figure("counter", "GPU-hours", "GPUs held by engines, times hours"),
    "gpu_s_per_accepted": Figure("gauge", "GPU-s", "GPU-seconds so far, over accepted rollouts so far"),
    # the harness
    "worker_processes": Figure("gauge", "processes", "Environment actors alive"),
    "worker_restarts": Figure("counter", "restarts", "Environment actors, dispatchers and committers started again"),
    "loop_lag_p95": Figure("gauge", "s", "How late the workers' event loops wake, 95th percentile of the worst worker"),
    "buffered_rollouts": Figure("gauge", "rollouts", "Rollouts handed in and in no committed shard yet"),
    "commit_lag": Figure("gauge", "s", "Age of the oldest rollout that no committed shard holds yet"),
}


class Totals:
    """From totals so far to what a counter must be raised by. A total that falls (an engine began at 0 again) raises nothing and is
    the new floor: too little is counted once, never too much."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, ...], float] = {}

    def rise(self, key: tuple[str, ...], total: float) -> float:
        before = self._last.get(key, 0.0)
        self._last[key] = total
        return max(0.0, total - before)


_made: dict[str, Counter | Gauge] = {}
_totals = Totals()
_session: str | None = None


def publish(figures: Mapping[str, float], tags: Mapping[str, str] | None = None) -> None:
    """Set gauges and raise counters to the totals given. What is not finite is left out: it is no figure yet."""
    unknown = [name for name in figures if name not in FIGURES]
    wrong_tags = [key for key in tags or {} if key not in TAG_KEYS]
    if unknown or wrong_tags:
        raise KeyError(f"no such figure or tag: {', '.join(unknown + wrong_tags)}")
    if not _open():
        return
    labels = {key: (tags or {}).get(key, "") for key in TAG_KEYS}
    for name, value in figures.items():
        if not math.isfinite(value):
            continue
        if FIGURES[name].kind == "gauge":
            _gauge(name).set(float(value), labels)
        elif (step := _totals.rise((name, *labels.values()), float(value))) > 0:
            _counter(name).inc(step, labels)


def exported_name(name: str) -> str:
    """What Prometheus sees."""
    return f"{RAY_PREFIX}{PREFIX}{name}" + ("_total" if FIGURES[name].kind == "counter" else "")


def write_targets(path: Path, engines: Mapping[str, Sequence[str]]) -> None:
    """The engines' addresses by role, as Prometheus reads them (`file_sd_configs`); written anew whenever the fleet changes."""
    groups = [
        {"targets": sorted({urlsplit(url).netloc for url in urls}), "labels": {"role": role}}
        for role, urls in sorted(engines.items())
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(json.dumps(groups, indent=2) + "\n")
    temporary.replace(path)  # Prometheus may read at any moment


def _open() -> bool:
    """Whether there is a Ray to publish through. In a new session of Ray everything is made anew."""
    global _session, _totals
    ray = sys.modules.get("ray")  # who has not imported it has not started it
    if ray is None or not ray.is_initialized():
        return False
    context = ray.get_runtime_context()
    session = f"{context.gcs_address} {context.get_job_id()}"
    if session != _session:
        _session = session
        _made.clear()
        _totals = Totals()
    return True


def _gauge(name: str) -> Gauge:
    from ray.util.metrics import Gauge

    metric = _made.get(name) or _made.setdefault(name, Gauge(PREFIX + name, _description(name), TAG_KEYS))
    assert isinstance(metric, Gauge)
    return metric


def _counter(name: str) -> Counter:
    from ray.util.metrics import Counter

    metric = _made.get(name) or _made.setdefault(name, Counter(PREFIX + name, _description(name), TAG_KEYS))
    assert isinstance(metric, Counter)
    return metric


def _description(name: str) -> str:
    return f"{FIGURES[name].description} ({FIGURES[name].unit})"
