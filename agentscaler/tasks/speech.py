"""How people speak of a world: who they are, how they call what they mean, what they may want or ask, and in which words.

Data, in `speech.yaml` beside a domain's `domain.yaml`; no part of the domain and of its fingerprint, for a task that has been made holds
all that it needs. Queries are vetted like tools and see `:speaker`, the key of the person who speaks. Their columns are the slots of the
words (`words.fill`): `{new_date:day}`. No tool and no column is named in words.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import apsw
import apsw.ext
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from agentscaler.domain.domain import Domain, RuleLevel
from agentscaler.domain.store import domain_folder, read_yaml
from agentscaler.errors import DomainError
from agentscaler.tasks.words import check_words, slots_of
from agentscaler.world import clock, functions, guard
from agentscaler.world.program import SPEAKER, Program, build_schema, compile_domain

SPEECH_FILE = "speech.yaml"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_several), Field(min_length=1)]
"""Sentences to choose from."""
Names = Annotated[tuple[str, ...], BeforeValidator(_several)]
"""Names of columns, or of slots."""


class Finding(_Frozen):
    """A call that finds what was told. `arguments`: parameter -> column. `says` are whole sentences, for persons."""

    call: str
    arguments: dict[str, str] = {}
    says: tuple[str, ...] = ()
    weight: float = Field(default=1, gt=0)


class Asked(_Frozen):
    """How something is asked for: `about` as in a task's fact, `question` in the agent's words, `says` in the person's."""

    about: Names = ()
    asked: Names = ()
    question: Words
    says: Words

    @model_validator(mode="after")
    def _can_be_asked_for(self) -> Asked:
        if not self.about and not self.asked:
            raise ValueError("needs about or asked")
        return self


class Person(_Frozen):
    """Who may speak. `rows` is a query with a column `speaker`. `known_by`: what somebody says to be known, and the call that finds
    them by it. `unknown`: how an agent asks somebody who has not said it (says: of a known_by)."""

    rows: str
    known_by: tuple[Finding, ...] = Field(min_length=1)
    about: Names = ()
    question: Words = ("Who am I speaking with, please?",)


class Naming(_Frozen):
    """Words for a thing, and the columns that must tell it from all others of the speaker."""

    by: Names
    words: Words
    weight: float = Field(default=1, gt=0)


class Thing(_Frozen):
    """What people speak of. `rows` are all that an agent could take for it when the speaker names one: names are proven unique among
    them. `key` are the columns that a case names it by. `which`: an agent's question between several; `short` answers it."""

    rows: str
    key: Names
    names: tuple[Naming, ...] = Field(min_length=1)
    found_by: tuple[Finding, ...] = ()
    about: Names = ()
    which: Words = ("Which one do you mean?",)
    short: tuple[Naming, ...] = ()


class Instead(_Frozen):
    """Recovery: a first choice that the database refuses, and what to do then. `{first.slot}` is of the first choice; the two cases
    differ in these columns only."""

    differ: Names
    words: Words


class Change(_Frozen):
    """A change of mind. `words` say the second choice; `{first.slot}` is of the one before."""

    differ: Names
    words: Words


class Clause(_Frozen):
    """Words that stand only where this column is not NULL."""

    when: str
    words: Words


class Wish(_Frozen):
    """Something that is done by one writing call. `cases` is a query: each row is one thing that the speaker could want, whether the
    world allows it or not. `arguments`: parameter -> column (or a list or object of such); a NULL is left out. `things`: slot -> thing,
    its key's columns being among the case's. `before`: calls that have to come before, in the same case."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")
    call: str
    cases: str
    arguments: dict[str, Any] = {}
    things: dict[str, str] = {}
    clauses: dict[str, Clause] = {}
    words: Words
    because: tuple[str, ...] = ()
    leave_out: dict[str, LeaveOut] = {}
    changes: tuple[Change, ...] = ()
    instead: tuple[Instead, ...] = ()
    pleas: dict[str, Words] = {}
    before: tuple[BeforeCall, ...] = ()
    alone: bool = False  # not one of several goals
    apart: Names = ()  # of the wishes that share one of these words one person has one only
    forbidden_by: str | None = None  # a text_only rule that forbids it for what the words say, whatever the arguments
    weight: float = Field(default=1, gt=0)


class BeforeCall(_Frozen):
    """A call that comes before the wish's own."""

    call: str
    arguments: dict[str, Any] = {}


