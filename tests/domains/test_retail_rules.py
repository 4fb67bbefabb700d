"""What the text_only rules of `retail` forbid, as queries: exact to the numbers of their texts, and in accord with the written tasks."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Any

import pytest

from agentscaler.domain.domain import RuleLevel
from agentscaler.domain.store import load_domain
from agentscaler.messages import Outcome
from agentscaler.tasks.arguments import resolve
from agentscaler.tasks.compile import load_shipped
from agentscaler.tasks.task import Kind, WrittenTask
from agentscaler.world.environment import CallResult
from agentscaler.world.world import World

DOMAIN = load_domain("retail")
TODAY = date.fromisoformat(DOMAIN.clock[:10])
FARAH, LINE_OF_FARAH = "C5654", {"order_id": "PW-42887", "line": 3}  # a massage roller, delivered in May, a member
BREANA, LINE_OF_BREANA = "C2833", {"order_id": "PW-42827", "line": 2}  # a daypack that became cheaper
BACK: dict[str, dict[str, Any]] = {
    "return_item": {"pieces": 1, "reason": "unwanted", "refund_to": "original"},
    "exchange_item": {"sku": "roller-muska-blue-33", "reason": "unwanted"},
}


def forbidding(
    tool: str, arguments: dict[str, Any], speaker: str | None, *changes: tuple[str, tuple[Any, ...]]
) -> list[str]:
    """By which rules, once the world of seed 1 has been changed by hand."""
    environment = World.of(DOMAIN, 1).open()
    for sql, values in changes:
        environment.connection.execute(sql, values)
    found = environment.forbidding(tool, arguments, speaker)
    environment.close()
    return found


def days_ago(days: int) -> str:
    return f"{TODAY - timedelta(days=days)}T23:30:00Z"


def delivered(days: int) -> tuple[str, tuple[Any, ...]]:
    return "UPDATE orders SET delivered_at = ? WHERE order_id = ?", (days_ago(days), LINE_OF_FARAH["order_id"])


def tier(tier: str) -> tuple[str, tuple[Any, ...]]:
    return "UPDATE customers SET tier = ? WHERE customer_id = ?", (tier, FARAH)


def marked(policy: str) -> tuple[str, tuple[Any, ...]]:
    return "UPDATE products SET return_policy = ? WHERE product_id = 'roller-muska'", (policy,)


@pytest.mark.parametrize("tool", BACK)
@pytest.mark.parametrize(
    ("days", "of", "is_late"),
    [
        (0, "member", False),
        (30, "member", False),
        (31, "member", True),
        (30, "plus", False),
        (31, "plus", True),
        (31, "premier", False),
        (60, "premier", False),
        (61, "premier", True),
        (120, "premier", True),
    ],
)
def test_items_go_back_within_30_days_of_delivery_or_60(tool: str, days: int, of: str, is_late: bool) -> None:
    arguments = {**LINE_OF_FARAH, **BACK[tool]}
    found = forbidding(tool, arguments, FARAH, delivered(days), tier(of))
    assert found == (["return_window"] if is_late else [])
    damaged = {**arguments, "reason": "damaged"}
    assert forbidding(tool, damaged, FARAH, delivered(days), tier(of)) == found  # whatever the reason


@pytest.mark.parametrize("tool", BACK)
@pytest.mark.parametrize("policy", ["standard", "hygiene", "final_sale"])
def test_marked_items_go_back_only_when_they_arrived_damaged(tool: str, policy: str) -> None:
    for reason in ("unwanted", "wrong_item_sent", "damaged"):
        arguments = {**LINE_OF_FARAH, **BACK[tool], "reason": reason}
        is_kept = policy != "standard" and reason != "damaged"
        assert forbidding(tool, arguments, FARAH, marked(policy)) == (["not_taken_back"] if is_kept else [])


@pytest.mark.parametrize(("days", "is_late"), [(0, False), (13, False), (14, False), (15, True), (90, True)])
def test_prices_are_adjusted_within_14_days_of_the_order(days: int, is_late: bool) -> None:
    placed = "UPDATE orders SET placed_at = ? WHERE order_id = ?", (days_ago(days), LINE_OF_BREANA["order_id"])
    assert forbidding("adjust_price", LINE_OF_BREANA, BREANA, placed) == (["price_adjustment"] if is_late else [])


def test_prices_are_adjusted_once_an_order() -> None:
    pay = "INSERT INTO payments SELECT order_id, ?, paid_with, -100 FROM orders WHERE order_id = ?"
    order = LINE_OF_BREANA["order_id"]
    assert forbidding("adjust_price", LINE_OF_BREANA, BREANA) == []
    assert forbidding("adjust_price", LINE_OF_BREANA, BREANA, (pay, ("return 1", order))) == []
    for line in (1, 2):  # of another line as well
        adjusted = pay, (f"price adjustment {line}", order)
        assert forbidding("adjust_price", LINE_OF_BREANA, BREANA, adjusted) == ["price_adjustment"]


HOME = {"street": "1 Test Lane", "city": "Testville", "postcode": "12345"}
CALLS: dict[str, dict[str, Any]] = {
    "put_in_cart": {"customer_id": FARAH, "sku": "roller-muska-blue-33", "pieces": 1},
    "place_order": {"customer_id": FARAH, "payment_id": "card-5654-0001", "shipping": "economy"},
    "cancel_order": {"order_id": "PW-42887", "reason": "wrong_item"},
    "change_line": {**LINE_OF_FARAH, "sku": "roller-muska-blue-33", "pieces": 1},
    "change_order_address": {"order_id": "PW-42887", **HOME},
    "change_order_payment": {"order_id": "PW-42887", "payment_id": "card-5654-0001"},
    "return_item": {**LINE_OF_FARAH, **BACK["return_item"]},
    "exchange_item": {**LINE_OF_FARAH, **BACK["exchange_item"]},
    "adjust_price": LINE_OF_FARAH,
    "change_account_address": {"customer_id": FARAH, **HOME},
    "set_newsletter": {"customer_id": FARAH, "newsletter": "never"},
}


@pytest.mark.parametrize("tool", CALLS)
def test_nobody_touches_another_account_or_order(tool: str) -> None:
    assert "identity" not in forbidding(tool, CALLS[tool], FARAH)
    for speaker in (BREANA, None):  # None: nobody knows yet who speaks
        assert "identity" in forbidding(tool, CALLS[tool], speaker)


def test_every_writing_tool_that_is_about_an_account_asks_who_speaks() -> None:
    writes = World.of(DOMAIN, 1).program.write_tools
    assert set(CALLS) == writes - {"pass_on_feedback"}  # it is nobody's
    assert forbidding("pass_on_feedback", {"about": "website", "words": "It is slow."}, None) == []


def test_rules_that_no_query_can_tell_have_none() -> None:
    """What the person said, meant or agreed to stands in no table."""
    told = {"identity", "return_window", "not_taken_back", "price_adjustment"}
    assert {rule.name for rule in DOMAIN.policy if rule.forbids} == told
    untold = {rule.name for rule in DOMAIN.policy if rule.level is RuleLevel.TEXT_ONLY} - told
    assert untold == {"confirmation", "one_order", "defaults", "cancel_reasons", "refunds", "feedback"}


TASKS = {task.id: task for task in load_shipped("retail")}
REFUSALS = {
    "mirror_after_seven_weeks": ["return_window"],
    "candle_smells_wrong": ["not_taken_back"],
    "a_friends_order": ["identity"],
    "cat_tree_cheaper_after_weeks": ["price_adjustment"],
    "a_second_adjustment": ["price_adjustment"],
    "lunch_box_in_pink": ["not_taken_back"],
    "cheaper_elsewhere": [],  # cancel_reasons: the true reason is told, and stands in no argument
}


@pytest.mark.parametrize("name", TASKS)
def test_no_written_reference_is_forbidden_and_every_refusals_call_is(name: str) -> None:
    task = TASKS[name]
    environment = World.of(DOMAIN, task.seed).open()
    speaker, results = speaker_of(task), list[CallResult]()
    for call in task.calls:
        arguments = resolve(call.arguments, results)
        assert environment.forbidding(call.call, arguments, speaker) == [], call
        results.append(environment.call("agent", call.call, arguments))
    if task.forbidden is not None:
        arguments = resolve(task.forbidden.arguments, results)
        assert environment.forbidding(task.forbidden.call, arguments, speaker) == REFUSALS[name]
    environment.close()


def test_the_written_refusals_are_those() -> None:
    assert set(REFUSALS) == {name for name, task in TASKS.items() if task.kind is Kind.REFUSAL}


def speaker_of(task: WrittenTask) -> str | None:
    """Whom the reference finds."""
    environment = World.of(DOMAIN, task.seed).open()
    try:
        for call in task.calls:
            result = environment.call("agent", call.call, call.arguments) if call.call == "find_customer" else None
            if result is not None and result.outcome is Outcome.OK:
                return json.loads(result.content)[0]["customer_id"]
    finally:
        environment.close()
    return None
