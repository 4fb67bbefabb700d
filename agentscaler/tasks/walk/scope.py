"""Names that a SQL expression sees, looked up as SQLite does: innermost first, letter case aside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from agentscaler.tasks.walk.value import Value, merge

Relation = tuple[tuple[str, Value], ...]
"""Columns of a table, view or query in order; names in lower case, empty where there is none."""


@dataclass(slots=True)
class Scope:
    """Names that an expression sees: sources with the columns that a USING hides, WITH clauses, the select's own aliases."""

    parent: Scope | None = None
    sources: list[tuple[str, dict[str, Value], frozenset[str]]] = field(default_factory=list)
    clauses: dict[str, Relation] = field(default_factory=dict)
    aliases: dict[str, Value] = field(default_factory=dict)

    def chain(self) -> Iterator[Scope]:
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent

    def add(self, alias: str, relation: Relation, hidden: Iterable[str] = ()) -> None:
        columns: dict[str, Value] = {}
        for name, value in relation:
            columns.setdefault(name, value)
        self.sources.append((alias.lower(), columns, frozenset(hidden)))

    def find(self, name: str, table: str = "") -> Value | None:
        for scope in self.chain():
            for alias, columns, _ in scope.sources:
                if table in ("", alias) and name in columns:
                    return columns[name]
            if not table and name in scope.aliases:
                return scope.aliases[name]
        return None

    def source_of(self, name: str, table: str = "") -> tuple[str, str] | None:
        """Which of this scope's own sources, by alias, a column is of; and the column."""
        return next(
            ((alias, name) for alias, columns, _ in self.sources if table in ("", alias) and name in columns), None
        )


def renamed(relation: Relation, names: Iterable[str]) -> Relation:
    """With the names that a view or WITH clause gives its columns, if any."""
    given = list(names)
    return tuple(zip(given, (value for _, value in relation), strict=False)) if given else relation


def joined(relations: Iterable[Relation]) -> Relation:
    """Rows of one or another, column by column, under the first one's names."""
    several = list(relations)
    columns = zip(*several, strict=False)
    return tuple((column[0][0], merge(value for _, value in column)) for column in columns)
