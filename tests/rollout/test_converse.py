"""The loop: each way to end, in the order that the limits document."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from agentscaler.domain.store import load_domain
from agentscaler.errors import ContextOverflow
from agentscaler.messages import Message, Outcome, ToolCall
from agentscaler.rollout.converse import Conversation, converse
from agentscaler.rollout.limits import Limits, StopReason
from agentscaler.rollout.world_scene import WorldScene
from agentscaler.tasks.task import Task, WrittenTask
from agentscaler.users.scripted import ScriptedUser
from agentscaler.verify.funnel import VerifyMode

TASK = WrittenTask.model_validate(
    {
        "id": "t",
        "kind": "missing_parameter",
        "intent": "Move a note.",
        "facts": {"which": {"asked": ["which note"], "question": "Which note?", "says": "Garden plan."}},
        "reference": [],
    }
)
MOVE = ToolCall("c1", "move_note", '{"note": "Garden plan", "folder": "Archive"}')
BAD = ToolCall("c1", "no_such_tool", "{}")


class Script:
    """An agent that says the given messages; the last one again and again."""

    def __init__(self, *messages: Message | Exception):
        self._messages = list(messages)

    async def reply(self, messages: Sequence[Message]) -> Message:
        message = self._messages.pop(0) if len(self._messages) > 1 else self._messages[0]
        if isinstance(message, Exception):
            raise message
        return message

    def close(self) -> None:
        pass


async def talk(*messages: Message | Exception, **limits: int) -> Conversation:
    task = Task(written=TASK, domain="notes", domain_fingerprint="", expected_diff={}, expected_calls=())
    scene = WorldScene(task, load_domain("notes"), VerifyMode.STATE)
    return await converse(scene, Script(*messages), ScriptedUser(TASK), Limits.model_validate(limits))


def says(words: str) -> Message:
    return Message("assistant", words)


def calls(*made: ToolCall) -> Message:
    return Message("assistant", tool_calls=made)


@pytest.mark.asyncio
async def test_asks_acts_and_ends_with_the_user() -> None:
    done = await talk(says("Which note do you mean?"), calls(MOVE), says("Moved."))
    assert done.stop_reason is StopReason.USER_STOP
    assert [m.role for m in done.messages] == ["system", "user", "assistant", "user", "assistant", "tool", "assistant"]
    assert done.messages[3].content == "Garden plan."
    assert done.messages[5].outcome is Outcome.OK
    assert done.messages[5].changed_keys == ("notes/note_002",)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("messages", "limits", "reason"),
    [
        ([says("")], {}, StopReason.AGENT_STOP),
        ([ContextOverflow("too long")], {}, StopReason.CONTEXT_OVERFLOW),
        ([calls(MOVE, MOVE, MOVE)], {"max_calls": 3}, StopReason.MAX_CALLS),
        ([calls(BAD), calls(BAD, BAD)], {"max_invalid_calls": 3}, StopReason.MAX_INVALID_CALLS),
        ([calls(MOVE)], {"max_repeats": 3}, StopReason.REPETITION),
        (
            [says("Which note?"), says("Which note now?"), says("Which note again?")],
            {"max_turns": 3},
            StopReason.MAX_TURNS,
        ),
    ],
)
async def test_each_stop_reason(
    messages: list[Message | Exception], limits: dict[str, int], reason: StopReason
) -> None:
    assert (await talk(*messages, **limits)).stop_reason is reason


@pytest.mark.asyncio
async def test_a_good_call_between_bad_ones_starts_the_count_anew() -> None:
    done = await talk(calls(BAD), calls(MOVE), calls(BAD), says("I am done."), max_invalid_calls=2)
    assert done.stop_reason is StopReason.USER_STOP
