"""From SQLite changesets to the canonical diff.

Invariant: two ends of the same world have equal canonical diffs exactly when their tables are equal but for exempt columns and for
the names of surrogate keys. Blobs of changesets are never compared.

A new row whose key `new_id` made is labelled `{"$new": "table#n"}`, and so is every foreign key to it. Which row is `#1` must not
depend on the order of creation: rows are coloured by their exact columns and refined by the rows they refer to and those that
refer to them (Weisfeiler and Lehman's colour refinement, exact on the forests that foreign keys usually make); rows that stay tied
are told apart one at a time, and the least text of all tries is taken, up to a bound that only cyclic references between equal
rows could need.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import apsw
import orjson

from agentscaler.canonical import canonical_json
from agentscaler.world.program import Table

Diff = dict[str, list[dict[str, Any]]]
"""table -> changes, each {"op": insert | update | delete, "key": {column: value}, "columns": {column: new value}}."""

MAX_TIE_TRIES = 256


@dataclass(slots=True)
class _Change:
    table: Table
    op: str
    key: dict[str, Any]
    columns: dict[str, Any]
    own: str | None = None  # the surrogate id, where `new_id` made it
    colour: str = ""


def join(changesets: list[bytes]) -> bytes:
    """Net effect of several changesets in order; what was written and undone drops out."""
    if len(changesets) == 1:
        return changesets[0]
    builder = apsw.ChangesetBuilder()
    for one in changesets:
        builder.add(one)
    return builder.output()


def changed_keys(changeset: bytes, tables: dict[str, Table]) -> tuple[str, ...]:
    """`table/key` of every row changed, exempt tables left out, sorted."""
    found = set()
    for change in apsw.Changeset.iter(changeset):
        table = tables[change.name]
        if table.wholly_exempt:
            continue
        values = change.new if change.op == "INSERT" else change.old
        assert values is not None
        at = {column: _plain(values[i]) for i, column in enumerate(table.columns) if column in table.key}
        found.add(change.name + "/" + ",".join(str(at[column]) for column in table.key))
    return tuple(sorted(found))


def canonical_diff(changeset: bytes, tables: dict[str, Table], issued: set[tuple[str, Any]]) -> Diff:
    """`issued` holds (table, id) of every key that `new_id` gave out in this environment."""
    changes = [c for raw in apsw.Changeset.iter(changeset) if (c := _read(raw, tables, issued))]
    new = {(c.table.name, c.own): c for c in changes if c.own is not None}
    if not new:
        return _render(changes, {})
    links = {id(c): _links(c, new) for c in changes}
    for change in changes:
        change.colour = _hash([change.table.name, change.op, _without(change, {column for column, _ in links[id(change)]})])
    _refine(changes, links)
    return _least(changes, list(new.values()), links, [MAX_TIE_TRIES])


def _read(raw: apsw.TableChange, tables: dict[str, Table], issued: set[tuple[str, Any]]) -> _Change | None:
    table = tables[raw.name]
    if table.wholly_exempt:
        return None
    old, new = raw.old, raw.new
    skip = table.exempt
    if raw.op == "INSERT":
        assert new is not None
        values = {c: _value(table, c, new[i]) for i, c in enumerate(table.columns)}
        key = {c: values[c] for c in table.key}
        own = new[table.columns.index(table.surrogate)] if table.surrogate else None
        if own is not None and (table.name, own) not in issued:
            own = None
        columns = {c: v for c, v in values.items() if c not in skip and c not in key}
        return _Change(table, "insert", key, columns, own)
    assert old is not None
    key = {c: _value(table, c, old[i]) for i, c in enumerate(table.columns) if c in table.key}
    if raw.op == "DELETE":
        return _Change(table, "delete", key, {})
    assert new is not None
    columns = {}
    for i, column in enumerate(table.columns):
        if column in skip or new[i] is apsw.no_change:
            continue
        value = _value(table, column, new[i])
        if canonical_json(value) != canonical_json(_value(table, column, old[i])):
            columns[column] = value
    return _Change(table, "update", key, columns) if columns else None


def _value(table: Table, column: str, value: Any) -> Any:
    if isinstance(value, str) and column in table.json_columns:
        try:
            return {"$json": orjson.loads(value)}
        except orjson.JSONDecodeError:
            return value
    if isinstance(value, str) and column in table.semantic:
        return " ".join(value.casefold().split())
    return _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"$blob": value.hex()}
    if isinstance(value, float):
        if value in (float("inf"), float("-inf")):
            return {"$float": str(value)}
        return value + 0.0
    return value


def _links(change: _Change, new: dict[tuple[str, Any], _Change]) -> list[tuple[str, _Change]]:
    """(column, new row it names): the row's own key first, then foreign keys to new rows."""
    found: list[tuple[str, _Change]] = []
    if change.own is not None and change.table.surrogate:
        found.append((change.table.surrogate, change))
    values = {**change.columns, **change.key}
    for key in change.table.foreign_keys:
        for column, target in zip(key.columns, key.parent_columns, strict=True):
            parent = new.get((key.parent, values.get(column)))
            if parent is not None and parent.table.surrogate == target and column in values:
                found.append((column, parent))
    return found


