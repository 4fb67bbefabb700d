"""An evaluation: which tasks, and what came of them.

It runs as a rollout job does, through the same parts; every rollout of it is marked `benchmark`. Figures are read from the shards: a
trial counts as finished when it was judged. One that ended in a fault, or that needs a judge model, is in no rate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from importlib import import_module
from typing import Any, Literal

import polars as pl
from pydantic import ConfigDict, Field, model_validator

from agentscaler.adapters.acebench.scores import count_dialogues, scores
from agentscaler.benchmark import AnyTask, BenchmarkDomain, BenchmarkTask, Loaded
from agentscaler.canonical import digest
from agentscaler.domain.store import shipped_domains
from agentscaler.errors import ConfigError
from agentscaler.evaluation.passes import TaskTrials, figures
from agentscaler.rollout.limits import Limits, StopReason
from agentscaler.rollout.scenes import open_scene
from agentscaler.shards import schema
from agentscaler.shards.files import attempt_paths, committed_batches, read_rollouts, read_table, read_tasks
from agentscaler.tasks.load import TaskSource, open_tasks
from agentscaler.verify.verdict import VerdictOutcome
from cluster.config import RolloutConfig, _Frozen
from cluster.plan import Plan, tasks_digest


class BenchmarkChoice(_Frozen):
    """`path`: data that the user names (a task file, a folder, a checkout); `split` of the benchmark's tasks."""

    name: Literal["worlds", "tau2", "bfcl", "acebench"]
    path: str | None = None
    split: str | None = None


class EvaluateConfig(RolloutConfig):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    benchmark: BenchmarkChoice
    domains: tuple[str, ...] = ()
    attempts: int = Field(default=1, ge=1, alias="trials")
    export: bool = False

    @model_validator(mode="after")
    def _tasks_come_from_one_place(self) -> EvaluateConfig:
        name = self.benchmark.name
        if name != "worlds" and self.tasks != "written":
            raise ValueError(f"tasks: benchmark={name} has tasks of its own (tau2: benchmark.path names a task file)")
        if name in ("worlds", "bfcl") and self.benchmark.path is not None:
            raise ValueError(f"benchmark.path: benchmark={name} takes none")
        if self.tasks != "written" and self.domains:
            raise ValueError("domains: are not given with tasks=<file>, whose domains lie beside it")
        if self.export and name != "tau2":
            raise ValueError(f"export: there is no result format of benchmark={name}")
        return self

    @property
    def is_benchmark(self) -> bool:
        return True

    def shape(self) -> dict[str, Any]:
        """Where the benchmark's data lies and what is written beside the shards does not shape it: its tasks are compared one by one."""
        return {key: value for key, value in super().shape().items() if key not in ("benchmark.path", "export")}


def load_source(config: EvaluateConfig) -> tuple[TaskSource, Loaded]:
    """The tasks to play, and what else the adapter found. Raises ConfigError naming the key."""
    choice = config.benchmark
    if choice.name == "worlds":
        source = open_tasks(config.tasks, None) if config.tasks != "written" else _written(config.domains)
        return source, Loaded([], [], [])
    adapter = import_module(f"agentscaler.adapters.{choice.name}.load")
    loaded: Loaded = adapter.load(config.domains, choice.path, choice.split)
    if not loaded.tasks:
        raise ConfigError(f"benchmark={choice.name}: no task can be played: {'; '.join(loaded.broken[:3])}")
    domains = {domain.fingerprint: domain for domain in loaded.domains}
    return TaskSource(len(loaded.tasks), domains, tuple(loaded.tasks)), loaded


def _written(domains: tuple[str, ...]) -> TaskSource:
    sources = [open_tasks("written", name) for name in domains or shipped_domains()]
    tasks = tuple(task for source in sources for task in source.tasks())
    return TaskSource(len(tasks), {name: one for source in sources for name, one in source.domains.items()}, tasks)


