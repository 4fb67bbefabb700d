"""A rollout as it is kept: everything that verifying it again needs, with no model and no GPU.

`Rollout` is frozen. `rollout_id` depends on what shapes the rollout and on nothing else, so that running the same job again makes
the same ids; that is what resume is built on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agentscaler.canonical import digest
from agentscaler.errors import FaultClass
from agentscaler.messages import Message
from agentscaler.rollout.limits import StopReason
from agentscaler.teachers.chat import TeacherIdentity
from agentscaler.verify.verdict import Verdict

if TYPE_CHECKING:
    from agentscaler.benchmark import AnyTask

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class UserIdentity:
    kind: str
    model: str = ""


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One attempt at one task, before it is played. `index` is its place in the plan's order; it shapes nothing."""

    task: AnyTask
    attempt: int
    rollout_id: str
    seed: int
    index: int = 0


@dataclass(frozen=True, slots=True)
class Timings:
    total_s: float = 0.0
    teacher_s: float = 0.0
    user_s: float = 0.0
    environment_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Rollout:
    rollout_id: str
    task_id: str
    task_digest: str
    kind: str
    domain: str
    domain_fingerprint: str
    world_seed: int
    attempt: int
    seed: int
    benchmark: bool
    teacher: TeacherIdentity
    user: UserIdentity
    unmatched_questions: int
    messages: tuple[Message, ...]
    tools: str
    state_changes: str
    net_keys: tuple[str, ...]
    stop_reason: StopReason
    verdict: Verdict
    timings: Timings
    created_at: str
    config_digest: str
    schema_version: int = SCHEMA_VERSION

    def with_verdict(self, verdict: Verdict) -> Rollout:
        return replace(self, verdict=verdict)


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """A row of the attempts sidecar: an attempt that ended in a fault. `retried`: another try of the same attempt followed."""

    rollout_id: str
    task_id: str
    attempt: int
    trial: int
    fault: FaultClass
    words: str
    retried: bool
    created_at: str


def now_text() -> str:
    """The wall clock, for people; nothing is decided by it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def rollout_name(task_digest: str, attempt: int, teacher: TeacherIdentity, user: UserIdentity, run_seed: int) -> str:
    """What shapes a rollout, and nothing else."""
    parts: list[Any] = [
        task_digest,
        [teacher.model, teacher.revision, teacher.sampling],
        [user.kind, user.model],
        attempt,
        run_seed,
    ]
    return digest(parts)


def work_item(
    task: AnyTask, attempt: int, teacher: TeacherIdentity, user: UserIdentity, run_seed: int, index: int = 0
) -> WorkItem:
    """Names the attempt. The seed is 32 bits of the same digest, so attempts differ and repeat."""
    name = rollout_name(task.task_digest, attempt, teacher, user, run_seed)
    return WorkItem(task, attempt, name, int(name[:8], 16), index)
