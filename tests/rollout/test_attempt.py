"""The rollout boundary: faults are recorded and retried up to a bound, never raised, never data."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from agentscaler.domain.domain import Domain
from agentscaler.domain.store import load_domain
from agentscaler.errors import FaultClass, RolloutFault
from agentscaler.messages import Message
from agentscaler.rollout.attempt import Played, PlaySettings, play
from agentscaler.rollout.limits import Limits
from agentscaler.rollout.record import UserIdentity, work_item
from agentscaler.tasks.compile import compile_shipped
from agentscaler.tasks.task import Task
from agentscaler.teachers.chat import Agent, TeacherIdentity
from agentscaler.teachers.reference import ReferenceTeacher
from agentscaler.users.scripted import ScriptedUsers
from agentscaler.verify.funnel import VerifyMode
from agentscaler.verify.verdict import VerdictOutcome


class Faulty:
    """Fails as told on the first starts, then replays the reference."""

    identity = TeacherIdentity("faulty", "1", "{}")

    def __init__(self, *faults: Exception | None):
        self._faults = list(faults)

    def start(self, task: Task, domain: Domain, seed: int, session: str) -> Agent:
        fault = self._faults.pop(0) if self._faults else None
        return _Raises(fault) if fault else ReferenceTeacher().start(task, domain, seed, session)

    async def close(self) -> None:
        pass


class _Raises:
    def __init__(self, fault: Exception):
        self._fault = fault

    async def reply(self, messages: Sequence[Message]) -> Message:
        if isinstance(self._fault, TimeoutError):
            await asyncio.sleep(60)
        raise self._fault


async def attempt(*faults: Exception | None, timeout_s: float = 30.0) -> Played:
    teacher = Faulty(*faults)
    task = compile_shipped("notes")[0]
    item = work_item(task, 0, teacher.identity, UserIdentity("scripted"), 0)
    settings = PlaySettings(Limits(timeout_s=timeout_s), VerifyMode.STATE, "digest", max_trials=3)
    return await play(item, load_domain("notes"), teacher, ScriptedUsers(), settings)


GONE = RolloutFault(FaultClass.ENGINE_GONE, "connection refused")


@pytest.mark.asyncio
async def test_a_retryable_fault_is_tried_again_and_recorded() -> None:
    played = await attempt(GONE, GONE)
    assert played.rollout is not None
    assert played.rollout.verdict.outcome is VerdictOutcome.ACCEPTED
    assert [(f.trial, f.fault, f.retried) for f in played.failures] == [
        (1, "engine_gone", True),
        (2, "engine_gone", True),
    ]


@pytest.mark.asyncio
async def test_after_the_last_trial_it_is_void() -> None:
    played = await attempt(GONE, GONE, GONE)
    assert played.rollout is None
    assert [f.retried for f in played.failures] == [True, True, False]


@pytest.mark.asyncio
async def test_what_cannot_change_is_not_tried_again() -> None:
    played = await attempt(RolloutFault(FaultClass.ENGINE_REJECTED, "no such model", retryable=False))
    assert played.rollout is None
    assert len(played.failures) == 1


@pytest.mark.asyncio
async def test_our_own_bug_is_a_row_not_a_crash() -> None:
    played = await attempt(KeyError("oops"))
    assert played.rollout is None
    assert (played.failures[0].fault, played.failures[0].words) == ("unknown", "KeyError: 'oops'")


@pytest.mark.asyncio
async def test_wall_clock_is_a_fault() -> None:
    played = await attempt(TimeoutError(), timeout_s=0.2)
    assert played.rollout is not None
    assert [f.fault for f in played.failures] == ["timeout"]


def test_ids_depend_on_what_shapes_the_rollout_alone() -> None:
    task = compile_shipped("notes")[0]
    teacher, user = TeacherIdentity("m", "1", "{}"), UserIdentity("scripted")
    base = work_item(task, 0, teacher, user, 0)
    assert base == work_item(task, 0, teacher, user, 0)
    others = [work_item(task, 1, teacher, user, 0), work_item(task, 0, teacher, user, 1)]
    others.append(work_item(task, 0, TeacherIdentity("m", "2", "{}"), user, 0))
    assert len({base.rollout_id, *(other.rollout_id for other in others)}) == 4
