"""A domain made for the tests of the diff: new rows that refer to each other in every way foreign keys allow."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from typing import Any

from agentscaler.canonical import canonical_json
from agentscaler.domain.domain import Domain
from agentscaler.world.environment import Environment
from agentscaler.world.program import Table, rows_of
from agentscaler.world.world import World

SCHEMA = """
CREATE TABLE boxes (
  box_id TEXT PRIMARY KEY, name TEXT NOT NULL,
  parent TEXT REFERENCES boxes(box_id) DEFERRABLE INITIALLY DEFERRED,
  friend TEXT REFERENCES boxes(box_id) DEFERRABLE INITIALLY DEFERRED,
  note TEXT, size REAL, data TEXT, mood TEXT
) STRICT;
CREATE TABLE slots (
  box_id TEXT NOT NULL REFERENCES boxes(box_id) ON DELETE CASCADE, tag TEXT NOT NULL, PRIMARY KEY (box_id, tag)
) STRICT, WITHOUT ROWID;
CREATE TABLE marks (  -- names a box through slots: the surrogate key travels over two foreign keys
  box_id TEXT NOT NULL, tag TEXT NOT NULL, colour TEXT NOT NULL, wide INTEGER AS (length(colour)) STORED,
  PRIMARY KEY (box_id, tag, colour), FOREIGN KEY (box_id, tag) REFERENCES slots(box_id, tag) ON DELETE CASCADE
) STRICT;
CREATE TABLE items (
  item_id INTEGER PRIMARY KEY, box_id TEXT REFERENCES boxes(box_id) ON DELETE SET NULL, name TEXT NOT NULL
) STRICT;
CREATE TABLE fixed (code TEXT PRIMARY KEY, box_id TEXT REFERENCES boxes(box_id), value REAL) STRICT;
CREATE TABLE history (n INTEGER PRIMARY KEY, words TEXT NOT NULL) STRICT;
CREATE TRIGGER keep AFTER INSERT ON boxes BEGIN
  INSERT INTO history (words) VALUES (new.box_id || new.name);
