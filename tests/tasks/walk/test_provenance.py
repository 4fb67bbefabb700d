"""Promises: what is told of a tool's results holds for what it really returns, on any seeded world; unusual SQL is followed or left out,
never an error; facts are those of the statements, whatever things are called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentscaler.domain.domain import Domain
from agentscaler.domain.store import load_domain
from agentscaler.messages import Outcome
from agentscaler.tasks.walk.prepared import Column
from agentscaler.tasks.walk.provenance import Provenance, Sources, schema_at, trace, values_at
from agentscaler.tasks.walk.value import ANY, Path
from agentscaler.world.drawing import Record, draw_call, records_of, texts_of
from agentscaler.world.program import compile_domain
from agentscaler.world.world import World

DOMAINS = ("notes", "airline", "retail")
FACTS = {name: trace(compile_domain(load_domain(name))).tools for name in DOMAINS}


def shown(sources: Sources) -> dict[str, set[str]]:
    return {".".join(path): {".".join(column) for column in columns} for path, columns in sources.items()}


def test_nested_results_lead_to_their_columns() -> None:
    results = shown(FACTS["airline"]["list_bookings"].results)
    assert results["*.booking"] == {"bookings.booking"}
    assert results["*.flights.*.flight"] == {"dated_flights.flight"}
    assert results["*.flights.*.from"] == {"flights.from_airport"}
    order = shown(FACTS["retail"]["show_order"].results)
    assert order["tracking.number"] == {"orders.tracking_number"}
    assert order["lines.*.sku"] == {"order_lines.sku"}
    assert shown(FACTS["notes"]["read_note"].results)["tags.*"] == {"note_tags.tag"}


def test_what_is_worked_out_is_kept_apart() -> None:
    facts = FACTS["airline"]["get_booking"]
    assert shown(facts.computed)["paid_cents"] == {"payments.amount_cents"}
    assert ("paid_cents",) not in facts.results
    assert shown(facts.computed)["free_bags"] == {"tiers.free_bags", "bookings.num_passengers"}
    assert shown(FACTS["retail"]["search_products"].computed)["*.in_stock"] == {"variants.stock"}
    assert FACTS["airline"]["quote_cabin_change"].computed["cabin",] == frozenset()  # the argument


def test_arguments_inside_lists_have_their_columns() -> None:
    facts = FACTS["airline"]["book_trip"]
    assert shown(facts.matched)["flights.*.flight"] == {"dated_flights.flight", "seats.flight"}
    assert shown(facts.stored)["passengers.*.first_name"] == {"passengers.first_name"}
    assert ("passengers", ANY, "first_name") not in facts.matched
    assert shown(facts.stored)["payment_id"] == {"bookings.payment_id"}


def test_defaults_trims_and_cases_hide_no_argument() -> None:
    facts = FACTS["airline"]["change_flight"]
    assert shown(facts.matched)["new_flight"] == {
        "dated_flights.flight",
        "seats.flight",
    }  # coalesce(:new_flight, l.flight)
    assert shown(facts.stored)["payment_id"] == {"payments.payment_id"}  # iif(…, coalesce(:payment_id, …), …)
    assert shown(FACTS["airline"]["find_customer"].matched)["email"] == {"customers.email"}
    assert shown(FACTS["airline"]["search_flights"].matched)["from"] == {
        *("airports.airport", "airports.city", "flights.from_airport")  # `from` is a word of SQL, too
    }
    assert shown(FACTS["retail"]["put_in_cart"].stored) == {
        "customer_id": {"cart_lines.customer_id"},
        "sku": {"cart_lines.sku"},
        "pieces": {"cart_lines.quantity"},
    }


def test_new_names_are_fresh_and_others_not() -> None:
    assert FACTS["notes"]["create_note"].fresh == {("title",)}
    assert FACTS["notes"]["create_folder"].fresh == {("name",)}
    assert not FACTS["airline"]["give_goodwill_voucher"].fresh  # a key, but one that refers
    assert not FACTS["retail"]["put_in_cart"].fresh


def test_needs_are_what_the_requirements_let_through() -> None:
    assert set(FACTS["airline"]["find_customer"].needs) == {
        frozenset({"email"}),
        frozenset({"first_name", "last_name", "birth_date"}),
    }
    assert set(FACTS["retail"]["find_customer"].needs) == {frozenset({"email"}), frozenset({"last_name", "postcode"})}
    assert FACTS["retail"]["search_products"].needs == (frozenset(),)
    assert FACTS["airline"]["change_flight"].needs == (frozenset({"booking", "leg", "new_date"}),)


def test_requirements_hold_those_of_triggers() -> None:
    requires = FACTS["notes"]["delete_note"].requires
    assert {("notes", "title"), ("notes", "locked"), ("shares", "note_id")} <= requires
    assert ("dated_flights", "status") in FACTS["airline"]["book_trip"].requires
    assert ("bookings", "bags_cents") not in FACTS["airline"][
        "change_cabin"
    ].requires  # of a view that it looks through


@cache
def _seeded(name: str, seed: int) -> tuple[World, list[Record], dict[Column, set[Any]]]:
    """A world, rows to draw arguments from, and what stands in its columns."""
    world = World.of(load_domain(name), seed)
    environment = world.open()
    tables = world.program.tables
    held = {
        (table, column): {row[place] for row in rows}
        for table, rows in environment.tables().items()
        for place, column in enumerate(tables[table].columns)
    }
    records = records_of(environment.connection, tables, Random(seed))
    environment.close()
    return world, records, held


@settings(max_examples=30)
@given(st.sampled_from(DOMAINS), st.integers(1, 2), st.integers(0, 2**32))
def test_real_results_hold_what_is_told_of_them(name: str, world_seed: int, seed: int) -> None:
    (world, records, held), random = _seeded(name, world_seed), Random(seed)
    environment = world.open()
    changed = environment.tables  # what calls have written is looked up where the seeded world does not hold it
    for _ in range(30):
        tool = random.choice(world.domain.tools)
        arguments = draw_call(tool, records, texts_of(world), random)
        result = environment.call(tool.actor, tool.name, arguments)
        if result.outcome is Outcome.OK and tool.returns:
            _check(FACTS[name][tool.name], arguments, orjson.loads(result.content), held, changed, world)
    environment.close()


def _check(
    facts: Provenance,
    arguments: dict[str, Any],
    result: Any,
    held: dict[Column, set[Any]],
    now: Callable[[], dict[str, list[Any]]],
    world: World,
) -> None:
    for path, leaf in _leaves(result):
        told = any(_fits(path, known, leaf is None) for known in (*facts.results, *facts.computed))
        assert told, f"{path} is told nothing of"
    for path, columns in facts.results.items():
        for value in values_at(result, path):
            if value is not None and not any(value in held[column] for column in columns):
                places = [(table, world.program.tables[table].columns.index(column)) for table, column in columns]
                assert any(row[place] == value for table, place in places for row in now()[table]), path
    given = {str(value).strip().casefold() for value in arguments.values()}
    for path in facts.given_back:
        assert {str(value).casefold() for value in values_at(result, path)} <= given


def _leaves(result: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(result, dict | list):
        for key, value in result.items() if isinstance(result, dict) else ((ANY, one) for one in result):
            yield from _leaves(value, (*path, key))
    else:
        yield path, result


def _fits(path: Path, known: Path, is_empty: bool) -> bool:
    """A known path may end above a leaf, where JSON was not followed; and below one where there is nothing."""
    long_enough = is_empty or len(path) >= len(known)
    return long_enough and all(ANY in (key, one) or key == one for key, one in zip(path, known, strict=False))


@pytest.mark.parametrize("name", DOMAINS)
def test_all_shipped_statements_are_followed(name: str) -> None:
    program = compile_domain(load_domain(name))
    for tool, facts in FACTS[name].items():
        assert not facts.unfollowed, tool
        told = {key for one in (facts.results, facts.computed) for key in one}
        assert bool(told) == (program.tools[tool].tool.returns is not None)
        for path in facts.parameters:
            assert schema_at(program.tools[tool].tool.parameters, path), f"{tool}: no such argument {path}"


SCHEMA = """
CREATE TABLE staff (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, boss INTEGER REFERENCES staff(id), pay INTEGER,
                    yearly INTEGER GENERATED ALWAYS AS (pay * 12) STORED) STRICT;
