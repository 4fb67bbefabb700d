"""Calls drawn at random that succeed often: arguments come from rows that belong together.

`records_of` joins sampled rows with the rows that they refer to; `draw_call` takes a tool's arguments from one record, from several,
or from anywhere. Deterministic by the `Random` given. Does not run anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import apsw

from agentscaler.domain.domain import Tool
from agentscaler.tasks.arguments import draw, draw_arguments
from agentscaler.world.program import ForeignKey, Table, rows_of

Record = dict[str, Any]
"""Column -> value, of a row and of the rows that it refers to; and the table's name in the singular -> its key."""

MAX_RECORDS = 400


def records_of(db: apsw.Connection, tables: Mapping[str, Table], random: Random) -> list[Record]:
    """Up to about `MAX_RECORDS` records, evenly over the tables."""
    found = []
    for name, table in tables.items():
        rows = rows_of(db, table)
        for values in random.sample(rows, min(len(rows), MAX_RECORDS // len(tables) + 1)):
            row: Record = dict(zip(table.columns, values, strict=True))
            record: Record = {}
            for key in table.foreign_keys:
                record.update(_parent(db, tables[key.parent], key, row))
            found.append({**record, **row, f"{name.rstrip('s')}": row[table.key[0]]})
    return found


def _parent(db: apsw.Connection, parent: Table, key: ForeignKey, row: Record) -> Record:
    """Looked up by SQLite: a walk over the parent's rows took a second where it has 20,000."""
    wanted = [(target, row[own]) for own, target in zip(key.columns, key.parent_columns, strict=True) if own in row]
    where = " AND ".join(f'"{target}" IS ?' for target, _ in wanted)
    columns = ", ".join(f'"{column}"' for column in parent.columns)
    values: Any = db.execute(
        f'SELECT {columns} FROM "{parent.name}" WHERE {where or "1"} LIMIT 1', tuple(value for _, value in wanted)
    ).fetchone()
    return dict(zip(parent.columns, values, strict=True)) if values else {}


def draw_call(tool: Tool, records: Sequence[Record], texts: list[str], random: Random) -> dict[str, Any]:
    """Valid by the schema, where possible: from one record, from several, or any; sometimes with a text that is new."""
    schema = tool.parameters
    arguments = draw_arguments(schema, texts, random)
    way = random.random()
    record = random.choice(records) if records else {}
    for name in list(arguments):
        kind = schema["properties"][name]
        if way > 0.4 and records and random.random() < 0.6:
            record = random.choice(records)
        value = record.get(name)
        if kind.get("type") == "string" and "enum" not in kind and random.random() < 0.4:
            value = random.choice([v for v in record.values() if isinstance(v, str)] or [None])  # names need not agree
        if value is not None and (way < 0.9 or random.random() < 0.5):
            arguments[name] = value
        elif kind.get("type") == "string" and "enum" not in kind and way > 0.8 and random.random() < 0.5:
            fresh = f"New {draw(kind, texts, random)}"
            arguments[name] = fresh if len(fresh) <= kind.get("maxLength", 1000) else arguments[name]
    return arguments