def evaluation_figures(plan: Plan, loaded: Loaded) -> dict[str, Any]:
    """What an evaluation's summary says beyond a rollout job's."""
    tasks = {task.task_digest: task for task in read_tasks(plan.tasks_path)}
    finished, passed, ends = Counter[str](), Counter[str](), _Ends()
    causes: dict[str, str] = {}
    judged: list[tuple[str, int, bool]] = []  # task digest, attempt, whether it passed
    for table in committed_batches(plan.output, _COLUMNS):
        frame = pl.from_arrow(table)
        assert isinstance(frame, pl.DataFrame)
        for row in frame.filter(pl.col("attempt") < plan.attempts).iter_rows(named=True):
            ends.count(row)
            name, verdict = row["task_digest"], row["verdict"]
            if verdict["outcome"] != VerdictOutcome.VOID:
                judged.append((name, row["attempt"], verdict["outcome"] == VerdictOutcome.ACCEPTED))
                finished[name] += 1
                passed[name] += judged[-1][2]
                if verdict["outcome"] == VerdictOutcome.REJECTED:
                    causes.setdefault(name, f"{verdict['stage']}: {(verdict['reasons'] or [''])[0]}"[:300])
    trials = [
        TaskTrials(task.task_id, task.domain, str(task.kind), task.num_calls, finished[name], passed[name])
        for name, task in tasks.items()
    ]
    found = {
        "trials": plan.attempts,
        "tasks": len(tasks),
        "finished": finished.total(),
        "passed": passed.total(),
        **figures(trials, plan.attempts),
        **ends.figures(),
        "faults": _faults(plan),
        "do_nothing": do_nothing(plan, tasks.values()),
        "never_passed": {
            tasks[name].task_id: causes[name] for name in list(tasks) if name in causes and not passed[name]
        },
        "broken_tasks": loaded.broken,
        "notes": list(loaded.notes),
    }
    return found | _own_scores(plan, [(tasks[name], attempt, is_passed) for name, attempt, is_passed in judged])


_COLUMNS = ["task_digest", "attempt", "stop_reason", "verdict", "messages"]


class _Ends:
    """How conversations ended, and what they took."""

    def __init__(self) -> None:
        self.stop_reasons, self.user_ends = Counter[str](), Counter[str]()
        self.tokens = {"teacher": Counter[str](), "user": Counter[str]()}
        self.unjudged = self.passed_unchecked = 0

    def count(self, row: dict[str, Any]) -> None:
        self.stop_reasons[row["stop_reason"]] += 1
        verdict = row["verdict"]
        self.unjudged += verdict["outcome"] == VerdictOutcome.VOID
        # A benchmark's rules may let a wrong value pass; its adapter then says which.
        self.passed_unchecked += verdict["outcome"] == VerdictOutcome.ACCEPTED and bool(verdict["reasons"])
        last = row["messages"][-1]
        if last["role"] == "user" and "###" in last["content"]:
            self.user_ends[last["content"].split("###")[1].strip().lower()] += 1
        for message in row["messages"]:
            if message["usage"] and message["role"] in ("assistant", "user"):
                self.tokens["teacher" if message["role"] == "assistant" else "user"].update(message["usage"])

    def figures(self) -> dict[str, Any]:
        return {
            "unjudged": self.unjudged,
            "passed_unchecked": self.passed_unchecked,
            "stop_reasons": dict(sorted(self.stop_reasons.items())),
            "user_ends": dict(sorted(self.user_ends.items())),
            "tokens": {role: dict(counts) for role, counts in self.tokens.items() if counts},
        }


def _faults(plan: Plan) -> dict[str, int]:
    """Failed attempts by class: `user_fault` is the simulated user's, none of them the agent's."""
    counts = Counter[str]()
    for path in attempt_paths(plan.output):
        counts.update(read_table(path, schema.ATTEMPTS, ["fault"])["fault"].to_pylist())
    return dict(sorted(counts.items()))


