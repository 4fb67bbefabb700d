"""Promises: edges are where a result holds what an argument is looked up by, and where a write changes what another tool looks at;
previews, details and ways are found by facts; every way can be walked on a seeded world."""

from __future__ import annotations

from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentscaler.domain.domain import Domain
from agentscaler.domain.store import load_domain
from agentscaler.messages import Outcome
from agentscaler.tasks.walk.graph import MAX_READS, MAX_WAYS, ToolGraph
from agentscaler.tasks.walk.provenance import values_at
from agentscaler.tasks.walk.value import ANY
from agentscaler.world.program import compile_domain
from agentscaler.world.world import World

DOMAINS = ("notes", "airline", "retail")
GRAPHS = {name: ToolGraph.of(compile_domain(load_domain(name))) for name in DOMAINS}
NOTES, AIRLINE, RETAIL = GRAPHS.values()

EMAIL = ("customers", "email")
BOOKING = ("bookings", "booking")
ORDER = ("orders", "order_id")


def fed_by(graph: ToolGraph, tool: str, *parameter: str) -> set[str]:
    return {
        f"{feed.producer}:{'.'.join(feed.path)}"
        for feed in graph.producers(tool, parameter)
        if not graph.is_write(feed.producer)
    }


def test_results_feed_the_arguments_that_they_identify() -> None:
    assert fed_by(AIRLINE, "change_flight", "booking") == {"list_bookings:*.booking"}
    assert fed_by(AIRLINE, "change_flight", "leg") == {"get_booking:flights.*.leg"}
    assert fed_by(AIRLINE, "list_bookings", "customer_id") == {"find_customer:customer_id", "get_booking:customer_id"}
    assert {
        *("search_flights:*.flight", "search_connections:*.first_flight", "search_connections:*.second_flight"),
    } <= fed_by(AIRLINE, "book_trip", "flights", ANY, "flight")
    assert "find_customer:payment_methods.*.payment_id" in fed_by(AIRLINE, "add_bags", "payment_id")
    assert "show_product:variants.*.sku" in fed_by(RETAIL, "exchange_item", "sku")
    assert "find_customer:*.preferred_payment" in fed_by(RETAIL, "place_order", "payment_id")
    assert fed_by(RETAIL, "return_item", "line") == {"show_order:lines.*.line", "show_order:returns.*.line"}
    assert fed_by(NOTES, "remove_tag", "tag") == {"find_notes:*.tags.*", "read_note:tags.*"}
    assert fed_by(NOTES, "stop_sharing", "person") == {"read_note:shared_with.*.person"}
    assert fed_by(NOTES, "move_note", "folder") == {"list_folders:*.folder", "find_notes:*.folder", "read_note:folder"}


def test_writes_feed_too_and_come_last() -> None:
    feeds = AIRLINE.producers("cancel_booking", ("booking",))
    assert [feed.producer for feed in feeds] == ["list_bookings", "book_trip"]
    assert "place_order" in {feed.producer for feed in RETAIL.producers("cancel_order", ("order_id",))}


def test_nothing_feeds_what_names_nothing() -> None:
    """Amounts, free texts, choices, new names; and what a call says of itself tells nobody anything."""
    for graph, tool, parameter in (
        *((AIRLINE, "add_bags", "num_bags"), (AIRLINE, "book_trip", "bags"), (AIRLINE, "book_trip", "cabin")),
        *((AIRLINE, "change_passenger", "birth_date"), (AIRLINE, "find_customer", "email")),
        *((RETAIL, "put_in_cart", "pieces"), (RETAIL, "place_order", "shipping"), (RETAIL, "return_item", "reason")),
        *((NOTES, "create_note", "title"), (NOTES, "create_folder", "name"), (NOTES, "change_text", "text")),
    ):
        assert not graph.producers(tool, (parameter,)), (tool, parameter)
    assert not any(feed.producer == "quote_cabin_change" for feed in AIRLINE.feeds)
    assert not any(feed.producer == feed.consumer for graph in GRAPHS.values() for feed in graph.feeds)


def test_an_argument_stands_for_those_inside_it() -> None:
    parameters = {feed.parameter for feed in AIRLINE.producers("book_trip", ("flights",))}
    assert parameters == {("flights", ANY, "flight"), ("flights", ANY, "date")}


