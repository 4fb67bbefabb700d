"""Worked examples put before a conversation, for models too small to call tools from a description alone.

Owns the choice and the form of shots. Invariants: a tool that the task's reference solution uses is never shown (that would hand over
the answer); the order is that of the examples, whatever the task, so that prompts share their prefix and an engine's cache holds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from agentscaler.messages import Message, Outcome, ToolCall


@dataclass(frozen=True, slots=True)
class ToolExample:
    """How one tool is used: the user says `say`, the agent calls `tool` with `arguments`, gets `result` and answers `reply`."""

    tool: str
    say: str
    arguments: dict[str, Any]
    result: dict[str, Any] | list[Any]
    reply: str


def build_shots(examples: Iterable[ToolExample], hidden: frozenset[str], num_shots: int) -> tuple[Message, ...]:
    """The first `num_shots` examples of tools that are not `hidden`, as the turns of one conversation."""
    shown = [example for example in examples if example.tool not in hidden]
    return tuple(
        message for index, example in enumerate(shown[:num_shots]) for message in _turns(example, f"shot_{index}")
    )


def _turns(example: ToolExample, call_id: str) -> Iterator[Message]:
    call = ToolCall(id=call_id, name=example.tool, arguments=orjson.dumps(example.arguments).decode())
    yield Message(role="user", content=example.say)
    yield Message(role="assistant", tool_calls=(call,))
    yield Message(role="tool", content=orjson.dumps(example.result).decode(), tool_call_id=call_id, outcome=Outcome.OK)
    yield Message(role="assistant", content=example.reply)
