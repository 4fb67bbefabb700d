"""Whole conversations: the data's turns, the reference agent, tools that come later, bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import orjson
import pytest

from agentscaler.adapters.bfcl.functions import PYTHON_NOTE
from agentscaler.adapters.bfcl.package import bfcl
from agentscaler.adapters.bfcl.scene import BfclScene, ReferenceAgent, open_scene
from agentscaler.adapters.bfcl.score import reference_of
from agentscaler.benchmark import BenchmarkTask
from agentscaler.messages import Message, Outcome, ToolCall
from agentscaler.rollout.converse import Conversation, converse
from agentscaler.rollout.limits import Limits, StopReason
from agentscaler.rollout.scene import End, Scene
from agentscaler.teachers.chat import Agent
from agentscaler.verify.verdict import Stage, VerdictOutcome
from tests.adapters.bfcl.beside import DOMAINS, TASKS, sample, task_named, without_last_call

LIMITS = Limits(max_turns=200, max_calls=100, max_turns_in_a_row=21)


def scene_of(task: BenchmarkTask) -> BfclScene:
    return open_scene(task, DOMAINS[task.domain])


def played(task: BenchmarkTask, agent: Agent | None = None) -> tuple[Conversation, End]:
    scene: Scene = scene_of(task)
    agent = agent or scene.reference_agent()
    talk = asyncio.run(converse(scene, agent, scene.scripted_person(0), LIMITS))
    assert talk.stop_reason is not None
    end = scene.judge(talk.messages, talk.stop_reason)
    scene.close()
    scene.close()
    return talk, end


class Caller:
    """Makes the same call again and again, with words of its own so that no message is like the last."""

    def __init__(self, tool: str, arguments: str, times: int):
        self._tool, self._arguments, self._left = tool, arguments, times

    async def reply(self, messages: Sequence[Message]) -> Message:
        self._left -= 1
        if self._left < 0:
            return Message("assistant", f"Done, after {len(messages)} messages.")
        return Message(
            "assistant", str(self._left), tool_calls=(ToolCall(str(len(messages)), self._tool, self._arguments),)
        )

    def close(self) -> None:
        pass


def short_agent(task: BenchmarkTask) -> ReferenceAgent:
    return ReferenceAgent(task, without_last_call(reference_of(task)))


@pytest.mark.parametrize("task", sample(), ids=lambda task: task.name)
def test_reference_agents(task: BenchmarkTask) -> None:
    talk, end = played(task)
    assert end.verdict.outcome is VerdictOutcome.ACCEPTED, end.verdict
    said = [message.content for message in talk.messages if message.role == "user"]
    assert said == [turn[0]["content"] if turn else bfcl().more_tools for turn in task.data["question"]]
    assert len(end.state_changes) < 10_000
    talk, end = played(task, short_agent(task))
    assert talk.stop_reason is StopReason.USER_STOP
    assert end.verdict.outcome is VerdictOutcome.REJECTED and end.verdict.stage is not Stage.VALIDITY


@pytest.mark.slow
def test_all_reference_agents_and_all_without_their_last_call() -> None:
    assert len(TASKS) == 800
    for task in TASKS:
        assert played(task)[1].verdict.outcome is VerdictOutcome.ACCEPTED, task.name
        assert played(task, short_agent(task))[1].verdict.outcome is VerdictOutcome.REJECTED, task.name


def test_withheld_functions_come_with_their_turn() -> None:
    task = task_named("miss_func_0")  # sort, handed out in the fourth turn
    scene = scene_of(task)
    before = scene.toolbox
    assert "sort" not in names(scene) and scene.toolbox is before
    person = scene.scripted_person(0)
    talk = [Message("user"), Message("assistant", "x")] * 3
    assert asyncio.run(person.reply(talk)) == Message("user", bfcl().more_tools)
    assert names(scene) == [*(tool["function"]["name"] for tool in before.schemas), "sort"]
    assert scene.toolbox.key != before.key
    notes = [tool["function"]["description"].endswith(PYTHON_NOTE) for tool in scene.toolbox.schemas]
    assert all(notes[:-1]) and not notes[-1]
    assert len(orjson.loads(scene.recorded_tools)) == len(before.schemas) + 1
    assert scene_of(task).toolbox is before and "sort" in scene.hidden_tools


def names(scene: BfclScene) -> list[str]:
    return [tool["function"]["name"] for tool in scene.toolbox.schemas]


def test_no_system_message_and_only_functions_of_the_classes_involved() -> None:
    scene = scene_of(task_named("base_1"))  # files alone
    assert [message.role for message in scene.opening] == ["user"]
    assert len(names(scene)) == 18 and "cd" in names(scene)


def test_a_turn_past_the_bound_ends_the_conversation() -> None:
    talk, end = played(task_named("base_0"), Caller("pwd", "{}", 50))
    assert talk.stop_reason is StopReason.MAX_TURNS and talk.calls == 21
    assert end.verdict.stage is Stage.VALIDITY and end.verdict.reasons == ("stopped by max_turns",)


def test_an_agent_that_calls_nothing_is_rejected_everywhere() -> None:
    for task in sample():
        talk, end = played(task, Caller("pwd", "{}", 0))
        assert talk.stop_reason is StopReason.USER_STOP
        assert end.verdict.stage is Stage.CALL_MATCH and "no call was made" in end.verdict.reasons[0]
        assert end.state_changes == "{}"


def test_a_call_that_is_no_json_object() -> None:
    talk, end = played(task_named("base_0"), Caller("cd", "[1]", 1))
    result = next(message for message in talk.messages if message.role == "tool")
    assert result.outcome is Outcome.INVALID_CALL and "no JSON object" in result.content
    assert end.verdict.stage is Stage.CALL_MATCH


def test_the_judge_sees_what_the_agent_saw() -> None:
    """The judge plays the calls again; the answers must be those that stand in the messages."""
    for task in sample():
        talk, _ = played(task)
        results = [message.content for message in talk.messages if message.role == "tool"]
        scene = scene_of(task)
        calls = [call for message in talk.messages for call in message.tool_calls]
        assert [scene.call("agent", call.name, call.arguments).content for call in calls] == results
