"""Columns that mean the same: a foreign key makes its column and the one that it refers to one class.

A class is named by one of its columns (`of`). It identifies where one of its columns is part of a key or of a unique set, or refers to
one: such a value names a row, a quantity does not. Its homes are the tables of which one column alone tells a row, and that refer to no
other for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agentscaler.tasks.walk.prepared import Column
from agentscaler.world.program import Program


@dataclass(frozen=True, slots=True)
class ColumnClasses:
    _named: dict[Column, Column]
    _members: dict[Column, tuple[Column, ...]]
    identifying: frozenset[Column]
    homes: dict[Column, tuple[Column, ...]]

    @classmethod
    def of_tables(cls, program: Program, unique: Iterable[tuple[str, frozenset[str]]]) -> ColumnClasses:
        """`unique` as in `prepared.PreparedDomain`."""
        above: dict[Column, Column] = {}

        def top(column: Column) -> Column:
            while column in above:
                column = above[column]
            return column

        refers = set()
        for table in program.tables.values():
            for key in table.foreign_keys:
                for own, target in zip(key.columns, key.parent_columns, strict=True):
                    refers.add((table.name, own))
                    here, there = top((table.name, own)), top((key.parent, target))
                    if here != there:
                        above[here] = there
        columns = [(table.name, column) for table in program.tables.values() for column in table.columns]
        named = {column: top(column) for column in columns}
        members: dict[Column, list[Column]] = {}
        for column in columns:
            members.setdefault(named[column], []).append(column)
        keyed = {(table, column) for table, some in unique for column in some} | refers
        alone = {(table, column) for table, some in unique if len(some) == 1 for column in some}
        homes = {
            name: tuple(column for column in some if column in alone and column not in refers)
            for name, some in members.items()
        }
        return cls(
            named,
            {name: tuple(some) for name, some in members.items()},
            frozenset(named[column] for column in keyed if column in named),
            {name: some for name, some in homes.items() if some},
        )

    def of(self, column: Column) -> Column:
        return self._named.get(column, column)

    def of_all(self, columns: Iterable[Column]) -> frozenset[Column]:
        return frozenset(map(self.of, columns))

    def naming(self, columns: Iterable[Column]) -> frozenset[Column]:
        """Of the classes of these columns, those that identify."""
        return self.of_all(columns) & self.identifying

    def members(self, column: Column) -> tuple[Column, ...]:
        return self._members.get(self.of(column), (column,))

    def is_home(self, column: Column) -> bool:
        return column in self.homes.get(self.of(column), ())