CREATE TABLE shifts (staff INTEGER NOT NULL REFERENCES staff(id), day TEXT NOT NULL, hours INTEGER, tags TEXT NOT NULL DEFAULT '[]',
                     PRIMARY KEY (staff, day)) STRICT;
CREATE VIEW rota AS SELECT s.name, h.day, h.hours FROM shifts h JOIN staff s ON s.id = h.staff WHERE h.hours > 0;
CREATE VIEW heads AS WITH RECURSIVE up(id, head) AS (SELECT id, id FROM staff WHERE boss IS NULL
  UNION ALL SELECT s.id, up.head FROM staff s JOIN up ON s.boss = up.id) SELECT * FROM up;
"""

UNUSUAL: dict[str, dict[str, Any]] = {
    "chain": {  # recursion, and a WITH clause that shadows a table
        "returns": "WITH RECURSIVE up AS (SELECT id, boss, 1 AS n FROM staff WHERE name = :name UNION "
        "SELECT s.id, s.boss, n + 1 FROM staff s, up WHERE s.id = up.boss) SELECT id, n FROM up ORDER BY n",
    },
    "head_of": {"returns": "SELECT head FROM heads WHERE id = :id ORDER BY 1"},
    "busiest": {
        "returns": "SELECT * FROM (SELECT name, day, rank() OVER (ORDER BY hours DESC) AS place FROM rota) WHERE day = :day ORDER BY name",
    },
    "plan": {  # an upsert out of a JSON list, and UPDATE FROM
        "do": [
            "INSERT INTO shifts (staff, day, hours) SELECT s.id, j.value ->> 'day', j.value ->> 'hours' FROM json_each(:shifts) j "
            "JOIN staff s ON s.name = j.value ->> 'who' WHERE true ON CONFLICT DO UPDATE SET hours = excluded.hours",
            "UPDATE staff SET pay = pay + t.total FROM (SELECT staff, sum(hours) AS total FROM shifts GROUP BY 1) AS t WHERE t.staff = id",
        ],
        "returns": "SELECT name, (pay, id) = (1, :id) AS odd, json_group_array(json(tags)) AS tags FROM staff LEFT JOIN shifts "
        "ON staff.id = shifts.staff GROUP BY 1 ORDER BY 1",
        "nested": ["tags"],
    },
    "rename": {"do": ["REPLACE INTO staff (id, name) VALUES (:id, @name)"]},
    "tags_of": {
        "returns": "SELECT t.key, t.atom, t.value FROM shifts h, json_tree(h.tags) t WHERE h.day IS $day AND t.atom NOTNULL ORDER BY 1",
    },
    "earners": {
        "returns": "SELECT * FROM (VALUES ((SELECT name FROM staff LIMIT 1), (SELECT max(pay) FROM staff))) ORDER BY 1"
    },
    "either": {
        "returns": "SELECT name FROM staff WHERE id IN (:id) INTERSECT SELECT name FROM rota EXCEPT SELECT :name ORDER BY 1"
    },
}


def test_unusual_sql_is_followed_or_left_out() -> None:
    properties = {
        "id": {"type": "integer"},
        "name": {"type": "string"},
        "day": {"type": "string"},
        "shifts": {"type": "array"},
    }
    tools = [
        {"name": name, "description": "x", "parameters": {"properties": properties}, **tool}
        for name, tool in UNUSUAL.items()
    ]
    domain = Domain.model_validate(
        {
            "name": "odd",
            "description": "x",
            "clock": "2026-01-01T00:00:00Z",
            "instructions": "x",
            "schema_sql": SCHEMA,
            "tools": tools,
        }
    )
    facts = trace(compile_domain(domain)).tools
    assert not any(one.unfollowed for one in facts.values())
    assert shown(facts["chain"].results) == {"*.id": {"staff.id"}}
    assert shown(facts["chain"].matched) == {"name": {"staff.name"}}
    assert shown(facts["head_of"].results) == {"*.head": {"staff.id"}}
    assert shown(facts["busiest"].results) == {"*.name": {"staff.name"}, "*.day": {"shifts.day"}}
    assert shown(facts["busiest"].computed)["*.place"] == {"shifts.hours"}
    assert shown(facts["plan"].stored) == {"shifts.*.day": {"shifts.day"}, "shifts.*.hours": {"shifts.hours"}}
    assert shown(facts["plan"].matched) == {"shifts.*.who": {"staff.name"}, "id": {"staff.id"}}
    assert shown(facts["plan"].computed)["*.tags.*"] == {"shifts.tags"}
    assert shown(facts["rename"].stored) == {"id": {"staff.id"}, "name": {"staff.name"}} and not facts["rename"].fresh
    assert shown(facts["tags_of"].matched) == {"day": {"shifts.day"}} and not facts["tags_of"].results
    assert len(facts["earners"].results) == 1 and len(facts["earners"].computed) == 1
    assert shown(facts["either"].matched)["id"] == {"staff.id"}


def test_names_play_no_part() -> None:
    notes = load_domain("notes")
    renamed = [
        tool.model_copy(update={"name": f"t{number}", "description": "x"}) for number, tool in enumerate(notes.tools)
    ]
    facts = trace(compile_domain(notes.model_copy(update={"tools": tuple(renamed), "policy": ()}))).tools
    assert list(facts.values()) == list(FACTS["notes"].values())
