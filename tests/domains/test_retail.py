"""Promises of the world `retail`: it conforms; its books balance in every seed; it has the sizes asked for; every rule that is enforced
refuses in words that say what would be right; every rule that stands in the text only is one that the database would let happen; its
sixty tasks compile, of all kinds, with one to ten calls."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from agentscaler.domain.domain import RuleLevel
from agentscaler.domain.store import load_domain
from agentscaler.messages import Outcome
from agentscaler.tasks.compile import compile_shipped
from agentscaler.tasks.task import Kind
from agentscaler.world.conformance import check_domain
from agentscaler.world.environment import CallResult
from agentscaler.world.world import World

DOMAIN = load_domain("retail")
HOME = {"street": "1 Test Lane", "city": "Testville", "postcode": "12345"}
TRISTAN = "C2182"  # plus, an empty cart, two good cards, no gift card


def play(*calls: tuple[str, dict[str, Any]], seed: int = 1) -> CallResult:
    """The last call's result, once all before it were ok; every invariant holds after it."""
    environment = World.of(DOMAIN, seed).open()
    results = [environment.call("agent", tool, arguments) for tool, arguments in calls]
    assert [r.outcome for r in results[:-1]] == [Outcome.OK] * (len(results) - 1), results
    assert environment.offences() == []
    environment.close()
    return results[-1]


def test_it_conforms() -> None:
    assert check_domain(DOMAIN, seeds=(1, 2)) == []


def test_the_prompt_is_short_enough_for_a_small_model() -> None:
    tools = json.dumps([tool.schema_for_model() for tool in DOMAIN.tools])
    assert 15 <= len(DOMAIN.tools) <= 18
    assert len(tools) + len(DOMAIN.system_prompt()) < 16_000
    assert all(tool.example is not None for tool in DOMAIN.tools)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_books_balance_and_sizes_are_as_asked_for(seed: int) -> None:
    world = World.of(DOMAIN, seed)
    environment = world.open()
    assert environment.offences() == []
    counts = {t: next(environment.connection.execute(f"SELECT count(*) FROM {t}"))[0] for t in world.program.tables}
    assert 9 <= len(counts) <= 14
    assert 500 <= counts["customers"] <= 600 and 45 <= counts["products"] <= 60 and 200 <= counts["variants"] <= 300
    assert 1000 <= counts["orders"] <= 1300
    lines = environment.connection.execute(
        "SELECT min(n), max(n) FROM (SELECT count(*) n FROM order_lines GROUP BY order_id)"
    )
    assert next(lines) == (1, 4)
    states = {
        row[0] for row in environment.connection.execute("SELECT status FROM orders GROUP BY 1 HAVING count(*) > 15")
    }
    assert states == {"placed", "packed", "shipped", "delivered", "cancelled"}
    assert 500_000 < len(world.image) < 1_000_000
    environment.close()


def test_a_seed_is_one_world_and_another_seed_another() -> None:
    first = World.build(DOMAIN, 1)
    assert first.digest == World.build(DOMAIN, 1).digest != World.of(DOMAIN, 2).digest


def test_sixty_tasks_of_all_kinds() -> None:
    tasks = compile_shipped("retail")
    kinds = Counter(task.kind for task in tasks)
    assert len(tasks) == 60 and set(kinds) == set(Kind)
    assert {task.world_seed for task in tasks} == {1, 2}
    lengths = Counter(len(task.written.calls) for task in tasks)
    assert min(lengths) == 1 and max(lengths) == 10
    assert len(lengths) >= 8


