"""What the airline's text_only rules forbid, as queries: on both sides of every border, and in agreement with the written tasks."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from agentscaler.domain.domain import RuleLevel
from agentscaler.domain.store import load_domain
from agentscaler.messages import Outcome
from agentscaler.tasks.arguments import resolve
from agentscaler.tasks.compile import load_shipped
from agentscaler.tasks.task import Kind, WrittenTask
from agentscaler.world.environment import CallResult, Environment
from agentscaler.world.world import World

DOMAIN = load_domain("airline")
WRITTEN = load_shipped("airline")
TOUCHING = {
    "change_flight": {"leg": 1, "new_date": "2026-05-29"},
    "change_cabin": {"cabin": "business"},
    "add_bags": {"num_bags": 1},
    "change_passenger": {"passenger_number": 1, "first_name": "A", "last_name": "B", "birth_date": "1990-01-01"},
    "cancel_booking": {"refund_to": "original"},
    "give_goodwill_voucher": {},
}


class Desk:
    """A world with one booking of it, confirmed, nothing of it late or gone."""

    def __init__(self, where: str, seed: int = 1):
        self.environment: Environment = World.of(DOMAIN, seed).open()
        self.booking, self.customer = self.row(
            "SELECT b.booking, b.customer_id FROM bookings b JOIN customers c ON c.customer_id = b.customer_id "
            "WHERE b.status = 'confirmed' AND b.booked_at < '2026-05-14' AND NOT EXISTS ("
            "  SELECT 1 FROM legs l WHERE l.booking = b.booking AND (l.gone OR l.disrupted OR l.delay_minutes > 0))"
            f" AND {where} ORDER BY 1"
        )

    def row(self, sql: str) -> Any:
        row = self.environment.connection.execute(sql).fetchone()
        assert row is not None, sql
        return row

    def write(self, sql: str, *values: Any) -> None:
        for _ in self.environment.connection.execute(sql, values):
            pass

    def set_first_flight(self, status: str, delay_minutes: int) -> None:
        self.write(
            "UPDATE dated_flights SET status = ?, delay_minutes = ? WHERE (flight, date) IN "
            "(SELECT flight, date FROM booked_flights WHERE booking = ? AND leg = 1)",
            status,
            delay_minutes,
            self.booking,
        )

    def broken(self, tool: str, **arguments: Any) -> list[str]:
        return self.environment.forbidding(tool, {"booking": self.booking, **arguments}, self.customer)


@pytest.mark.parametrize("written", WRITTEN, ids=[task.id for task in WRITTEN])
def test_rules_and_written_tasks_agree(written: WrittenTask) -> None:
    """No reference breaks a rule; what a refusal refuses breaks one."""
    environment = World.of(DOMAIN, written.seed).open()
    results: list[CallResult] = []
    speaker: str | None = None
    for call in written.calls:
        arguments = resolve(call.arguments, results)
        assert environment.forbidding(call.call, arguments, speaker) == []
        results.append(environment.call("agent", call.call, arguments))
        if call.call == "find_customer":
            speaker = orjson.loads(results[-1].content)["customer_id"]
    if written.kind is Kind.REFUSAL:
        assert written.forbidden is not None
        assert environment.forbidding(written.forbidden.call, written.forbidden.arguments, speaker)


def test_every_rule_about_a_deed_is_a_query() -> None:
    """Consent, defaults and where a refund goes are about what is said, which no query sees."""
    in_words = {rule.name for rule in DOMAIN.policy if rule.level is RuleLevel.TEXT_ONLY and not rule.forbids}
    assert in_words == {"consent", "defaults", "refunds"}


@pytest.mark.parametrize("tool", TOUCHING)
def test_identity(tool: str) -> None:
    desk = Desk("b.fare = 'flex'")
    arguments = {"booking": desk.booking, **TOUCHING[tool]}
    (stranger,) = desk.row(f"SELECT customer_id FROM customers WHERE customer_id <> '{desk.customer}' ORDER BY 1")
    assert "identity" not in desk.environment.forbidding(tool, arguments, desk.customer)
    assert "identity" in desk.environment.forbidding(tool, arguments, stranger)
    assert "identity" in desk.environment.forbidding(tool, arguments, None)


def test_identity_of_who_pays() -> None:
    desk = Desk("1")
    arguments = trip("1990-01-01", desk.row("SELECT payment_id FROM payment_methods WHERE customer_id = 'cu-0003'")[0])
    assert desk.environment.forbidding("book_trip", arguments, "cu-0003") == []
    assert desk.environment.forbidding("book_trip", arguments, "cu-0004") == ["identity"]


def trip(*births_and_method: str) -> dict[str, Any]:
    *births, payment_id = births_and_method
    people = [{"first_name": f"P{n}", "last_name": "Q", "birth_date": birth} for n, birth in enumerate(births)]
    return {
        "flights": [{"flight": "JN101", "date": "2026-05-29"}],
        "cabin": "economy",
        "fare": "saver",
        "passengers": people,
        "bags": 0,
        "payment_id": payment_id,
    }


@pytest.mark.parametrize(
    ("births", "is_forbidden"),
    [
        (["2012-05-15"], False),  # 14 today
        (["2012-05-16"], True),
        (["2012-05-16", "2008-05-15"], False),  # with somebody who is 18 today
        (["2012-05-16", "2008-05-16"], True),
        (["2020-01-01", "2014-01-01", "1980-01-01"], False),
        (["2012-05-15", "2010-01-01"], False),
    ],
)
def test_children(births: list[str], is_forbidden: bool) -> None:
    desk = Desk("1")
    (own,) = desk.row(f"SELECT payment_id FROM payment_methods WHERE customer_id = '{desk.customer}' ORDER BY 1")
    found = desk.environment.forbidding("book_trip", trip(*births, own), desk.customer)
    assert found == (["children"] if is_forbidden else [])


@pytest.mark.parametrize(("birth", "rules"), [("2012-05-15", []), ("2012-05-16", ["children"])])
def test_children_who_take_somebody_elses_seat(birth: str, rules: list[str]) -> None:
    desk = Desk("b.fare = 'flex' AND b.num_passengers = 1")
    child = {"first_name": "Ida", "last_name": "Q", "birth_date": birth}
    assert desk.broken("change_passenger", passenger_number=1, **child) == rules


@pytest.mark.parametrize(
    ("fare", "status", "delay_minutes", "is_forbidden"),
    [
        ("saver", "on time", 0, True),
        ("saver", "delayed", 115, True),
        ("saver", "delayed", 120, False),
        ("saver", "cancelled", 0, False),
        ("flex", "on time", 0, False),
    ],
)
def test_changing_flights(fare: str, status: str, delay_minutes: int, is_forbidden: bool) -> None:
    desk = Desk(f"b.fare = '{fare}' AND EXISTS (SELECT 1 FROM legs l WHERE l.booking = b.booking AND l.leg = 2)")
    desk.set_first_flight(status, delay_minutes)
    rules = ["changing_flights"] if is_forbidden else []
    assert desk.broken("change_flight", leg=1, new_date="2026-05-29") == rules
    other = ["changing_flights"] if fare == "saver" else []  # the other flight of the booking is as it was
    assert desk.broken("change_flight", leg=2, new_date="2026-05-29") == other


@pytest.mark.parametrize(
    ("fare", "old", "new", "is_forbidden"),
    [
        ("saver", "economy", "comfort", False),
        ("saver", "economy", "business", False),
        ("saver", "comfort", "business", False),
        ("saver", "comfort", "economy", True),
        ("saver", "business", "comfort", True),
        ("flex", "business", "economy", False),
    ],
)
def test_changing_cabin(fare: str, old: str, new: str, is_forbidden: bool) -> None:
    desk = Desk(f"b.fare = '{fare}' AND b.cabin = '{old}'")
    assert desk.broken("change_cabin", cabin=new) == (["changing_cabin"] if is_forbidden else [])


@pytest.mark.parametrize("fare", ["saver", "flex"])
def test_passengers(fare: str) -> None:
    desk = Desk(f"b.fare = '{fare}' AND b.num_passengers > 1")
    first, last, birth = desk.row(
        f"SELECT first_name, last_name, birth_date FROM passengers WHERE booking = '{desk.booking}' AND passenger_number = 2"
    )

    def broken(first_name: str, last_name: str, birth_date: str) -> list[str]:
        person = {"first_name": first_name, "last_name": last_name, "birth_date": birth_date}
        return desk.broken("change_passenger", passenger_number=2, **person)

    assert broken("Hugo", last, birth) == []  # a name put right
    assert broken("Hugo", "Lindqvist", birth) == []
    assert broken(f" {first.upper()} ", last, "1961-05-30") == []  # a birth date put right
    assert broken("Hugo", last, "1961-05-30") == (["passengers"] if fare == "saver" else [])


@pytest.mark.parametrize(
    ("where", "booked_at", "delay_minutes", "is_forbidden"),
    [
        ("b.fare = 'saver' AND c.tier = 'wing'", "2026-05-14T09:59:00Z", 0, True),
        ("b.fare = 'saver' AND c.tier = 'wing'", "2026-05-14T10:00:00Z", 0, False),  # 24 hours ago
        ("b.fare = 'saver' AND c.tier = 'feather'", "2026-04-14T10:00:00Z", 115, True),
        ("b.fare = 'saver' AND c.tier = 'feather'", "2026-04-14T10:00:00Z", 120, False),
        ("b.fare = 'saver' AND c.tier = 'summit'", "2026-04-14T10:00:00Z", 0, False),
        ("b.fare = 'flex' AND c.tier = 'feather'", "2026-04-14T10:00:00Z", 0, False),
    ],
)
def test_cancelling(where: str, booked_at: str, delay_minutes: int, is_forbidden: bool) -> None:
    desk = Desk(where)
    desk.write("UPDATE bookings SET booked_at = ? WHERE booking = ?", booked_at, desk.booking)
    desk.set_first_flight("delayed" if delay_minutes else "on time", delay_minutes)
    assert desk.broken("cancel_booking", refund_to="original") == (["cancelling"] if is_forbidden else [])


@pytest.mark.parametrize(
    ("status", "delay_minutes", "is_forbidden"),
    [
        ("on time", 0, True),
        ("delayed", 115, True),
        ("landed", 115, True),
        ("landed", 120, False),
        ("cancelled", 0, False),
    ],
)
def test_goodwill(status: str, delay_minutes: int, is_forbidden: bool) -> None:
    desk = Desk("1")
    desk.set_first_flight(status, delay_minutes)
    assert desk.broken("give_goodwill_voucher") == (["goodwill"] if is_forbidden else [])


def test_goodwill_for_a_flight_that_was_exchanged() -> None:
    """It was disrupted, which no longer shows. A flight that was changed for money never was."""
    desk = Desk(
        "b.fare = 'flex' AND EXISTS (SELECT 1 FROM legs l WHERE l.booking = b.booking AND l.date = '2026-05-20')"
    )
    leg, flight = desk.row(f"SELECT leg, flight FROM legs WHERE booking = '{desk.booking}' AND date = '2026-05-20'")
    desk.write("UPDATE seats SET seats_left = seats_left + 4 WHERE flight = ?", flight)
    change = {"booking": desk.booking, "leg": leg, "new_date": "2026-05-21"}
    assert desk.environment.call("agent", "change_flight", change).outcome is Outcome.OK
    assert desk.broken("give_goodwill_voucher") == ["goodwill"]
    desk.write(
        "UPDATE dated_flights SET status = 'cancelled' WHERE (flight, date) IN "
        "(SELECT flight, date FROM booked_flights WHERE booking = ? AND leg = ?)",
        desk.booking,
        leg,
    )
    back = {**change, "new_date": "2026-05-20"}
    assert desk.environment.call("agent", "change_flight", back).outcome is Outcome.OK
    assert desk.broken("give_goodwill_voucher") == []
