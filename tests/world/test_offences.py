"""Promises: what an environment says of its invariants is what all of them, asked anew, say; also where only some were."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from agentscaler.domain.domain import Domain
from agentscaler.domain.store import load_domain
from agentscaler.messages import Outcome
from agentscaler.verify.soundness.ground import ground_of
from agentscaler.world.environment import Environment
from agentscaler.world.world import World
from tests.world.tiny_domain import TITLE, tiny, tool

ALSO = """
CREATE TABLE sizes (size_id INTEGER PRIMARY KEY, high INTEGER, wide INTEGER, area INTEGER AS (high * wide) STORED) STRICT;
CREATE VIEW thick AS SELECT title FROM books WHERE pages > 1000;
"""
NUMBER = {"number": {"type": "integer"}}
TOOLS = (
    tool(
        "set_pages", parameters={"title": TITLE, **NUMBER}, do=["UPDATE books SET pages = :number WHERE title = :title"]
    ),
    tool("set_room", parameters=NUMBER, do=["UPDATE shelves SET room = :number WHERE name = 'left'"]),
    tool("add_shelf", parameters={"name": TITLE}, do=["INSERT INTO shelves VALUES (:name, 1)"]),
    tool("move_size", parameters=NUMBER, do=["UPDATE sizes SET size_id = :number"]),
    tool("set_high", parameters=NUMBER, do=["UPDATE sizes SET high = :number"]),
)
INVARIANTS = {
    "no thick book": "SELECT title FROM thick",
    "three shelves at most": "SELECT count(*) FROM shelves HAVING count(*) > 3",
    "small rooms": "SELECT name FROM shelves WHERE room > 5",
    "small areas": "SELECT size_id FROM sizes WHERE area > 50",
    "low row numbers": "SELECT rowid FROM sizes WHERE rowid > 50",
    "no book of many rooms": "SELECT title FROM books JOIN shelves ON name = shelf WHERE pages < room",
}


def asked_anew(environment: Environment) -> list[str]:
    """An environment whose connection was handed out asks all."""
    assert environment.connection is not None
    return environment.offences()


def library(**more: Any) -> Domain:
    seed = [*tiny().seed.steps, "INSERT INTO sizes (size_id, high, wide) VALUES (1, 2, 3)", *more.get("steps", [])]
    invariants = [{"name": name, "sql": sql} for name, sql in INVARIANTS.items()]
    return tiny(*TOOLS, also=ALSO, seed={"steps": seed}, invariants=invariants)


@pytest.mark.parametrize(
    ("call", "arguments", "offended"),
    [
        ("set_pages", {"title": "Emma", "number": 1001}, ["no thick book"]),
        ("set_pages", {"title": "Emma", "number": 1}, []),
        ("set_pages", {"title": "Dune", "number": 1}, ["no book of many rooms"]),
        ("set_room", {"number": 5}, []),
        ("set_room", {"number": 901}, ["small rooms", "no book of many rooms"]),
        ("set_high", {"number": 20}, ["small areas"]),
        ("move_size", {"number": 51}, ["low row numbers"]),
    ],
)
def test_the_invariant_that_a_call_breaks(call: str, arguments: dict[str, Any], offended: list[str]) -> None:
    world = World.build(library(), 1)
    for _ in range(2):
        environment = world.open()
        assert environment.offences() == []
        assert environment.call("agent", call, arguments).outcome is Outcome.OK
        found = environment.offences()
        assert [words.partition(":")[0] for words in found] == offended
        assert asked_anew(environment) == found
        environment.close()


def test_rows_that_come_are_counted() -> None:
    environment = World.build(library(), 1).open()
    for number, offended in ((1, False), (2, True)):
        assert environment.call("agent", "add_shelf", {"name": f"new {number}"}).outcome is Outcome.OK
        assert bool(environment.offences()) is offended


def test_a_seeded_offence_is_told_whatever_was_changed() -> None:
    world = World.build(library(steps=["UPDATE books SET pages = 2000 WHERE title = 'Dune'"]), 1)
    for call, arguments in (("add_shelf", {"name": "x"}), ("set_pages", {"title": "Dune", "number": 20})):
        environment = world.open()
        assert environment.offences() == ["no thick book: Dune"]
        environment.call("agent", call, arguments)
        assert environment.offences() == (["no thick book: Dune"] if call == "add_shelf" else [])
        environment.close()


@pytest.mark.parametrize("name", ["airline", "retail"])
def test_shipped_worlds(name: str) -> None:
    world, random = World.of(load_domain(name), 1), Random(5)
    ground = ground_of(world)
    for _ in range(8):
        environment = world.open()
        for call in random.sample([c for calls in ground.valid_writes.values() for c in calls], 3):
            environment.call("agent", call.call, call.arguments)
        assert environment.offences() == asked_anew(environment) == []
        environment.close()
