"""The oracle's view of an end: all rows of all tables, read from the database itself.

Two ends are equal when their tables hold the same rows, exempt columns aside, under some renaming of the surrogate keys that were
issued on either side. Nothing here knows of changesets, labels or a tool's declared effects: the rows are read and compared, and rows
that hold issued keys are compared as graphs. What SQLite stores on the very same pages is not read twice.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apsw

from agentscaler.world import functions
from agentscaler.world.environment import Environment
from agentscaler.world.program import Table

Row = tuple[Any, ...]
Issued = frozenset[tuple[str, Any]]


@dataclass(frozen=True, slots=True)
class End:
    """A database as bytes, and (table, key) of every surrogate key that was issued on the way."""

    image: bytes
    issued: Issued

    @classmethod
    def of(cls, environment: Environment) -> End:
        return cls(environment.connection.serialize("main"), environment.issued)


class Comparison:
    """Compares ends with one end. Close it after use; not thread-safe."""

    def __init__(self, tables: Mapping[str, Table], wanted: End):
        self._tables = {name: table for name, table in tables.items() if not table.wholly_exempt}
        self._named = {name: _named_columns(tables, table) for name, table in self._tables.items()}
        self._wanted = wanted
        self._db = apsw.Connection(":memory:")
        functions.register_pure(self._db, lambda steps: None)  # an index on an expression may name them
        self._db.execute("ATTACH ':memory:' AS wanted")
        self._db.deserialize("wanted", wanted.image)
        self._pages = _pages_of(self._db, "wanted")
        self._graph = self._rows_with_keys("wanted", wanted.issued)

    def __enter__(self) -> Comparison:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def differences(self, end: End) -> list[str]:
        """In words, a table a line; empty where the ends are equal."""
        if end == self._wanted:
            return []
        self._db.deserialize("main", end.image)
        pages = _pages_of(self._db, "main")
        found = []
        for name, table in self._tables.items():
            if self._on_same_pages(pages.get(name, []), self._pages.get(name, []), end.image):
                continue
            missing = self._only_in("wanted", "main", table, self._wanted.issued)
            surplus = self._only_in("main", "wanted", table, end.issued)
            if missing != surplus:
                found.append(f"{name}: {_some(missing - surplus, 'missing')} {_some(surplus - missing, 'surplus')}")
        graph = self._rows_with_keys("main", end.issued)
        if graph or self._graph:
            found += _graph_differences(self._graph, graph)
        return found

    def _on_same_pages(self, one: list[int], other: list[int], image: bytes) -> bool:
        """A table is the tree of its pages: where these have the same numbers and bytes, the rows are the same."""
        if one != other:
            return False
        size = int.from_bytes(image[16:18], "big")
        size = 65536 if size == 1 else size
        return all(image[(n - 1) * size : n * size] == self._wanted.image[(n - 1) * size : n * size] for n in one)

    def _only_in(self, here: str, there: str, table: Table, issued: Issued) -> set[Row]:
        """Rows, made comparable, of one side that the other lacks byte for byte. Those with issued keys belong to the graph."""
        columns = ", ".join(f'h."{column}"' for column in table.columns)
        equal = " AND ".join(
            f't."{column}" IS h."{column}"' if column in table.key else f't."{column}" COLLATE BINARY IS h."{column}"'
            for column in table.columns
        )
        query = f'SELECT {columns} FROM {here}."{table.name}" h WHERE NOT EXISTS (SELECT 1 FROM {there}."{table.name}" t WHERE {equal})'
        named = self._named[table.name]
        found = set()
        for row in self._db.execute(query):
            if not any((p, value) in issued for c, value in zip(table.columns, row, strict=True) for p in named[c]):
                found.add(_comparable(table, row))
        return found

    def _rows_with_keys(self, schema: str, issued: Issued) -> list[tuple[Table, Row, dict[str, tuple[str, Any]]]]:
        """Rows that hold issued keys, with column -> (table, key)."""
        found = []
        for name, table in self._tables.items() if issued else ():
            named = self._named[name]
            holding = [column for column in table.columns if named[column]]
            if not holding:
                continue
            keys = sorted({key for parent, key in issued for column in holding if parent in named[column]}, key=str)
            marks = ", ".join("?" * len(keys))
            where = " OR ".join(f'"{column}" COLLATE BINARY IN ({marks})' for column in holding)
            columns = ", ".join(f'"{column}"' for column in table.columns)
            for row in self._db.execute(
                f'SELECT {columns} FROM {schema}."{name}" WHERE {where}', tuple(keys * len(holding))
            ):
                held = {
                    column: (parent, value)
                    for column, value in zip(table.columns, row, strict=True)
                    for parent in named[column]
                    if (parent, value) in issued
                }
                if held:
                    found.append((table, row, held))
        return found


def equal_ends(tables: Mapping[str, Table], one: End, other: End) -> bool:
    with Comparison(tables, one) as comparison:
        return not comparison.differences(other)


def _pages_of(db: apsw.Connection, schema: str) -> dict[str, list[int]]:
    pages: dict[str, list[int]] = {}
    rows: Iterator[Any] = db.execute(
        "SELECT name, pageno FROM dbstat WHERE schema = ? ORDER BY name, pageno", (schema,)
    )
    for name, number in rows:
        pages.setdefault(name, []).append(number)
    return pages


def _named_columns(tables: Mapping[str, Table], table: Table) -> dict[str, list[str]]:
    """Of which tables' surrogate keys a column can hold: its own, and those that foreign keys lead to, over any number of steps."""
    return {column: sorted(_reached(tables, table, column)) for column in table.columns}


