"""JSON that others wrote, read leniently: what is of another type counts as missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]


def object_of(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def objects_of(value: Any) -> list[Json]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def strings_of(value: Any) -> list[str]:
    """Numbers too, as they are written."""
    return [str(one) for one in value if isinstance(one, str | int | float)] if isinstance(value, list) else []


def number_of(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