END;
CREATE TRIGGER keep_fixed AFTER UPDATE ON fixed BEGIN INSERT INTO history (words) VALUES (new.code); END;
"""
TEXT, OPTIONAL = {"type": "string"}, {"type": ["string", "null"]}


def _tool(name: str, do: str, returns: str | None = None, /, **parameters: Any) -> dict[str, Any]:
    tool: dict[str, Any] = {"name": name, "description": name, "do": [do], "parameters": {"properties": parameters}}
    return {**tool, "returns": returns, "one": True} if returns else tool


DOMAIN = Domain.model_validate(
    {
        "name": "graph",
        "description": "boxes",
        "clock": "2026-03-02T09:00:00Z",
        "instructions": "",
        "schema_sql": SCHEMA,
        "ids": {"boxes": "box_", "items": ""},
        "columns": {"exempt": ["history.*", "boxes.note"], "json": ["boxes.data"], "semantic": ["boxes.mood"]},
        "seed": {
            "steps": [
                "INSERT INTO boxes (box_id, name, size, data, mood) VALUES ('b1', 'old', 1.5, '{\"a\":1,\"b\":2}', 'Glad')",
                "INSERT INTO slots VALUES ('b1', 'x'), ('b1', 'y')",
                "INSERT INTO fixed VALUES ('f1', NULL, 1.0), ('f2', 'b1', 0.0)",
            ]
        },
        "tools": [
            _tool(
                "add_box",
                "INSERT INTO boxes (box_id, name, parent, friend, note) VALUES (new_id('boxes'), :name, :parent, :friend, :note)",
                "SELECT max(words) AS words, (SELECT box_id FROM boxes ORDER BY rowid DESC LIMIT 1) AS id FROM history",
                name=TEXT,
                parent=OPTIONAL,
                friend=OPTIONAL,
                note=OPTIONAL,
            ),
            _tool(
                "link",
                "UPDATE boxes SET parent = :parent, friend = :friend WHERE box_id = :box",
                box=TEXT,
                parent=OPTIONAL,
                friend=OPTIONAL,
            ),
            _tool("add_slot", "INSERT INTO slots VALUES (:box, :tag)", box=TEXT, tag=TEXT),
            _tool("add_mark", "INSERT INTO marks VALUES (:box, :tag, :colour)", box=TEXT, tag=TEXT, colour=TEXT),
            _tool("add_item", "INSERT INTO items VALUES (new_id('items'), :box, :name)", box=OPTIONAL, name=TEXT),
            _tool("drop_box", "DELETE FROM boxes WHERE box_id = :box", box=TEXT),
            _tool("put_box", "INSERT INTO boxes (box_id, name, size) VALUES (:box, :name, 1.5)", box=TEXT, name=TEXT),
            _tool("set_data", "UPDATE boxes SET data = :data WHERE box_id = :box", box=TEXT, data=TEXT),
            _tool("set_mood", "UPDATE boxes SET mood = :mood WHERE box_id = :box", box=TEXT, mood=TEXT),
            _tool("set_size", "UPDATE boxes SET size = :size WHERE box_id = :box", box=TEXT, size={"type": "number"}),
            _tool(
                "set_fixed",
                "UPDATE fixed SET value = :value, box_id = coalesce(:box, box_id) WHERE code = :code",
                code=TEXT,
                value={"type": "number"},
                box=OPTIONAL,
            ),
        ],
    }
)


def open_world() -> Environment:
    return World.of(DOMAIN, 1).open()


def equal_tables(one: Environment, other: Environment) -> bool:
    """The oracle: whole tables compared, exempt columns aside, under every bijection of surrogate keys; no changeset is read."""
    tables = World.of(DOMAIN, 1).program.tables
    left, right = (
        {n: rows_of(e.connection, t) for n, t in tables.items() if not t.wholly_exempt} for e in (one, other)
    )
    names_left, names_right = ([sorted(i for t, i in e.issued if t == n) for n in DOMAIN.ids] for e in (one, other))
    alive_left, alive_right = (
        [_alive(n, ids, side) for n, ids in zip(DOMAIN.ids, names, strict=True)]
        for names, side in ((names_left, left), (names_right, right))
    )
    if [len(ids) for ids in alive_left] != [len(ids) for ids in alive_right]:
        return False
    target = _contents(right, tables, {})
    choices = [list(itertools.permutations(ids)) for ids in alive_right]
    for choice in itertools.product(*choices):
        renamed = [dict(zip(ids, new, strict=True)) for ids, new in zip(alive_left, choice, strict=True)]
        if _contents(left, tables, dict(zip(DOMAIN.ids, renamed, strict=True))) == target:
            return True
    return False


def _alive(table: str, ids: list[Any], rows: dict[str, list[Any]]) -> list[Any]:
    there = {row[0] for row in rows[table]}
    return [one for one in ids if one in there]


_NAMES_A_BOX = {("boxes", c) for c in ("box_id", "parent", "friend")} | {
    (t, "box_id") for t in ("slots", "marks", "items", "fixed")
}


def _contents(rows: dict[str, list[Any]], tables: dict[str, Table], renamed: dict[str, dict[Any, Any]]) -> Counter[str]:
    boxes, items = renamed.get("boxes", {}), renamed.get("items", {})
    found: Counter[str] = Counter()
    for name, lines in rows.items():
        for line in lines:
            shown: list[Any] = [name]
            for column, value in zip(tables[name].columns, line, strict=True):
                if (name, column) == ("boxes", "note"):
                    continue
                if (name, column) in _NAMES_A_BOX:
                    value = boxes.get(value, value)
                elif (name, column) == ("items", "item_id"):
                    value = items.get(value, value)
                elif (name, column) == ("boxes", "mood") and value:
                    value = " ".join(value.casefold().split())
                elif (name, column) == ("boxes", "data") and value:
                    value = _parsed(value)
                shown.append(value)
            found[canonical_json(shown)] += 1
    return found


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
