"""What a domain's tools say with their SQL: where results come from, what arguments are compared with and stored into.

Facts only: found by following values through the statements (`lineage`), and kept where SQLite reported the same column for the tool.
No name of a tool, parameter or result means anything here. What cannot be followed has no provenance; nothing raises.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import apsw
from sqlglot import exp

from agentscaler.tasks.walk.lineage import Catalogue, Lineage, parse
from agentscaler.tasks.walk.prepared import Column, PreparedDomain, prepare, statements_of
from agentscaler.tasks.walk.value import ANY, Path
from agentscaler.world.program import CompiledTool, Program

MAX_OPTIONAL = 8  # parameters of which all subsets are tried, to learn which of them a call has to name
MAX_PATHS = 2000  # of one result

Sources = Mapping[Path, frozenset[Column]]


@dataclass(frozen=True, slots=True)
class Provenance:
    """Of one tool.

    `results`: path into the result -> columns of which it is one, as it stands there. `computed`: every other path, with the columns that
    it is worked out from (none for constants). `given_back` are paths that can hold nothing but an argument of the call.
    `matched`: path into the arguments -> columns that the value is compared with for equality; `stored`: columns that it is written
    into. `fresh` are arguments that become a row's key or unique name: no result can yield them. `needs` are the least sets of
    parameters that a call has to name.
    `requires` are columns that decide whether the call is refused, those of triggers included where SQLite tells; `acts_on` those that
    its `do` looks at; `looks_at` all that have a share in what it does and says. `reads` and `writes` are SQLite's: wider, for it reports
    every column of a view. `unfollowed` counts statements that were not understood."""

    results: Sources
    computed: Sources
    given_back: frozenset[Path]
    matched: Sources
    stored: Sources
    fresh: frozenset[Path]
    needs: tuple[frozenset[str], ...]
    requires: frozenset[Column]
    acts_on: frozenset[Column]
    looks_at: frozenset[Column]
    reads: frozenset[Column]
    writes: frozenset[Column]
    unfollowed: int

    def meets(self, parameter: Path) -> frozenset[Column]:
        """All columns that this argument has to do with."""
        return self.matched.get(parameter, frozenset()) | self.stored.get(parameter, frozenset())

    def yielded(self) -> Iterator[tuple[Path, frozenset[Column]]]:
        """Results that tell more than the call said."""
        return ((path, columns) for path, columns in self.results.items() if path not in self.given_back)

    @property
    def parameters(self) -> tuple[Path, ...]:
        """Those that have to do with a column."""
        return tuple(dict.fromkeys((*self.matched, *self.stored)))


@dataclass(frozen=True, slots=True)
class DomainProvenance:
    tools: Mapping[str, Provenance]
    unique: frozenset[tuple[str, frozenset[str]]]


def trace(program: Program) -> DomainProvenance:
    prepared = prepare(program)
    catalogue = Catalogue({name: table.columns for name, table in program.tables.items()}, prepared.views)
    followed: dict[str, Lineage | None] = {}
    for sql in prepared.statements:
        lineage = Lineage(catalogue)
        followed[sql] = lineage if lineage.follow(sql) else None
    tools = {name: _trace(tool, program, prepared, catalogue, followed) for name, tool in program.tools.items()}
    return DomainProvenance(tools, prepared.unique)


def values_at(result: Any, path: Path) -> Iterator[Any]:
    """All that stands at a path of a result or of arguments."""
    if not path:
        yield result
    elif path[0] == ANY and isinstance(result, list | dict):
        for item in result.values() if isinstance(result, dict) else result:
            yield from values_at(item, path[1:])
    elif isinstance(result, dict) and path[0] in result:
        yield from values_at(result[path[0]], path[1:])


def schema_at(parameters: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The JSON Schema of a path into the arguments; empty where there is none."""
    found: Any = parameters
    for key in path:
        below = found.get("items") if key == ANY else (found.get("properties") or {}).get(key)
        if not isinstance(below, dict):
            return {}
        found = below
    return found


def is_choice(schema: Mapping[str, Any]) -> bool:
    """Its values stand in the signature: nothing has to yield them."""
    return "enum" in schema or "const" in schema or schema.get("type") in ("boolean", "null")


def _trace(
    compiled: CompiledTool,
    program: Program,
    prepared: PreparedDomain,
    catalogue: Catalogue,
    followed: Mapping[str, Lineage | None],
) -> Provenance:
    tool = compiled.tool
    lineages = [lineage for sql in statements_of(compiled) if (lineage := followed[sql]) is not None]
    matched = _checked((lineage.matched for lineage in lineages), compiled.reads)
    stored = _checked((lineage.stored for lineage in lineages), compiled.writes)
    existing = {column for lineage in lineages for column in lineage.existing}
    results, computed = _results(compiled, prepared, followed)

    def seen(statements: Iterable[str]) -> frozenset[Column]:
        return frozenset().union(*(_seen(sql, program, prepared, catalogue, followed) for sql in statements))

    by_triggers = {column for sql in tool.do for column in prepared.statements[sql].by_triggers}
    requires = seen(one.sql for one in tool.require) | _in_tables(by_triggers, program, catalogue)
    return Provenance(
        results,
        computed,
        _given_back(compiled, prepared, followed),
        matched,
        stored,
        frozenset(
            path
            for path, columns in stored.items()
            if any(_is_new(one, program, prepared, existing) for one in columns)
        ),
        _needs(compiled),
        requires,
        seen(tool.do),
        requires | seen(tool.do) | seen([tool.returns] if tool.returns else []),
        compiled.reads,
        compiled.writes,
        len(statements_of(compiled)) - len(lineages),
    )