def _reached(tables: Mapping[str, Table], table: Table, column: str) -> set[str]:
    places, ahead = {(table.name, column)}, [(table.name, column)]
    while ahead:
        name, own = ahead.pop()
        for key in tables[name].foreign_keys:
            for child, parent in zip(key.columns, key.parent_columns, strict=True):
                if child == own and (key.parent, parent) not in places:
                    places.add((key.parent, parent))
                    ahead.append((key.parent, parent))
    return {name for name, own in places if tables[name].surrogate == own}


def _comparable(table: Table, row: Row, held: Mapping[str, Any] | None = None) -> Row:
    """The row without exempt columns; issued keys replaced by a mark; JSON and semantic texts by their meaning."""
    values: list[Any] = []
    for column, value in zip(table.columns, row, strict=True):
        if column in table.exempt:
            continue
        if held and column in held:
            values.append(("key of", held[column][0]))
        elif isinstance(value, str) and column in table.json_columns:
            values.append(_json_meaning(value))
        elif isinstance(value, str) and column in table.semantic:
            values.append(" ".join(value.casefold().split()))
        else:
            values.append(value)
    return tuple(values)


def _json_meaning(text: str) -> Any:
    try:
        return ("json", _frozen(json.loads(text)))
    except (ValueError, RecursionError):
        return text


def _frozen(value: Any) -> Any:
    """Hashable, and with types: Python takes 1, 1.0 and True for equal."""
    if isinstance(value, dict):
        return ("object", frozenset((key, _frozen(item)) for key, item in value.items()))
    if isinstance(value, list):
        return ("list", tuple(_frozen(item) for item in value))
    return (type(value).__name__, value)


def _graph_differences(wanted: Sequence[Any], got: Sequence[Any]) -> list[str]:
    one, other = (_labels(rows) for rows in (wanted, got))
    if one != other:  # the quick way out, before graphs are built
        return [f"new rows: {_some(set(one - other), 'missing')} {_some(set(other - one), 'surplus')}"]
    import networkx  # slow to import, and only oracles need it

    same = networkx.is_isomorphic(
        _graph(wanted),
        _graph(got),
        node_match=lambda a, b: a["label"] == b["label"],
        edge_match=lambda a, b: a["columns"] == b["columns"],
    )
    return [] if same else ["new rows: equal by themselves, and not in how they refer to each other"]


def _labels(rows: Sequence[Any]) -> Counter[Any]:
    return Counter((table.name, _comparable(table, row, held)) for table, row, held in rows)


def _graph(rows: Sequence[Any]) -> Any:
    """A node a row, and an edge to every new row that it names. A key of a wholly exempt table is a mark and nothing more."""
    import networkx

    graph = networkx.DiGraph()
    owners = {
        held[table.surrogate]: number
        for number, (table, _, held) in enumerate(rows)
        if table.surrogate and table.surrogate in held and held[table.surrogate][0] == table.name
    }
    for number, (table, row, held) in enumerate(rows):
        graph.add_node(number, label=(table.name, _comparable(table, row, held)))
    for number, (_, _, held) in enumerate(rows):
        edges: dict[int, set[str]] = {}
        for column, key in held.items():
            if key in owners:
                edges.setdefault(owners[key], set()).add(column)
        for owner, columns in edges.items():
            graph.add_edge(number, owner, columns=frozenset(columns))
    return graph


def _some(rows: set[Any], word: str) -> str:
    shown = "; ".join(str(row) for row in sorted(rows, key=str)[:2])
    return f"{len(rows)} {word} ({shown[:200]})" if rows else f"0 {word}"
