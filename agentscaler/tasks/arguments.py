"""Arguments of reference calls: values of earlier results put in place."""

from __future__ import annotations

from typing import Any

import orjson

from agentscaler.errors import TaskError
from agentscaler.world.environment import CallResult


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
