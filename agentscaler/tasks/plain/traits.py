"""What a thing can be known by: its name, whom or what it belongs to, a day, a state; each with the words for it.

A trait is columns of a row and a phrase over them. Only what an agent gets to see is a trait, so that whoever is told it can find the
thing. Surrogate keys are traits of the last resort.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from agentscaler.tasks.plain.english import label_of, words_of
from agentscaler.tasks.plain.facts import Facts, Home, Sort
from agentscaler.tasks.plain.finding import is_found, joins, ways_to
from agentscaler.tasks.plain.values import SAID, said_as
from agentscaler.tasks.plain.vocabulary import HOLDERS, PARTICIPLES


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


def traits_of(facts: Facts, home: Home, prefix: str) -> list[Trait]:
    """`prefix` begins the names of the row's columns."""
    owners = (owner_trait(facts, home.table, number, prefix) for number in range(len(joins(facts, home.table))))
    found = [one for one in (_name(facts, home.table, prefix, "t", home.column), *owners) if one is not None]
    named = {column for trait in found for column in trait.by}
    for column in facts.table(home.table).columns:
        if f"{prefix}_{column}" not in named:
            found += _plain(facts, home, column, prefix)
    return sorted(found, key=lambda trait: trait.rank)


def _name(facts: Facts, table: str, prefix: str, alias: str, home: str = "") -> Trait | None:
    """The name that rows of a table go by; None where they have none."""
    columns = facts.name_columns(table, home)
    first = next(iter(columns), None)
    if first is None:
        return None
    names = tuple(f"{prefix}_{column}" for column in columns)
    selects = tuple((name, f'{alias}."{column}"') for name, column in zip(names, columns, strict=True))
    if len(columns) > 1:
        return Trait(Rank.NAME, selects, " ".join(f"{{{name}}}" for name in names), names, columns, is_clause=False)
    said = SAID[facts.sort_of_column((table, first))].replace("@", names[0])
    return Trait(Rank.NAME, selects, said, names, columns, is_clause=False)


def owner_trait(facts: Facts, table: str, number: int, prefix: str) -> Trait | None:
    """An owner by its name where that is enough to find it by, else by what else tells it from all others and is."""
    key, parent = joins(facts, table)[number]
    if (table, key.columns[0]) in facts.choices:
        return None
    prefix, alias = f"{prefix}_{key.columns[0]}", f"p{number}"
    home = Home(parent, key.parent_columns[0])
    named = _name(facts, parent, prefix, alias)
    called = [named] if named is not None else []
    for column in facts.table(parent).columns:
        if facts.graph.classes.is_home((parent, column)) and not facts.is_surrogate((parent, column)):
            name = f"{prefix}_{column}"
            words = f"with the {label_of(column)} {{{name}}}"
            called.append(Trait(Rank.UNIQUE, ((name, f'{alias}."{column}"'),), words, (name,), (column,)))
    called = [one for one in called if is_found(set(one.tells), ways_to(facts, home), True)]
    if not called:
        return None
    label, noun = label_of(key.columns[0]), facts.noun(parent)
    is_plain = label == noun or noun.endswith(f" {label}")
    where = "in" if noun.split()[-1] in HOLDERS else "of"
    whole = called[0].words if called[0].rank is Rank.NAME else f"the {noun} {called[0].words}"
    words = f"{where} the {noun} {called[0].words}" if is_plain else f"whose {label} is {whole}"
    return Trait(Rank.OWNER, called[0].selects, words, called[0].by, key.columns, number, is_clause=not is_plain)


def _plain(facts: Facts, home: Home, column: str, prefix: str) -> Iterator[Trait]:
    table = facts.table(home.table)
    one = (home.table, column)
    if any(column in key.columns for key in table.foreign_keys) or column in table.json_columns:
        return
    name, label, sql = f"{prefix}_{column}", label_of(column), f't."{column}"'
    if column == home.column or (table.key == (column,) and facts.is_surrogate(one)):
        said = "ID" if facts.is_surrogate(one) else label
        rank = Rank.KEY if said == "ID" else Rank.UNIQUE
        yield Trait(rank, ((name, sql),), f"with the {said} {{{name}}}", (name,), (column,))
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
        is_unique = facts.graph.classes.is_home(one)
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
    elif stem in PARTICIPLES or re.fullmatch(r"\w{2,}ed", stem):
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
