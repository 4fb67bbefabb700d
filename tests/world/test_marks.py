"""Promises: after calls, marks and rewinds in any order, an environment cannot be told from one in which only the calls that were not
rewound were made; even where SQLite ended the transaction by itself on the way."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentscaler.domain.domain import Domain
from agentscaler.domain.store import load_domain
from agentscaler.messages import Outcome
from agentscaler.verify.soundness.ground import ground_of
from agentscaler.world.environment import Environment, Mark
from agentscaler.world.world import World
from tests.world.test_copies import ENDLESS
from tests.world.tiny_domain import tiny, tool

ENDLESS_COUNT = "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n)"
RUNAWAYS = {
    "notes": [
        "INSERT INTO notes SELECT new_id('notes'), 'x', 'x', name, 0, now() FROM folders LIMIT 1",
        f"UPDATE notes SET body = {ENDLESS_COUNT}",
    ],
    "airline": [f"UPDATE fees SET amount_cents = {ENDLESS_COUNT}"],
}
NUM_LATER = 6


@cache
def world(name: str) -> World:
    """With one more tool, that SQLite interrupts: it then ends the whole transaction."""
    domain = load_domain(name).to_json()
    runaway = tool("run_away", do=RUNAWAYS[name])
    return World.of(Domain.model_validate({**domain, "tools": [*domain["tools"], runaway]}), 1)


def drawn(name: str, random: Random) -> tuple[str, dict[str, Any]]:
    """Mostly calls that write, and ones that succeed as often as chance allows."""
    ground = ground_of(World.of(load_domain(name), 1))
    if random.random() < 0.03:
        return "run_away", {}
    if random.random() < 0.5:
        call = random.choice(random.choice(list(ground.valid_writes.values())))
    else:
        call = ground.draw(random.choice(ground.tools), random)
    return call.call, call.arguments


def play(environment: Environment, calls: list[tuple[str, dict[str, Any]]]) -> list[Any]:
    return [environment.call("agent", *call) for call in calls]


def state(environment: Environment) -> list[Any]:
    return [
        environment.diff(),
        environment.net_keys(),
        environment.issued,
        environment.id_counts,
        environment.tables(),
    ]


@pytest.mark.parametrize("name", ["notes", "airline"])
def test_calls_marks_and_rewinds_are_the_calls_that_were_kept(name: str) -> None:
    on = world(name)

    @settings(max_examples=40 if name == "notes" else 12)
    @given(st.integers(0, 2**32), st.lists(st.sampled_from(["call", "call", "call", "mark", "rewind"]), max_size=40))
    def run(seed: int, steps: list[str]) -> None:
        random, environment = Random(seed), on.open()
        kept: list[tuple[str, dict[str, Any]]] = []
        results: list[Any] = []
        marks: list[tuple[Mark, int]] = []
        for step in steps:
            if step == "call":
                kept.append(drawn(name, random))
                results += play(environment, kept[-1:])
            elif step == "mark":
                marks.append((environment.mark(), len(kept)))
            elif marks:
                place = random.randrange(len(marks))
                mark, number = marks[place]
                del marks[place + 1 :], kept[number:], results[number:]
                environment.rewind(mark)
        plain = on.open()
        assert play(plain, kept) == results
        later = [drawn(name, random) for _ in range(NUM_LATER)]
        assert state(environment) == state(plain)
        assert play(environment, later) == play(plain, later)
        assert state(environment) == state(plain)
        assert environment.close() == plain.close()
        assert environment.issued == plain.issued

    run()
    used, fresh = on.open(), World(on.program, 1, on.image).open()
    assert used.tables() == fresh.tables()


def test_marks_outlive_a_transaction_that_sqlite_ended() -> None:
    environment = World.build(tiny(ENDLESS), 1).open()

    def add(title: str) -> str:
        return environment.call("agent", "add_book", {"title": title, "shelf": "left"}).content

    def titles() -> set[Any]:
        return {row[1] for row in environment.tables()["books"]} - {"Emma", "Ulysses", "Dune"}

    first = environment.mark()
    add("Ada")
    second = environment.mark()
    third = environment.mark()
    add("Bea")
    before = environment.issued
    assert environment.call("agent", "fill", {"shelf": "left"}).outcome is Outcome.REFUSED
    assert (titles(), environment.issued) == ({"Ada", "Bea"}, before)
    for mark in (third, second):
        environment.rewind(mark)
        assert (titles(), len(environment.issued)) == ({"Ada"}, 1)
    add("Cleo")
    assert environment.call("agent", "fill", {"shelf": "left"}).outcome is Outcome.REFUSED
    environment.rewind(second)
    assert titles() == {"Ada"}
    environment.rewind(first)
    assert (titles(), environment.issued, environment.diff()) == (set(), frozenset(), {})
    add("Dora")
    environment.rewind(first)
    assert environment.close() == {}


def test_a_rewind_after_a_call_with_a_dangling_foreign_key() -> None:
    environment = World.of(tiny(), 1).open()
    mark = environment.mark()
    refused = environment.call("agent", "move_book", {"title": "Dune", "shelf": "nowhere"})
    assert refused.outcome is Outcome.REFUSED
    environment.rewind(mark)
    assert environment.call("agent", "move_book", {"title": "Dune", "shelf": "left"}).outcome is Outcome.OK
    assert environment.close() == {"books": [{"op": "update", "key": {"book_id": 3}, "columns": {"shelf": "left"}}]}


def test_a_mark_that_is_no_more() -> None:
    on = World.of(tiny(), 1)
    one, other = on.open(), on.open()
    outer, inner = one.mark(), one.mark()
    other.mark()
    with pytest.raises(RuntimeError, match="another environment's"):
        other.rewind(outer)
    one.rewind(outer)
    with pytest.raises(RuntimeError, match="dropped"):
        one.rewind(inner)
    assert one.mark().depth == 1
    with pytest.raises(RuntimeError, match="dropped"):
        one.rewind(inner)
    assert one.connection.in_transaction is False
    for go_back in (one.mark, lambda: one.rewind(outer)):
        with pytest.raises(RuntimeError, match="handed out"):
            go_back()
    other.close()
    with pytest.raises(RuntimeError, match="closed"):
        other.mark()
