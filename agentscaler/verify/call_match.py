"""Third stage. By default for what the state cannot show: that nothing was written where nothing may be, that answers were told and
grounded, that a refusal was said. In `paper` mode also the paper's own rule: exactly the reference's calls.

An answer is told when it stands in the agent's words after a tool result in which it appeared. Values are compared by type: counts
as whole numbers or number words, money in its usual spellings, dates as ISO or "March 2" forms, names and ids as whole words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import orjson

from agentscaler.canonical import canonical_json
from agentscaler.messages import Message, Outcome, ToolCall, calls_with_results
from agentscaler.tasks.task import Answer, Task
from agentscaler.verify.refusal import declines

NOTHING_FOUND = ("", "[]", "{}", "null")
_NUMBER_WORDS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
for _tens in ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"):
    _NUMBER_WORDS += [_tens, *(rf"{_tens}[-\s]{unit}" for unit in _NUMBER_WORDS[1:10])]
_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]


def check_calls(task: Task, messages: Sequence[Message], write_tools: frozenset[str], exact: bool) -> list[str]:
    reasons = []
    calls = [(call, result) for _, call, result in calls_with_results(messages)]
    if task.kind.must_not_write:
        reasons += [
            f"attempted the write {call.name} ({_outcome(result)})"
            for call, result in calls
            if call.name in write_tools
        ]
    if task.kind.must_decline:
        if not any(declines(m.content) for m in messages if m.role == "assistant"):
            reasons.append("did not say that it cannot be done")
        elif calls and not any(_found_something(result) for _, result in calls):
            reasons.append("gave up after calls that all failed or found nothing: that is no refusal by the policy")
    for answer in task.written.must_tell:
        reasons += _check_answer(answer, messages)
    if exact:
        reasons += _check_exact(task, calls)
    return reasons


def _found_something(result: Message | None) -> bool:
    return result is not None and result.outcome is Outcome.OK and result.content not in NOTHING_FOUND


def _outcome(result: Message | None) -> str:
    return result.outcome.value if result and result.outcome else "no result"


def _check_exact(task: Task, calls: list[tuple[ToolCall, Message | None]]) -> list[str]:
    """Exact call match: the same calls with the same arguments in the same order (paper, section on filtering)."""
    made = [
        f"{call.name}({_canonical(call.arguments)})"
        for call, result in calls
        if result and result.outcome is Outcome.OK
    ]
    refused = set(task.written.expected_refused)
    wanted = [
        f"{c.call}({canonical_json(c.arguments)})" for n, c in enumerate(task.expected_calls, 1) if n not in refused
    ]
    return [] if made == wanted else [f"calls differ: expected {'; '.join(wanted)[:300]}, got {'; '.join(made)[:300]}"]


def _canonical(arguments: str) -> str:
    try:
        return canonical_json(orjson.loads(arguments))
    except orjson.JSONDecodeError:
        return arguments


def _check_answer(answer: Answer, messages: Sequence[Message]) -> list[str]:
    seen = False
    told: list[str] = []
    for message in messages:
        if message.role == "tool" and message.outcome is Outcome.OK:
            seen = seen or _in_result(answer, message.content)
        elif message.role == "assistant" and message.content and seen:
            told.append(message.content)
    if not seen:
        return [f"the answer {answer.value} never appeared in a tool result"]
    if not any(is_told(answer.type, answer.value, words) for words in told):
        return [f"did not tell {answer.type} {answer.value}"]
    wrong = [d for d in answer.distractors if any(is_told(answer.type, d, words) for words in told)]
    return [f"told the wrong {answer.type} {value}" for value in wrong]


def _in_result(answer: Answer, content: str) -> bool:
    """In the JSON's values; a count may also be the length of a list."""
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return False
    return any(_equals(answer, leaf) for leaf in _leaves(value, answer.type == "count"))


def _leaves(value: Any, with_lengths: bool) -> Iterator[Any]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item, with_lengths)
    elif isinstance(value, list):
        if with_lengths:
            yield len(value)
        for item in value:
            yield from _leaves(item, with_lengths)
    else:
        yield value


def _equals(answer: Answer, leaf: Any) -> bool:
    if answer.type in ("count", "money"):
        return leaf == answer.value and not isinstance(leaf, bool)
    return isinstance(leaf, str | int) and str(answer.value).casefold() in str(leaf).casefold()


def is_told(type_: str, value: str | int, words: str) -> bool:
    """Whether the words give this value, in any spelling of its type. Money values are minor units (cents)."""
    return any(_occurs(form, words) for form in _spellings(type_, value))


def spell(type_: str, value: str | int) -> str:
    """The plainest spelling of a value."""
    if type_ == "money" and isinstance(value, int):
        return f"{value // 100}.{value % 100:02d}"
    return str(value)


def _spellings(type_: str, value: str | int) -> list[str]:
    """Regular expressions."""
    if type_ == "count" and isinstance(value, int):
        forms = [str(value), f"{value:,}"]
        if value == 0:
            forms += ["none", r"no(?=\s+(?!problem|worr|doubt)\w)"]
        return forms + _NUMBER_WORDS[value : value + 1] if value >= 0 else forms
    if type_ == "money" and isinstance(value, int):
        major, minor = divmod(value, 100)
        return [
            rf"{major}\.{minor:02d}",
            rf"{major:,}\.{minor:02d}",
            *([rf"{major}\.{minor // 10}", rf"{major:,}\.{minor // 10}"] if minor % 10 == 0 else []),
            *([str(major), f"{major:,}"] if minor == 0 else []),
        ]
    if type_ == "date" and re.fullmatch(r"\d{4}-\d{2}-\d{2}", str(value)):
        year, month, day = (int(part) for part in str(value).split("-"))
        name = rf"(?:{_MONTHS[month - 1]}|{_MONTHS[month - 1][:3]}\.?)"
        nth, no_other_year = rf"{day}(?:st|nd|rd|th)?", rf"(?!,?\s+(?!{year})\d{{4}})"
        return [
            str(value),
            rf"{name}\s+{nth}{no_other_year}",
            rf"{nth}(?:\s+of)?\s+{name}{no_other_year}",
            f"{month}/{day}/{year}",
        ]
    return [re.escape(str(value))]


def _occurs(form: str, words: str) -> bool:
    """As a whole: not inside a longer word or number."""
    return _whole(form).search(words) is not None


@lru_cache(maxsize=16384)
def _whole(form: str) -> re.Pattern[str]:
    """Python's own cache of patterns holds 512, fewer than the answers of one run have; compiling one takes 100 us and more."""
    return re.compile(rf"(?<![\w.,/-])(?<![\d][.,])(?:{form})(?![\w/-])(?![.,]\d)", re.IGNORECASE)
