"""The independent oracle: what a verdict ought to be, by other means than the verifier's.

Slow and plain. The end is compared as whole tables (`tables`), what was said is read value by value (`replies`), and the rules of
conversations are written out again here. It shares no code with changesets, labels, the diff's comparison, or the verifier's stages,
so that an error of theirs is not an error of this.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from agentscaler.messages import Message, Outcome
from agentscaler.rollout.limits import StopReason
from agentscaler.tasks.task import Answer, Kind, Task
from agentscaler.verify.soundness.replies import contains_words, refuses, tells
from agentscaler.verify.soundness.tables import Comparison, End
from agentscaler.world.program import Program

_NOTHING_WRITTEN = {Kind.READ_ONLY, Kind.REFUSAL, Kind.IRRELEVANT}
_MARKUP = ("<tool_call>", "</tool_call>", "<function=", "[TOOL_CALLS]", "<|python_tag|>", "<|tool_call", "<|tool▁call")
_REFUSED = {Kind.REFUSAL, Kind.IRRELEVANT}


@dataclass(frozen=True, slots=True)
class Judgement:
    accepted: bool
    reasons: tuple[str, ...]


class Oracle:
    """For one task. `wanted` is the end that its reference reached when it was played; close it after use."""

    def __init__(self, program: Program, task: Task, wanted: End):
        self._task = task
        self._writing = {tool.name for tool in program.domain.tools if tool.do}
        self._comparison = Comparison(program.tables, wanted)

    def __enter__(self) -> Oracle:
        return self

    def __exit__(self, *_: object) -> None:
        self._comparison.__exit__()

    def judge(self, messages: Sequence[Message], stop_reason: StopReason, end: End) -> Judgement:
        """All reasons of the first kind that finds any: the conversation's shape, the end, then what was done and said."""
        for reasons in self._checks(messages, stop_reason, end):
            if reasons:
                return Judgement(False, tuple(reasons))
        return Judgement(True, ())

    def _checks(self, messages: Sequence[Message], stop_reason: StopReason, end: End) -> Iterable[list[str]]:
        yield list(_faults(messages, stop_reason))
        yield self._comparison.differences(end)
        yield list(self._deeds_and_words(messages))

    def _deeds_and_words(self, messages: Sequence[Message]) -> Iterable[str]:
        kind = self._task.kind
        if kind in _NOTHING_WRITTEN:
            for message in messages:
                for call in message.tool_calls:
                    if call.name in self._writing:
                        yield f"{call.name} was called, where nothing may be written"
        if kind in _REFUSED and not any(refuses(m.content) for m in messages if m.role == "assistant"):
            yield "no reply refuses"
        if kind in _REFUSED and {m.outcome for m in messages if m.role == "tool"} and not _has_seen(messages):
            yield "nothing was seen before the refusal"
        for answer in self._task.written.must_tell:
            yield from _untold(answer, messages)


def _has_seen(messages: Sequence[Message]) -> bool:
    """Whether a call went well and its result holds anything."""
    return any(m.outcome is Outcome.OK and any(c.isalnum() for c in m.content.removeprefix("null")) for m in messages)


def _faults(messages: Sequence[Message], stop_reason: StopReason) -> Iterable[str]:
    """A conversation is a list of rounds: system, user, then the agent's messages, each with the results of all its calls."""
    if stop_reason.value != "user_stop":
        yield f"the conversation ended by {stop_reason.value}"
    roles = [message.role for message in messages]
    if roles[:2] != ["system", "user"] or "assistant" not in roles:
        yield "no opening"
        return
    if roles[-1] != "assistant" or messages[-1].tool_calls:
        yield "no last word of the agent"
    place = 2
    while place < len(messages):
        message = messages[place]
        place += 1
        if message.role != "assistant":
            if message.role != "user" or messages[place - 2].role != "assistant" or messages[place - 2].tool_calls:
                yield f"message {place} ({message.role}) comes out of turn"
            continue
        if any(mark in message.content for mark in _MARKUP):
            yield f"message {place} holds a call as words"
        if message.content.strip() == "" and len(message.tool_calls) == 0:
            yield f"message {place} is empty"
        results = []
        while place < len(messages) and messages[place].role == "tool":
            results.append(messages[place])
            place += 1
        if sorted(call.id for call in message.tool_calls) != sorted(str(one.tool_call_id) for one in results):
            yield f"message {place}: calls and results do not belong together"
        if len({call.id for call in message.tool_calls}) < len(message.tool_calls):
            yield f"message {place}: two calls of one name"
        if any(one.outcome is None for one in results):
            yield f"message {place}: a result of unknown outcome"


def _untold(answer: Answer, messages: Sequence[Message]) -> Iterable[str]:
    """The agent must have read the value before it tells it, and from then on may tell no other that is known to be wrong."""
    read_at = next(
        (
            place
            for place, message in enumerate(messages)
            if message.role == "tool" and message.outcome is Outcome.OK and _shows(message.content, answer)
        ),
        None,
    )
    if read_at is None:
        yield f"{answer.value} was never read"
        return
    said = [m.content for m in messages[read_at:] if m.role == "assistant"]
    if not any(tells(words, answer.type, answer.value) for words in said):
        yield f"{answer.value} is not told"
        return
    for wrong in answer.distractors:
        if any(tells(words, answer.type, wrong) for words in said):
            yield f"{wrong} is told, which is wrong"


def _shows(content: str, answer: Answer) -> bool:
    try:
        ahead: list[Any] = [orjson.loads(content)]
    except orjson.JSONDecodeError:
        return False
    while ahead:
        value = ahead.pop()
        if isinstance(value, dict):
            ahead += value.values()
        elif isinstance(value, list):
            if answer.type == "count" and len(value) == answer.value:
                return True
            ahead += value
        elif answer.type in ("count", "money"):
            if not isinstance(value, bool) and isinstance(value, int | float) and value == answer.value:
                return True
        elif isinstance(value, str | int) and contains_words(str(value), str(answer.value)):
            return True
    return False
