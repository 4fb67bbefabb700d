"""The rollout boundary: faults are recorded and retried up to a bound, never raised, never data. However a rollout ends, its agent and
its person are closed, and its copy of the world goes back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from agentscaler.domain.store import load_domain
from agentscaler.errors import FaultClass, RolloutFault
from agentscaler.messages import Message
from agentscaler.rollout.attempt import Played, PlaySettings, play
from agentscaler.rollout.limits import Limits
from agentscaler.rollout.record import UserIdentity, WorkItem, work_item
from agentscaler.rollout.scene import Person, Scene
from agentscaler.rollout.world_scene import WorldScene
from agentscaler.tasks.compile import compile_shipped
from agentscaler.teachers.chat import Agent, TeacherIdentity
from agentscaler.teachers.reference import ReferenceTeacher
from agentscaler.users.scripted import ScriptedUser, ScriptedUsers
from agentscaler.verify.funnel import VerifyMode
from agentscaler.verify.verdict import VerdictOutcome
from agentscaler.world.world import World


class Faulty:
    """Fails as told on the first starts, then replays the reference."""

    identity = TeacherIdentity("faulty", "1", "{}")

    def __init__(self, *faults: Exception | None):
        self._faults = list(faults)

    def start(self, scene: Scene, seed: int, session: str) -> Agent:
        fault = self._faults.pop(0) if self._faults else None
        return _Raises(fault) if fault else ReferenceTeacher().start(scene, seed, session)

    async def close(self) -> None:
        pass


class _Raises:
    def __init__(self, fault: Exception):
        self._fault = fault

    async def reply(self, messages: Sequence[Message]) -> Message:
        if isinstance(self._fault, TimeoutError):
            await asyncio.sleep(60)
        raise self._fault

    def close(self) -> None:
        pass


async def attempt(*faults: Exception | None, timeout_s: float = 30.0) -> Played:
    teacher = Faulty(*faults)
    task = compile_shipped("notes")[0]
    item = work_item(task, 0, teacher.identity, UserIdentity("scripted"), 0)
    settings = PlaySettings(Limits(timeout_s=timeout_s), VerifyMode.STATE, "digest", max_trials=3)
    return await play(item, load_domain("notes"), teacher, ScriptedUsers(), settings)


class Watched:
    """Teacher and users that count whom they started and who was closed."""

    identity = TeacherIdentity("watched", "1", "{}")

    def __init__(self, fault: Exception | None = None, start_fault: bool = False):
        self._fault, self._start_fault = fault, start_fault
        self.started = self.closed = 0
        self.reached = asyncio.Event()

    def start(self, scene: Scene, seed: int, session: str) -> Agent:
        self.started += 1
        return _WatchedAgent(self, ReferenceTeacher().start(scene, seed, session))

    async def close(self) -> None:
        pass

    @property
    def users(self) -> ScriptedUsers:
        return _WatchedUsers(self)


class _WatchedAgent:
    def __init__(self, watched: Watched, agent: Agent):
        self._watched, self._agent = watched, agent

    async def reply(self, messages: Sequence[Message]) -> Message:
        if len(messages) > 3:  # a call was made: the world is another
            self._watched.reached.set()
            if isinstance(self._watched._fault, TimeoutError):
                await asyncio.sleep(60)
            if self._watched._fault is not None:
                raise self._watched._fault
        return await self._agent.reply(messages)

    def close(self) -> None:
        self._watched.closed += 1


class _WatchedUsers(ScriptedUsers):
    def __init__(self, watched: Watched):
        self._watched = watched

    def start(self, scene: Scene, seed: int, session: str) -> Person:
        if self._watched._start_fault:
            raise KeyError("no such person")
        self._watched.started += 1
        assert isinstance(scene, WorldScene)
        return _WatchedUser(scene, self._watched)


class _WatchedUser(ScriptedUser):
    def __init__(self, scene: WorldScene, watched: Watched):
        super().__init__(scene.scripted_person(0)._task)
        self._watched = watched

    def close(self) -> None:
        self._watched.closed += 1


def one_item() -> WorkItem:
    return work_item(compile_shipped("notes")[0], 0, Watched.identity, UserIdentity("scripted"), 0, 7)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fault", "start_fault"),
    [(None, False), (RolloutFault(FaultClass.ENGINE_GONE, "x"), False), (KeyError("x"), False), (None, True)],
)
async def test_whatever_ends_it_all_is_closed_and_the_world_goes_back(
    fault: Exception | None, start_fault: bool
) -> None:
    watched, item = Watched(fault, start_fault), one_item()
    shelf = World.of(load_domain("notes"), item.task.world_seed)._shelf
    World.of(load_domain("notes"), item.task.world_seed).open().close()
    idle = len(shelf._copies)
    played = await play(item, load_domain("notes"), watched, watched.users, SETTINGS)
    assert played.index == 7
    assert (played.rollout is None) == (fault is not None or start_fault)
    assert watched.started == watched.closed > 0
    assert len(shelf._copies) == idle > 0


@pytest.mark.asyncio
async def test_a_cancelled_rollout_too() -> None:
    watched, item = Watched(TimeoutError()), one_item()
    world = World.of(load_domain("notes"), item.task.world_seed)
    world.open().close()
    idle = len(world._shelf._copies)
    playing = asyncio.create_task(play(item, load_domain("notes"), watched, watched.users, SETTINGS))
    await watched.reached.wait()
    assert len(world._shelf._copies) == idle - 1
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert watched.started == watched.closed == 2
    assert len(world._shelf._copies) == idle
    assert world.open().close() == {}


SETTINGS = PlaySettings(Limits(), VerifyMode.STATE, "digest", max_trials=2)
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
    assert work_item(task, 0, teacher, user, 0, index=9).rollout_id == base.rollout_id
    others = [work_item(task, 1, teacher, user, 0), work_item(task, 0, teacher, user, 1)]
    others.append(work_item(task, 0, TeacherIdentity("m", "2", "{}"), user, 0))
    assert len({base.rollout_id, *(other.rollout_id for other in others)}) == 4
