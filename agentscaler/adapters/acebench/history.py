"""The conversation so far, which the benchmark writes as one text: lines that begin with `user:` or `system:`, the latter the agent.

Calls in it (`system: [Name(key='value')]`) become native calls. The text holds no results; the agent's next words tell what came of
the calls, so those words stand for the result too. What does not read as calls stays words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import orjson

from agentscaler.adapters.acebench.call_text import Call, NotCalls, read_calls
from agentscaler.messages import Message, Outcome, ToolCall

_SPEAKER = re.compile(r"^(user|system|assistant) ?: ?", re.MULTILINE)


def read_history(question: str, offered_names: Mapping[str, str]) -> tuple[list[Message], str]:
    """What was said before, and the user's last words."""
    pieces = _SPEAKER.split(question)
    if len(pieces) < 3:
        return [], question.strip()
    said = [(who, words.strip()) for who, words in zip(pieces[1::2], pieces[2::2], strict=True)]
    last = said.pop()[1] if said[-1][0] == "user" else ""
    messages: list[Message] = []
    for number, (who, words) in enumerate(said):
        if who == "user":
            messages.append(Message("user", words))
            continue
        calls = _calls(words)
        if calls is None:
            messages.append(Message("assistant", words))
            continue
        follows = said[number + 1 : number + 2]
        told = follows[0][1] if follows and follows[0][0] != "user" and _calls(follows[0][1]) is None else None
        messages += _called(calls, told, number, offered_names)
    return messages, last


def _called(calls: list[Call], told: str | None, number: int, offered_names: Mapping[str, str]) -> list[Message]:
    made = [
        ToolCall(f"past_{number}_{nth}", offered_names.get(name, name), orjson.dumps(arguments).decode())
        for nth, (name, arguments) in enumerate(calls, 1)
    ]
    result = orjson.dumps(told).decode()
    results = [Message("tool", result, tool_call_id=call.id, outcome=Outcome.OK) for call in made]
    return [Message("assistant", tool_calls=tuple(made)), *results]


def _calls(words: str) -> list[Call] | None:
    try:
        return read_calls(words) if words.startswith("[") else None
    except NotCalls:
        return None
