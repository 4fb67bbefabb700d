"""From changed rows to the canonical diff.

Invariant: two ends of the same world have equal canonical diffs exactly when their tables are equal but for exempt columns and for
the names of surrogate keys.

A new row whose key `new_id` made is labelled `{"$new": "table#n"}`, and so is every column that names it through foreign keys, over
several tables too. `labels` numbers the rows so that the order of creation does not show. Values are made canonical here: no
`-0.0`, JSON columns parsed, semantic columns casefolded. So a diff can be compared and sorted as plain JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apsw
import orjson

from agentscaler.canonical import canonical_json
from agentscaler.world.labels import Node, number
from agentscaler.world.program import Table

Diff = dict[str, list[dict[str, Any]]]
"""table -> changes, each {"op": insert | update | delete, "key": {column: value}, "columns": {column: new value}}."""

ORJSON_DEPTH = 254  # levels that orjson writes
STEPS_A_ROW = 400  # of a call's budget: else a runaway write ran into the bound of time (a fault) before that of steps (a refusal)
MAX_JSON_DEPTH = 100  # leaves room for the diff around a value, and for recursion in Python


Row = tuple[Any, ...]
Changes = dict[tuple[str, Row], tuple[Row | None, Row | None]]
"""(table, key) -> the row before and after; None where there was or is no row. Values in the order of the table's columns."""


class ChangeLog:
    """Takes down which rows a call changes, as SQLite's preupdate hook tells: those that triggers and foreign key actions change, too.

    The session extension tells the same; but it loads every table's layout again in every session and prepares its own statements: 90 us a
    writing call of airline, the hook 3 us a changed row. Holds no reference to a connection."""

    def __init__(self, tables: dict[str, Table], charge: Callable[[int], None]):
        self._charge = charge
        self._tables = {
            name: (tuple(table.columns.index(column) for column in table.key), table.picks)
            for name, table in tables.items()
        }
        self._rows: dict[tuple[str, Row], list[Row | None]] = {}

    def __call__(self, change: apsw.PreUpdate) -> None:
        name = change.table_name
        if (table := self._tables.get(name)) is None:
            return
        self._charge(STEPS_A_ROW)
        places, picks = table
        old, new = change.old, change.new
        if picks is not None:
            old, new = (row and tuple([row[pick] for pick in picks]) for row in (old, new))
        before = old and tuple([old[place] for place in places])
        after = new and tuple([new[place] for place in places])
        if before == after or after is None:
            assert before is not None
            self._put((name, before), old, new)
        elif before is None:
            self._put((name, after), None, new)
        else:  # a row of another key is another row
            self._put((name, before), old, None)
            self._put((name, after), None, new)

    def _put(self, key: tuple[str, Row], old: Row | None, new: Row | None) -> None:
        entry = self._rows.get(key)
        if entry is None:
            self._rows[key] = [old, new]
        else:
            entry[1] = new

    def clear(self) -> None:
        self._rows = {}

    def take(self) -> Changes:
        """What was taken down since `clear`: net, so rows that are as they were are not in it."""
        taken = {key: (old, new) for key, (old, new) in self._rows.items() if old != new}
        self._rows = {}
        return taken


@dataclass(slots=True)
class _Change:
    table: Table
    op: str
    key: dict[str, Any]
    columns: dict[str, Any]
    own: str | int | None = None  # the surrogate id, where `new_id` made it


def join(net: Changes, later: Changes) -> None:
    """Add what a later call changed; what was written and undone drops out."""
    for key, (old, new) in later.items():
        first = net.pop(key, (old, new))[0]
        if first != new:
            net[key] = (first, new)


def changed_keys(changes: Changes, tables: dict[str, Table]) -> tuple[str, ...]:
    """`table/key` of every row changed, sorted; exempt tables and updates of exempt columns alone are left out."""
    return tuple(sorted({_name(change) for change in _read(changes, tables)}))


def canonical_diff(changes: Changes, tables: dict[str, Table], issued: Iterable[tuple[str, Any]]) -> Diff:
    """`issued` holds (table, id) of every key that `new_id` gave out in this environment."""
    known = issued if isinstance(issued, set | frozenset) else set(issued)
    found = list(_read(changes, tables))
    if known:
        _label(found, known)
    diff: Diff = {}
    for change in found:
        diff.setdefault(change.table.name, []).append({"op": change.op, "key": change.key, "columns": change.columns})
    for rows in diff.values():
        if len(rows) > 1:
            rows.sort(key=_text)
    return dict(sorted(diff.items())) if len(diff) > 1 else diff


