"""The turns of a conversation, as they are recorded.

Owns `Message` and its parts. A message is frozen; `arguments` of a call is the JSON *text* the model wrote, never repaired.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile
from typing import Any, Literal


class Outcome(StrEnum):
    """What became of a tool call."""

    OK = "ok"
    INVALID_CALL = "invalid_call"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class ToolCall:
    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Usage:
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `raw` is the engine's own text where it differs from content and calls; `token_ids` and `logprobs` are of this
    turn's completion alone; `changed_keys` (tool results only) names the rows the call changed."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    outcome: Outcome | None = None
    changed_keys: tuple[str, ...] = ()
    raw: str | None = None
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    prefix_break: bool = False
    usage: Usage | None = None
    latency_s: float | None = None


def calls_with_results(messages: Sequence[Message]) -> Iterator[tuple[Message, ToolCall, Message | None]]:
    """Each call with the message that makes it and its result, None where the conversation ended before it ran. Some servers number
    their calls anew each turn: a result belongs to the turn right before it."""
    for place, message in enumerate(messages):
        if not message.tool_calls:
            continue
        results = {one.tool_call_id: one for one in takewhile(lambda one: one.role == "tool", messages[place + 1 :])}
        for call in message.tool_calls:
            yield message, call, results.get(call.id)


def to_chat(message: Message, keep_reasoning: bool, reasoning_field: str = "reasoning") -> dict[str, Any]:
    """The message as an OpenAI chat message. Reasoning goes back to the model only where `keep_reasoning` says so."""
    chat: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        chat["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        chat["tool_call_id"] = message.tool_call_id
    if keep_reasoning and message.reasoning:
        chat[reasoning_field] = message.reasoning
    return chat
