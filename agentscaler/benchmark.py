"""Tasks and domains of public benchmarks, as they travel beside our own: in tasks.parquet, domains.parquet and to the workers.

They hold the benchmark's own record of the task, and what its package or data must be for it to be played again. Everything that is
specific to a benchmark is in its adapter (`adapters/<benchmark>/`): `load.py` reads tasks and domains, `scene.py` opens a scene on one.

A rollout on one of these is always marked `benchmark`: it measures, and is no data to train on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from agentscaler.canonical import digest
from agentscaler.domain.domain import Domain
from agentscaler.tasks.task import Task
from agentscaler.world.changeset import Diff

Benchmark = Literal["tau2", "bfcl", "acebench"]


class BenchmarkDomain(BaseModel):
    """`version` of the benchmark's package or data; `source`: where its adapter finds the domain (a name, an import path, a folder);
    `prompt` and `tools` as agents are told, where all tasks of the domain share them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    benchmark: Benchmark
    name: str
    version: str
    source: str = ""
    prompt: str = ""
    tools: tuple[dict[str, Any], ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """Where the data lies does not count."""
        return digest(self.model_dump(mode="json", exclude={"source"}))

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


class BenchmarkTask(BaseModel):
    """`kind` is the benchmark's own category, `num_calls` the length of its reference, `data` its own record of the task."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    benchmark: Benchmark
    domain: str
    domain_fingerprint: str
    name: str
    kind: str
    num_calls: int
    intent: str
    data: dict[str, Any]

    @property
    def task_id(self) -> str:
        return f"{self.benchmark}/{self.domain}/{self.name}"

    @property
    def world_seed(self) -> int:
        return 0

    @property
    def source(self) -> str:
        return self.benchmark

    @cached_property
    def task_digest(self) -> str:
        return digest(self.model_dump(mode="json"))


@dataclass(frozen=True, slots=True)
class Loaded:
    """What an adapter's `load` found. `broken`: a line for each task that cannot be played, why; those are in no figure. `notes`: what a
    reader of the figures must know of the benchmark's data."""

    tasks: list[BenchmarkTask]
    domains: list[BenchmarkDomain]
    broken: list[str]
    notes: tuple[str, ...] = ()


def diff_of(changes: Mapping[tuple[str, str], tuple[Any, Any]]) -> Diff:
    """What changed in a foreign world in the form of our own diffs, so that whatever shows one shows the other. `changes`: by table (or
    what comes nearest) and key, the value before and after; None where there was or is none. Of objects the parts that differ are told."""
    found: Diff = {}
    for (table, key), (before, after) in sorted(changes.items()):
        op = "insert" if before is None else "delete" if after is None else "update"
        found.setdefault(table, []).append({"op": op, "key": {"key": key}, "columns": _columns(before, after)})
    return found


def _columns(before: Any, after: Any) -> dict[str, Any]:
    if after is None:
        return {}
    if not isinstance(after, dict):
        return {"value": after}
    old = before if isinstance(before, dict) else {}
    return {name: after.get(name) for name in {**old, **after} if name not in old or old[name] != after.get(name)}


AnyDomain = Domain | BenchmarkDomain
AnyTask = Task | BenchmarkTask