def do_nothing(plan: Plan, tasks: Iterable[AnyTask]) -> dict[str, Any]:
    """The benchmark's own false passes: on how many tasks an agent is judged right that says and does nothing."""
    judged, passed = Counter[str](), Counter[str]()
    for task in tasks:
        scene = open_scene(task, plan.domains[task.domain_fingerprint])
        outcome = scene.judge(scene.opening, StopReason.AGENT_STOP).verdict.outcome
        scene.close()
        judged[task.domain] += outcome is not VerdictOutcome.VOID
        passed[task.domain] += outcome is VerdictOutcome.ACCEPTED
    return {
        "tasks": judged.total(),
        "passed": passed.total(),
        "rate": round(passed.total() / judged.total(), 4) if judged.total() else None,
        "by_domain": {name: {"tasks": judged[name], "passed": passed[name]} for name in sorted(judged)},
    }


def _own_scores(plan: Plan, judged: list[tuple[AnyTask, int, bool]]) -> dict[str, Any]:
    """A benchmark's own overall score, where it has one."""
    names = {domain.benchmark for domain in plan.domains.values() if isinstance(domain, BenchmarkDomain)}
    if names != {"acebench"}:
        return {}
    counted = count_dialogues(
        (task.kind, task.name, attempt, is_passed)
        for task, attempt, is_passed in judged
        if isinstance(task, BenchmarkTask)
    )
    return {"scores": scores(counted)}


def remarks(config: EvaluateConfig, loaded: Loaded) -> list[str]:
    """What whoever started the job should know before the figures come: a line each."""
    lines = [f"not played: {line}" for line in loaded.broken]
    scripted = config.benchmark.name == "tau2" and config.user.kind == "scripted"
    if scripted and config.teacher.kind in ("engine", "endpoint"):
        lines.append(
            "user=scripted follows the reference and is no person: for figures to compare with τ²-bench's take user=simulated"
        )
    return [*lines, *loaded.notes]


def closing_words(figures: dict[str, Any]) -> list[str]:
    """For the terminal: the rates, and what the benchmark itself lets pass."""
    rates = [
        f"pass^{k} {one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f})"
        for k, one in figures["pass_hat"].items()
        if one["value"] is not None
    ]
    nothing = ", ".join(f"{d['passed']} of {d['tasks']} on {n}" for n, d in figures["do_nothing"]["by_domain"].items())
    lines = [f"{figures['passed']} of {figures['finished']} trials passed; {', '.join(rates) or 'no rate'}"]
    return [*lines, f"an agent that does nothing passes {nothing}: the benchmark's own false passes"]


def run_label(config: EvaluateConfig, plan: Plan) -> str:
    sample = f", {plan.num_tasks} tasks" if config.tasks_sample else ""
    where = f" {', '.join(config.domains)}" if config.domains else ""
    return f"{plan.teacher.model} on {config.benchmark.name}{where}{sample}, user {plan.user.model or plan.user.kind}"


def comparison_key(config: EvaluateConfig, plan: Plan) -> str:
    """Names what may be compared: the same tasks under the same limits, judged in the same mode. Who plays may differ."""
    limits = config.limits.model_dump(mode="json")
    return digest([config.benchmark.name, tasks_digest(plan.tasks_path), config.verify.value, limits])


def export(plan: Plan, limits: Limits) -> None:
    """One file a domain in τ²'s own results format, under `results/`."""
    from agentscaler.adapters.tau2.export import write_results

    tasks = {task.task_digest: task for task in read_tasks(plan.tasks_path) if isinstance(task, BenchmarkTask)}
    for domain in plan.domains.values():
        rollouts = [one for one in read_rollouts(plan.output) if one.domain_fingerprint == domain.fingerprint]
        assert isinstance(domain, BenchmarkDomain)
        write_results(plan.output / "results" / f"{domain.name}.json", domain, tasks, rollouts, limits.model_dump())
