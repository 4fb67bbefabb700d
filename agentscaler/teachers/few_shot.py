"""Worked examples put before a conversation, for models too small to call tools from a description alone.

Owns the examples of foreign tools, the choice and the form of shots. Invariants: a tool that the task's reference solution uses is never
shown (that would hand over the answer); the order is that of the examples, whatever the task, so that prompts share their prefix and an
engine's cache holds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from agentscaler.messages import Message, Outcome, ToolCall


@dataclass(frozen=True, slots=True)
class ToolExample:
    """How one tool is used: the user says `say`, the agent calls `tool` with `arguments`, gets `result` and answers `reply`.
    Without a `reply` it ends with the call."""

    tool: str
    say: str
    arguments: dict[str, Any]
    result: dict[str, Any] | list[Any] | None = None
    reply: str = ""


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
    if example.reply:
        result = orjson.dumps(example.result).decode()
        yield Message(role="tool", content=result, tool_call_id=call_id, outcome=Outcome.OK)
        yield Message(role="assistant", content=example.reply)


# Tools of no domain here. A small model imitates the names that it has seen called: shown a domain's *other* tools it calls those.
# SmolLM2's exact calls on one-call requests: without shots 3 of 40, with four of the domain's own 7 of 40, with these 33 of 80. Two
# have a reply, which shows the form of one; with replies to all it is 29 of 80, to none 37 but the replies make no sense.
FOREIGN_EXAMPLES = (
    ToolExample(
        tool="play_song",
        say='Play the song "Blue Train".',
        arguments={"song": "Blue Train"},
        result={"song": "Blue Train", "playing": True},
        reply="I played the song Blue Train.",
    ),
    ToolExample(tool="get_time", say="What time is it in Tokyo?", arguments={"city": "Tokyo"}),
    ToolExample(
        tool="send_message",
        say="Please send Carla this message: See you at eight.",
        arguments={"person": "Carla", "text": "See you at eight."},
    ),
    ToolExample(
        tool="rename_photo",
        say='Rename the photo "IMG 12" to "Sunset".',
        arguments={"photo": "IMG 12", "name": "Sunset"},
        result={"photo": "Sunset"},
        reply="I renamed the photo to Sunset.",
    ),
    ToolExample(tool="cancel_alarm", say="Cancel my alarm at 7:30, I no longer need it.", arguments={"time": "7:30"}),
    ToolExample(tool="search_photos", say="Could you search for photos from Rome?", arguments={"place": "Rome"}),
)
