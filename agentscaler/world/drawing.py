"""Calls drawn at random: valid by a tool's JSON Schema, and often ones that succeed, for arguments come from rows that belong together.

`texts_of` and `records_of` read a world; `draw_arguments` draws by the schema alone, `draw_call` from one record, from several, or from
anywhere; `other_values` changes one value. Deterministic by the `Random` given. Does not run anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from random import Random
from typing import Any

import apsw

from agentscaler.domain.domain import Tool
from agentscaler.world.program import ForeignKey, Table
from agentscaler.world.world import World

Record = dict[str, Any]
"""Column -> value, of a row and of the rows that it refers to; and the table's name in the singular -> its key."""

MAX_RECORDS = 400


class Texts(list[str]):
    """Candidates, not to be changed: those of a length are looked out once. Of a world's 400 that took 15 us each time."""

    def __init__(self, texts: Iterable[str] = ()):
        super().__init__(texts)
        self._of_length: dict[tuple[int, int], list[str]] = {}

    def of_length(self, shortest: int, longest: int) -> list[str]:
        if (shortest, longest) not in self._of_length:
            self._of_length[shortest, longest] = [text for text in self if shortest <= len(text) <= longest]
        return self._of_length[shortest, longest]


_texts: dict[tuple[str, int, int], Texts] = {}


def records_of(db: apsw.Connection, tables: Mapping[str, Table], random: Random) -> list[Record]:
    """Up to about `MAX_RECORDS` records, evenly over the tables."""
    found = []
    for name, table in tables.items():
        for values in _rows_at_random(db, table, MAX_RECORDS // len(tables) + 1, random):
            row: Record = dict(zip(table.columns, values, strict=True))
            record: Record = {}
            for key in table.foreign_keys:
                record.update(_parent(db, tables[key.parent], key, row))
            found.append({**record, **row, f"{name.rstrip('s')}": row[table.key[0]]})
    return found


def _rows_at_random(db: apsw.Connection, table: Table, number: int, random: Random) -> Iterator[tuple[Any, ...]]:
    """Looked up one by one, by their places in order of key: reading all rows of a large table took twice as long."""
    count: Any = db.execute(f'SELECT count(*) FROM "{table.name}"').get
    columns = ", ".join(f'"{column}"' for column in table.columns)
    order = ", ".join(f'"{column}"' for column in table.key)
    query = f'SELECT {columns} FROM "{table.name}" ORDER BY {order} LIMIT 1 OFFSET ?'
    for place in random.sample(range(count), min(count, number)):
        yield from db.execute(query, (place,))


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


def texts_of(world: World, limit: int = 400) -> Texts:
    """Short texts that stand in the world's tables: candidates for arguments that name something. At most `limit`, taken from the
    tables in turn, so that a large table does not crowd out the others. Kept by world."""
    key = (world.program.domain.fingerprint, world.seed, limit)
    if key not in _texts:
        if len(_texts) >= 256:
            _texts.clear()
        _texts[key] = Texts(_read_texts(world, limit))
    return _texts[key]


def _read_texts(world: World, limit: int) -> list[str]:
    environment = world.open()
    lists = [_texts_in(environment.connection, table, limit) for table in world.program.tables.values()]
    environment.close()
    if len({text for texts in lists for text in texts}) > limit:
        # one of each table in turn, until there are enough
        ordered = [text for turn in zip_longest(*lists) for text in turn if text is not None]
    else:
        ordered = [text for texts in lists for text in texts]
    return list(dict.fromkeys(ordered))[:limit]


def _texts_in(db: apsw.Connection, table: Table, limit: int) -> list[str]:
    """The first `limit` different ones by key; of a table of 20,000 rows no more are read than that takes."""
    kinds = [column for column in table.columns if table.types[column].startswith("TEXT")]
    if not kinds:
        return []
    columns = ", ".join(f'"{column}"' for column in kinds)
    order = ", ".join(f'"{column}"' for column in table.key)
    found: dict[str, None] = {}
    for row in db.execute(f'SELECT {columns} FROM "{table.name}" ORDER BY {order}'):
        for value in row:
            if isinstance(value, str) and 0 < len(value) <= 80:
                found.setdefault(value)
        if len(found) >= limit:
            break
    return list(found)


def draw(schema: dict[str, Any], texts: list[str], random: Random) -> Any:
    """A value that is valid by its JSON Schema; texts come from the world where that fits."""
    if "enum" in schema:
        return random.choice(schema["enum"])
    match schema.get("type", "string"):
        case "integer":
            return random.randint(int(schema.get("minimum", 0)), int(schema.get("maximum", 100)))
        case "number":
            return round(random.uniform(schema.get("minimum", 0), schema.get("maximum", 100)), 2)
        case "boolean":
            return random.random() < 0.5
        case "array":
            size = random.randint(int(schema.get("minItems", 1)), int(schema.get("maxItems", 3)))
            return [draw(schema.get("items", {}), texts, random) for _ in range(size)]
        case "object":
            return draw_arguments(schema, texts, random)
        case _:
            longest, shortest = schema.get("maxLength", 1000), schema.get("minLength", 0)
            fitting = (texts if isinstance(texts, Texts) else Texts(texts)).of_length(shortest, longest)
            return random.choice(fitting) if fitting else "x" * max(shortest, 1)


def draw_arguments(schema: dict[str, Any], texts: list[str], random: Random) -> dict[str, Any]:
    """Arguments for a tool's `parameters`: all required ones, each optional one half of the time."""
    required = set(schema.get("required", ()))
    properties = schema.get("properties", {})
    return {n: draw(s, texts, random) for n, s in properties.items() if n in required or random.random() < 0.5}


def other_values(schema: dict[str, Any], value: Any, texts: list[str], random: Random) -> list[Any]:
    """Up to two other valid values in the place of `value`; none where its schema allows only one."""
    if isinstance(value, list):
        others = [value[:-1]] if len(value) > int(schema.get("minItems", 0)) else []
        others += (
            [[*value[:-1], v] for v in other_values(schema.get("items", {}), value[-1], texts, random)[:1]]
            if value
            else []
        )
        return others
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int) and "enum" not in schema:
        return [v for v in (value + 1, value - 1) if schema.get("minimum", v) <= v <= schema.get("maximum", v)][:2]
    others = []
    for _ in range(20):
        other = draw(schema, texts, random)
        if other != value and other not in others:
            others.append(other)
        if len(others) == 2:
            break
    if isinstance(value, str) and "enum" not in schema and len(value) + 2 <= schema.get("maxLength", 1000):
        others = [*others[:1], value + " x"]
    return others
