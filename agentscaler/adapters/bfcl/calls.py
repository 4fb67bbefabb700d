"""Calls, read from text: the reference's, which stand as Python source, and an agent's, whose arguments are JSON.

Nothing is evaluated: source is parsed, and only literals are taken from it.
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_DEPTH = 100  # of lists and objects in one another; Python reads 200


@dataclass(frozen=True, slots=True)
class Call:
    """`positional` comes from references alone. `fault`: why a call with such arguments fails whatever it calls, in the words that Python
    has for it in the package, which writes arguments as source."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    positional: tuple[Any, ...] = ()
    fault: str = ""


def parse_call(text: str) -> Call:
    """A reference call such as `cd(folder='x')`. Raises ValueError for anything else than a function's name and literals."""
    try:
        made = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"{text[:80]!r} is no call: {error}") from None
    if not isinstance(made, ast.Call) or not isinstance(made.func, ast.Name):
        raise ValueError(f"{text[:80]!r} is no call of a function by its name")
    if any(keyword.arg is None for keyword in made.keywords):
        raise ValueError(f"{text[:80]!r} unpacks its arguments")
    try:
        positional = tuple(ast.literal_eval(node) for node in made.args)
        arguments = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in made.keywords}
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise ValueError(f"{text[:80]!r} has an argument that is no literal") from None
    return Call(made.func.id, arguments, positional)


def read_call(name: str, arguments: str) -> Call | None:
    """An agent's call; None where the arguments are no JSON object, which for the package is no call at all."""
    try:
        given = json.loads(arguments)  # as the package reads them: big integers stay whole
    except (ValueError, RecursionError):
        return None
    if not isinstance(given, dict):
        return None
    return Call(name, given, fault=_fault(given))


def _fault(value: Any, depth: int = 0) -> str:
    if depth > MAX_DEPTH:
        return "too many nested parentheses (<string>, line 1)"
    if isinstance(value, float) and not math.isfinite(value):
        return f"name '{repr(value).lstrip('-')}' is not defined"
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((found for item in inner if (found := _fault(item, depth + 1))), "")