class LeaveOut(Asked):
    """The wish without one of its slots, which the person tells when asked."""

    words: Words


class Tells(_Frozen):
    """A value that must be told: a column of the case. `distractors`: a column with a JSON list; NULL: those of the speaker's other
    cases."""

    type: Literal["money", "date", "id", "count", "name"]
    value: str
    distractors: str | None = None


class Question(_Frozen):
    """Something that one reading call answers."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")
    call: str
    cases: str
    arguments: dict[str, Any] = {}
    things: dict[str, str] = {}
    clauses: dict[str, Clause] = {}
    words: Words
    tells: tuple[Tells, ...] = Field(min_length=1)
    weight: float = Field(default=1, gt=0)


class OffTopic(_Frozen):
    """What no tool can do. `things`: slot -> thing, any of the speaker's."""

    words: Words
    things: dict[str, str] = {}


class Speech(_Frozen):
    person: Person | None = None
    things: dict[str, Thing] = {}
    wishes: tuple[Wish, ...] = ()
    questions: tuple[Question, ...] = ()
    off_topic: tuple[OffTopic, ...] = ()
    small_talk: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _names_differ(self) -> Speech:
        for kind, names in (("wishes", [w.name for w in self.wishes]), ("questions", [q.name for q in self.questions])):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{kind}: {twice[0]} stands twice")
        return self


def load_speech(name: str, path: str | None = None) -> Speech | None:
    """Of a domain folder; None where it has no `speech.yaml`."""
    file = domain_folder(name, path) / SPEECH_FILE
    return _load(file) if file.is_file() else None


@cache
def _load(file: Path) -> Speech:
    return parse_speech(read_yaml(file), str(file))


def parse_speech(data: Any, where: str) -> Speech:
    try:
        return Speech.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise DomainError(f"{where}: {key + ': ' if key else ''}{' '.join(first['msg'].split())}") from None


def check_speech(domain: Domain, speech: Speech, where: str) -> None:
    """Vet every query against the domain's schema, and that words, slots, columns, things and tools fit together. Raises DomainError
    naming the entry."""
    program = compile_domain(domain)
    for entry, problem in _problems(program, speech):
        raise DomainError(f"{where}: {entry}: {problem}")


