"""How an agent comes by the key of a thing that it is told about: which reads show it, what these ask for, what they show beside it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from agentscaler.tasks.plain.facts import Facts, Home
from agentscaler.tasks.speech import Finding
from agentscaler.world.program import ForeignKey

_CONTAINS = re.compile(r"\bcontains\s*\((?:[^()]|\([^()]*\))*?,\s*:(\w+)\s*\)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Way:
    """A read that shows rows of a thing. `asks`: the columns that it has to be told of them; `shows`: those by which they are then told
    apart."""

    asks: frozenset[str]
    shows: frozenset[str]


def joins(facts: Facts, table: str) -> list[tuple[ForeignKey, str]]:
    """A table's owners: foreign keys of one column, with the table referred to."""
    return [(key, key.parent) for key in facts.table(table).foreign_keys if len(key.columns) == 1]


def ways_to(facts: Facts, home: Home) -> list[Way]:
    owners, name = joins(facts, home.table), facts.name_columns(home.table, home.column)
    found = []
    for tool in _showing(facts, home):
        seen = facts.graph.provenance[tool]
        every = {column for some in (seen.results, seen.computed) for columns in some.values() for column in columns}
        shows = {column for table, column in every if table == home.table}
        shows |= {key.columns[0] for key, parent in owners if any(table == parent for table, _ in every)}
        asks = {
            path[0]: {column for table, column in some if table == home.table} for path, some in seen.matched.items()
        }
        for parameter in _searched(facts, tool) if name else ():
            asks.setdefault(parameter, set()).add(name[-1])
        for need in seen.needs:
            if all(asks.get(parameter) for parameter in need):
                told = frozenset(min(asks[parameter]) for parameter in need)
                found.append(Way(told, frozenset(shows).union(*asks.values())))
    return found


def is_found(told: Collection[str], ways: Sequence[Way], is_named: bool) -> bool:
    """By a read that can be made with what is told, and that shows what is told. `is_named`: of rows of one name there are few, so those
    may be looked at one by one."""
    told = set(told)
    return any(way.asks <= told and (is_named or told <= way.asks | way.shows) for way in ways)


def findings(facts: Facts, home: Home, told: Mapping[str, str], is_owner: bool) -> list[Finding]:
    """Calls with what is told: column of the table -> column of the thing's row. A thing may be looked for by its owner's key too, an
    owner by nothing but what is told. Those that search by name come first, those that show all there is last."""
    owners = set() if is_owner else {key.columns[0] for key, _ in joins(facts, home.table)}
    name = facts.name_columns(home.table, home.column)
    found: list[Finding] = []
    bare: list[Finding] = []
    for tool in _showing(facts, home):
        seen = facts.graph.provenance[tool]
        given: dict[str, str] = {}
        for path, columns in seen.matched.items():
            for table, column in sorted(columns):
                if len(path) == 1 and table == home.table and column != home.column:
                    if column in told and column not in owners:
                        given[path[0]] = told[column]
                    elif column in owners:
                        given[path[0]] = column
        if name and name[-1] in told:
            given |= dict.fromkeys(_searched(facts, tool), told[name[-1]])
        for need in seen.needs:
            if need <= given.keys():
                must = {parameter: given[parameter] for parameter in sorted(need)}
                more = [parameter for parameter in sorted(given.keys() - need) if given[parameter] not in owners]
                found += [Finding(call=tool, arguments={**must, parameter: given[parameter]}) for parameter in more]
                bare.append(Finding(call=tool, arguments=must))
    named = {told[column] for column in name if column in told}
    found += sorted(bare, key=lambda one: -len(one.arguments))
    return sorted(found, key=lambda one: not named & set(one.arguments.values()))


def _showing(facts: Facts, home: Home) -> list[str]:
    """Reads that show a thing's key as a part of its own row."""
    wanted = facts.graph.classes.of((home.table, home.column))
    found = []
    for tool in facts.reads:
        columns = {column for _, some in facts.graph.provenance[tool].yielded() for column in some}
        if wanted in facts.graph.classes.of_all(columns) and any(table == home.table for table, _ in columns):
            found.append(tool)
    return found


def _searched(facts: Facts, tool: str) -> list[str]:
    """Parameters that texts are searched for."""
    one = facts.program.tools[tool].tool
    texts = [*(requirement.sql for requirement in one.require), one.returns or ""]
    return [parameter for text in texts for parameter in _CONTAINS.findall(text)]
