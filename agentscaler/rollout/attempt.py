"""The rollout boundary: one attempt from work item to record, faults recorded and retried up to a bound.

Invariant: `play` always returns. What it returns holds a rollout (accepted or rejected), or none (VOID), and one row for every trial
that ended in a fault. Nothing that a rollout does can stop the job; a fault that is our own bug is a row of class `unknown`, with the
traceback in the log.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from agentscaler.canonical import canonical_json
from agentscaler.domain.domain import Domain
from agentscaler.errors import FaultClass, RolloutFault
from agentscaler.rollout.converse import Conversation, Person, converse
from agentscaler.rollout.limits import Limits
from agentscaler.rollout.record import FailedAttempt, Rollout, UserIdentity, WorkItem
from agentscaler.tasks.task import Task
from agentscaler.teachers.chat import Teacher
from agentscaler.verify.funnel import VerifyMode, verify
from agentscaler.world.world import World

log = logging.getLogger(__name__)


class Users(Protocol):
    """Shared by many rollouts; `start` gives one rollout's person."""

    @property
    def identity(self) -> UserIdentity: ...

    def start(self, task: Task, seed: int, session: str) -> Person: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class PlaySettings:
    limits: Limits
    verify: VerifyMode
    config_digest: str
    max_trials: int = 3


@dataclass(slots=True)
class Played:
    rollout_id: str
    rollout: Rollout | None = None
    failures: list[FailedAttempt] = field(default_factory=list)


async def play(item: WorkItem, domain: Domain, teacher: Teacher, users: Users, settings: PlaySettings) -> Played:
    """Play one attempt, again after a retryable fault, at most `max_trials` times."""
    played = Played(item.rollout_id)
    for trial in range(1, settings.max_trials + 1):
        try:
            async with asyncio.timeout(settings.limits.timeout_s):
                played.rollout = await _play_once(item, domain, teacher, users, settings)
            return played
        except RolloutFault as fault:
            failure = (fault.fault, fault.words, fault.retryable)
        except TimeoutError:
            failure = (FaultClass.TIMEOUT, f"took longer than {settings.limits.timeout_s:g} s", True)
        except Exception as error:  # the rollout boundary: our bug in one rollout must not end the others
            log.exception("rollout %s of task %s", item.rollout_id, item.task.task_id)
            failure = (FaultClass.UNKNOWN, f"{type(error).__name__}: {error}", False)
        fault_class, words, retryable = failure
        again = retryable and trial < settings.max_trials
        played.failures.append(
            FailedAttempt(
                item.rollout_id, item.task.task_id, item.attempt, trial, fault_class, words[:1000], again, _now()
            )
        )
        if not again:
            break
    return played


async def _play_once(item: WorkItem, domain: Domain, teacher: Teacher, users: Users, settings: PlaySettings) -> Rollout:
    task = item.task
    world = World.of(domain, task.world_seed)
    environment = world.open()
    tools = [tool.schema_for_model() for tool in domain.tools_for("agent")]
    agent = teacher.start(task, domain, item.seed, item.rollout_id)
    person = users.start(task, item.seed, item.rollout_id)
    talk: Conversation = await converse(domain.system_prompt(), environment, agent, person, settings.limits)
    net_keys = environment.net_keys()
    diff = environment.close()
    assert talk.stop_reason is not None
    verdict = verify(task, talk.messages, talk.stop_reason, diff, net_keys, world.program.write_tools, settings.verify)
    return Rollout(
        rollout_id=item.rollout_id,
        task_id=task.task_id,
        task_digest=task.task_digest,
        kind=task.kind.value,
        domain=domain.name,
        domain_fingerprint=domain.fingerprint,
        world_seed=task.world_seed,
        attempt=item.attempt,
        seed=item.seed,
        benchmark=False,
        teacher=teacher.identity,
        user=users.identity,
        unmatched_questions=person.unmatched_questions,
        messages=tuple(talk.messages),
        tools=canonical_json(tools),
        state_changes=canonical_json(diff),
        net_keys=net_keys,
        stop_reason=talk.stop_reason,
        verdict=verdict,
        timings=talk.timings(),
        created_at=_now(),
        config_digest=settings.config_digest,
    )


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
