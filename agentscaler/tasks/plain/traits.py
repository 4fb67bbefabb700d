"""What a thing can be known by: its name, whom or what it belongs to, a day, a state; each with the words for it.

A trait is columns of a row and a phrase over them. Only what an agent gets to see is a trait, so that whoever is told it can find the
thing. Surrogate keys are traits of the last resort.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from agentscaler.tasks.plain.english import label_of, words_of
from agentscaler.tasks.plain.facts import Facts, Home, Sort
from agentscaler.tasks.plain.values import SAID, said_as
from agentscaler.tasks.walk.prepared import Column
from agentscaler.world.program import ForeignKey


class Rank(IntEnum):
    """What a trait is, the most telling first."""

    NAME = 0
    UNIQUE = 1
    OWNER = 2
    DAY = 3
    TEXT = 4
    STATE = 5
    NUMBER = 6
    KEY = 7


@dataclass(frozen=True, slots=True)
class Trait:
    """`selects`: column of the row -> SQL over the thing's table `t` and its owners' `p0`, `p1`, …; `by` those of them that it tells.
    `words` stand behind the noun: `"{x}"` for a name, `whose city is {x}`, `of the project "{x}"`. `owner` is the join it needs,
    `tells` are the columns of the thing's own table that it gives away."""

    rank: Rank
    selects: tuple[tuple[str, str], ...]
    words: str
    by: tuple[str, ...]
    tells: tuple[str, ...]
    owner: int | None = None
    is_clause: bool = True  # "whose …", joined to others by "and"


_WAYS = {
    "starts": "starts", "start": "starts", "begins": "begins", "begin": "begins", "ends": "ends", "end": "ends", "expires": "expires",
    "expiry": "expires", "departs": "leaves", "departure": "leaves", "arrives": "arrives", "arrival": "arrives", "closes": "closes",
    "opens": "opens", "due": "is due", "scheduled": "is scheduled for", "deadline": "is due",
}  # fmt: skip
_PARTICIPLES = frozenset(
    "sent paid made bought sold held built written taken given born begun found met won lost done".split()
)
_HOLDERS = frozenset(
    "folder project category list board channel group album playlist department city country region room warehouse library "
    "collection workspace team directory building section shelf store campaign portfolio basket cart course class classroom ward "
    "league zone district area branch catalogue catalog space repository forum topic thread".split()
)


def joins(facts: Facts, table: str) -> list[tuple[ForeignKey, str]]:
    """A table's owners: foreign keys of one column, with the table referred to."""
    return [(key, key.parent) for key in facts.table(table).foreign_keys if len(key.columns) == 1]


def traits_of(facts: Facts, home: Home, prefix: str) -> list[Trait]:
    """`prefix` begins the names of the row's columns."""
    found = [*names_of(facts, home.table, prefix, "t", home.column)]
    for number, (key, parent) in enumerate(joins(facts, home.table)):
        found += _owner(facts, home.table, key, parent, number, prefix)
    named = {column for trait in found for column in trait.by}
    for column in facts.table(home.table).columns:
        if f"{prefix}_{column}" not in named:
            found += _plain(facts, home, column, prefix)
    return sorted(found, key=lambda trait: trait.rank)


def names_of(facts: Facts, table: str, prefix: str, alias: str, home: str = "") -> Iterator[Trait]:
    """The name that rows of a table go by; none where they have none."""
    columns = _visible(facts, table, home)
    whole = [
        (first, last)
        for first, last in (("first_name", "last_name"), ("given_name", "family_name"))
        if {first, last} <= set(columns)
    ]
    if whole:
        names = tuple(f"{prefix}_{column}" for column in whole[0])
        selects = tuple((name, f'{alias}."{column}"') for name, column in zip(names, whole[0], strict=True))
        yield Trait(Rank.NAME, selects, f"{{{names[0]}}} {{{names[1]}}}", names, whole[0], is_clause=False)
        return
    sorts = {column: facts.sort_of_column((table, column)) for column in columns}
    refers = {column for key in facts.table(table).foreign_keys for column in key.columns}
    called = [
        c
        for c in columns
        if sorts[c] in (Sort.TITLE, Sort.PERSON) and c not in refers and (table, c) not in facts.choices
    ]
    order = ("name", "title", "full_name", "display_name", "label", "subject")
    called.sort(key=lambda c: (order.index(c) if c in order else len(order), not _is_unique(facts, (table, c))))
    if not called:
        natural = [
            c
            for c in columns
            if _is_unique(facts, (table, c)) and not facts.is_surrogate((table, c)) and c not in refers
        ]
        natural = [c for c in natural if facts.table(table).types[c] == "TEXT" and sorts[c] in (Sort.CODE, Sort.PLAIN)]
        called = [c for c in natural if c == home or not home or c in facts.table(table).key][:1]
    for column in called[:1]:
        name = f"{prefix}_{column}"
        said = SAID[sorts[column]].replace("@", name)
        yield Trait(Rank.NAME, ((name, f'{alias}."{column}"'),), said, (name,), (column,), is_clause=False)


