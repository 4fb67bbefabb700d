"""The SQL functions that are ours. All but `new_id` are pure; none sees a wall clock or a random source.

- `now()`: the frozen clock, as ISO text.
- `new_id(table)`: the next surrogate key of a table, from seed, table and a counter that rolls back with a failed call.
- `contains(text, part)`: 1 where `part` occurs in `text`, letter case aside; linear in their lengths. NULL text: 0; NULL part: 1.
- `canonical_json(text)`: sorted keys, no white space; an error for what is no JSON.
- `trim`, `ltrim`, `rtrim` of two arguments: as SQLite's, but linear (SQLite's took 0.6 s in one step for 60 KB and a set of 5 KB).
- in seed recipes only, `pick(list, key…)` and `rand_int(low, high, key…)`: a draw that depends on seed and key alone, not on the
  order in which SQLite happens to ask; and `item(list, n)`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import apsw
import orjson

from agentscaler.canonical import canonical_json

Spend = Callable[[int], None]
"""Charges steps to the call's budget: Python that runs inside one VDBE step is seen by no progress handler."""


class BadValue(Exception):
    """A value that a function cannot take; the call that brought it is refused in these words."""


def register_pure(db: apsw.Connection, spend: Spend) -> None:
    def contains(text: Any, part: Any) -> int:
        if part is None:
            return 1
        if text is None:
            return 0
        text, part = str(text), str(part)
        spend((len(text) + len(part)) >> 4)
        return int(part.casefold() in text.casefold())

    def canonical(text: Any) -> str | None:
        if text is None:
            return None
        if not isinstance(text, str):
            raise BadValue("A value is not JSON text.")
        spend(len(text))  # 60 KB of nested lists took 26 ms
        try:
            return canonical_json(orjson.loads(text))
        except (ValueError, TypeError, RecursionError):
            raise BadValue("A value is not valid JSON.") from None

    _add(db, "contains", 2, contains)
    _add(db, "canonical_json", 1, canonical)
    for name, strip in (("trim", str.strip), ("ltrim", str.lstrip), ("rtrim", str.rstrip)):
        _add(db, name, 2, _trimming(strip))


def _add(db: apsw.Connection, name: str, num_arguments: int, function: Any, pure: bool = True) -> None:
    db.create_scalar_function(name, function, num_arguments, deterministic=pure, flags=apsw.SQLITE_INNOCUOUS)


def _trimming(strip: Callable[[str, str], str]) -> Callable[[Any, Any], str | None]:
    def trim(text: Any, characters: Any) -> str | None:
        if text is None or characters is None:
            return None
        if len(characters := str(characters)) > 64:
            raise BadValue("trim takes at most 64 characters to remove.")
        return strip(str(text), characters) if characters else str(text)

    return trim


def register_world(db: apsw.Connection, now: str, new_id: Callable[[str], Any]) -> None:
    _add(db, "now", 0, lambda: now, pure=False)
    _add(db, "new_id", 1, new_id, pure=False)


def register_stubs(db: apsw.Connection) -> None:
    """For preparing statements that will not run."""
    register_world(db, "", lambda table: None)


def register_recipe(db: apsw.Connection, seed: int, lists: Mapping[str, Sequence[Any]]) -> None:
    def draw(low: int, high: int, keys: tuple[Any, ...]) -> int:
        if high < low:
            raise ValueError(f"rand_int: {low} is above {high}")
        text = orjson.dumps([seed, *keys])  # TypeError for a blob: not a key
        return low + int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") % (high - low + 1)

    def entries(name: str) -> Sequence[Any]:
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

    _add(db, "rand_int", -1, lambda low, high, *keys: draw(low, high, keys))
    _add(db, "item", 2, item)
    _add(db, "pick", -1, pick)


def surrogate(seed: int, table: str, prefix: str, count: int) -> str:
    """The `count`-th new key of a table. 40 bits: far from what a seed recipe writes, short enough to copy."""
    return prefix + hashlib.blake2b(f"{seed}/{table}/{count}".encode(), digest_size=5).hexdigest()
