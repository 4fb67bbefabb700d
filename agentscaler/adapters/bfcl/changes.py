"""What a rollout changed, for a reader: public attributes before and after, value by value, as JSON.

Short on purpose: a long text or a whole tree that came or went is cut, with its digest behind it. Says nothing about right or wrong.
"""

from __future__ import annotations

import math
from typing import Any

from agentscaler.canonical import canonical_json, digest

MAX_TEXT = 300
MAX_VALUES = 50_000
_NOTHING = object()

Change = dict[str, Any]  # `before` and `after`; one of them is missing where the value came or went


def plain(value: Any) -> Any:
    """The value as JSON can hold it. Files are their text; a directory is what is in it. A directory inside itself is cut off, and what
    comes after so many values: directories copied into one another hold more paths than anybody could write."""
    return _plain(value, (), [MAX_VALUES])


def _plain(value: Any, inside: tuple[int, ...], left: list[int]) -> Any:
    left[0] -= 1
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if id(value) in inside:
        return "(inside itself)"
    if left[0] < 0:
        return "(too much)"
    inside = (*inside, id(value))
    if isinstance(value, dict):
        return {str(key): _plain(item, inside, left) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, inside, left) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_plain(item, inside, left) for item in value), key=str)
    for attribute in ("contents", "content"):  # the package's Directory and File
        if hasattr(value, attribute):
            return _plain(getattr(value, attribute), inside, left)
    return f"({type(value).__name__})"


def changes(before: Any, after: Any) -> dict[str, Change]:
    """By path: `TradingBot.orders.12446.status`. Both values are plain; what Python finds equal is no change, 1 and 1.0 say."""
    found: dict[str, Change] = {}
    _compare("", before, after, found)
    return found


def _compare(path: str, before: Any, after: Any, found: dict[str, Change]) -> None:
    if before == after:
        return
    if isinstance(before, list) and isinstance(after, list):
        before, after = dict(enumerate(before)), dict(enumerate(after))
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            inner = f"{path}.{key}" if path else str(key)
            _compare(inner, before.get(key, _NOTHING), after.get(key, _NOTHING), found)
        return
    sides = {"before": before, "after": after}
    found[path] = {side: _brief(value) for side, value in sides.items() if value is not _NOTHING}


def _brief(value: Any) -> Any:
    text = value if isinstance(value, str) else canonical_json(value)
    return value if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}... ({len(text)} characters, {digest(text, 8)})"


def spell(path: str, change: Change) -> str:
    """One line of a verdict: `before` is what is expected."""
    expected = canonical_json(change["before"]) if "before" in change else "nothing"
    made = canonical_json(change["after"]) if "after" in change else "nothing"
    return f"{path}: expected {expected}, is {made}"
