"""One text for one value: canonical JSON, and digests over it.

Invariant: two values that JSON cannot tell apart have equal text; key order and `-0.0` do not matter. Integers and floats stay
apart (`1` is not `1.0`), because STRICT columns keep them apart.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import orjson


def canonical_json(value: Any) -> str:
    """Sorted keys, no white space, UTF-8. Raises TypeError for what JSON cannot hold (NaN and infinities included)."""
    try:
        text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # a named tuple, say
        text = b"null"
    if (
        b"null" in text or b"-0.0" in text
    ):  # NaN is written as null; going through the value costs ten times as much, so only then
        text = orjson.dumps(_normal(value), option=orjson.OPT_SORT_KEYS)
    return text.decode()


def digest(value: Any, length: int = 32) -> str:
    """The first `length` hex digits of SHA-256 over the canonical text."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]


def _normal(value: Any) -> Any:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{value} has no JSON form")
        return value + 0.0  # -0.0 becomes 0.0
    if isinstance(value, dict):
        return {key: _normal(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_normal(item) for item in value]
    return value
