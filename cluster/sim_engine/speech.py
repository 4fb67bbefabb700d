"""What a simulated model says: calls of the tools that it is given, with arguments of the right form, and at last some words.

Deterministic: how many turns of calls a conversation has follows from how it began, each answer from that, the turn and the request's
`seed`. It understands nothing; the values are drawn from the JSON schema alone.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

from cluster.sim_engine.config import SimConfig

LAST_WORDS = "I have done what I could. Goodbye."
_WORDS = (
    "amber",
    "birch",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "heron",
    "inlet",
    "kelp",
    "linden",
    "maple",
    "north",
    "ochre",
)
_FORMATS = {"date": "2026-05-17", "date-time": "2026-05-17T09:30:00Z", "time": "09:30:00", "email": "ada@example.org"}
_FORMATS |= {"uri": "https://example.org/", "uuid": "4f1c9a52-0b7d-4e83-9d0e-2a6b7c8d9e01"}
BYTES_A_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Answer:
    """`tool` and `arguments`, or `content`. `tokens` counts the reasoning too."""

    content: str
    tool: str | None
    arguments: str
    tokens: int
    cut: bool  # by max_tokens


def conversation_of(messages: list[dict[str, Any]], session: str) -> bytes:
    """Which conversation this is: how it began, and the session when one is named."""
    digest = blake2b(session.encode(), digest_size=16)
    for message in messages:
        if message.get("role") == "assistant":
            break
        digest.update(b"\0" + text_of(message.get("content")).encode())
    return digest.digest()


def text_of(content: Any) -> str:
    return content if isinstance(content, str) else "" if content is None else orjson.dumps(content).decode()


def turns_of(conversation: bytes, config: SimConfig) -> int:
    draw = _random(conversation, config.seed)
    turns = round(config.turns_median * draw.lognormvariate(0.0, config.turns_sigma))
    return min(config.max_turns, max(config.min_turns, turns))


def answer(payload: dict[str, Any], conversation: bytes, config: SimConfig) -> Answer:
    turn = sum(message.get("role") == "assistant" for message in payload["messages"])
    draw = _random(conversation, config.seed, turn, payload.get("seed"))
    tools, choice = payload.get("tools") or [], payload.get("tool_choice", "auto")
    if isinstance(choice, dict):
        named = (choice.get("function") or {}).get("name")
        tools = [tool for tool in tools if tool["function"]["name"] == named]
    calls = bool(tools) and choice != "none" and (choice != "auto" or turn < turns_of(conversation, config))
    tool, content, arguments = None, LAST_WORDS, ""
    if calls:
        function = draw.choice(tools)["function"]
        tool, content = function["name"], ""
        arguments = orjson.dumps(value_for(function.get("parameters") or {"type": "object"}, draw)).decode()
    visible = count_tokens(content, tool or "", arguments)
    tokens = max(visible, round(config.output_median * draw.lognormvariate(0.0, config.output_sigma)))
    tokens = max(visible, min(tokens, config.max_output))
    limit = payload.get("max_completion_tokens") or payload.get("max_tokens")
    if limit is None or tokens <= limit:
        return Answer(content, tool, arguments, tokens, cut=False)
    # A real model reasons first and is cut off at the end; here the call or the words suffer only where they alone are too long.
    room = limit * BYTES_A_TOKEN
    return Answer(content[:room], tool, arguments[:room], limit, cut=visible > limit)


def count_tokens(*texts: str) -> int:
    """About what a tokenizer would say, with what a chat template puts around a message."""
    return 4 + sum(len(text) for text in texts) // BYTES_A_TOKEN


def reasoning(tokens: int) -> str:
    """Words of about that many tokens that say nothing."""
    return (_MUSING * (1 + tokens * BYTES_A_TOKEN // len(_MUSING)))[: tokens * BYTES_A_TOKEN]


def value_for(schema: dict[str, Any], draw: random.Random) -> Any:
    """Something that the schema allows, as far as it is made of type, enum, const, bounds, format, properties, items, anyOf and oneOf."""
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return draw.choice(schema["enum"])
    for union in ("anyOf", "oneOf"):
        if schema.get(union):
            return value_for(draw.choice(schema[union]), draw)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if kind == "object":
        required = set(schema.get("required") or ())
        properties = (schema.get("properties") or {}).items()
        return {name: value_for(one, draw) for name, one in properties if name in required or draw.random() < 0.3}
    if kind == "array":
        least = schema.get("minItems", 0)
        most = min(schema.get("maxItems", least + 2), least + 2)
        return [value_for(schema.get("items") or {}, draw) for _ in range(draw.randint(max(least, min(1, most)), most))]
    if kind in ("integer", "number"):
        return _number(schema, kind == "integer", draw)
    if kind == "boolean":
        return draw.random() < 0.5
    return None if kind == "null" else _string(schema, draw)


def _number(schema: dict[str, Any], whole: bool, draw: random.Random) -> float:
    least, most = schema.get("minimum"), schema.get("maximum")
    step = schema.get("multipleOf", 1 if whole else 0.01)
    if "exclusiveMinimum" in schema:
        least = schema["exclusiveMinimum"] + step
    if "exclusiveMaximum" in schema:
        most = schema["exclusiveMaximum"] - step
    if least is None:
        least = min(0, most) if most is not None else 0
    if most is None:
        most = max(least + 100 * step, 100)
    first, last = -(-least // step), most // step
    value = draw.randint(int(first), max(int(first), int(last))) * step
    return int(value) if whole else round(value, 6)


def _string(schema: dict[str, Any], draw: random.Random) -> str:
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    text = " ".join(draw.choice(_WORDS) for _ in range(draw.randint(1, 3)))
    while len(text) < schema.get("minLength", 0):
        text += " " + draw.choice(_WORDS)
    return text[: schema["maxLength"]] if "maxLength" in schema else text


def _random(*parts: object) -> random.Random:
    return random.Random(b"\0".join(part if isinstance(part, bytes) else str(part).encode() for part in parts))


_MUSING = " ".join(_WORDS) * 400
