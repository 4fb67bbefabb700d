"""Tools of τ-bench v1 on τ²'s airline and retail worlds.

The databases are the same, and so are most tools. Where v1's do otherwise, what its conversations led to would come out otherwise too:
each such tool has its rule here. All others run as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from agentscaler.adapters.tau2.live import Tau2Environment, tried
from agentscaler.adapters.tau2.replay import Answer


def call_v1(environment: Tau2Environment, tool: str, arguments: dict[str, Any]) -> Answer:
    """One call of the agent, by v1's rules."""
    rule = RULES.get(tool)
    if rule is None:
        return Answer(*environment.call("assistant", tool, arguments))

    def step(own: Any) -> tuple[str, bool]:
        result, error = tried(
            lambda own: rule(own, **deepcopy(arguments)), own
        )  # the package's tools raise what they like
        return (f"Error: {error}", True) if error is not None else (own.to_json_str(result), False)

    return Answer(*environment.take(step))


def _think(own: Any, thought: str) -> str:
    return ""


def _update_flights(own: Any, **arguments: Any) -> Any:
    """v1 leaves the reservation's cabin as it was."""
    reservation = own.tools.db.reservations.get(arguments.get("reservation_id"))
    cabin = reservation.cabin if reservation is not None else None
    changed = own.make_tool_call("update_reservation_flights", **arguments)
    changed.cabin = cabin
    return changed


def _book(own: Any, **arguments: Any) -> Any:
    """v1 takes no seats."""
    flights = own.tools.db.flights
    dates = [flights[flight["flight_number"]].dates[flight["date"]] for flight in arguments["flights"]]
    seats = [(date.available_seats, dict(date.available_seats)) for date in dates if date.status == "available"]
    booked = own.make_tool_call("book_reservation", **arguments)
    for now, before in seats:
        now.update(before)
    return booked


def _modify_address(own: Any, **arguments: Any) -> Any:
    """v1 refuses an order whose items were modified."""
    order = own.tools.db.orders.get(arguments.get("order_id"))
    if order is not None and order.status != "pending":
        raise ValueError("the order is not pending")
    return own.make_tool_call("modify_pending_order_address", **arguments)


def _modify_items(own: Any, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str) -> Any:
    """In v1 each item gets its own variant's price and options (in τ² all get the last one's), and may be changed for itself."""
    from tau2.domains.retail.data_model import OrderPayment

    order = own.tools.db.orders[order_id]
    has = [item.item_id for item in order.items]
    if order.status != "pending" or len(item_ids) != len(new_item_ids):
        raise ValueError("the order is not pending, or the numbers of items differ")
    if any(item_ids.count(item) > has.count(item) for item in item_ids):
        raise ValueError("an item is not in the order")
    variants = []
    difference = 0.0
    for old, new in zip(item_ids, new_item_ids, strict=True):
        item = next(item for item in order.items if item.item_id == old)
        variant = own.tools.db.products[item.product_id].variants[new]
        if not variant.available:
            raise ValueError("a new item is not available")
        variants.append(variant)
        difference += variant.price - item.price
    method = own.tools.db.users[order.user_id].payment_methods[payment_method_id]
    is_gift_card = method.source == "gift_card"
    if is_gift_card and method.balance < difference:
        raise ValueError("the gift card does not cover the difference")
    kind = "payment" if difference > 0 else "refund"
    order.payment_history.append(
        OrderPayment(transaction_type=kind, amount=abs(difference), payment_method_id=payment_method_id)
    )
    if is_gift_card:
        method.balance = round(method.balance - difference, 2)
    for old, variant in zip(item_ids, variants, strict=True):
        item = next(item for item in order.items if item.item_id == old)
        item.item_id, item.price, item.options = variant.item_id, variant.price, dict(variant.options)
    order.status = "pending (item modified)"
    return order


RULES: dict[str, Callable[..., Any]] = {
    "think": _think,
    "update_reservation_flights": _update_flights,
    "book_reservation": _book,
    "modify_pending_order_address": _modify_address,
    "modify_pending_order_items": _modify_items,
}
