"""From the arguments that a model wrote to values that SQLite takes. Whatever does not fit is `Invalid`, in words for the agent."""

from __future__ import annotations

import math
from typing import Any

import jsonschema_rs
import orjson

from agentscaler.canonical import canonical_json
from agentscaler.world import guard
from agentscaler.world.program import CompiledTool

MAX_ARGUMENTS_CHARS = 256 * 1024


class Invalid(Exception):
    """The call is no valid call of the tool."""


def parse(arguments: str | dict[str, Any]) -> dict[str, Any]:
    """JSON text, or a dict as it is; empty text is an empty object."""
    if isinstance(arguments, str):
        if len(arguments) > MAX_ARGUMENTS_CHARS:
            raise Invalid("The arguments are too long.")
        try:
            arguments = orjson.loads(arguments) if arguments.strip() else {}
        except orjson.JSONDecodeError as error:
            raise Invalid(f"The arguments are not valid JSON: {error}.") from None
    if not isinstance(arguments, dict):
        raise Invalid("The arguments must be a JSON object.")
    return arguments


def bind(compiled: CompiledTool, values: dict[str, Any]) -> dict[str, Any]:
    """Validate against the tool's JSON Schema; then every parameter as SQLite takes it, absent ones as NULL."""
    name = compiled.tool.name
    try:
        compiled.validator.validate(values)
    except jsonschema_rs.ValidationError as error:
        where = f" at {'/'.join(str(part) for part in error.instance_path)}" if error.instance_path else ""
        raise Invalid(f"Invalid arguments for {name}{where}: {_encodable(error.message[:300])}.") from None
    except (ValueError, TypeError, RecursionError) as error:  # UnicodeEncodeError is a ValueError
        raise Invalid(f"Invalid arguments for {name}: {_encodable(str(error)[:200])}.") from None
    bindings = compiled.empty.copy()
    for key, value in values.items():
        if key in bindings:
            bindings[key] = _storable(compiled, key, value)
    return bindings


def _storable(compiled: CompiledTool, key: str, value: Any) -> Any:
    if isinstance(value, str):
        return _text(compiled, key, value)
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _invalid(compiled, key, "not a finite number")  # SQLite would take NaN as NULL
        if key not in compiled.integers:
            return value + 0.0  # -0.0 is 0.0
        value = int(value)  # 3.0 is an integer in JSON Schema, and 2^70 in JSON text comes as a float
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise _invalid(compiled, key, "the number is too large")
        return value
    if isinstance(value, list | dict):
        try:
            return _text(compiled, key, canonical_json(value))
        except (TypeError, RecursionError) as error:  # orjson's JSONEncodeError is a TypeError
            raise _invalid(compiled, key, str(error)[:200]) from None
    return value


def _text(compiled: CompiledTool, key: str, value: str) -> str:
    if "\x00" in value or "\\u0000" in value:  # the second becomes the first where SQL reads the text as JSON
        raise _invalid(compiled, key, "text must not hold NUL characters")
    if len(value) * 4 > guard.MAX_VALUE_BYTES // 2 or not value.isascii():
        try:
            size_bytes = len(value.encode())
        except UnicodeEncodeError:
            raise _invalid(compiled, key, "not valid Unicode text") from None
        if size_bytes > guard.MAX_VALUE_BYTES // 2:
            raise _invalid(compiled, key, "the text is too long")
    return value


def _invalid(compiled: CompiledTool, key: str, words: str) -> Invalid:
    return Invalid(f"Invalid arguments for {compiled.tool.name} at {_encodable(key)}: {words}.")


def _encodable(words: str) -> str:
    return words.encode(errors="replace").decode()
