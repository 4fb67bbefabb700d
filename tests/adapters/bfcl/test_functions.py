"""Descriptions as tools. All 3336 toolboxes of the 800 tasks were compared with the package's own conversion once, byte by byte; that needs
packages of parsers that nothing else here wants, so the rules are held by example."""

from __future__ import annotations

from agentscaler.adapters.bfcl.functions import PYTHON_NOTE, chosen, tool_from, with_note
from tests.adapters.bfcl.beside import DOMAINS

DOC = {
    "name": "shop.buy",
    "description": "Buy.",
    "parameters": {
        "type": "dict",
        "properties": {
            "price": {"type": "float", "description": "At most."},
            "what": {"type": "any", "description": "Anything."},
            "odd": {"description": "Without a type."},
            "tags": {"type": "array", "items": {"type": "array", "items": {"type": "float"}}, "description": "Lists."},
            "box": {"type": "dict", "properties": {"depth": {"type": "float", "description": "Deep."}}},
        },
        "required": ["price"],
    },
    "response": {"type": "dict", "properties": {"paid": {"type": "float"}}},
}


def test_types_names_and_notes() -> None:
    function = tool_from(DOC)["function"]
    assert function["name"] == "shop_buy" and function["response"] == DOC["response"]
    parameters = function["parameters"]
    assert parameters["type"] == "object" and parameters["required"] == ["price"]
    assert parameters["properties"] == {
        "price": {"type": "number", "format": "float", "description": "At most. This is a float type value."},
        "what": {"type": "string", "description": "Anything."},
        "odd": {"type": "string", "description": "Without a type."},
        "tags": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}, "description": "Lists."},
        "box": {
            "type": "object",
            "properties": {
                "depth": {"type": "number", "format": "float", "description": "Deep. This is a float type value."}
            },
        },
    }
    assert with_note(tool_from(DOC))["function"]["description"] == "Buy." + PYTHON_NOTE
    assert DOC["parameters"]["properties"]["price"] == {"type": "float", "description": "At most."}


def test_the_shipped_ones() -> None:
    tools = DOMAINS["base"].tools
    names = [tool["function"]["name"] for tool in tools]
    assert len(names) == len(set(names)) == 128
    kinds = {p["type"] for tool in tools for p in tool["function"]["parameters"]["properties"].values()}
    assert kinds <= {"string", "integer", "number", "boolean", "array", "object"}
    assert [tool["function"]["name"] for tool in chosen(tools, ["ls", "cd"])] == [n for n in names if n in ("ls", "cd")]