# An order is placed here by TRISTAN, so that what is refused is refused for the reason under test alone.
BUY = [
    ("put_in_cart", {"customer_id": TRISTAN, "sku": "lamp-orla-black-s", "pieces": 2}),
    ("place_order", {"customer_id": TRISTAN, "payment_id": "card-2182-9712", "shipping": "economy"}),
]
REFUSED: dict[str, tuple[list[tuple[str, dict[str, Any]]], str]] = {
    "cancel a packed order": (
        [("cancel_order", {"order_id": "PW-43532", "reason": "too_late"})],
        "Only an order with the status placed can be cancelled",
    ),
    "change a packed order": (
        [("change_line", {"order_id": "PW-43532", "line": 1, "sku": "basket-rona-natural-l", "pieces": 1})],
        "Only an order with the status placed can have its items changed",
    ),
    "pay a packed order differently": (
        [("change_order_payment", {"order_id": "PW-43532", "payment_id": "card-3253-6753"})],
        "Only an order with the status placed can be paid differently",
    ),
    "send a shipped order elsewhere": (
        [("change_order_address", {"order_id": "PW-43086", **HOME})],
        "only while an order is placed or packed",
    ),
    "cancel twice": (
        [("cancel_order", {"order_id": "PW-44522", "reason": reason}) for reason in ("ordered_twice", "too_late")],
        "Only an order with the status placed can be cancelled",
    ),
    "return before delivery": (
        [
            (
                "return_item",
                {"order_id": "PW-43086", "line": 1, "pieces": 1, "reason": "unwanted", "refund_to": "original"},
            )
        ],
        "Only items of delivered orders go back",
    ),
    "return twice": (
        [
            (
                "return_item",
                {"order_id": "PW-42887", "line": 3, "pieces": 1, "reason": "unwanted", "refund_to": "original"},
            ),
            ("exchange_item", {"order_id": "PW-42887", "line": 3, "sku": "roller-muska-blue-33", "reason": "unwanted"}),
        ],
        "a line goes back only once",
    ),
    "return more than there was": (
        [
            (
                "return_item",
                {"order_id": "PW-42887", "line": 3, "pieces": 2, "reason": "unwanted", "refund_to": "original"},
            )
        ],
        "fewer than 2 pieces",
    ),
    "exchange for another product": (
        [("exchange_item", {"order_id": "PW-42887", "line": 3, "sku": "lamp-orla-black-s", "reason": "unwanted"})],
        "no variant of the same product",
    ),
    "exchange for what is sold out": (
        [("exchange_item", {"order_id": "PW-42887", "line": 3, "sku": "roller-muska-blue-45", "reason": "unwanted"})],
        "not enough pieces",
    ),
    "swap for another product": (
        [("change_line", {"order_id": "PW-44522", "line": 1, "sku": "lamp-orla-black-s", "pieces": 1})],
        "no variant of the same product",
    ),
    "take out the only line": (
        [("change_line", {"order_id": "PW-44522", "line": 1, "sku": "tray-ordna-black-1", "pieces": 0})],
        "the only line",
    ),
    "adjust with a promo code": (
        [("adjust_price", {"order_id": "PW-41309", "line": 2})],
        "used a promo code",
    ),
    "adjust what went back": (
        [
            (
                "return_item",
                {"order_id": "PW-42827", "line": 2, "pieces": 1, "reason": "unwanted", "refund_to": "original"},
            ),
            ("adjust_price", {"order_id": "PW-42827", "line": 2}),
        ],
        "has gone back already",
    ),
    "adjust what is not cheaper": ([("adjust_price", {"order_id": "PW-42887", "line": 3})], "does not cost less today"),
    "adjust a line twice": ([("adjust_price", {"order_id": "PW-42827", "line": 2})] * 2, "adjusted already"),
    "more than five": (
        [("put_in_cart", {"customer_id": TRISTAN, "sku": "lamp-orla-black-s", "pieces": 6})],
        "At most five pieces",
    ),
    "more than five in an order": (
        [("change_line", {"order_id": "PW-44522", "line": 1, "sku": "tray-ordna-black-1", "pieces": 6})],
        "At most five pieces",
    ),
    "more than in stock": (
        [("put_in_cart", {"customer_id": TRISTAN, "sku": "notebook-linje-ochre-a4", "pieces": 5})],
        "not 5 pieces",
    ),
    "another's card": (
        [BUY[0], ("place_order", {**BUY[1][1], "payment_id": "card-3155-0382"})],
        "no payment method card-3155-0382",
    ),
    "store credit that does not cover": (
        [BUY[0], ("place_order", {**BUY[1][1], "payment_id": "credit-2182"})],
        "does not cover",
    ),
    "an expired card": (
        [("place_order", {"customer_id": "C2119", "payment_id": "card-2119-9755", "shipping": "economy"})],
        "has expired",
    ),
    "an empty cart": ([BUY[1]], "The cart is empty"),
    "a code out of date": ([BUY[0], ("place_order", {**BUY[1][1], "promo_code": "FROST25"})], "FROST25 has expired"),
    "a code that is none": ([BUY[0], ("show_cart", {"customer_id": TRISTAN, "promo_code": "NOPE"})], "no promo code"),
    "a code below its minimum": (
        [BUY[0], ("place_order", {**BUY[1][1], "promo_code": "BIGTREE12"})],
        "does not fit what is in this cart",
    ),
    "a code of another category": (
        [BUY[0], ("place_order", {**BUY[1][1], "promo_code": "KITCHEN20"})],
        "does not fit what is in this cart",
    ),
    "a code of another tier": (
        [
            ("put_in_cart", {"customer_id": "C3155", "sku": "lamp-orla-black-s", "pieces": 1}),
            (
                "place_order",
                {"customer_id": "C3155", "payment_id": "card-3155-0382", "shipping": "economy", "promo_code": "PLUS15"},
            ),
        ],
        "for the tiers plus and premier only",
    ),
    "a postcode of four digits": (
        [("change_account_address", {"customer_id": TRISTAN, **HOME, "postcode": "1234"})],
        "it needs five digits",
    ),
    "a postcode of letters": (
        [("change_order_address", {"order_id": "PW-44522", **HOME, "postcode": "12a45"})],
        "it needs five digits",
    ),
    "an unknown account": ([("find_customer", {"email": "nobody@example.com"})], "no account with these details"),
    "half a look-up": ([("find_customer", {"last_name": "Best"})], "or the last name and the postcode"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_enforced_rules_refuse_in_words(case: str) -> None:
    calls, words = REFUSED[case]
    result = play(*calls)
    assert result.outcome is Outcome.REFUSED and words in result.content


LET_HAPPEN: dict[str, tuple[int, tuple[str, dict[str, Any]]]] = {
    "identity": (1, ("change_order_address", {"order_id": "PW-44036", **HOME})),
    "confirmation": (1, ("cancel_order", {"order_id": "PW-44522", "reason": "wrong_item"})),
    "one_order": (1, ("place_order", {"customer_id": "C2686", "payment_id": "card-2686-4900", "shipping": "economy"})),
    "defaults": (1, ("place_order", {"customer_id": "C2686", "payment_id": "card-2686-4900", "shipping": "overnight"})),
    "cancel_reasons": (1, ("cancel_order", {"order_id": "PW-44346", "reason": "wrong_item"})),
    "return_window": (
        2,
        (
            "return_item",
            {"order_id": "PW-41519", "line": 2, "pieces": 1, "reason": "unwanted", "refund_to": "original"},
        ),
    ),
    "not_taken_back": (
        1,
        ("exchange_item", {"order_id": "PW-42757", "line": 1, "sku": "lunchbox-boksi-pink-one", "reason": "unwanted"}),
    ),
    "refunds": (
        1,
        (
            "return_item",
            {"order_id": "PW-42887", "line": 3, "pieces": 1, "reason": "unwanted", "refund_to": "store_credit"},
        ),
    ),
    "price_adjustment": (1, ("adjust_price", {"order_id": "PW-42176", "line": 1})),
    "feedback": (1, ("pass_on_feedback", {"about": "website", "words": "Nobody asked me to say so."})),
}


def test_text_only_rules_are_left_to_the_agent() -> None:
    assert set(LET_HAPPEN) == {rule.name for rule in DOMAIN.policy if rule.level is RuleLevel.TEXT_ONLY}
    for rule, (seed, call) in LET_HAPPEN.items():
        assert play(call, seed=seed).outcome is Outcome.OK, rule
    assert play(("adjust_price", {"order_id": "PW-42658", "line": 3}), seed=2).outcome is Outcome.OK  # the second one


def test_an_order_takes_stock_and_money_and_its_end_gives_them_back() -> None:
    """Bought, changed, paid otherwise, cancelled: what is left is a cancelled order and a row of the cart that says so."""
    environment = World.of(DOMAIN, 1).open()
    stock = "SELECT stock FROM variants WHERE sku = 'lamp-orla-black-s'"
    before = next(environment.connection.execute(stock))
    placed = json.loads([environment.call("agent", *call) for call in BUY][-1].content)
    assert placed["total_cents"] == 2 * 6090  # free shipping from 60 dollars
    assert next(environment.connection.execute(stock)) == (before[0] - 2,)
    order = {"order_id": placed["order_id"]}
    for tool, arguments in (
        ("change_line", {"line": 1, "sku": "lamp-orla-white-t", "pieces": 1}),
        ("change_order_payment", {"payment_id": "card-2182-7560"}),
        ("cancel_order", {"reason": "too_late"}),
    ):
        result = environment.call("agent", tool, {**order, **arguments})
        assert result.outcome is Outcome.OK, result.content
        assert environment.offences() == []
    assert next(environment.connection.execute(stock)) == before
    assert set(environment.close()) == {"orders", "order_lines", "payments", "cart_lines"}


def test_a_world_whose_dice_give_somebody_two_cards_that_end_alike_is_built():
    """With seed 24 they did, and there was no such world."""
    assert World.build(load_domain("retail"), 24).digest