def _seen(
    sql: str,
    program: Program,
    prepared: PreparedDomain,
    catalogue: Catalogue,
    followed: Mapping[str, Lineage | None],
) -> frozenset[Column]:
    """Columns of tables that have a share in a statement, triggers aside: what it was seen to look at, as far as SQLite agrees."""
    reads, lineage = prepared.statements[sql].reads, followed[sql]
    return _in_tables(reads, program, catalogue) if lineage is None else frozenset(lineage.touched & reads)


def _checked(
    found: Iterable[Mapping[Path, Iterable[Column]]], reported: frozenset[Column]
) -> dict[Path, frozenset[Column]]:
    """Joined, and only what SQLite reported too."""
    joined: dict[Path, set[Column]] = {}
    for one in found:
        for path, columns in one.items():
            kept = {column for column in columns if column in reported or (column[0], "*") in reported}
            if kept:
                joined.setdefault(path, set()).update(kept)
    return {path: frozenset(columns) for path, columns in joined.items()}


def _results(
    compiled: CompiledTool, prepared: PreparedDomain, followed: Mapping[str, Lineage | None]
) -> tuple[dict[Path, frozenset[Column]], dict[Path, frozenset[Column]]]:
    tool = compiled.tool
    if tool.returns is None:
        return {}, {}
    names = prepared.statements[tool.returns].columns
    lineage = followed[tool.returns]
    relation = lineage.result if lineage is not None else ()
    start: Path = () if tool.one else (ANY,)
    results: dict[Path, frozenset[Column]] = {}
    computed: dict[Path, frozenset[Column]] = {}
    for place, name in enumerate(names):
        value = relation[place][1] if len(relation) == len(names) else None
        leaves = [((*start, name), value)]
        if value is not None and name in tool.nested:
            leaves = list(value.leaves((*start, name)))[:MAX_PATHS]
        for path, leaf in leaves:
            is_text = leaf is not None and (leaf.parts or (name in tool.nested and path == (*start, name)))
            plain = frozenset() if leaf is None or is_text else leaf.columns & compiled.reads
            if plain:
                results[path] = plain
            else:
                computed[path] = (leaf.touches if leaf is not None else frozenset()) & compiled.reads
    return results, computed


def _given_back(
    compiled: CompiledTool, prepared: PreparedDomain, followed: Mapping[str, Lineage | None]
) -> frozenset[Path]:
    tool = compiled.tool
    if tool.returns is None or (lineage := followed[tool.returns]) is None:
        return frozenset()
    names = prepared.statements[tool.returns].columns
    start: Path = () if tool.one else (ANY,)
    return frozenset((*start, names[place]) for place in lineage.given_back if len(lineage.result) == len(names))


def _is_new(column: Column, program: Program, prepared: PreparedDomain, existing: set[Column]) -> bool:
    """Whether what is written there must not stand in the table yet."""
    table = program.tables[column[0]]
    refers = any(column[1] in key.columns for key in table.foreign_keys)
    return (column[0], frozenset({column[1]})) in prepared.unique and not refers and column not in existing


def _in_tables(columns: Collection[Column], program: Program, catalogue: Catalogue) -> frozenset[Column]:
    """Columns of views as those of tables."""
    found: set[Column] = set()
    for table, column in columns:
        if table in program.tables:
            found.add((table, column))
        else:
            values = (value.touches for name, value in catalogue.relation(table) if name == column.lower())
            found |= catalogue.conditions(table).union(*values)
    return frozenset(found)


def _needs(compiled: CompiledTool) -> tuple[frozenset[str], ...]:
    """Tried out on the requirements that ask only which arguments are there."""
    tool = compiled.tool
    required = frozenset(tool.parameters.get("required", ()))
    asking = [one.sql for one in tool.require if _asks_for_presence(one.sql)]
    if not asking:
        return (required,)
    optional = sorted(set(compiled.parameters) - required)
    found: list[frozenset[str]] = []
    with closing(apsw.Connection(":memory:")) as db:
        for number in range(len(optional) + 1 if len(optional) <= MAX_OPTIONAL else 0):
            for some in combinations(optional, number):
                named = required | set(some)
                bindings = {**compiled.empty, **dict.fromkeys(named, 1)}
                if not any(one <= named for one in found) and all(
                    db.execute(sql, bindings).fetchone() for sql in asking
                ):
                    found.append(named)
    return tuple(found) or (required,)


_OF_PRESENCE = (
    exp.Select,
    exp.Where,
    exp.Literal,
    exp.Paren,
    exp.Not,
    exp.And,
    exp.Or,
    exp.Is,
    exp.Null,
    exp.Placeholder,
)
_OF_PRESENCE_TOO = (exp.Coalesce, exp.EQ, exp.NEQ, exp.NullSafeEQ, exp.Add, exp.GT, exp.GTE, exp.LT, exp.LTE)


def _asks_for_presence(sql: str) -> bool:
    """Whether a query looks at no row, and at its arguments only for being there."""
    tree = parse(sql)
    if tree is None:
        return False
    for node in tree.walk():
        if not isinstance(node, _OF_PRESENCE + _OF_PRESENCE_TOO):
            return False
        if isinstance(node, exp.Placeholder):
            above = node.parent
            while isinstance(above, exp.Coalesce | exp.Paren):
                above = above.parent
            if not (isinstance(above, exp.Is) and isinstance(above.expression, exp.Null)):
                return False
    return True
