"""What a result file recorded of one simulation, replayed: its calls, its outcome beside ours, and why the two differ.

Tool texts never decide whether outcomes agree. They are compared where outcomes differ, for the cause alone: a text that differs tells
that the file was made with other data or other tools, and equal texts that the grading itself differs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib.util import find_spec
from typing import Any

import orjson

from agentscaler.adapters.tau2.live import LiveWorld, Requestor
from agentscaler.adapters.tau2.package import check_installed, load_domain


class Cause(StrEnum):
    """Why a simulation disagrees. The first that holds, in this order."""

    OTHER_TOOLS = "other database or tools"  # a call went well in one and failed in the other
    OTHER_ANSWERS = "other answers"  # all went alike, but an answer holds other values
    REFERENCE_FAILS = "reference fails here"  # an action of the reference is refused by this database or these tools
    REFERENCE_NOT_RECORDED = "reference not recorded"  # so that the task's was taken, which need not be the one graded
    OUTPUTS_ALONE = (
        "outputs alone graded"  # τ-bench v1, where nothing in the file shows that it looked at the database too
    )
    WORDS = "words"  # τ-bench v1: other outputs found in what the agent said
    GRADING = "grading"  # everything is equal but the verdict


class Missing(StrEnum):
    """Why a simulation cannot be compared."""

    NO_CHECK = "no check recorded"  # not graded: it broke off, or its reward is missing
    NO_MESSAGES = "no messages"
    UNKNOWN_TASK = "unknown task"  # neither in the file nor in the package
    BROKEN_TASK = "task cannot begin here"  # its initial state, or a part of it, is refused by the package


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """`answer` is None where the file holds no result of this call."""

    requestor: Requestor
    tool: str
    arguments: dict[str, Any]
    answer: str | None = None
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    words: str
    failed: bool


@dataclass(frozen=True, slots=True)
class Name:
    """Which simulation."""

    simulation: str
    task: str
    trial: int | None
    domain: str


@dataclass(frozen=True, slots=True)
class Compared:
    """One simulation, rescored. `ours` and `recorded` hold the outcome: `db_match`, `env_assertions`, for τ-bench v1 also `outputs`.
    `missing` is set where it cannot be compared, `cause` where it disagrees. Rewards are of the parts that can be judged here, None
    where there are none; `nl` is the recorded reward of assertions in words."""

    name: Name
    recorded: dict[str, Any] = field(default_factory=dict)
    ours: dict[str, Any] = field(default_factory=dict)
    missing: Missing | None = None
    cause: Cause | None = None
    words: str = ""
    recorded_reward: float | None = None
    our_reward: float | None = None
    nl: float | None = None

    @property
    def agrees(self) -> bool:
        return self.missing is None and self.cause is None


@cache
def shipped_world(domain: str) -> LiveWorld | None:
    """The package's own world of that name, None if there is none. Names come out of files: no folder and no other module is loaded."""
    check_installed()
    if not re.fullmatch(r"\w+", domain) or find_spec(f"tau2.domains.{domain}") is None:
        return None
    return LiveWorld(load_domain(f"tau2.domains.{domain}.environment"))


def read_calls(
    messages: Iterable[Mapping[str, Any]],
    calls_of: Callable[[Mapping[str, Any]], list[RecordedCall]],
    failed: Callable[[Mapping[str, Any]], bool],
) -> list[RecordedCall]:
    """All calls in order, each with its result. Results are told by place, not by id: ids come twice in published files."""
    calls: list[RecordedCall] = []
    answered = 0
    for message in messages:
        if message.get("role") != "tool":
            answered = len(calls)  # results stand right behind their calls
            calls += calls_of(message)
        elif answered < len(calls):
            one = calls[answered]
            calls[answered] = RecordedCall(one.requestor, one.tool, one.arguments, text_of(message), failed(message))
            answered += 1
    return calls


def text_of(message: Mapping[str, Any]) -> str:
    """The words of a message; some models' are a list of parts."""
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def arguments_of(value: Any) -> dict[str, Any]:
    """Arguments as an object, or as JSON text of one; else none, so that the call is refused as it should be."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return {}
    return value if isinstance(value, dict) else {}


def why(
    calls: Sequence[RecordedCall], answers: Sequence[Answer], refused: Sequence[str], has_reference: bool
) -> tuple[Cause, str]:
    """The cause of a disagreement, and words on it. `refused` are actions of the reference that failed here."""
    pairs = [pair for pair in zip(calls, answers, strict=True) if pair[0].answer is not None]
    for call, answer in pairs:
        if call.failed != answer.failed:
            now = f"fails here ({_short(answer.words)})" if answer.failed else "goes well here"
            return Cause.OTHER_TOOLS, f"{call.tool} {'failed' if call.failed else 'went well'} as recorded and {now}"
    for call, answer in pairs:
        if not call.failed and (place := differing(_parsed(call.answer or ""), _parsed(answer.words))) is not None:
            return Cause.OTHER_ANSWERS, f"{call.tool} answers otherwise here{place}"
    if refused:
        return Cause.REFERENCE_FAILS, _short("; ".join(refused))
    if not has_reference:
        return Cause.REFERENCE_NOT_RECORDED, "the file does not say what the outcome was compared with"
    return Cause.GRADING, f"all {len(pairs)} recorded results are equal, the verdict differs"


def differing(recorded: Any, ours: Any, place: str = "") -> str | None:
    """Where two answers first differ, None if nowhere. Only fields that both have count: others were renamed, or are newer."""
    if isinstance(recorded, dict) and isinstance(ours, dict):
        pairs: Iterator[tuple[str, Any, Any]] = (
            (f"{place}.{key}", value, ours[key]) for key, value in recorded.items() if key in ours
        )
    elif isinstance(recorded, list) and isinstance(ours, list) and len(recorded) == len(ours):
        pairs = ((f"{place}[{n}]", *pair) for n, pair in enumerate(zip(recorded, ours, strict=True)))
    else:
        return None if recorded == ours else f": {place.strip('.') or 'it'} was {_short(recorded)}, is {_short(ours)}"
    return next((found for at, one, other in pairs if (found := differing(one, other, at)) is not None), None)


def _parsed(words: str) -> Any:
    try:
        return json.loads(words)
    except ValueError:
        return words


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 160 else f"{text[:157]}..."
