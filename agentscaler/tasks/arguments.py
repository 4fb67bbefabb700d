"""Arguments of calls: values of earlier results put in place, and other valid values drawn for mutants and random calls."""

from __future__ import annotations

from itertools import zip_longest
from random import Random
from typing import Any

import apsw
import orjson

from agentscaler.errors import TaskError
from agentscaler.world.environment import CallResult
from agentscaler.world.program import Table
from agentscaler.world.world import World

_texts: dict[tuple[str, int, int], list[str]] = {}


def resolve(arguments: dict[str, Any], results: list[CallResult]) -> dict[str, Any]:
    """Put values of earlier results in the place of `{"$result": [number, key, …]}`; calls are numbered from 1."""

    def one(value: Any) -> Any:
        if isinstance(value, dict) and set(value) == {"$result"}:
            return _look_up(value["$result"], results)
        if isinstance(value, dict):
            return {key: one(item) for key, item in value.items()}
        return [one(item) for item in value] if isinstance(value, list) else value

    return {key: one(value) for key, value in arguments.items()}


def _look_up(path: Any, results: list[CallResult]) -> Any:
    if not (isinstance(path, list) and path and type(path[0]) is int):
        raise TaskError(f"$result {path!r}: needs [call number, key, …]")
    number, *rest = path
    if not 1 <= number <= len(results):
        raise TaskError(f"$result names call {number}, which has not run")
    found = orjson.loads(results[number - 1].content)
    for part in rest:
        try:
            found = found[part]
        except (KeyError, IndexError, TypeError):
            raise TaskError(f"$result {path}: call {number} returned no {part}") from None
    return found


def texts_of(world: World, limit: int = 400) -> list[str]:
    """Short texts that stand in the world's tables: candidates for arguments that name something. At most `limit`, taken from the
    tables in turn, so that a large table does not crowd out the others. Kept by world."""
    key = (world.program.domain.fingerprint, world.seed, limit)
    if key not in _texts:
        if len(_texts) >= 256:
            _texts.clear()
        _texts[key] = _read_texts(world, limit)
    return list(_texts[key])


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
            fitting = [text for text in texts if shortest <= len(text) <= longest]
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