def test_writes_enable_those_that_look_at_what_they_change() -> None:
    pairs = set(AIRLINE.enables)
    assert {
        *(("book_trip", "cancel_booking"), ("cancel_booking", "list_bookings"), ("change_flight", "search_flights")),
        *(("change_cabin", "quote_cabin_change"), ("give_goodwill_voucher", "find_customer")),
    } <= pairs
    assert ("change_passenger", "search_flights") not in pairs
    assert ("add_bags", "quote_cabin_change") not in pairs  # both know the view booking_terms, in different columns
    assert not any(other == "list_airports" or not AIRLINE.is_write(writer) for writer, other in pairs)
    assert AIRLINE.enables["change_passenger", "get_booking"] >= {("passengers", "first_name")}
    assert {("put_in_cart", "place_order"), ("place_order", "show_cart"), ("set_newsletter", "find_customer")} <= set(
        RETAIL.enables
    )
    assert not {("set_newsletter", "show_cart"), ("pass_on_feedback", "show_order")} & set(RETAIL.enables)
    assert ("share_note", "delete_note") in NOTES.enables  # a trigger keeps shared notes


def test_previews_ask_for_what_the_write_asks_for() -> None:
    assert AIRLINE.previews("change_flight") == ("quote_flight_change",)
    assert AIRLINE.previews("change_cabin") == ("quote_cabin_change",)
    assert AIRLINE.previews("add_bags") == AIRLINE.previews("cancel_booking") == ()
    (trip,) = AIRLINE.previews_of("book_trip")
    assert trip.tool == "quote_trip" and trip.missing == ("customer_id", "num_passengers")
    assert trip.carried == {name: name for name in ("flights", "cabin", "fare", "bags")}
    assert RETAIL.previews("place_order") == ("show_cart",)  # list_orders shares one requirement, too, and tells less
    assert RETAIL.previews("return_item") == ("show_order",)
    assert RETAIL.previews("set_newsletter") == RETAIL.previews("pass_on_feedback") == ()
    assert NOTES.previews("delete_note") == ("read_note",)


def test_details_show_the_row_that_a_key_names() -> None:
    assert AIRLINE.details(BOOKING) == AIRLINE.details(("passengers", "booking")) == ("get_booking",)
    assert AIRLINE.details(EMAIL) == ("find_customer",)
    assert AIRLINE.details(("customers", "customer_id")) == ()
    assert AIRLINE.details("cancel_booking") == ("get_booking",)
    assert RETAIL.details(ORDER) == ("show_order",)
    assert RETAIL.details(("variants", "product_id")) == ("show_product",)
    assert NOTES.details("add_tag") == ("read_note",)


def test_ways_lead_from_what_is_known() -> None:
    assert AIRLINE.reads_to("change_flight", ("booking",), [EMAIL]) == (("find_customer", "list_bookings"),)
    assert AIRLINE.reads_to("change_flight", ("leg",), [EMAIL]) == (("find_customer", "list_bookings", "get_booking"),)
    assert AIRLINE.reads_to("change_flight", ("leg",), [BOOKING]) == (("get_booking",),)
    assert AIRLINE.reads_to("change_flight", ("booking",), [BOOKING])[0] == ()
    assert AIRLINE.reads_to("change_flight", ("booking",), []) == ()
    by_name = [("customers", one) for one in ("first_name", "last_name", "birth_date")]
    assert AIRLINE.reads_to("list_bookings", ("customer_id",), by_name) == (("find_customer",),)
    assert AIRLINE.reads_to("list_bookings", ("customer_id",), by_name[:2]) == ()
    ways = RETAIL.reads_to("exchange_item", ("sku",), [ORDER])
    assert ways[:2] == (("show_order",), ("show_order", "show_product")) and ways[-1] == (
        "search_products",
        "show_product",
    )
    searched = AIRLINE.reads_to("change_flight", ("new_flight",), [BOOKING])
    assert ("get_booking", "search_flights") in searched  # between the same cities


@pytest.mark.parametrize("name", DOMAINS)
def test_ways_are_short_without_circles_and_complete(name: str) -> None:
    graph = GRAPHS[name]
    known = [("customers", "email"), ("notes", "title")]
    for tool, facts in graph.provenance.items():
        for parameter in facts.parameters:
            ways = graph.reads_to(tool, parameter, known)
            assert len(ways) <= MAX_WAYS and list(map(len, ways)) == sorted(map(len, ways))
            for way in ways:
                assert len(set(way)) == len(way) <= MAX_READS and tool not in way
                assert not any(graph.is_write(one) for one in way)


