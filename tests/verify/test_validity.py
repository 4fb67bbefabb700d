"""Promises: a conversation is trainable only when it is well formed and the person ended it; reasons name the turn."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentscaler.messages import Message, Outcome, ToolCall
from agentscaler.rollout.limits import StopReason
from agentscaler.verify.validity import ALLOWED_STOPS, check_validity

CALL = ToolCall("call_1", "list_folders", "{}")
GOOD = (
    Message("system", "You manage notes."),
    Message("user", "Which folders do I have?"),
    Message("assistant", tool_calls=(CALL,)),
    Message("tool", "[]", tool_call_id="call_1", outcome=Outcome.OK),
    Message("assistant", "None."),
    Message("user", "Thanks."),
    Message("assistant", "Gladly."),
)


def test_a_well_formed_conversation_is_valid() -> None:
    assert check_validity(GOOD, StopReason.USER_STOP) == []


@pytest.mark.parametrize("stop", sorted(set(StopReason) - ALLOWED_STOPS))
def test_every_other_stop_is_named(stop: StopReason) -> None:
    assert check_validity(GOOD, stop) == [f"stopped by {stop.value}"]


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ((), "turns"),
        (GOOD[:2], "turns"),
        (GOOD[1:], "a conversation is system, user"),
        ((*GOOD[:3], *GOOD[4:]), "1 calls have no result"),
        ((*GOOD[:2], *GOOD[3:]), "a tool result without its call"),
        ((*GOOD[:3], GOOD[3], GOOD[3], *GOOD[4:]), "a tool result without its call"),
        ((*GOOD[:3], replace(GOOD[3], outcome=None), *GOOD[4:]), "without an outcome"),
        ((*GOOD[:2], replace(GOOD[2], tool_calls=(CALL, CALL)), *GOOD[3:]), "call ids repeat"),
        ((*GOOD[:4], Message("assistant", "  "), *GOOD[5:]), "an empty message"),
        (
            (*GOOD[:4], Message("assistant", '<tool_call>\n{"name": "find_no'), *GOOD[5:]),
            "a tool call left among the words",
        ),
        ((*GOOD[:4], *GOOD[5:]), "the user speaks after tool"),
        ((*GOOD[:5], GOOD[5], *GOOD[5:]), "the user speaks after user"),
        (GOOD[:4], "last word is missing"),
        (GOOD[:6], "last word is missing"),
    ],
)
def test_each_malformation_has_its_reason(messages: tuple[Message, ...], words: str) -> None:
    assert any(words in reason for reason in check_validity(messages, StopReason.USER_STOP))


@given(st.lists(st.sampled_from(GOOD), max_size=8))
def test_shuffled_turns_never_raise(messages: list[Message]) -> None:
    check_validity(messages, StopReason.USER_STOP)