def _label(changes: list[_Change], issued: set[tuple[str, Any]] | frozenset[tuple[str, Any]]) -> None:
    """Put labels in the place of surrogate keys, wherever foreign keys carry them."""
    rows: dict[tuple[str, Any], Node] = {}
    for change in changes:
        if change.own is not None and (name := (change.table.name, change.own)) in issued:
            rows[name] = Node(change.table.name, None, True, [])
    places: list[tuple[dict[str, Any], str, Node]] = []
    nodes = []
    for change in changes:
        own = rows.get((change.table.name, change.own)) if change.own is not None else None
        node = own or Node(change.table.name, None, False, [])
        node.content = [change.op, change.key, change.columns]
        nodes.append(node)
        for column, parents in change.table.names.items():
            part = change.key if column in change.key else change.columns
            value = part.get(column)
            name = next(
                (name for parent in parents if isinstance(value, str | int) and (name := (parent, value)) in issued),
                None,
            )
            if name is not None:
                part[column] = {"$new": name[0]}  # all there is to say of a row in an exempt table
                if name in rows:
                    node.links.append((column, rows[name]))
                    places.append((part, column, rows[name]))
        if own is not None and change.table.surrogate:
            change.key[change.table.surrogate] = {"$new": change.table.name}
            places.append((change.key, change.table.surrogate, own))
    if rows:
        numbers = number(nodes)
        for part, column, node in places:
            part[column] = {"$new": f"{node.table}#{numbers[node]}"}


def _read(changes: Changes, tables: dict[str, Table]) -> Iterator[_Change]:
    """The changes that count, values canonical."""
    for (name, _), (old, new) in changes.items():
        table = tables[name]
        if table.wholly_exempt:
            continue
        if new is None:
            assert old is not None
            yield _Change(table, "delete", _key(table, old), {})
        elif old is None:
            columns = {
                column: _value(table, column, value)
                for column, value in zip(table.columns, new, strict=True)
                if column not in table.key and column not in table.exempt
            }
            key = _key(table, new)
            yield _Change(table, "insert", key, columns, key[table.surrogate] if table.surrogate else None)
        else:
            columns = {}
            for column, before, after in zip(table.columns, old, new, strict=True):
                if before is after or before == after or column in table.exempt:
                    continue
                value = _value(table, column, after)
                if _differs(value, _value(table, column, before)):
                    columns[column] = value
            if columns:
                yield _Change(table, "update", _key(table, old), columns)


def _key(table: Table, values: Row) -> dict[str, Any]:
    return {column: plain(values[place]) for place, column in table.key_places}


def _name(change: _Change) -> str:
    return f"{change.table.name}/{','.join(str(change.key[column]) for column in change.table.key)}"


def _value(table: Table, column: str, value: Any) -> Any:
    if not isinstance(value, str):
        return plain(value)
    if column in table.json_columns:
        return _json(value)
    if column in table.semantic:
        return " ".join(value.casefold().split())
    return value


def _json(text: str) -> Any:
    """Canonical, so that neither key order nor white space shows; text that is no JSON, or nested too deeply, stays as it is."""
    try:
        found = orjson.loads(text)
        if text.count("[") + text.count("{") > MAX_JSON_DEPTH:
            probe = found
            for _ in range(ORJSON_DEPTH - MAX_JSON_DEPTH):
                probe = [probe]
            orjson.dumps(probe)
        return {"$json": orjson.loads(canonical_json(found)) if "-0" in text else found}
    except (ValueError, TypeError):  # orjson's JSONDecodeError and JSONEncodeError
        return text


def plain(value: Any) -> Any:
    """A value of the database as JSON can hold it; distinct values stay distinct."""
    if isinstance(value, bytes):
        return {"$blob": value.hex()}
    if isinstance(value, float):
        return {"$float": str(value)} if value in (float("inf"), float("-inf")) else value + 0.0
    return value


def _differs(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return _text(one) != _text(other)
    return one != other or type(one) is not type(other)


def _text(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
