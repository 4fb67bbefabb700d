"""A task: a domain, a seed, what a person wants, and an executed reference with its expected end.

`WrittenTask` is what a person writes (YAML); `Task` is compiled: its reference ran clean and its soundness was proven. Both frozen.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agentscaler.canonical import digest


class Kind(StrEnum):
    """What a task asks of the agent; closed."""

    WRITE = "write"
    MULTI_GOAL = "multi_goal"
    CHANGED_MIND = "changed_mind"
    READ_ONLY = "read_only"
    MISSING_PARAMETER = "missing_parameter"
    REFUSAL = "refusal"
    IRRELEVANT = "irrelevant"
    RECOVERY = "recovery"
    AMBIGUOUS = "ambiguous"

    @property
    def must_not_write(self) -> bool:
        return self in (Kind.READ_ONLY, Kind.REFUSAL, Kind.IRRELEVANT)

    @property
    def must_decline(self) -> bool:
        return self in (Kind.REFUSAL, Kind.IRRELEVANT)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


_SENTENCE = r"(?:[^.!?]|[.!?](?=\S)(?!\?))*"  # a point inside 130.00 or an e-mail address ends none
_BEGGING = "tell|give|specify|provide|need|know|enter|state|clarify|choose|pick|select|ask|missing|name|share|confirm"


class Fact(_Frozen):
    """Something the user knows and tells only when asked. `about` are the words it goes by (regular expressions, as whole words): it
    is asked for where one of them stands in a question or after words such as "please tell me". `asked` are whole patterns beside
    those, letter case aside."""

    asked: tuple[str, ...] = ()
    about: tuple[str, ...] = ()
    question: str  # how the reference teacher asks
    says: str  # what the user then says

    @model_validator(mode="after")
    def _can_be_asked_for(self) -> Fact:
        if not self.asked and not self.about:
            raise ValueError("needs asked or about")
        for pattern in (*self.asked, *self.about):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"pattern {pattern!r}: {error}") from None
        return self

    @property
    def patterns(self) -> tuple[str, ...]:
        if not self.about:
            return self.asked
        word = rf"\b(?:{'|'.join(self.about)})\b"
        before = (rf"\b(?:{begin})\b{_SENTENCE}{word}" for begin in ("which|what", _BEGGING))
        return (*self.asked, rf"{word}{_SENTENCE}\?", *before)

    def is_asked(self, words: str) -> bool:
        return any(re.search(pattern, words, re.IGNORECASE) for pattern in self.patterns)


class Answer(_Frozen):
    """A value that the agent must tell. `distractors` are values of the same type that it must not give as the answer."""

    type: Literal["money", "date", "id", "count", "name"]
    value: str | int
    distractors: tuple[str | int, ...] = ()


class Call(_Frozen):
    """A reference call. An argument `{"$result": [2, "title"]}` stands for field `title` of the second call's result."""

    call: str
    arguments: dict[str, Any] = {}


class Ask(_Frozen):
    ask: str


class Say(_Frozen):
    say: str


Step = Call | Ask | Say


class WrittenTask(_Frozen):
    """`then` are further things the user says, one after each statement of the agent that asks nothing."""

    id: str = Field(pattern=r"^[a-z0-9_]{1,80}$")
    kind: Kind
    seed: int = 1
    intent: str = Field(min_length=1)
    facts: dict[str, Fact] = {}
    then: tuple[str, ...] = ()
    reference: tuple[Step, ...] = ()
    expected_refused: tuple[int, ...] = ()  # numbers of reference calls, from 1
    must_tell: tuple[Answer, ...] = ()
    forbidden: Call | None = None  # refusal tasks: the call that the policy forbids and the database would allow

    @property
    def calls(self) -> tuple[Call, ...]:
        return tuple(step for step in self.reference if isinstance(step, Call))

    @model_validator(mode="after")
    def _fits_its_kind(self) -> WrittenTask:
        for step in self.reference:
            if isinstance(step, Ask) and step.ask not in self.facts:
                raise ValueError(f"reference asks for {step.ask}, which is no fact")
        if any(not 1 <= n <= len(self.calls) for n in self.expected_refused):
            raise ValueError("expected_refused names a call that is not there")
        if (self.kind is Kind.REFUSAL) != (self.forbidden is not None):
            raise ValueError("a refusal task, and no other, names the forbidden call")
        if self.kind is Kind.READ_ONLY and not self.must_tell:
            raise ValueError("a read_only task needs must_tell")
        if self.kind in (Kind.MISSING_PARAMETER, Kind.AMBIGUOUS) and not self.facts:
            raise ValueError(f"a {self.kind.value} task needs facts that the user tells when asked")
        if self.kind is Kind.CHANGED_MIND and not self.then:
            raise ValueError("a changed_mind task needs then")
        if self.kind is Kind.RECOVERY and not self.expected_refused:
            raise ValueError("a recovery task needs expected_refused")
        return self


class Task(_Frozen):
    """`expected_diff` is the canonical net change of the reference; `expected_calls` the calls with arguments resolved."""

    written: WrittenTask
    domain: str
    domain_fingerprint: str
    expected_diff: dict[str, list[dict[str, Any]]]
    expected_calls: tuple[Call, ...]
    source: str = "written"

    @property
    def task_id(self) -> str:
        return f"{self.domain}/{self.written.id}"

    @property
    def kind(self) -> Kind:
        return self.written.kind

    @property
    def intent(self) -> str:
        return self.written.intent

    @property
    def num_calls(self) -> int:
        return len(self.written.calls)

    @property
    def world_seed(self) -> int:
        return self.written.seed

    @property
    def reference_tools(self) -> frozenset[str]:
        """Tools that a prompt must not give away by an example."""
        forbidden = {self.written.forbidden.call} if self.written.forbidden else set()
        return frozenset({call.call for call in self.written.calls} | forbidden)

    @cached_property
    def task_digest(self) -> str:
        return digest(self.model_dump(mode="json", exclude={"source"}, exclude_defaults=True))