def _without(change: _Change, linked: set[str]) -> list[Any]:
    return [{c: v for c, v in part.items() if c not in linked} for part in (change.key, change.columns)] + [sorted(linked)]


def _hash(value: Any) -> str:
    return hashlib.blake2b(canonical_json(value).encode(), digest_size=12).hexdigest()


def _refine(changes: list[_Change], links: dict[int, list[tuple[str, _Change]]]) -> None:
    """Refine colours until the number of classes stands still."""
    num_classes = len({c.colour for c in changes})
    while True:
        incoming: dict[int, list[list[str]]] = {}
        for change in changes:
            for column, target in links[id(change)]:
                if target is not change:
                    incoming.setdefault(id(target), []).append([column, change.colour])
        fresh = []
        for change in changes:
            out = sorted([column, target.colour] for column, target in links[id(change)] if target is not change)
            into = sorted(incoming.get(id(change), []))
            # A row that names itself in a foreign key differs from one that names an equal row.
            loops = sorted(column for column, target in links[id(change)] if target is change)
            fresh.append(_hash([change.colour, out, into, loops]))
        for change, colour in zip(changes, fresh, strict=True):
            change.colour = colour
        now = len(set(fresh))
        if now == num_classes:
            return
        num_classes = now


def _least(changes: list[_Change], new: list[_Change], links: dict[int, list[tuple[str, _Change]]], tries: list[int]) -> Diff:
    """Number the new rows by colour; where rows tie, try each as the first and keep the least text."""
    by_colour: dict[tuple[str, str], list[_Change]] = {}
    for change in new:
        by_colour.setdefault((change.table.name, change.colour), []).append(change)
    tied = next((rows for _, rows in sorted(by_colour.items(), key=lambda item: item[0]) if len(rows) > 1), None)
    if tied is None:
        labels: dict[tuple[str, Any], Any] = {}
        counts: dict[str, int] = {}
        for (table, _), rows in sorted(by_colour.items(), key=lambda item: item[0]):
            counts[table] = counts.get(table, 0) + 1
            labels[(table, rows[0].own)] = {"$new": f"{table}#{counts[table]}"}
        return _render(changes, labels)
    best: tuple[str, Diff] | None = None
    before = [(c, c.colour) for c in changes]
    linked = {id(target) for c in changes for _, target in links[id(c)] if target is not c}
    free = all(id(row) not in linked and len(links[id(row)]) == 1 for row in tied)
    for row in tied[:1] if free else tied:
        row.colour = _hash([row.colour, "first"])
        _refine(changes, links)
        tries[0] -= 1
        diff = _least(changes, new, links, tries)
        text = canonical_json(diff)
        if best is None or text < best[0]:
            best = (text, diff)
        for change, colour in before:
            change.colour = colour
        if tries[0] <= 0:
            break
    assert best is not None
    return best[1]


def _render(changes: list[_Change], labels: dict[tuple[str, Any], Any]) -> Diff:
    diff: Diff = {}
    for change in changes:
        key, columns = dict(change.key), dict(change.columns)
        if labels:
            for fk in change.table.foreign_keys:
                for column in fk.columns:
                    for part in (key, columns):
                        if column in part and (label := _label(labels, fk.parent, part[column])):
                            part[column] = label
            if change.own is not None and change.table.surrogate:
                key[change.table.surrogate] = labels[(change.table.name, change.own)]
        diff.setdefault(change.table.name, []).append({"op": change.op, "key": key, "columns": columns})
    return {table: sorted(rows, key=canonical_json) for table, rows in sorted(diff.items())}


def _label(labels: dict[tuple[str, Any], Any], table: str, value: Any) -> Any:
    return labels.get((table, value)) if isinstance(value, str | int) else None
