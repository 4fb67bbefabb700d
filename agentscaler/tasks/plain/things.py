"""The things of a world and their names, as `speech.Thing`.

A thing is a table's rows, named by a column of which one value tells a row and that some tool's argument is looked up in.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations
from math import prod

from agentscaler.tasks.plain.english import label_of, plural, words_of
from agentscaler.tasks.plain.facts import Facts, Home
from agentscaler.tasks.plain.finding import findings, is_found, joins, ways_to
from agentscaler.tasks.plain.traits import Rank, Trait, traits_of
from agentscaler.tasks.speech import Finding, Naming, Thing

MAX_TOGETHER = (9, 11, 5)  # namings of one trait, of two, of three
MAX_FINDINGS = 12
MAX_OF_RANK = {
    Rank.NAME: 1,
    Rank.UNIQUE: 2,
    Rank.OWNER: 3,
    Rank.DAY: 3,
    Rank.TEXT: 3,
    Rank.STATE: 3,
    Rank.NUMBER: 1,
    Rank.KEY: 1,
}
_WEIGHTS = {
    Rank.NAME: 1.0,
    Rank.UNIQUE: 0.4,
    Rank.OWNER: 0.6,
    Rank.DAY: 0.5,
    Rank.TEXT: 0.5,
    Rank.STATE: 0.3,
    Rank.NUMBER: 0.1,
    Rank.KEY: 0.0002,
}
_FACTORS = (4.0, 0.25, 0.05)  # the fewer words that tell a thing apart, the better


def homes(facts: Facts) -> list[Home]:
    """All that arguments of the agent's tools name."""
    found = dict.fromkeys(
        home
        for name in (*facts.writes, *facts.reads)
        for path in facts.graph.provenance[name].parameters
        for home in facts.homes_of(name, path)[:1]
    )
    return list(found)


def thing_name(facts: Facts, home: Home) -> str:
    name = "_".join(words_of(facts.noun(home.table)))
    return name if home.column in facts.table(home.table).key else f"{name}_by_{home.column}"


def key_name(facts: Facts, home: Home) -> str:
    """The column that a case names the thing by: called as most parameters are that hold it, so that reads are filled with it."""
    names = Counter(
        path[-1]
        for name in (*facts.writes, *facts.reads)
        for path in facts.graph.provenance[name].parameters
        if facts.homes_of(name, path)[:1] == [home] and re.fullmatch(r"\w+", path[-1])
    )
    best = min(names, key=lambda one: (-names[one], one), default=home.column)
    return f"{thing_name(facts, home)}_id" if best in ("id", "key", "uuid") else best


def make_thing(facts: Facts, home: Home, key: str, without: str = "") -> Thing:
    """`key` is the name of its key column; `without` is a column that none of its names may tell."""
    noun, prefix = facts.noun(home.table), thing_name(facts, home)
    traits = _chosen([trait for trait in traits_of(facts, home, prefix) if without not in trait.tells])
    ways = ways_to(facts, home)
    together = _together(traits)
    findable = [
        some for some in together if is_found(_told(some), ways, any(trait.rank is Rank.NAME for trait in some))
    ]
    findable += [(trait,) for trait in traits if set(trait.tells) == {home.column} and (trait,) not in findable]
    names = _namings(noun, findable, facts.is_person(home.table))
    words = map(re.escape, dict.fromkeys((*noun.split(), plural(noun), *label_of(home.column).split())))
    return Thing(
        rows=_rows(facts, home, key, traits),
        key=(key,),
        names=tuple(names),
        found_by=tuple(_found_by(facts, home, traits)),
        about=(*words, "which", "ones?", "mean", "IDs?", "names?", "details"),
        which=(f"Which {noun} do you mean?", f"There is more than one such {noun}. Which one do you mean?"),
        short=tuple(_short(noun, [some for some in _together(traits) if len(some) < 3])),
    )


def _chosen(traits: Sequence[Trait]) -> list[Trait]:
    taken: Counter[Rank] = Counter()
    found = []
    for trait in traits:
        taken[trait.rank] += 1
        if taken[trait.rank] <= MAX_OF_RANK[trait.rank]:
            found.append(trait)
    return found


