"""The benchmark's functions as OpenAI function schemas, and the way back from an offered name to the benchmark's.

Invariant: every schema is a JSON Schema, every name is one that OpenAI's interface takes (`[a-zA-Z0-9_-]`, at most 64), and no two names of
a task are equal. Says nothing about which calls are right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentscaler.adapters.acebench.match import parameters_of

_TYPES = {"dict": "object", "list": "array", "float": "number", "int": "integer", "tuple": "array", "any": "string"}


@dataclass(frozen=True, slots=True)
class Offer:
    """`own_names`: the benchmark's name by the offered one."""

    schemas: tuple[dict[str, Any], ...]
    own_names: dict[str, str]

    @property
    def offered_names(self) -> dict[str, str]:
        return {own: offered for offered, own in self.own_names.items()}


def offer(functions: Sequence[Mapping[str, Any]]) -> Offer:
    own_names: dict[str, str] = {}
    schemas = []
    for function in functions:
        name = _free_name(function["name"], own_names)
        own_names[name] = function["name"]
        parameters = to_schema(parameters_of(function))
        parameters.setdefault("type", "object")
        parameters.setdefault("properties", {})
        described = {"name": name, "description": function.get("description", ""), "parameters": parameters}
        schemas.append({"type": "function", "function": described})
    return Offer(tuple(schemas), own_names)


def _free_name(own: str, taken: Mapping[str, str]) -> str:
    plain = re.sub(r"[^a-zA-Z0-9_-]", "_", own)[:64]
    name, number = plain, 1
    while name in taken:
        number += 1
        name = f"{plain[:60]}_{number}"
    return name


def to_schema(described: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter's description with the type names of JSON Schema; a parameter may itself be called `type`."""
    schema: dict[str, Any] = {}
    for key, value in described.items():
        if key == "type" and isinstance(value, str):
            schema[key] = _TYPES.get(value, value)
        elif key == "properties" and isinstance(value, Mapping):
            schema[key] = {name: to_schema(one) for name, one in value.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, Mapping):
            schema[key] = to_schema(value)
        elif key != "pattern" or _is_pattern(value):
            schema[key] = value
    return schema


def _is_pattern(value: object) -> bool:
    """Two of the benchmark's are none, and engines that compile schemas refuse them."""
    try:
        return isinstance(value, str) and re.compile(value) is not None
    except re.error:
        return False