@settings(max_examples=30)
@given(st.integers(1, 2), st.integers(0, 2**32))
def test_the_ways_of_a_known_customer_can_be_walked(world_seed: int, seed: int) -> None:
    """Each read gets what the ones before it have shown, along the feeds; at the end values stand where the feed says."""
    random, world = Random(seed), World.of(load_domain("airline"), world_seed)
    environment = world.open()
    emails = environment.tables()["customers"]
    place = world.program.tables["customers"].columns.index("email")
    wanted = {"change_flight": "booking", "change_passenger": "passenger_number", "add_bags": "payment_id"}
    tool = random.choice(sorted(wanted))
    parameter = (wanted[tool],)
    way = random.choice(AIRLINE.reads_to(tool, parameter, [EMAIL]))
    results: dict[str, Any] = {}
    for one in way:
        arguments = {"email": random.choice(emails)[place]} if one == "find_customer" else {}
        for name in AIRLINE.required(one):
            found = _found(one, (name,), results)
            if not found:
                environment.close()
                return  # this customer has no booking
            arguments[name] = random.choice(found)
        result = environment.call("agent", one, arguments)
        assert result.outcome is Outcome.OK, result.content
        results[one] = orjson.loads(result.content)
    assert _found(tool, parameter, results) or results.get("list_bookings") == []
    environment.close()


def _found(tool: str, parameter: tuple[str, ...], results: dict[str, Any]) -> list[Any]:
    feeds = [feed for feed in AIRLINE.producers(tool, parameter) if feed.producer in results]
    return [value for feed in feeds for value in values_at(results[feed.producer], feed.path)]


def test_names_under_which_a_value_may_be_had() -> None:
    assert AIRLINE.names_for("search_flights", "from")[:3] == ("from", "city", "from_airport")
    assert "to_airport" not in AIRLINE.names_for("search_flights", "from")  # that is the other one
    assert RETAIL.names_for("place_order", "payment_id") == ("payment_id", "paid_with", "refund_to")
    assert NOTES.names_for("read_note", "note") == ("note", "title")
    assert {"change_flight", "customer_id", "new_date", "payment_methods"} <= AIRLINE.telling_names
    assert not {"flight", "bags", "city"} & AIRLINE.telling_names


@pytest.mark.parametrize("name", DOMAINS)
def test_figures_count_what_the_picture_shows(name: str) -> None:
    graph, figures = GRAPHS[name], GRAPHS[name].figures()
    picture = graph.graph
    assert figures["tools"] == len(graph.program.tools) == picture.number_of_nodes()
    assert figures["edges"] == picture.number_of_edges() >= max(figures["feeds"], figures["enables"])
    assert sum(edge["weight"] for *_, edge in picture.edges(data=True)) == len(graph.feeds) + sum(
        map(len, graph.enables.values())
    )
    assert figures["statements_not_followed"] == 0
    assert figures["tools_alone"] == (1 if name == "retail" else 0)  # feedback has to do with nothing else


def test_kept_by_fingerprint() -> None:
    assert ToolGraph.of(compile_domain(load_domain("notes"))) is NOTES


def test_the_users_own_tools_feed_no_agent() -> None:
    notes = load_domain("notes")
    tools = tuple(
        tool.model_copy(update={"actor": "user"}) if tool.name in ("find_notes", "share_note") else tool
        for tool in notes.tools
    )
    graph = ToolGraph.of(compile_domain(notes.model_copy(update={"tools": tools})))
    assert fed_by(graph, "remove_tag", "tag") == {"read_note:tags.*"}
    assert fed_by(graph, "share_note", "note") == {"find_notes:*.title"}
    assert graph.reads_to("remove_tag", ("note",), []) == ()
    assert ("share_note", "delete_note") in graph.enables


def test_columns_without_keys_join_nothing() -> None:
    """Two tables with columns of one name are not one: a foreign key has to say so."""
    domain = Domain.model_validate(
        {
            "name": "two",
            "description": "x",
            "clock": "2026-01-01T00:00:00Z",
            "instructions": "x",
            "schema_sql": "CREATE TABLE a (id TEXT PRIMARY KEY, n INTEGER) STRICT;"
            "CREATE TABLE b (id TEXT PRIMARY KEY, a TEXT, n INTEGER) STRICT;"
            "CREATE TABLE c (id TEXT PRIMARY KEY, a TEXT REFERENCES a(id), n INTEGER) STRICT;",
            "tools": [
                {"name": "look", "description": "x", "returns": "SELECT id, n FROM a ORDER BY id"},
                *(
                    {
                        "name": f"find_{table}",
                        "description": "x",
                        "parameters": {"properties": {"a": {"type": "string"}, "n": {"type": "integer"}}},
                        "returns": f"SELECT id FROM {table} WHERE a = :a AND n = :n ORDER BY id",
                    }
                    for table in "bc"
                ),
            ],
        }
    )
    graph = ToolGraph.of(compile_domain(domain))
    assert [(feed.producer, feed.consumer, feed.parameter) for feed in graph.feeds] == [("look", "find_c", ("a",))]
    assert graph.figures()["tools_alone"] == 1