def _owner(facts: Facts, table: str, key: ForeignKey, parent: str, number: int, prefix: str) -> Iterator[Trait]:
    called = next(names_of(facts, parent, f"{prefix}_{key.columns[0]}", f"p{number}"), None)
    if called is None or (table, key.columns[0]) in facts.choices:
        return
    label, noun = label_of(key.columns[0]), facts.noun(parent)
    is_plain = label == noun or noun.endswith(f" {label}")
    where = "in" if noun.split()[-1] in _HOLDERS else "of"
    words = f"{where} the {noun} {called.words}" if is_plain else f"whose {label} is {called.words}"
    yield Trait(Rank.OWNER, called.selects, words, called.by, key.columns, number, is_clause=not is_plain)


def _plain(facts: Facts, home: Home, column: str, prefix: str) -> Iterator[Trait]:
    table = facts.table(home.table)
    one = (home.table, column)
    if any(column in key.columns for key in table.foreign_keys) or column in table.json_columns:
        return
    name, label, sql = f"{prefix}_{column}", label_of(column), f't."{column}"'
    if column == home.column or table.key == (column,):
        if facts.is_surrogate(one) or column == home.column:
            said = "ID" if facts.is_surrogate(one) else label
            yield Trait(
                Rank.KEY if said == "ID" else Rank.UNIQUE,
                ((name, sql),),
                f"with the {said} {{{name}}}",
                (name,),
                (column,),
            )
            return
    if one not in facts.shown or column in table.exempt:
        return
    sort = facts.sort_of_column(one)
    if sort in (Sort.DATE, Sort.MOMENT):
        yield from _days(name, column, sql, label, sort)
    elif sort in (Sort.CHOICE, Sort.MONEY, Sort.NUMBER):
        said = said_as(sort, column).replace("@", name)
        rank = Rank.STATE if sort is Sort.CHOICE else Rank.NUMBER
        yield Trait(rank, ((name, sql),), f"whose {label} is {said}", (name,), (column,))
    elif sort in (Sort.PERSON, Sort.TITLE, Sort.CODE, Sort.PLAIN, Sort.TIME):
        said = "{@}" if sort is Sort.TIME else SAID[sort]
        is_unique = _is_unique(facts, one)
        words = f"with the {label} {said}" if is_unique or sort is Sort.CODE else f"whose {label} is {said}"
        yield Trait(
            Rank.UNIQUE if is_unique else Rank.TEXT, ((name, sql),), words.replace("@", name), (name,), (column,)
        )


def _days(name: str, column: str, sql: str, label: str, sort: Sort) -> Iterator[Trait]:
    words = words_of(column)
    stem = words[0] if len(words) == 1 or words[-1] in ("on", "at", "date", "time", "day") else ""
    if stem in _WAYS:
        way = f"that {_WAYS[stem]}"
        way = way if way.endswith("for") else f"{way} on"
    elif stem in _PARTICIPLES or re.fullmatch(r"\w{2,}ed", stem):
        way = f"that was {stem} on"
    else:
        way = "of" if label in ("date", "day", "time") else f"whose {label} is"
    is_clause = way != "of"
    if sort is Sort.DATE:
        yield Trait(Rank.DAY, ((name, sql),), f"{way} {{{name}:birthday}}", (name,), (column,), is_clause=is_clause)
        return
    day, clock = f"{name}_day", f"{name}_clock"
    selects = ((day, f"substr({sql}, 1, 10)"), (clock, f"substr({sql}, 12, 5)"))
    yield Trait(Rank.DAY, selects, f"{way} {{{day}:birthday}}", (day,), (column,), is_clause=is_clause)
    yield Trait(
        Rank.DAY, selects, f"{way} {{{day}:birthday}} at {{{clock}:time}}", (day, clock), (column,), is_clause=is_clause
    )


def _visible(facts: Facts, table: str, home: str) -> Sequence[str]:
    one = facts.table(table)
    return [
        c
        for c in one.columns
        if ((table, c) in facts.shown or c == home) and c not in one.exempt and c not in one.json_columns
    ]


def _is_unique(facts: Facts, column: Column) -> bool:
    return facts.graph.classes.is_home(column)
