"""Promises: an environment cannot tell a copy that others used before from a fresh one, whatever happened to it; idle copies are
bounded; a copy whose connection was handed out is not used again."""

from __future__ import annotations

import time
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentscaler.domain.store import load_domain
from agentscaler.messages import Outcome
from agentscaler.world import copies
from agentscaler.world.drawing import draw_arguments, texts_of
from agentscaler.world.environment import Environment
from agentscaler.world.guard import Budget
from agentscaler.world.world import World
from tests.world.tiny_domain import MOVE, SHELF, TITLE, tiny, tool

NOTES = World.of(load_domain("notes"), 1)
TEXTS = texts_of(NOTES)
ENDLESS = tool(
    "fill",
    parameters={"shelf": SHELF},
    do=[
        """INSERT INTO books (book_id, title, shelf)
           WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n) SELECT i, i, :shelf FROM n"""
    ],
)


def fresh() -> World:
    """The same image, and no copies yet."""
    return World(NOTES.program, 1, NOTES.image)


def random_calls(environment: Environment, seed: int, num_calls: int) -> list[Any]:
    random = Random(seed)
    tools = NOTES.domain.tools
    made = []
    for _ in range(num_calls):
        tool = random.choice(tools)
        made.append(environment.call("agent", tool.name, draw_arguments(tool.parameters, TEXTS, random)))
    return made


def play(world: World, seed: int, num_calls: int) -> tuple[Any, ...]:
    environment = world.open()
    results = random_calls(environment, seed, num_calls)
    return results, environment.tables(), environment.net_keys(), environment.issued, environment.close()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 999), st.integers(1, 40)), min_size=2, max_size=5))
def test_a_used_copy_is_as_good_as_a_fresh_one(runs: list[tuple[int, int]]) -> None:
    used = fresh()
    for seed, num_calls in runs:
        assert play(used, seed, num_calls) == play(fresh(), seed, num_calls)
    environment = used.open()
    assert environment.connection.serialize("main")[100:] == NOTES.image[100:]  # before it, the counter of commits


def test_copies_are_used_again_and_only_one_at_a_time() -> None:
    world = fresh()
    one, two = world.open(), world.open()
    assert one._copy is not two._copy
    first = one._copy
    one.close()
    assert world.open()._copy is first


def test_what_an_ended_environment_says_stays_as_it_was() -> None:
    world = fresh()
    one = world.open()
    one.call("agent", "create_note", {"title": "A", "text": "b", "folder": "Home"})
    diff, issued = one.close(), one.issued
    two = world.open()
    two.call("agent", "create_note", {"title": "Other", "text": "b", "folder": "Work"})
    assert (one.close(), one.issued) == (diff, issued)
    with pytest.raises(RuntimeError, match="closed"):
        one.call("agent", "list_folders", {})


def test_a_runaway_write_takes_no_earlier_call_along() -> None:
    """SQLite ends the whole transaction where a write is interrupted."""
    world = World.build(tiny(ENDLESS), 1)
    environment = world.open()
    for call, arguments in (
        ("add_book", {"title": "Ada", "shelf": "left"}),
        ("move_book", {"title": "Dune", "shelf": "left"}),
    ):
        assert environment.call("agent", call, arguments).outcome is Outcome.OK
    before = environment.tables(), environment.issued
    assert environment.call("agent", "fill", {"shelf": "left"}).outcome is Outcome.REFUSED
    assert (environment.tables(), environment.issued) == before
    assert environment.call("agent", "add_book", {"title": "Bea", "shelf": "right"}).outcome is Outcome.OK
    assert [row["op"] for row in environment.close()["books"]] == ["insert", "insert", "update"]
    assert world.open().tables() == World.build(tiny(ENDLESS), 1).open().tables()


def test_a_deferred_foreign_key_is_checked_at_the_end_of_each_call() -> None:
    environment = World.build(tiny(), 1).open()
    refused = environment.call("agent", "move_book", {"title": "Dune", "shelf": "nowhere"})
    assert (refused.outcome, "does not exist" in refused.content) == (Outcome.REFUSED, True)
    assert environment.call("agent", "move_book", {"title": "Dune", "shelf": "left"}).outcome is Outcome.OK
    swap = tool(
        "swap",
        parameters={"title": TITLE, "shelf": SHELF},
        do=[MOVE["do"][0], "INSERT INTO shelves VALUES (:shelf, 3)"],
    )
    deferred = World.build(tiny(swap), 1).open()
    assert deferred.call("agent", "swap", {"title": "Dune", "shelf": "new"}).outcome is Outcome.OK


def test_a_connection_that_was_handed_out_is_not_used_again() -> None:
    world = fresh()
    environment = world.open()
    environment.call("agent", "create_folder", {"name": "New"})
    environment.connection.execute("DELETE FROM shares")
    assert environment.call("agent", "create_folder", {"name": "Newer"}).outcome is Outcome.OK
    assert len(environment.close()["folders"]) == 2
    assert play(world, 3, 20) == play(fresh(), 3, 20)


def test_one_long_pause_is_no_runaway() -> None:
    """A full garbage collection, say, in a process that holds much."""
    budget = Budget(cpu_s=0.05)

    def work(seconds: float) -> None:
        start = time.thread_time()
        while time.thread_time() - start < seconds:
            pass

    assert not budget.tick()
    work(0.2)
    assert not budget.tick()
    assert not budget.tick()
    work(0.1)
    assert budget.tick()
    assert budget.exceeded == "time"


def test_a_copy_that_lay_for_long_has_a_fresh_budget() -> None:
    world = fresh()
    world.open().close()
    start = time.thread_time()
    while time.thread_time() - start < 0.5:  # more than a call may take
        pass
    environment = world.open()
    for _ in range(200):
        environment.connection.execute("SELECT count(*) FROM notes a, notes b, notes c").fetchall()
    environment.close()


def test_idle_copies_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    world = fresh()
    monkeypatch.setattr(copies, "MAX_IDLE_BYTES", 3 * len(world.image))
    environments = [world.open() for _ in range(8)]
    for environment in environments:
        environment.close()
    assert len(world._shelf._copies) == 3
    assert play(world, 5, 20) == play(fresh(), 5, 20)
