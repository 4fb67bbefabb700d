"""The airline world: it conforms, its worlds are whole, its tasks compile; what `enforced` rules promise the database refuses, and
what `text_only` rules forbid it lets happen."""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any

import apsw.ext
import orjson
import pytest

from agentscaler.domain.domain import RuleLevel
from agentscaler.domain.store import domain_folder, load_domain
from agentscaler.messages import Outcome
from agentscaler.tasks.arguments import resolve
from agentscaler.tasks.compile import compile_shipped, load_written
from agentscaler.tasks.task import Kind, Task
from agentscaler.world.conformance import check_domain
from agentscaler.world.environment import CallResult, Environment
from agentscaler.world.world import World

DOMAIN = load_domain("airline")
WRITTEN = load_written(domain_folder("airline") / "tasks.yaml")
SEEDS = (1, 2, 3, 4)


def opened(seed: int = 1) -> Environment:
    return World.of(DOMAIN, seed).open()


@functools.cache
def tasks() -> dict[str, Task]:
    return {task.written.id: task for task in compile_shipped("airline")}


def ask(environment: Environment, sql: str) -> Any:
    """The first value of the first row."""
    row = environment.connection.execute(sql).fetchone()
    assert row is not None, sql
    return row[0]


def call(environment: Environment, tool: str, **arguments: Any) -> CallResult:
    return environment.call("agent", tool, arguments)


def refused(result: CallResult, words: str) -> None:
    assert result.outcome is Outcome.REFUSED, result.content
    assert words in orjson.loads(result.content)["error"], result.content


def worked(result: CallResult) -> Any:
    assert result.outcome is Outcome.OK, result.content
    return orjson.loads(result.content)


def test_it_conforms() -> None:
    assert check_domain(DOMAIN, (1, 2)) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_worlds_are_whole(seed: int) -> None:
    world = World.of(DOMAIN, seed)
    assert 950_000 <= len(world.image) <= 1_400_000
    environment = world.open()
    assert environment.offences() == []
    sizes = {table: ask(environment, f"SELECT count(*) FROM {table}") for table in world.program.tables}
    assert 9 <= len(sizes) <= 14
    assert 500 <= sizes["customers"] <= 600 and 12 <= sizes["airports"] <= 20 and 40 <= sizes["flights"] <= 60
    assert 1200 <= sizes["dated_flights"] <= 1800 and sizes["seats"] == 3 * sizes["dated_flights"]
    assert 1000 <= sizes["bookings"] <= 1400
    counts = environment.connection.execute("SELECT status, count(*) FROM dated_flights GROUP BY 1").fetchall()
    assert {status for status, _ in counts} == {"on time", "delayed", "cancelled", "departed", "landed"}
    assert ask(environment, "SELECT max(n) FROM (SELECT count(*) AS n FROM booked_flights GROUP BY booking)") == 3
    assert ask(environment, "SELECT count(*) FROM seats WHERE seats_left = 0") > 100
    strangers = """SELECT count(*) FROM customers
                   WHERE NOT contains(email, first_name || '.' || last_name) OR NOT contains(email, '@example.')"""
    assert ask(environment, strangers) == 0
    assert (
        ask(environment, "SELECT count(*) FROM customers GROUP BY first_name, last_name, birth_date ORDER BY 1 DESC")
        == 1
    )


def test_seeds_decide_the_data() -> None:
    digests = {World.build(DOMAIN, seed).digest for seed in (1, 1, 2)}
    assert len(digests) == 2


def test_the_prompt_is_short() -> None:
    tools = orjson.dumps([tool.schema_for_model() for tool in DOMAIN.tools]).decode()
    assert 15 <= len(DOMAIN.tools) <= 18
    assert len(tools) + len(DOMAIN.system_prompt()) < 16_000
    assert 10 <= len(DOMAIN.policy) <= 16


@pytest.mark.parametrize("tool", [tool.name for tool in DOMAIN.tools])
def test_examples_look_like_results_and_are_of_another_world(tool: str) -> None:
    """An example's result has the very keys that the tool's statement returns."""
    shown = next(t for t in DOMAIN.tools if t.name == tool)
    assert shown.example and shown.returns
    environment = opened()
    described = apsw.ext.query_info(environment.connection, shown.returns).description
    row = shown.example.result if shown.one else shown.example.result[0]
    assert list(row) == [column[0] for column in described]
    arguments = orjson.dumps(shown.example.arguments).decode()
    for table, column in (("bookings", "booking"), ("customers", "customer_id"), ("payment_methods", "payment_id")):
        known = {value for (value,) in environment.connection.execute(f"SELECT {column} FROM {table}")}
        assert not any(f'"{value}"' in arguments for value in known)


