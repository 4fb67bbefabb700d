"""The SQL functions that are ours. All but `new_id` are pure; none sees a wall clock or a random source.

- `now()`: the frozen clock, as ISO text.
- `new_id(table)`: the next surrogate key of a table, from seed, table and a counter that rolls back with a failed call.
- `contains(text, part)`: 1 where `part` occurs in `text`, letter case aside; linear in their lengths. NULL text: 0; NULL part: 1.
- `canonical_json(text)`: sorted keys, no white space; an error for what is no JSON.
- in seed recipes only, `pick(list, key…)` and `rand_int(low, high, key…)`: a draw that depends on seed and key alone, not on the
  order in which SQLite happens to ask; and `item(list, n)`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import apsw
import orjson

from agentscaler.canonical import canonical_json

_PURE = apsw.SQLITE_INNOCUOUS


def _contains(text: Any, part: Any) -> int:
    if part is None:
        return 1
    return int(text is not None and str(part).casefold() in str(text).casefold())


class BadValue(Exception):
    """A value that a function cannot take; the call that brought it is refused in these words."""


def _canonical_json(text: Any) -> str | None:
    try:
        return None if text is None else canonical_json(orjson.loads(text))
    except orjson.JSONDecodeError:
        raise BadValue("A value is not valid JSON.") from None


def register_pure(db: apsw.Connection) -> None:
    db.create_scalar_function("contains", _contains, 2, deterministic=True, flags=_PURE)
    db.create_scalar_function("canonical_json", _canonical_json, 1, deterministic=True, flags=_PURE)


def register_world(db: apsw.Connection, now: str, new_id: Callable[[str], Any]) -> None:
    db.create_scalar_function("now", lambda: now, 0, flags=_PURE)
    db.create_scalar_function("new_id", new_id, 1, flags=_PURE)


def register_stubs(db: apsw.Connection) -> None:
    """For preparing statements that will not run."""
    register_world(db, "", lambda table: None)


def register_recipe(db: apsw.Connection, seed: int, lists: dict[str, tuple[Any, ...]]) -> None:
    def draw(low: int, high: int, keys: tuple[Any, ...]) -> int:
        if high < low:
            raise ValueError(f"rand_int: {low} is above {high}")
        text = orjson.dumps([seed, *keys])
        return low + int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") % (high - low + 1)

    def entries(name: str) -> tuple[Any, ...]:
        if name not in lists:
            raise ValueError(f"the recipe has no list {name}")
        return lists[name]

    def stored(value: Any) -> Any:
        return orjson.dumps(value).decode() if isinstance(value, list | dict) else value

    def pick(name: str, *keys: Any) -> Any:
        items = entries(name)
        return stored(items[draw(0, len(items) - 1, (name, *keys))])

    def item(name: str, index: int) -> Any:
        items = entries(name)
        return stored(items[index]) if 0 <= index < len(items) else None

    db.create_scalar_function("rand_int", lambda low, high, *keys: draw(low, high, keys), -1, deterministic=True, flags=_PURE)
    db.create_scalar_function("item", item, 2, deterministic=True, flags=_PURE)
    db.create_scalar_function("pick", pick, -1, deterministic=True, flags=_PURE)


def surrogate(seed: int, table: str, prefix: str, count: int) -> str:
    """The `count`-th new key of a table. 40 bits: far from what a seed recipe writes, short enough to copy."""
    return prefix + hashlib.blake2b(f"{seed}/{table}/{count}".encode(), digest_size=5).hexdigest()
