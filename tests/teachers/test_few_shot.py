"""Shots. Promises: a reference's tool is never shown; the order is fixed; each shot is one well-formed exchange; foreign stays foreign."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentscaler.domain.store import load_domain, shipped_domains
from agentscaler.messages import Message
from agentscaler.teachers.few_shot import FOREIGN_EXAMPLES, ToolExample, build_shots

NAMES = ("read", "write", "move", "tag", "share")
EXAMPLES = tuple(
    ToolExample(name, f"Please {name}.", {"title": name}, {"done": name}, f"Done: {name}.") for name in NAMES
)


def called(shots: tuple[Message, ...]) -> list[str]:
    return [call.name for message in shots for call in message.tool_calls]


@given(hidden=st.frozensets(st.sampled_from(NAMES)), num_shots=st.integers(0, 8))
def test_never_a_hidden_tool_and_always_in_order(hidden: frozenset[str], num_shots: int) -> None:
    shots = build_shots(EXAMPLES, hidden, num_shots)
    assert called(shots) == [name for name in NAMES if name not in hidden][:num_shots]
    words = json.dumps([message.content for message in shots])
    assert not any(name in words for name in hidden)


def test_a_shot_is_an_exchange() -> None:
    shots = build_shots(EXAMPLES, frozenset(), 2)
    assert [message.role for message in shots] == ["user", "assistant", "tool", "assistant"] * 2
    assert shots[2].tool_call_id == shots[1].tool_calls[0].id != shots[5].tool_calls[0].id
    assert json.loads(shots[2].content) == {"done": "read"}


def test_without_a_reply_it_ends_with_the_call() -> None:
    shots = build_shots([ToolExample("read", "Please read.", {})], frozenset(), 1)
    assert [message.role for message in shots] == ["user", "assistant"]
    assert shots[1].tool_calls[0].arguments == "{}"


@pytest.mark.parametrize("name", shipped_domains())
def test_foreign_tools_are_in_no_domain(name: str) -> None:
    assert not {tool.name for tool in load_domain(name).tools} & {example.tool for example in FOREIGN_EXAMPLES}