def _rows(facts: Facts, home: Home, key: str, traits: Sequence[Trait]) -> str:
    """The key under all names that a read may ask for it, keys of the owners, and what the traits tell."""
    own = f't."{home.column}"'
    selects = {name: own for _, name in facts.graph.classes.members((home.table, home.column))}
    selects[key] = own
    for one, _ in joins(facts, home.table):
        selects.setdefault(one.columns[0], f't."{one.columns[0]}"')
    for column in facts.table(home.table).key:
        selects[column] = f't."{column}"'
    for trait in traits:
        selects.update(trait.selects)
    used = sorted({trait.owner for trait in traits if trait.owner is not None})
    owners = joins(facts, home.table)
    tables = "".join(
        f' LEFT JOIN "{owners[n][1]}" p{n} ON p{n}."{owners[n][0].parent_columns[0]}" = t."{owners[n][0].columns[0]}"'
        for n in used
    )
    columns = ", ".join(f'{sql} AS "{name}"' for name, sql in selects.items())
    return f'SELECT {columns} FROM "{home.table}" t{tables} WHERE {own} IS NOT NULL ORDER BY {own}'


def _found_by(facts: Facts, home: Home, traits: Sequence[Trait]) -> list[Finding]:
    """Reads to find it by what is told; then the same for its owners, which may be all that is told."""
    told = {
        column: name
        for trait in traits
        if trait.owner is None
        for column, name in zip(trait.tells, trait.by, strict=False)
    }
    found = findings(facts, home, told, is_owner=False)
    for trait in traits:
        if trait.owner is not None:
            key, parent = joins(facts, home.table)[trait.owner]
            columns = {sql.split(".", 1)[1].strip('"'): name for name, sql in trait.selects}
            found += findings(facts, Home(parent, key.parent_columns[0]), columns, is_owner=True)
    return [one for number, one in enumerate(found) if one not in found[:number]][:MAX_FINDINGS]


def _namings(noun: str, together: Sequence[tuple[Trait, ...]], is_person: bool) -> list[Naming]:
    found: list[Naming] = []
    for some in together:
        weight = _weight(some)
        name = next((trait for trait in some if trait.rank is Rank.NAME), None)
        tail = _tail([trait for trait in some if trait is not name])
        heads = [f"the {noun}"]
        if name is not None:
            heads = [f"the {noun} {name.words}"]
            if is_person and not tail:
                heads += [name.words, name.words]
            elif name.words.startswith('"'):
                heads += [f"the {noun} called {name.words}"]
        words = tuple(f"{head} {tail}".strip() for head in heads)
        found.append(Naming(by=_by(some), words=words, weight=weight))
    return found


def _together(traits: Sequence[Trait]) -> list[tuple[Trait, ...]]:
    """Traits that are said together: alone, in pairs, in threes; of each the likeliest."""
    plain = [trait for trait in traits if trait.rank not in (Rank.KEY, Rank.UNIQUE)]
    found: list[tuple[Trait, ...]] = []
    for number, some in enumerate((combinations(traits, 1), combinations(plain, 2), combinations(plain, 3))):
        fitting = [one for one in some if len(_told(one)) == sum(len(trait.tells) for trait in one)]
        found += sorted(fitting, key=lambda one: -_weight(one))[: MAX_TOGETHER[number]]
    return found


def _weight(some: Sequence[Trait]) -> float:
    return round(prod(_WEIGHTS[trait.rank] for trait in some) * _FACTORS[len(some) - 1], 4)


def _tail(traits: Sequence[Trait]) -> str:
    """ "of the project "Apollo" whose state is open and whose city is Oslo"."""
    bare: list[str] = []
    for trait in traits:
        if not trait.is_clause:
            is_another = bare and trait.words.startswith("of the ") and bare[-1].startswith("of the ")
            bare.append(f"and {trait.words[3:]}" if is_another else trait.words)
    return " ".join([*bare, " and ".join(trait.words for trait in traits if trait.is_clause)]).strip()


def _told(some: Sequence[Trait]) -> set[str]:
    return {column for trait in some for column in trait.tells}


def _by(some: Sequence[Trait]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(column for trait in some for column in trait.by))


def _short(noun: str, together: Sequence[tuple[Trait, ...]]) -> Iterator[Naming]:
    """Answers to "which one?"."""
    for some in together:
        name = next((trait for trait in some if trait.rank is Rank.NAME), None)
        tail = _tail([trait for trait in some if trait is not name])
        if name is None:
            words = (f"The one {tail}.", f"I mean the one {tail}.")
        elif tail:
            words = (f"{name.words}, the one {tail}.",)
        else:
            words = (f"{name.words}.", f"I mean the {noun} {name.words}.")
        yield Naming(by=_by(some), words=words, weight=_weight(some))
