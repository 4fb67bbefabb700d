"""What a rollout job reports: live figures to the tracker while it runs, and the summary of the whole folder at its end.

Invariant: counts in the summary are read from the committed shards, so that resumed work is in them and uncommitted work is not.
Tracking never decides anything: without a tracker the job runs the same.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson
import polars as pl

from agentscaler.canonical import digest
from agentscaler.shards import schema
from agentscaler.shards.files import read_rollouts, shard_paths, write_text
from cluster.config import RolloutConfig
from cluster.dispatcher import Progress
from cluster.handles import Crew, Handle, InProcess
from cluster.plan import TASKS_FILE, Plan, describe
from cluster.rollouts import Ran
from cluster.tracker import Tracker

log = logging.getLogger(__name__)
SUMMARY_FILE = "summary.json"
STAGES = ("validity", "state_match", "call_match")


class Report:
    """The tracker's side of a job. Use as a context manager; a run that leaves by an exception is marked FAILED."""

    def __init__(self, config: RolloutConfig, plan: Plan, uri: str, crew: Crew):
        self._config, self._plan, self._uri, self._crew = config, plan, uri, crew
        self._tracker: Handle | None = None
        self._last_tick = 0.0
        self._step = 0
        self._ended = False
        self.run_id: str | None = None

    def __enter__(self) -> Self:
        tracking = self._config.tracking
        if tracking.kind == "none":
            return self
        self._tracker = self._crew.spawn(Tracker, self._uri, tracking.experiment, near_driver=True)
        tags = {"output": str(self._plan.output), "shape": self._config.shape_digest()}
        self.run_id = self._tracker.ask("start", "rollout", describe(self._config), tags)
        if self.run_id is None:
            if not isinstance(self._crew, InProcess):  # an actor's own warning stays in Ray's logs
                log.warning("tracking.uri=%s cannot be reached, so this job is not tracked in MLflow", self._uri)
            self._tracker = None
            return self
        self._tracker.send("config", self._plan.config_text)
        tasks = digest([task.task_digest for task in self._plan.tasks])
        self._tracker.send(
            "dataset", "tasks", tasks, str(self._plan.output / TASKS_FILE), len(self._plan.tasks), "input"
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tracker is not None and not self._ended:
            self._tracker.ask("finish", {}, "FAILED")

    def tick(self, progress: Progress, seconds: float) -> None:
        if self._tracker is None or time.monotonic() - self._last_tick < self._config.tracking.tick_s:
            return
        self._last_tick = time.monotonic()
        self._step += 1
        self._tracker.send("metrics", live_metrics(progress, seconds), self._step)

    def end(self, summary: dict[str, Any], ran: Ran) -> None:
        """Funnel, sample of traces, lineage, final figures."""
        if self._tracker is None:
            return
        self._tracker.send("metrics", live_metrics(ran.progress, ran.seconds), self._step + 1)
        accepted, stages = summary["accepted"], summary["rejected_by_stage"]
        finished = accepted + summary["rejected"]
        self._tracker.send(
            "funnel",
            {
                "planned": summary["planned"],
                "finished": finished,
                "valid": finished - stages["validity"],
                "state_match": finished - stages["validity"] - stages["state_match"],
                "accepted": accepted,
                "void": summary["void"],
            },
        )
        self._tracker.send("by_kind", kinds_by_end(self._plan.output))
        shards = [path.name for path in shard_paths(self._plan.output)]
        self._tracker.send(
            "dataset", "rollouts", digest([shards, schema.SCHEMA_VERSION]), str(self._plan.output), finished, "output"
        )
        for rollout in sample_rollouts(self._plan.output, self._config.tracking.traces):
            self._tracker.send("rollout", rollout)
        self._tracker.ask("finish", summary, "FINISHED")
        self._ended = True


def live_metrics(progress: Progress, seconds: float) -> dict[str, float]:
    seconds = max(seconds, 1e-6)
    values = {
        "finished": progress.finished,
        "accepted": progress.outcomes["accepted"],
        "rejected": progress.outcomes["rejected"],
        "void": progress.outcomes["void"],
        "in_flight": progress.in_flight,
        "rollouts_per_s": progress.finished / seconds,
        "tokens_per_s": progress.completion_tokens / seconds,
        "prompt_tokens": progress.prompt_tokens,
        "completion_tokens": progress.completion_tokens,
    }
    values |= {f"rejected_{stage}": progress.stages[stage] for stage in STAGES}
    if progress.prompt_tokens:
        values["prefix_cache_hit_rate"] = progress.cached_tokens / progress.prompt_tokens
    return {key: float(value) for key, value in values.items()}


def write_summary(plan: Plan, config: RolloutConfig, ran: Ran, report: Report) -> Path:
    """`summary.json`: counts of the whole folder, rates of this run."""
    planned = len(plan.tasks) * config.attempts
    counts = count_committed(plan.output, {task.task_digest for task in plan.tasks}, config.attempts)
    seconds = max(ran.seconds, 1e-6)
    done = ran.progress.outcomes["accepted"] + ran.progress.outcomes["rejected"]
    summary: dict[str, Any] = {
        "planned": planned,
        **counts,
        "void": planned - counts["accepted"] - counts["rejected"],
        "resumed": ran.progress.resumed,
        "seconds": round(ran.seconds, 3),
        "rollouts_per_s": round(done / seconds, 3) if ran.seconds else 0.0,
        "tokens_per_s": round(ran.progress.completion_tokens / seconds, 3) if ran.seconds else 0.0,
        "prefix_cache_hit_rate": round(ran.progress.cached_tokens / ran.progress.prompt_tokens, 4)
        if ran.progress.prompt_tokens
        else None,
        "output": str(plan.output),
        "shards": [str(path.relative_to(plan.output)) for path in shard_paths(plan.output)],
        "mlflow_run_id": report.run_id,
        "config_digest": config.shape_digest(),
    }
    path = plan.output / SUMMARY_FILE
    write_text(path, orjson.dumps(summary, option=orjson.OPT_INDENT_2).decode() + "\n")
    report.end(summary, ran)
    return path


def count_committed(output: Path, task_digests: set[str], attempts: int) -> dict[str, Any]:
    """Accepted and rejected among the committed rollouts that this job plans; `accepted_with_writes` changed the world."""
    paths = shard_paths(output)
    counts: dict[str, Any] = {"accepted": 0, "accepted_with_writes": 0, "detour": 0, "rejected": 0}
    stages = dict.fromkeys(STAGES, 0)
    if paths:
        table = (
            pl.scan_parquet(paths)
            .filter(pl.col("task_digest").is_in(list(task_digests)), pl.col("attempt") < attempts)
            .select(
                pl.col("verdict").struct.field("outcome"),
                pl.col("verdict").struct.field("stage"),
                pl.col("verdict").struct.field("detour"),
                (pl.col("state_changes") != "{}").alias("writes"),
            )
            .collect()
        )
        accepted = table.filter(pl.col("outcome") == "accepted")
        counts["accepted"] = len(accepted)
        counts["accepted_with_writes"] = int(accepted["writes"].sum())
        counts["detour"] = int(accepted["detour"].sum())
        rejected = table.filter(pl.col("outcome") == "rejected")
        counts["rejected"] = len(rejected)
        stages |= dict(Counter(rejected["stage"].to_list()))
    return {**counts, "rejected_by_stage": stages}


def kinds_by_end(output: Path) -> dict[str, dict[str, int]]:
    """kind -> {accepted, validity, state_match, call_match}: how its rollouts ended."""
    paths = shard_paths(output)
    if not paths:
        return {}
    ends = pl.col("verdict").struct.field("stage").fill_null("accepted").alias("end")
    table = pl.scan_parquet(paths).select("kind", ends).group_by("kind", "end").len().collect()
    found: dict[str, dict[str, int]] = {}
    for kind, end, count in sorted(table.iter_rows()):
        found.setdefault(kind, {})[end] = count
    return found


def sample_rollouts(output: Path, count: int) -> list[Any]:
    """Half accepted, half rejected where there are as many; the first of each by rollout id, which is as good as chance."""
    paths = shard_paths(output)
    if not paths or not count:
        return []
    names = (
        pl.scan_parquet(paths)
        .select("rollout_id", pl.col("verdict").struct.field("outcome"))
        .sort("rollout_id")
        .collect()
    )
    accepted = names.filter(pl.col("outcome") == "accepted")["rollout_id"].to_list()
    rejected = names.filter(pl.col("outcome") == "rejected")["rollout_id"].to_list()
    half = min(len(accepted), max(count // 2, count - len(rejected)))
    chosen = {*accepted[:half], *rejected[: count - half]}
    return [rollout for rollout in read_rollouts(output) if rollout.rollout_id in chosen]
