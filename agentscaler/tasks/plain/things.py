"""The things of a world and their names, as `speech.Thing`.

A thing is a table's rows, named by a column of which one value tells a row and that some tool's argument is looked up in.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod

from agentscaler.tasks.plain.english import label_of, plural, words_of
from agentscaler.tasks.plain.facts import Facts, Home
from agentscaler.tasks.plain.traits import Rank, Trait, joins, names_of, traits_of
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
    Rank.KEY: 0.005,
}
_FACTORS = (4.0, 0.25, 0.05)  # the fewer words that tell a thing apart, the better
_CONTAINS = re.compile(r"\bcontains\s*\((?:[^()]|\([^()]*\))*?,\s*:(\w+)\s*\)", re.IGNORECASE)


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
    ways = _ways(facts, home, traits)
    together = _together(traits)
    findable = [some for some in together if _can_be_found(some, ways, home.column)]
    names = _namings(noun, findable, facts.is_person(home.table))
    singles = {trait.rank: trait for trait in reversed(traits)}
    words = [*noun.split(), plural(noun), *(label_of(home.column).split())]
    return Thing(
        rows=_rows(facts, home, key, traits),
        key=(key,),
        names=tuple(names),
        found_by=tuple(_found_by(facts, home, singles)),
        about=tuple(
            dict.fromkeys(re.escape(one) for one in (*words, "which", "ones?", "mean", "IDs?", "names?", "details"))
        ),
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


@dataclass(frozen=True, slots=True)
class Way:
    """A read that shows rows of a thing. `asks`: the columns that it has to be told of them; `shows`: those by which they are then told
    apart."""

    asks: frozenset[str]
    shows: frozenset[str]


def _ways(facts: Facts, home: Home, traits: Sequence[Trait]) -> list[Way]:
    name = next((trait for trait in traits if trait.rank is Rank.NAME), None)
    owners = joins(facts, home.table)
    found = []
    for tool in _showing(facts, home):
        seen = facts.graph.provenance[tool]
        every = {column for some in (seen.results, seen.computed) for columns in some.values() for column in columns}
        shows = {column for table, column in every if table == home.table}
        shows |= {key.columns[0] for key, parent in owners if any(table == parent for table, _ in every)}
        asks = {
            path[0]: {column for table, column in some if table == home.table} for path, some in seen.matched.items()
        }
        for parameter in _searched(facts, tool) if name is not None else ():
            asks.setdefault(parameter, set()).add(name.tells[-1] if name is not None else "")
        for need in seen.needs:
            if all(asks.get(parameter) for parameter in need):
                told = frozenset(min(asks[parameter]) for parameter in need)
                found.append(Way(told, frozenset(shows).union(*asks.values())))
    return found


def _showing(facts: Facts, home: Home) -> list[str]:
    """Reads that show a thing's key as a part of its own row."""
    wanted = facts.graph.classes.of((home.table, home.column))
    found = []
    for tool in facts.reads:
        columns = {column for _, some in facts.graph.provenance[tool].yielded() for column in some}
        if wanted in facts.graph.classes.of_all(columns) and any(table == home.table for table, _ in columns):
            found.append(tool)
    return found


def _can_be_found(some: Sequence[Trait], ways: Sequence[Way], key: str) -> bool:
    """By its key; or by a read that can be made with what is told and that shows what is told. Of rows that go by the same name there
    are few, so those may be looked at one by one."""
    told = {column for trait in some for column in trait.tells}
    if told == {key}:
        return True
    is_named = any(trait.rank is Rank.NAME for trait in some)
    return any(way.asks <= told and (is_named or told <= way.asks | way.shows) for way in ways)


def _searched(facts: Facts, tool: str) -> list[str]:
    """Parameters that texts are searched for."""
    one = facts.program.tools[tool].tool
    texts = [*(requirement.sql for requirement in one.require), one.returns or ""]
    return [parameter for text in texts for parameter in _CONTAINS.findall(text)]


def _together(traits: Sequence[Trait]) -> list[tuple[Trait, ...]]:
    """Traits that are said together: alone, in pairs, in threes; of each the likeliest."""
    plain = [trait for trait in traits if trait.rank not in (Rank.KEY, Rank.UNIQUE)]
    found: list[tuple[Trait, ...]] = []
    for number, some in enumerate((combinations(traits, 1), combinations(plain, 2), combinations(plain, 3))):
        fitting = [
            one
            for one in some
            if len({column for trait in one for column in trait.tells}) == sum(len(trait.tells) for trait in one)
        ]
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


def _found_by(facts: Facts, home: Home, singles: dict[Rank, Trait]) -> Iterator[Finding]:
    """Reads that show the thing's key and can be asked by what people tell, or by whom it belongs to; then those that show all there is;
    then the same for its owners, whose names may be all that is told."""
    known = {column for trait in singles.values() for column in trait.by}
    name = singles.get(Rank.NAME)
    found = list(_finding(facts, home, thing_name(facts, home), known, name.by[-1] if name is not None else ""))
    for key, parent in joins(facts, home.table):
        prefix = f"{thing_name(facts, home)}_{key.columns[0]}"
        called = next(iter(names_of(facts, parent, prefix, "p")), None)
        if called is not None:
            found += _finding(facts, Home(parent, key.parent_columns[0]), prefix, set(called.by), called.by[-1])
    by_name = [one for one in found if name is not None and set(one.arguments.values()) & set(name.by)]
    found = [*by_name, *found]
    yield from [one for number, one in enumerate(found) if one not in found[:number]][:MAX_FINDINGS]


def _finding(facts: Facts, home: Home, prefix: str, known: set[str], name: str) -> Iterator[Finding]:
    """`prefix` begins the names of the columns told, `name` is the one to search for in texts."""
    owners = {key.columns[0] for key, _ in joins(facts, home.table)}
    bare: list[Finding] = []
    for tool in _showing(facts, home):
        seen = facts.graph.provenance[tool]
        told: dict[str, str] = {}
        for path, columns in seen.matched.items():
            for table, column in sorted(columns):
                if len(path) == 1 and table == home.table and column != home.column:
                    if f"{prefix}_{column}" in known:
                        told[path[0]] = f"{prefix}_{column}"
                    elif column in owners and prefix == thing_name(facts, home):
                        told[path[0]] = column
        if name:
            told |= dict.fromkeys(_searched(facts, tool), name)
        for need in seen.needs:
            if need <= told.keys():
                must = {parameter: told[parameter] for parameter in sorted(need)}
                for parameter in sorted(told.keys() - need):
                    if told[parameter] in owners:
                        continue
                    yield Finding(call=tool, arguments={**must, parameter: told[parameter]})
                bare.append(Finding(call=tool, arguments=must))
    yield from sorted(bare, key=lambda one: -len(one.arguments))