def _problems(program: Program, speech: Speech) -> Iterator[tuple[str, str]]:
    clock.freeze(program.clock_ms)
    with closing(apsw.Connection(":memory:", vfs=clock.VFS_NAME)) as db:
        budget = guard.Budget()
        guard.harden(db)
        functions.register_pure(db, budget.spend)
        functions.register_stubs(db)
        build_schema(db, program.domain)

        def columns_of(sql: str, where: str) -> set[str]:
            effects = guard.vet(db, sql, (SPEAKER,), f"{program.domain.name}: speech: {where}", guard.READ_FUNCTIONS)
            if effects.writes or not effects.readonly:
                raise DomainError(f"{program.domain.name}: speech: {where}: writes; it may only look")
            return {one[0] for one in apsw.ext.query_info(db, sql).description}

        person: set[str] = set()
        if speech.person is not None:
            person = columns_of(speech.person.rows, "person")
            if SPEAKER not in person:
                yield "person", f"rows has no column {SPEAKER}"
            for finding in speech.person.known_by:
                yield from _fits(program, "person", finding.call, finding.arguments, person, writes=False)
                yield from _slots("person", finding.says, person)
        things: dict[str, set[str]] = {}
        for name, thing in speech.things.items():
            where = f"things.{name}"
            things[name] = columns = columns_of(thing.rows, where) | person
            if missing := sorted(set(thing.key) - columns):
                yield where, f"rows has no column {missing[0]}"
            for naming in (*thing.names, *thing.short):
                if missing := sorted(set(naming.by) - columns):
                    yield where, f"by: rows has no column {missing[0]}"
                yield from _slots(where, naming.words, columns)
            for finding in thing.found_by:
                yield from _fits(program, where, finding.call, finding.arguments, columns, writes=False)
        for entry in (*speech.wishes, *speech.questions):
            where = f"{'wishes' if isinstance(entry, Wish) else 'questions'}.{entry.name}"
            columns = columns_of(entry.cases, where)
            for name in entry.things.values():
                if name not in things:
                    yield where, f"things: there is no thing {name}"
                    continue
                if missing := sorted(set(speech.things[name].key) - columns):
                    yield where, f"cases has no column {missing[0]}, the key of {name}"
            yield from _fits(program, where, entry.call, entry.arguments, columns | person, isinstance(entry, Wish))
            known = columns | person | set(entry.things) | set(entry.clauses)
            for slot, clause in entry.clauses.items():
                if clause.when not in columns:
                    yield where, f"clauses.{slot}: cases has no column {clause.when}"
                yield from _slots(where, clause.words, known)
            yield from _slots(where, entry.words, known)
            if isinstance(entry, Question):
                for tells in entry.tells:
                    for column in (tells.value, tells.distractors):
                        if column is not None and column not in columns:
                            yield where, f"tells: cases has no column {column}"
                continue
            yield from _slots(where, entry.because, columns | person)
            rules = {rule.name for rule in program.domain.policy if rule.level is RuleLevel.TEXT_ONLY}
            if unknown := sorted({*entry.pleas, *([entry.forbidden_by] if entry.forbidden_by else [])} - rules):
                yield where, f"there is no text_only rule {unknown[0]}"
            for slot, left in entry.leave_out.items():
                if slot not in known:
                    yield where, f"leave_out: there is no slot {slot}"
                yield from _slots(where, (*left.words, *left.says), known)
                yield from _slots(where, left.question, columns | person)
            for change in (*entry.changes, *entry.instead):
                if missing := sorted(set(change.differ) - columns):
                    yield where, f"differ: cases has no column {missing[0]}"
                yield from _slots(where, change.words, known | {f"first.{name}" for name in known})
            for plea in entry.pleas.values():
                yield from _slots(where, plea, columns | person | set(entry.things))
            for call in entry.before:
                yield from _fits(program, where, call.call, call.arguments, columns | person, writes=None)
        for entry in speech.off_topic:
            if missing := sorted(set(entry.things.values()) - set(things)):
                yield "off_topic", f"things: there is no thing {missing[0]}"
            yield from _slots("off_topic", entry.words, person | set(entry.things))
        yield from _slots("small_talk", speech.small_talk, person)


def _fits(
    program: Program, where: str, call: str, arguments: dict[str, Any], columns: set[str], writes: bool | None
) -> Iterator[tuple[str, str]]:
    tool = program.tools.get(call)
    if tool is None:
        yield where, f"call: there is no tool {call}"
        return
    if writes is not None and tool.is_write is not writes:
        yield where, f"call: {call} {'only reads' if writes else 'writes'}"
    if unknown := sorted(set(arguments) - set(tool.parameters)):
        yield where, f"arguments: {call} has no parameter {unknown[0]}"
    if missing := sorted(set(columns_in(arguments)) - columns):
        yield where, f"arguments: there is no column {missing[0]}"


def columns_in(arguments: Any) -> Iterator[str]:
    """The columns that arguments are filled from."""
    if isinstance(arguments, str):
        yield arguments
    elif isinstance(arguments, dict):
        for value in arguments.values():
            yield from columns_in(value)
    elif isinstance(arguments, list | tuple):
        for value in arguments:
            yield from columns_in(value)


def _slots(where: str, words: tuple[str, ...], known: set[str]) -> Iterator[tuple[str, str]]:
    for one in words:
        if problem := check_words(one):
            yield where, f"{one!r}: {problem}"
        elif missing := sorted(slots_of(one) - known):
            yield where, f"{one!r}: there is no slot {missing[0]}"


Wish.model_rebuild()