def test_the_tasks() -> None:
    kinds = Counter(task.kind for task in tasks().values())
    assert set(kinds) == set(Kind) and sum(kinds.values()) == 60
    assert {len(task.written.calls) for task in tasks().values()} <= set(range(1, 11))


def test_every_text_only_rule_about_a_deed_has_a_refusal() -> None:
    forbidden = {task.written.forbidden.call for task in tasks().values() if task.written.forbidden}
    assert forbidden == {
        "change_flight",
        "cancel_booking",
        "give_goodwill_voucher",
        "book_trip",
        "change_cabin",
        "change_passenger",
    }


@pytest.mark.parametrize("name", [task.id for task in WRITTEN if task.kind is Kind.REFUSAL])
def test_what_a_text_only_rule_forbids_the_database_allows(name: str) -> None:
    task = tasks()[name]
    assert task.written.forbidden
    environment = opened(task.world_seed)
    worked(environment.call("agent", task.written.forbidden.call, task.written.forbidden.arguments))
    assert environment.offences() == []


AT_ONCE: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "home_to_rome_on_the_24th": [("change_flight", {"booking": "JB-38EZJ", "leg": 2, "new_date": "2026-05-22"})],
    "copenhagen_in_economy_after_all": [("change_cabin", {"booking": "JB-KPPFK", "cabin": "comfort"})],
    "two_days_more_in_madrid": [("change_flight", {"booking": "JB-VH3RD", "leg": 2, "new_date": "2026-05-25"})],
    "amie_with_one_m": [
        (
            "change_passenger",
            {
                "booking": "JB-2W6FW",
                "passenger_number": 3,
                "first_name": "Amy",
                "last_name": "Burke",
                "birth_date": "2005-05-02",
            },
        )
    ],
}


@pytest.mark.parametrize("name", AT_ONCE)
def test_doing_it_at_once_and_correcting_it_ends_the_same(name: str) -> None:
    task = tasks()[name]
    environment = opened(task.world_seed)
    for tool, arguments in AT_ONCE[name]:
        worked(environment.call("agent", tool, arguments))
    results: list[CallResult] = []
    for step in task.written.calls:
        if step.call.startswith("quote") and (step.arguments.get("cabin") == "comfort"):
            results.append(results[-1])  # it is in comfort already
            continue
        if step.arguments.get("new_date") in ("2026-05-22", "2026-05-25"):
            results.append(results[-1])
            continue
        results.append(environment.call("agent", step.call, resolve(step.arguments, results)))
        worked(results[-1])
    assert environment.diff() == task.expected_diff


# Enforced rules, each with the words that the agent reads.


def some_booking(environment: Environment, where: str) -> str:
    return ask(
        environment, f"SELECT b.booking FROM booking_terms b WHERE b.status = 'confirmed' AND {where} ORDER BY 1"
    )


def trip(environment: Environment, flights: list[tuple[str, str]], **changed: Any) -> dict[str, Any]:
    """Arguments that book; the customer of cu-0001 pays by card."""
    card = ask(environment, "SELECT payment_id FROM payment_methods WHERE customer_id = 'cu-0001' AND kind = 'card'")
    ada = {"first_name": "Ada", "last_name": "Quist", "birth_date": "1990-01-02"}
    legs = [{"flight": flight, "date": date} for flight, date in flights]
    return {
        "flights": legs,
        "cabin": "economy",
        "fare": "saver",
        "passengers": [ada],
        "bags": 0,
        "payment_id": card,
        **changed,
    }


def open_flight(environment: Environment, where: str = "1") -> tuple[str, str]:
    query = f"""SELECT s.flight, s.date FROM seats s JOIN departures d ON d.flight = s.flight AND d.date = s.date
                WHERE d.status = 'on time' AND s.cabin = 'economy' AND {where} ORDER BY 1, 2"""
    row = environment.connection.execute(query).fetchone()
    assert row
    return str(row[0]), str(row[1])


def test_seats() -> None:
    environment = opened()
    full = open_flight(environment, "s.seats_left = 0")
    refused(call(environment, "book_trip", **trip(environment, [full])), "not enough seats left")
    flight, date = open_flight(environment, "s.seats_left > 4")
    left = f"SELECT seats_left FROM seats WHERE flight = '{flight}' AND date = '{date}' AND cabin = 'economy'"
    before = ask(environment, left)
    booking = worked(call(environment, "book_trip", **trip(environment, [(flight, date)])))["booking"]
    assert ask(environment, left) == before - 1
    worked(call(environment, "cancel_booking", booking=booking, refund_to="original"))
    assert ask(environment, left) == before and environment.offences() == []


