"""Calls as ACEBench writes them: `[Name(key='value', other=[1, 2]), Name()]`.

Owns reading and writing that text. It is read by `ast`, literals only: nothing is ever evaluated. A bare word stands for itself, as in
the benchmark; `true`, `false` and `null` are the JSON values. Also reads a native call's arguments. Does not know which tools there are.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import Any

import orjson

Call = tuple[str, dict[str, Any]]

_WORDS = {"true": True, "false": False, "null": None, "none": None}


class NotCalls(Exception):
    """The text is no list of calls."""


def read_calls(text: str) -> list[Call]:
    """Raises NotCalls where the whole text is not one list of calls with named literals, or names no call at all."""
    try:
        body = ast.parse(text.strip(), mode="eval").body
        if not isinstance(body, ast.List) or not body.elts:
            raise NotCalls("no list of calls")
        return [_call(element) for element in body.elts]
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise NotCalls(f"no list of calls: {error}") from None


def read_milestone(text: str) -> list[Call]:
    """A milestone of the benchmark's own data: some hold an apostrophe inside single quotes (`'Domino's'`), which is no Python."""
    return read_calls(re.sub(r"(?<=\w)'(?=\w)", r"\'", text))


def read_arguments(text: str) -> dict[str, Any] | None:
    """Of a native call; None where they are no JSON object."""
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return parsed if isinstance(parsed, dict) else None


def write_calls(calls: Sequence[Call]) -> str:
    """As the benchmark's milestones are written: `name(key='value')`, apostrophes left as they are."""
    return "[" + ", ".join(f"{name}({_named(arguments)})" for name, arguments in calls) + "]"


def _named(arguments: dict[str, Any]) -> str:
    return ", ".join(f"{key}={_text(value)}" for key, value in arguments.items())


def _text(value: Any) -> str:
    if isinstance(value, str):
        return f"'{value}'"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(key)}: {_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    return repr(value)


def _call(node: ast.expr) -> Call:
    if not isinstance(node, ast.Call) or node.args:
        raise NotCalls("every element is a call with named arguments")
    arguments: dict[str, Any] = {}
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg in arguments:
            raise NotCalls("every argument has one name")
        arguments[keyword.arg] = _value(keyword.value)
    return _name(node.func), arguments


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}"
    raise NotCalls("a call needs a plain name")


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float | bool | None):
        return node.value
    if isinstance(node, ast.Name):
        return _WORDS.get(node.id.lower(), node.id)
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        # A key of None is `**other` in the text.
        return {_key(key): _value(item) for key, item in zip(node.keys, node.values, strict=True)}
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _value(node.operand)
        if isinstance(number, int | float) and not isinstance(number, bool):
            return -number
    raise NotCalls(f"{ast.unparse(node)[:40]} is no literal")


def _key(node: ast.expr | None) -> str:
    key = None if node is None else _value(node)
    if not isinstance(key, str):
        raise NotCalls("the keys of an object are words")
    return key
