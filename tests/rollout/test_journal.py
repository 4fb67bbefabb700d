"""Promises: a player killed at any turn is followed by one that goes on, asks the teacher for nothing twice, and makes the same rollout;
a torn line is left out; a failed trial leaves no turn; what is committed leaves no file."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentscaler.domain.store import load_domain
from agentscaler.errors import FaultClass, RolloutFault
from agentscaler.messages import Message
from agentscaler.rollout.attempt import PlaySettings, play
from agentscaler.rollout.journal import Journal, read_turns
from agentscaler.rollout.limits import Limits
from agentscaler.rollout.record import Rollout, UserIdentity, WorkItem, work_item
from agentscaler.rollout.scene import Scene
from agentscaler.tasks.compile import compile_shipped
from agentscaler.teachers.chat import Agent
from agentscaler.teachers.reference import ReferenceTeacher
from agentscaler.users.scripted import ScriptedUsers
from agentscaler.verify.funnel import VerifyMode

DOMAIN = load_domain("retail")
TASKS = compile_shipped("retail")
LONG = max(range(len(TASKS)), key=lambda number: len(TASKS[number].expected_calls))
SETTINGS = PlaySettings(Limits(), VerifyMode.STATE, "digest")


class Counting(ReferenceTeacher):
    """The reference, which is cut off (as by SIGKILL) once it has answered n times, or fails when it is asked for the n-th time."""

    def __init__(self, cut_at: int | None = None, fault_at: int | None = None):
        self.asked, self.cut_at, self.fault_at = 0, cut_at, fault_at

    def start(self, scene: Scene, seed: int, session: str) -> Agent:
        agent = super().start(scene, seed, session)
        ask = agent.reply

        async def reply(messages: Sequence[Message]) -> Message:
            if self.asked == self.cut_at:
                raise asyncio.CancelledError
            self.asked += 1
            if self.asked == self.fault_at:
                raise RolloutFault(FaultClass.ENGINE_GONE, "gone")
            return await ask(messages)

        agent.reply = reply  # type: ignore[method-assign]
        return agent


def item(number: int) -> WorkItem:
    return work_item(TASKS[number], 0, ReferenceTeacher().identity, UserIdentity("scripted"), 0)


async def played(one: WorkItem, teacher: ReferenceTeacher, journal: Journal | None = None) -> Rollout:
    found = (await play(one, DOMAIN, teacher, ScriptedUsers(), SETTINGS, journal)).rollout
    assert found is not None
    return replace(found, timings=type(found.timings)(), created_at="", messages=tuple(map(bare, found.messages)))


def bare(message: Message) -> Message:
    return replace(message, latency_s=None)


@settings(max_examples=25)
@given(st.integers(0, len(TASKS) - 1), st.lists(st.integers(0, 6), max_size=3))
def test_it_goes_on_where_others_were_killed(
    tmp_path_factory: pytest.TempPathFactory, number: int, cuts: list[int]
) -> None:
    folder, one = str(tmp_path_factory.mktemp("journal")), item(number)
    whole = Counting()
    wanted = asyncio.run(played(one, whole))
    asked = 0
    for turn, cut in enumerate(cuts):
        killed = Counting(cut_at=cut)
        try:
            asyncio.run(played(one, killed, Journal(folder, f"worker-{turn}")))
            return  # it was through before
        except asyncio.CancelledError:
            asked += killed.asked
    last = Counting()
    journal = Journal(folder, "last")
    assert asyncio.run(played(one, last, journal)) == wanted
    assert asked + last.asked == whole.asked
    assert journal.num_resumed == (asked > 0)
    journal.forget(one.rollout_id)
    assert not [path for path in Path(folder).rglob("*") if path.is_file()]


def test_a_torn_line_is_left_out(tmp_path: Path) -> None:
    one = item(LONG)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(played(one, Counting(cut_at=2), Journal(str(tmp_path), "a")))
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    whole = path.read_bytes()
    assert len(read_turns(path)) == 2
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert len(read_turns(path)) == whole[:size].count(b"\n")


def test_a_failed_trial_leaves_no_turn(tmp_path: Path) -> None:
    one, teacher = item(LONG), Counting(fault_at=2)
    assert asyncio.run(played(one, teacher, Journal(str(tmp_path), "a"))) == asyncio.run(played(one, Counting()))
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert len(read_turns(path)) == teacher.asked - 2
