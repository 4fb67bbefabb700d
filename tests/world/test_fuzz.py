"""10,000 calls of nonsense: no exception, none takes a second, and whatever is not ok changes nothing."""

from __future__ import annotations

import string
import time
from random import Random
from typing import Any

import orjson

from agentscaler.domain.store import load_domain
from agentscaler.messages import Outcome
from agentscaler.world.drawing import draw_arguments, texts_of
from agentscaler.world.environment import Environment
from agentscaler.world.world import World

NUM_CALLS = 10_000
WORLD = World.of(load_domain("notes"), 1)
TOOLS = WORLD.domain.tools
TEXTS = texts_of(WORLD)
NASTY = [
    "'; DROP TABLE notes; --",
    '"',
    "''",
    "\\",
    "x' OR '1'='1",
    "%",
    "_%",
    "*[a-z]",
    "1; ATTACH 'x' AS y",
    "$.a[#-1]",
    "{title}",
    "{0}",
    ":title",
    "?1",
    "\x00",
    "a\x00b",
    "\\u0000",
    "\ud800",
    "\udfff x",
    "\ufeff",
    "\u202e",
    "İ",
    "ß",
    "ſ",
    "e\u0301",
    "🧵" * 40,
    "\r\n\t",
    " ",
    "now",
    "localtime",
    "NULL",
    "null",
    "true",
    "NaN",
    "-0",
    "1e309",
    "0x10",
    "[" * 5000,
    '{"a":' * 300,
    "x" * 80,
    "x" * 81,
    "x" * 40_000,
    "é" * 20_000,
    "x" * 400_000,
    "note_001",
    "Wifi codes",
    "confidential",
]
NUMBERS: list[Any] = [
    0,
    -1,
    1,
    2**31,
    2**53,
    2**63 - 1,
    -(2**63),
    2**63,
    2**64,
    2**70,
    -(10**300),
    0.1,
    -0.0,
    1e308,
    1e-320,
    float("nan"),
    float("inf"),
]
BROKEN = [
    "",
    " ",
    "{",
    "}",
    "{]",
    "[",
    "nul",
    '{"title": }',
    '{"title": "x"',
    "{'title': 'x'}",
    '{"a":1}{"b":2}',
    '"text"',
    "5",
    "null",
    "[]",
    "\x00",
    "\ud800",
    '{"title": "\ud800"}',
    '{"title": "\\ud800"}',
    '{"a":NaN}',
    '{"a":1e999}',
    "[" * 100_000,
    '{"a":' * 100_000,
    '{"title": "' + "x" * 300_000 + '"}',
    '{"title": "a", "title": "b"}',
    "\ufeff{}",
    "{} // done",
    "<tool_call>{}",
]
NAMES = [
    "",
    " ",
    "Read_note",
    "read_note ",
    "read_note\x00",
    "no_such",
    "x" * 100_000,
    "\ud800",
    "'; DROP TABLE notes",
    "__class__",
    "🧵",
]


def nonsense(random: Random, depth: int = 0) -> Any:
    match random.randrange(9 if depth < 4 else 6):
        case 0 | 1:
            return random.choice(NASTY)
        case 2:
            return random.choice(NUMBERS)
        case 3:
            return random.choice([None, True, False])
        case 4:
            return "".join(random.choices(string.printable, k=random.randrange(100)))
        case 5:
            return random.choice(TEXTS)
        case 6:
            return [nonsense(random, depth + 1) for _ in range(random.randrange(4))]
        case 7:
            return {str(random.choice(NASTY)): nonsense(random, depth + 1) for _ in range(random.randrange(4))}
        case _:
            nest: Any = 1
            for _ in range(random.choice([10, 300, 2000])):
                nest = [nest] if random.random() < 0.5 else {"a": nest}
            return nest


def arguments_for(tool: Any, random: Random) -> Any:
    way = random.random()
    if way < 0.15:
        return random.choice(BROKEN)
    arguments = draw_arguments(tool.parameters, TEXTS, random)
    if way > 0.3:
        for name in [*tool.parameters["properties"], *random.choices(NASTY, k=way > 0.9)]:
            if random.random() < 0.5:
                arguments[name] = nonsense(random)
    if way > 0.95:
        arguments[random.choice([1, None, b"x", ("a",), 1.5])] = 1  # type: ignore[index]
    if way < 0.6:
        try:
            return orjson.dumps(arguments).decode()
        except (TypeError, ValueError):
            return arguments
    return arguments


def pages(environment: Environment) -> tuple[bytes, dict[str, int]]:
    """Equal pages are equal contents; a call rolled back leaves the pages as they were."""
    return environment.connection.serialize("main"), environment.id_counts


def test_ten_thousand_calls_of_nonsense() -> None:
    random, seen = Random(20261101), dict.fromkeys(Outcome, 0)
    environment = WORLD.open()
    before = pages(environment)
    for number in range(NUM_CALLS):
        if number % 500 == 499:
            environment.close()
            environment = WORLD.open()
            before = pages(environment)
        tool = random.choice(TOOLS)
        name = random.choice(NAMES) if random.random() < 0.05 else tool.name
        actor = "user" if random.random() < 0.02 else "agent"
        arguments = arguments_for(tool, random)
        start = time.thread_time()
        result = environment.call(actor, name, arguments)
        assert time.thread_time() - start < 1
        orjson.loads(result.content)
        seen[result.outcome] += 1
        after = pages(environment)
        if result.outcome is not Outcome.OK or tool.name not in WORLD.program.write_tools:
            assert after == before, (name, arguments)
            assert result.changed_keys == ()
        before = after
    environment.diff()
    assert min(seen.values()) > 200, seen
