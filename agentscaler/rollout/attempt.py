"""The rollout boundary: one attempt from work item to record, faults recorded and retried up to a bound.

Invariant: `play` always returns. What it returns holds a rollout (accepted or rejected), or none (VOID), and one row for every trial
that ended in a fault. Nothing that a rollout does can stop the job; a fault that is our own bug is a row of class `unknown`, with the
traceback in the log. However a rollout ends, cancelled included, its world goes back and its sessions end.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Protocol

from agentscaler.benchmark import AnyDomain
from agentscaler.errors import FaultClass, RolloutFault
from agentscaler.rollout.converse import converse
from agentscaler.rollout.journal import Journal, Kept
from agentscaler.rollout.limits import Limits
from agentscaler.rollout.record import FailedAttempt, Rollout, UserIdentity, WorkItem, now_text
from agentscaler.rollout.scene import Person, Scene
from agentscaler.rollout.scenes import open_scene
from agentscaler.teachers.chat import Agent, Teacher
from agentscaler.verify.funnel import VerifyMode

log = logging.getLogger(__name__)


class Users(Protocol):
    """Shared by many rollouts; `start` gives one rollout's person."""

    @property
    def identity(self) -> UserIdentity: ...

    def start(self, scene: Scene, seed: int, session: str) -> Person: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class PlaySettings:
    limits: Limits
    verify: VerifyMode
    config_digest: str
    max_trials: int = 3
    benchmark: bool = False  # an evaluation: its rollouts are marked, and are never data to train on


@dataclass(slots=True)
class Played:
    rollout_id: str
    rollout: Rollout | None = None
    failures: list[FailedAttempt] = field(default_factory=list)
    index: int = 0  # the work item's


async def play(
    item: WorkItem,
    domain: AnyDomain,
    teacher: Teacher,
    users: Users,
    settings: PlaySettings,
    journal: Journal | None = None,
) -> Played:
    """Play one attempt, again after a retryable fault, at most `max_trials` times. With a journal the first trial goes on where an
    earlier player was killed; whoever commits the result has the journal forget it."""
    played = Played(item.rollout_id, index=item.index)
    kept = journal.begin(item.rollout_id) if journal is not None else None
    for trial in range(1, settings.max_trials + 1):
        try:
            async with asyncio.timeout(settings.limits.timeout_s):
                played.rollout = await _play_once(item, domain, teacher, users, settings, kept)
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
                item.rollout_id, item.task.task_id, item.attempt, trial, fault_class, words[:1000], again, now_text()
            )
        )
        if not again:
            break
        if kept is not None:
            kept.restart()
    return played


async def _play_once(
    item: WorkItem, domain: AnyDomain, teacher: Teacher, users: Users, settings: PlaySettings, kept: Kept | None
) -> Rollout:
    task = item.task
    scene = open_scene(task, domain, settings.verify)
    agent: Agent | None = None
    person: Person | None = None
    try:
        agent = teacher.start(scene, item.seed, item.rollout_id)
        person = users.start(scene, item.seed, item.rollout_id)
        if kept is not None:
            agent = kept.agent(agent)
            if users.identity.model and scene.role() is not None:  # a scripted one says the same again by itself
                person = kept.person(person)
        talk = await converse(scene, agent, person, settings.limits)
        assert talk.stop_reason is not None
        end = scene.judge(talk.messages, talk.stop_reason)
    finally:
        scene.close()
        if agent is not None:
            agent.close()
        if person is not None:
            person.close()
    assert person is not None
    return Rollout(
        rollout_id=item.rollout_id,
        task_id=task.task_id,
        task_digest=task.task_digest,
        kind=str(task.kind),
        domain=domain.name,
        domain_fingerprint=domain.fingerprint,
        world_seed=task.world_seed,
        attempt=item.attempt,
        seed=item.seed,
        benchmark=settings.benchmark,
        teacher=teacher.identity,
        user=users.identity,
        unmatched_questions=person.unmatched_questions,
        messages=tuple(talk.messages),
        tools=scene.recorded_tools,
        state_changes=end.state_changes,
        net_keys=end.net_keys,
        stop_reason=talk.stop_reason,
        verdict=end.verdict,
        timings=talk.timings(),
        created_at=now_text(),
        config_digest=settings.config_digest,
    )