@pytest.mark.parametrize("status", ["cancelled", "departed", "landed"])
def test_flights_that_do_not_leave_are_not_booked(status: str) -> None:
    environment = opened()
    row = environment.connection.execute(
        "SELECT flight, date FROM dated_flights WHERE status = ? ORDER BY 1, 2", (status,)
    ).fetchone()
    assert row
    gone = (str(row[0]), str(row[1]))
    refused(call(environment, "book_trip", **trip(environment, [gone])), "is cancelled or has departed already")


def test_departed_flights_stay() -> None:
    environment = opened()
    booking = some_booking(environment, "has_departed AND bags = 0 AND b.cabin = 'economy'")
    refused(
        call(environment, "change_flight", booking=booking, leg=1, new_date="2026-05-29"),
        "A flight that has departed cannot be changed",
    )
    person = {"first_name": "A", "last_name": "B", "birth_date": "1990-01-01"}
    for tool, arguments in {
        "cancel_booking": {"refund_to": "original"},
        "change_cabin": {"cabin": "business"},
        "add_bags": {"num_bags": 1},
        "change_passenger": {"passenger_number": 1, **person},
    }.items():
        refused(call(environment, tool, booking=booking, **arguments), "has departed already")


def test_a_flight_is_not_changed_to_one_that_left() -> None:
    environment = opened()
    booking = some_booking(
        environment, "NOT has_departed AND NOT EXISTS (SELECT 1 FROM legs l WHERE l.booking = b.booking AND leg > 1)"
    )
    refused(call(environment, "change_flight", booking=booking, leg=1, new_date="2026-05-03"), "has departed already")


def test_a_new_flight_goes_between_the_same_cities() -> None:
    environment = opened()
    booking = some_booking(
        environment,
        "NOT has_departed AND EXISTS (SELECT 1 FROM legs l WHERE l.booking = b.booking AND leg = 1 AND flight = 'JN101')",
    )
    refused(
        call(environment, "change_flight", booking=booking, leg=1, new_date="2026-05-29", new_flight="JN111"),
        "between the same cities",
    )
    result = call(environment, "quote_flight_change", booking=booking, leg=1, new_date="2026-05-29", new_flight="JN105")
    assert result.outcome is Outcome.OK  # Orly instead of Charles de Gaulle


def test_flights_follow_one_another() -> None:
    environment = opened()
    flights = [("JN151", "2026-05-29"), ("JN152", "2026-05-29")]  # there at 08:40, back at 07:00
    refused(call(environment, "book_trip", **trip(environment, flights)), "do not fit together")
    worked(call(environment, "book_trip", **trip(environment, [("JN151", "2026-05-28"), ("JN152", "2026-05-29")])))


def test_the_order_of_passengers_and_flights_does_not_matter() -> None:
    people = [
        {"first_name": "Ada", "last_name": "Quist", "birth_date": "1990-01-02"},
        {"first_name": "Bo", "last_name": "Quist", "birth_date": "1988-05-06"},
    ]
    flights = [("JN151", "2026-05-28"), ("JN154", "2026-05-29")]
    one, other = opened(2), opened(2)
    worked(call(one, "book_trip", **trip(one, flights, passengers=people)))
    worked(call(other, "book_trip", **trip(other, flights[::-1], passengers=people[::-1])))
    assert one.diff() == other.diff() and one.offences() == []


@pytest.mark.parametrize("day", ["2026-05-15", "2031-01-01", "1990-02-30"])
def test_birth_dates_are_past_days(day: str) -> None:
    environment = opened()
    person = {"first_name": "Ada", "last_name": "Quist", "birth_date": day}
    flight = open_flight(environment, "s.seats_left > 0")
    refused(call(environment, "book_trip", **trip(environment, [flight], passengers=[person])), "a day in the past")
    booking = some_booking(environment, "NOT has_departed")
    refused(
        call(environment, "change_passenger", booking=booking, passenger_number=1, **person),
        "a day in the past",
    )


def test_the_number_of_passengers_stays() -> None:
    environment = opened()
    booking = some_booking(environment, "NOT has_departed AND num_passengers = 2")
    person = {"first_name": "Ada", "last_name": "Quist", "birth_date": "1990-01-02"}
    refused(
        call(environment, "change_passenger", booking=booking, passenger_number=3, **person),
        "the number of passengers cannot change",
    )


def test_bags_have_a_limit_by_tier() -> None:
    environment = opened()
    booking = some_booking(environment, "NOT has_departed AND max_bags = 2 AND bags = 1")
    refused(call(environment, "add_bags", booking=booking, num_bags=2), "too many bags")
    flight = open_flight(environment, "s.seats_left > 0")
    refused(call(environment, "book_trip", **trip(environment, [flight], bags=5)), "5 bags are too many")


