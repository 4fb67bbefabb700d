"""How BFCL's descriptions of functions become the tools that an agent is offered.

The same form as the package gives an OpenAI model with function calling: types by JSON schema's names, the result's form kept in
`response`, and a note on Python at the end of each description, which functions that are handed out later do not have.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from agentscaler.adapters.bfcl.package import bfcl

PYTHON_NOTE = " Note that the provided function is in Python 3 syntax."


def tool_from(doc: Mapping[str, Any]) -> dict[str, Any]:
    """Without the note."""
    parameters = {**doc["parameters"], "type": "object", "properties": _properties(doc["parameters"]["properties"])}
    return {
        "type": "function",
        "function": {**doc, "name": re.sub(r"\.", "_", doc["name"]), "parameters": parameters},
    }


def with_note(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = tool["function"]
    return {**tool, "function": {**function, "description": function["description"] + PYTHON_NOTE}}


def chosen(tools: Iterable[Mapping[str, Any]], names: Iterable[str]) -> list[Mapping[str, Any]]:
    """The tools of these names, in their own order."""
    wanted = set(names)
    return [tool for tool in tools if tool["function"]["name"] in wanted]


def _properties(properties: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: _property(described) for name, described in properties.items()}


def _property(described: Mapping[str, Any]) -> dict[str, Any]:
    types = bfcl().json_types
    made = dict(described)
    if described.get("type") == "float":
        made["format"] = "float"
        made["description"] = described.get("description", "") + " This is a float type value."
    made["type"] = types.get(described.get("type", ""), "string")
    if made["type"] not in ("array", "object"):
        return made
    if "properties" in made:
        made["properties"] = _properties(made["properties"])
    elif "items" in made:
        made["items"] = _items(made["items"])
    return made


def _items(described: Mapping[str, Any]) -> dict[str, Any]:
    """Two levels deep and no notes on floats, as in the package."""
    types = bfcl().json_types
    made = {**described, "type": types[described["type"]]}
    if made["type"] == "array" and "items" in made:
        made["items"] = {**made["items"], "type": types[made["items"]["type"]]}
    elif made["type"] == "object" and "properties" in made:
        made["properties"] = _properties(made["properties"])
    return made
