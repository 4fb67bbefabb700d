"""What a rollout job reports: live figures to the tracker while it runs, and the summary of the whole folder at its end.

Invariant: counts in the summary are read from the committed shards, so that resumed work is in them and uncommitted work is not.
Tracking never decides anything: without a tracker the job runs the same.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from heapq import nsmallest
from types import TracebackType
from typing import Any, Self

import orjson
import polars as pl
import pyarrow as pa

from agentscaler.canonical import digest
from agentscaler.rollout.record import Rollout
from agentscaler.shards import schema
from agentscaler.shards.files import committed_batches, read_chosen, shard_paths
from agentscaler.shards.manifest import SHARDS
from agentscaler.shards.storage import AnyPath, write_text
from cluster.config import RolloutConfig
from cluster.dispatcher import Progress
from cluster.gauges import publish
from cluster.handles import NEAR_DRIVER, Crew, Handle, PartGone
from cluster.plan import Plan, describe, tasks_digest
from cluster.rollouts import Ran
from cluster.serving import Figures
from cluster.tracker import Tracker

log = logging.getLogger(__name__)
SUMMARY_FILE = "summary.json"
STAGES = ("validity", "state_match", "call_match")


class Report:
    """The tracker's side of a job, and Prometheus's. Use as a context manager; a run that leaves by an exception is marked FAILED.

    A tracker that dies is replaced and goes on with the same run; what it had been sent and not written is lost, figures a tick old."""

    def __init__(self, config: RolloutConfig, plan: Plan, uri: str, crew: Crew, job: str = "rollout"):
        self._job = job
        self._config, self._plan, self._uri, self._crew = config, plan, uri, crew
        self._tracker: Handle | None = None
        self._last_tick = 0.0
        self._step = 0
        self._ended = False
        self._at_end: list[tuple[str, tuple[Any, ...]]] = []
        self.run_id: str | None = None

    def __enter__(self) -> Self:
        tracking = self._config.tracking
        if tracking.kind == "none":
            return self
        self._tracker = self._new_tracker()
        tags = {"output": str(self._plan.output), "shape": self._config.shape_digest()}
        self.run_id = self._ask("start", self._job, describe(self._config), tags)
        if self.run_id is None:
            if not self._crew.shares_memory:  # an actor's own warning stays in Ray's logs
                log.warning("tracking.uri=%s cannot be reached, so this job is not tracked in MLflow", self._uri)
            self._tracker = None
            return self
        self._send("config", self._plan.config_text)
        self._send(
            "dataset",
            "tasks",
            tasks_digest(self._plan.tasks_path),
            str(self._plan.tasks_path),
            self._plan.num_tasks,
            "input",
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._ended:
            self._ask("finish", {}, "FAILED")

    def tick(self, progress: Progress, figures: Figures, seconds: float) -> None:
        if time.monotonic() - self._last_tick < self._config.tracking.tick_s:
            return
        self._last_tick = time.monotonic()
        self._step += 1
        values = live_metrics(progress, figures, seconds)
        run = self.run_id or self._plan.output.name
        for role, exported in by_role(values).items():
            publish(exported, {"run": run, "role": role})
        self._send("metrics", values, self._step)

    def at_end(self, method: str, *args: Any) -> None:
        """For the tracker, after the job's own figures and before the run ends."""
        self._at_end.append((method, args))

    def end(self, summary: dict[str, Any], ran: Ran) -> None:
        """Funnel, sample of traces, lineage, final figures."""
        self._send("metrics", live_metrics(ran.progress, ran.figures, ran.seconds), self._step + 1)
        accepted, stages = summary["accepted"], summary["rejected_by_stage"]
        finished = accepted + summary["rejected"]
        if self._tracker is not None:
            self._send(
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
            self._send("by_kind", kinds_by_end(self._plan.output))
            shards = [path.name for path in shard_paths(self._plan.output)]
            lineage = digest([shards, schema.SCHEMA_VERSION])
            self._send("dataset", "rollouts", lineage, str(self._plan.output), finished, "output")
            for rollout in sample_rollouts(self._plan.output, self._config.tracking.traces):
                self._send("rollout", rollout)
        for method, args in self._at_end:
            self._send(method, *args)
        self._ask("finish", summary, "FINISHED")
        self._ended = True

    def _new_tracker(self) -> Handle:
        return self._crew.spawn(Tracker, self._uri, self._config.tracking.experiment, needs=NEAR_DRIVER)

    def _ask(self, method: str, *args: Any) -> Any:
        if self._tracker is None:
            return None
        try:
            return self._tracker.ask(method, *args)
        except PartGone as gone:
            self._replace(gone)
            return self._tracker.ask(method, *args)

    def _send(self, method: str, *args: Any) -> None:
        if self._tracker is None:
            return
        if gone := self._tracker.lost():
            self._replace(gone)
        self._tracker.send(method, *args)

    def _replace(self, gone: PartGone) -> None:
        log.warning("the tracker died (%s): another goes on with the run", gone)
        self._tracker = self._new_tracker()
        if self.run_id is not None:
            self._tracker.send("go_on", self.run_id)


def live_metrics(progress: Progress, figures: Figures, seconds: float) -> dict[str, float]:
    seconds = max(seconds, 1e-6)
    values: dict[str, float | int] = {
        "planned": progress.planned,
        "resumed": progress.resumed,
        "finished": progress.finished,
        "accepted": progress.outcomes["accepted"],
        "rejected": progress.outcomes["rejected"],
        "void": progress.outcomes["void"],
        "skipped": progress.outcomes["skipped"],
        "in_flight": progress.in_flight,
        "limit": figures.limit,
        "rollouts_per_s": progress.finished / seconds,
        "tokens_per_s": progress.completion_tokens / seconds,
        "prompt_tokens": progress.prompt_tokens,
        "completion_tokens": progress.completion_tokens,
        "failed_attempts": progress.num_faults,
        "quarantined_tasks": progress.quarantined,
        "workers": progress.workers,
        "worker_restarts": figures.worker_restarts + figures.epochs,
        "loop_lag_s": progress.lag_s,
        "buffered_rollouts": figures.saved.buffered,
        "commit_lag_s": figures.saved.oldest_s,
        "committed": figures.saved.committed,
    }
    values |= {f"rejected_{stage}": progress.stages[stage] for stage in STAGES}
    for role, fleet in figures.fleets.items():
        values |= {f"{role}/{key}": value for key, value in asdict(fleet).items() if key != "gpu_seconds"}
        values[f"{role}/gpu_hours"] = fleet.gpu_seconds / 3600
    if progress.prompt_tokens:
        values["prefix_cache_hit_rate"] = progress.cached_tokens / progress.prompt_tokens
    return {key: float(value) for key, value in values.items()}


# What a run page calls a figure, and what Prometheus does (gauges.py).
_EXPORTED = {
    "planned": "planned",
    "resumed": "resumed",
    "finished": "rollouts_finished",
    "accepted": "rollouts_accepted",
    "rejected": "rollouts_rejected",
    "void": "rollouts_void",
    "failed_attempts": "attempts_failed",
    "in_flight": "in_flight",
    "limit": "admission_limit",
    "prompt_tokens": "prompt_tokens",
    "completion_tokens": "output_tokens",
    "prefix_cache_hit_rate": "prefix_hit_rate",
    "workers": "worker_processes",
    "worker_restarts": "worker_restarts",
    "loop_lag_s": "loop_lag_p95",
    "buffered_rollouts": "buffered_rollouts",
    "commit_lag_s": "commit_lag",
}
_EXPORTED_OF_A_FLEET = {
    "ready": "replicas_ready",
    "wanted": "replicas_wanted",
    "restarts": "engine_restarts",
    "kv_use_max": "kv_use_max",
    "kv_use_mean": "kv_use_mean",
    "running": "requests_running",
    "waiting": "requests_waiting",
    "preemptions": "preemptions",
    "metrics_age_s": "metrics_age",
    "gpu_hours": "gpu_hours",
}


def by_role(values: dict[str, float]) -> dict[str, dict[str, float]]:
    """For Prometheus: by role, `""` for what is of the whole job."""
    found: dict[str, dict[str, float]] = {"": {}}
    for key, value in values.items():
        role, _, of_fleet = key.rpartition("/")
        if name := (_EXPORTED_OF_A_FLEET if role else _EXPORTED).get(of_fleet):
            found.setdefault(role, {})[name] = value
    if values["accepted"] and len(found) > 1:
        gpu_hours = sum(figures["gpu_hours"] for role, figures in found.items() if role)
        found[""]["gpu_s_per_accepted"] = 3600 * gpu_hours / values["accepted"]
    return found


def write_summary(
    plan: Plan, config: RolloutConfig, ran: Ran, report: Report, more: Mapping[str, Any] | None = None
) -> AnyPath:
    """`summary.json`: counts of the whole folder, rates of this run; `more` is added, and stands where both have a key."""
    planned = plan.num_tasks * config.attempts
    counts = count_committed(plan.output, config.attempts)
    seconds = max(ran.seconds, 1e-6)
    done = ran.progress.outcomes["accepted"] + ran.progress.outcomes["rejected"]
    skipped = ran.progress.outcomes["skipped"]
    accepted_now = max(1, ran.progress.outcomes["accepted"])
    summary: dict[str, Any] = {
        "planned": planned,
        **counts,
        "skipped": skipped,
        "void": planned - counts["accepted"] - counts["rejected"] - skipped,
        "resumed": ran.progress.resumed,
        "seconds": round(ran.seconds, 3),
        "rollouts_per_s": round(done / seconds, 3) if ran.seconds else 0.0,
        "tokens_per_s": round(ran.progress.completion_tokens / seconds, 3) if ran.seconds else 0.0,
        "prefix_cache_hit_rate": round(ran.progress.cached_tokens / ran.progress.prompt_tokens, 4)
        if ran.progress.prompt_tokens
        else None,
        "failed_attempts": ran.progress.num_faults,
        "quarantined_tasks": ran.progress.quarantined,
        "restarts": {
            "engines": ran.figures.engine_restarts,
            "workers": ran.figures.worker_restarts,
            "epochs": ran.figures.epochs,
        },
        "gpu_hours": round(ran.figures.gpu_seconds / 3600, 4),
        "gpu_hours_per_accepted": round(ran.figures.gpu_seconds / 3600 / accepted_now, 6),
        "tokens_per_accepted": round(ran.progress.completion_tokens / accepted_now, 1),
        "output": str(plan.output),
        "shards": [f"{SHARDS}/{path.name}" for path in shard_paths(plan.output)],
        "mlflow_run_id": report.run_id,
        "config_digest": config.shape_digest(),
        **(more or {}),
    }
    path = plan.output / SUMMARY_FILE
    write_text(path, orjson.dumps(summary, option=orjson.OPT_INDENT_2).decode() + "\n")
    report.end(summary, ran)
    return path


def count_committed(output: AnyPath, attempts: int) -> dict[str, Any]:
    """Accepted and rejected among the committed rollouts that this job plans; `accepted_with_writes` changed the world. An
    output holds the rollouts of its own tasks alone; a shard of them is held at a time."""
    counts: dict[str, Any] = {"accepted": 0, "accepted_with_writes": 0, "detour": 0, "rejected": 0}
    stages = dict.fromkeys(STAGES, 0)
    columns = ["attempt", "verdict.outcome", "verdict.stage", "verdict.detour", "state_changes"]
    for table in committed_batches(output, columns):
        frame = _frame(table).filter(pl.col("attempt") < attempts)
        accepted = frame.filter(pl.col("outcome") == "accepted")
        counts["accepted"] += len(accepted)
        counts["accepted_with_writes"] += int((accepted["state_changes"] != "{}").sum())
        counts["detour"] += int(accepted["detour"].sum())
        rejected = frame.filter(pl.col("outcome") == "rejected")
        counts["rejected"] += len(rejected)
        for stage, count in Counter(rejected["stage"].to_list()).items():
            stages[stage] += count
    return {**counts, "rejected_by_stage": stages}


def kinds_by_end(output: AnyPath) -> dict[str, dict[str, int]]:
    """kind -> {accepted, validity, state_match, call_match}: how its rollouts ended."""
    counts: Counter[tuple[str, str]] = Counter()
    for table in committed_batches(output, ["kind", "verdict.stage"]):
        frame = _frame(table)
        counts.update(zip(frame["kind"].to_list(), frame["stage"].fill_null("accepted").to_list(), strict=True))
    found: dict[str, dict[str, int]] = {}
    for (kind, end), count in sorted(counts.items()):
        found.setdefault(kind, {})[end] = count
    return found


def sample_rollouts(output: AnyPath, count: int) -> list[Rollout]:
    """Half accepted, half rejected where there are as many; the first of each by rollout id, which is as good as chance."""
    if not count:
        return []
    first: dict[str, list[str]] = {"accepted": [], "rejected": []}
    for table in committed_batches(output, ["rollout_id", "verdict.outcome"]):
        for (outcome,), frame in _frame(table).group_by("outcome"):
            first[str(outcome)] = nsmallest(count, first[str(outcome)] + frame["rollout_id"].to_list())
    accepted, rejected = first["accepted"], first["rejected"]
    half = min(len(accepted), max(count // 2, count - len(rejected)))
    chosen = {*accepted[:half], *rejected[: count - half]}
    return list(read_chosen(output, chosen.__contains__))


def _frame(table: pa.Table) -> pl.DataFrame:
    """The parts of the verdict as columns of their own."""
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame.unnest("verdict") if "verdict" in frame.columns else frame