def test_only_own_methods_pay_and_balances_end() -> None:
    environment = opened()
    feather = "NOT has_departed AND free_bags = 0 AND bags < max_bags"
    booking = some_booking(environment, f"{feather} AND customer_id <> 'cu-0001'")
    card = ask(environment, "SELECT payment_id FROM payment_methods WHERE customer_id = 'cu-0001'")
    refused(call(environment, "add_bags", booking=booking, num_bags=1, payment_id=card), "no such payment method")
    refused(
        call(environment, "book_trip", **trip(environment, [("JN101", "2026-05-29")], payment_id="pm-00000")),
        "no payment method pm-00000",
    )
    poor = some_booking(
        opened(2),
        f"""{feather} AND EXISTS (SELECT 1 FROM payment_methods m WHERE m.payment_id = b.payment_id AND balance_cents < 3500)""",
    )
    refused(call(opened(2), "add_bags", booking=poor, num_bags=1), "does not cover the amount")


def test_cabins_are_changed_for_all_flights() -> None:
    environment = opened()
    booking = tasks()["comfort_to_warsaw_by_gift_card"].expected_calls[-1].arguments["booking"]
    fares = f"SELECT group_concat(fare_cents, ' ' ORDER BY leg) FROM booked_flights WHERE booking = '{booking}'"
    before = ask(environment, fares).split()
    worked(call(environment, "change_cabin", booking=booking, cabin="comfort"))
    assert all(int(new) > int(old) for old, new in zip(before, ask(environment, fares).split(), strict=True))
    refused(call(environment, "change_cabin", booking=booking, cabin="comfort"), "is in comfort already")


def test_one_goodwill_voucher_a_booking() -> None:
    environment = opened()
    booking = some_booking(environment, "NOT EXISTS (SELECT 1 FROM goodwill g WHERE g.booking = b.booking)")
    worked(call(environment, "give_goodwill_voucher", booking=booking))
    refused(call(environment, "give_goodwill_voucher", booking=booking), "only one a booking")


def test_a_cancelled_booking_stays_cancelled() -> None:
    environment = opened()
    booking = ask(environment, "SELECT booking FROM bookings WHERE status = 'cancelled' ORDER BY 1")
    refused(call(environment, "cancel_booking", booking=booking, refund_to="voucher"), "no confirmed booking")


# Money.


def test_a_quote_is_what_is_charged() -> None:
    """For flights, cabins and new trips alike: what the quote says is what `paid_cents` moves by."""
    for seed in (1, 2):
        environment = opened(seed)
        bookings = environment.connection.execute(
            "SELECT booking, (SELECT sum(amount_cents) FROM payments p WHERE p.booking = b.booking) FROM booking_terms b "
            "WHERE NOT has_departed AND status = 'confirmed' ORDER BY 1"
        ).fetchall()
        num_changed = 0
        for booking, paid in bookings[:60]:
            for kind, arguments in (
                ("flight", {"leg": 1, "new_date": "2026-05-16"}),
                ("cabin", {"cabin": "comfort"}),
            ):
                quote = call(environment, f"quote_{kind}_change", booking=booking, **arguments)
                change = call(environment, f"change_{kind}", booking=booking, **arguments)
                if change.outcome is Outcome.OK:
                    now = worked(change)["paid_cents"]
                    assert now - int(str(paid)) == worked(quote)["total_cents"]
                    paid, num_changed = now, num_changed + 1
        assert num_changed > 20 and environment.offences() == []


def test_a_refund_is_what_get_booking_says() -> None:
    for seed in (1, 2):
        environment = opened(seed)
        bookings = environment.connection.execute(
            "SELECT booking FROM booking_terms WHERE NOT has_departed AND status = 'confirmed' ORDER BY 1"
        ).fetchall()
        for number, (booking,) in enumerate(bookings[:60]):
            said = worked(call(environment, "get_booking", booking=booking))["refund_if_cancelled_cents"]
            way = ("original", "voucher")[number % 2]
            result = worked(call(environment, "cancel_booking", booking=booking, refund_to=way))
            assert result["refund_cents"] == said and ("voucher" in result["refunded_to"]) >= (way == "voucher")
        assert environment.offences() == []


def test_a_disrupted_flight_is_changed_free() -> None:
    task = tasks()["stockholm_delayed_next_day"]
    environment = opened(task.world_seed)
    before = worked(call(environment, "get_booking", booking="JB-3BAE2"))["paid_cents"]
    after = worked(call(environment, "change_flight", booking="JB-3BAE2", leg=1, new_date="2026-05-17"))["paid_cents"]
    assert before == after and not {"payments", "payment_methods"} & set(environment.diff())


def test_rules_have_levels() -> None:
    levels = Counter(rule.level for rule in DOMAIN.policy)
    assert levels[RuleLevel.ENFORCED] >= 4 and levels[RuleLevel.TEXT_ONLY] >= 6
