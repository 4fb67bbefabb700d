"""Promises of the canonical diff.

1. Equal diffs, exactly when the tables are equal but for exempt columns and the names of surrogate keys (against a slow oracle).
2. The order of independent creations does not show; how children are spread over equal parents does.
3. Undone changes leave nothing. `explain` is empty exactly when the diffs are the same.
"""

from __future__ import annotations

import random
import time
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentscaler.domain.store import load_domain
from agentscaler.messages import Outcome
from agentscaler.world.changeset import Diff
from agentscaler.world.compare import explain, same
from agentscaler.world.environment import Environment
from agentscaler.world.world import World
from tests.world.graph_domain import equal_tables, open_world


def do(environment: Environment, tool: str, **arguments: Any) -> Any:
    result = environment.call("agent", tool, arguments)
    assert result.outcome is Outcome.OK, result.content
    return orjson.loads(result.content)


def box(environment: Environment, name: str = "n", **more: Any) -> str:
    return do(environment, "add_box", name=name, **more)["id"]


Step = tuple[str, int, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["add_box", "add_box", "link", "link", "add_slot", "add_mark", "add_item", "drop_box", "fixed", "mood"]
        ),
        st.integers(0, 3),
        st.integers(0, 4),
        st.integers(0, 4),
    ),
    max_size=9,
)


def play(steps: list[Step]) -> Environment:
    """Calls may be refused: what the calls did is what the tables say."""
    environment = open_world()
    boxes = ["b1"]

    def named(index: int) -> str | None:
        return boxes[index] if index < len(boxes) else None

    for tool, what, one, two in steps:
        name, at = "ab"[what % 2], boxes[one % len(boxes)]
        match tool:
            case "add_box" if len(boxes) < 5:
                arguments: dict[str, Any] = {
                    "name": name,
                    "parent": named(one),
                    "friend": named(two),
                    "note": str(what),
                }
                result = environment.call("agent", "add_box", arguments)
                if result.outcome is Outcome.OK:
                    boxes.append(orjson.loads(result.content)["id"])
            case "link":
                environment.call("agent", "link", {"box": at, "parent": named(two), "friend": named(what)})
            case "add_slot":
                environment.call("agent", "add_slot", {"box": at, "tag": name})
            case "add_mark":
                environment.call("agent", "add_mark", {"box": at, "tag": name, "colour": "rg"[two % 2]})
            case "add_item" if sum(table == "items" for table, _ in environment.issued) < 3:
                environment.call("agent", "add_item", {"box": named(one), "name": name})
            case "drop_box":
                environment.call("agent", "drop_box", {"box": at})
            case "fixed":
                environment.call("agent", "set_fixed", {"code": "f1", "value": what, "box": named(two)})
            case "mood":
                environment.call("agent", "set_mood", {"box": "b1", "mood": [" glad", "Glad", "sad", "SAD "][what]})
    return environment


def agree(one: Environment, other: Environment) -> bool:
    left, right = one.diff(), other.diff()
    assert same(left, right) == equal_tables(one, other), (left, right)
    assert (explain(left, right) == []) == same(left, right)
    assert (explain(right, left) == []) == same(left, right)
    one.close()
    other.close()
    return same(left, right)


@settings(deadline=None, max_examples=250)
@given(STEPS, STEPS)
def test_equal_diffs_exactly_when_tables_are_equal(first: list[Step], second: list[Step]) -> None:
    agree(play(first), play(second))


@settings(deadline=None, max_examples=250)
@given(STEPS, st.randoms(use_true_random=False), st.booleans())
def test_near_variants_of_one_run(steps: list[Step], shuffle: random.Random, drop_one: bool) -> None:
    """Two random runs are hardly ever equal; a run and its shuffle often are."""
    other = list(steps)
    shuffle.shuffle(other)
    agree(play(steps), play(other[:-1] if drop_one else other))


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.none() | st.integers(0, 4), st.none() | st.integers(0, 4)),
        min_size=1,
        max_size=5,
    ),
    st.randoms(use_true_random=False),
    st.booleans(),
)
def test_any_graph_of_new_rows_in_any_order(
    rows: list[tuple[int, int | None, int | None]], shuffle: random.Random, bend: bool
) -> None:
    """Cycles and self-references included; with `bend` one reference is moved, and the oracle says whether that matters."""

    def build(order: list[int], rows: list[tuple[int, int | None, int | None]]) -> Environment:
        environment = open_world()
        ids = {index: box(environment, "ab"[rows[index][0]]) for index in order}
        for index in shuffle.sample(order, len(order)):
            _, parent, friend = rows[index]
            if parent is None and friend is None:
                continue
            to = [None if ref is None else ids[ref % len(rows)] for ref in (parent, friend)]
            do(environment, "link", box=ids[index], parent=to[0], friend=to[1])
        return environment

    order = list(range(len(rows)))
    bent = [(rows[0][0], (rows[0][1] or 0) + 1, rows[0][2]), *rows[1:]] if bend else rows
    equal = agree(build(order, rows), build(shuffle.sample(order, len(order)), bent))
    assert equal or bend


def test_children_spread_differently_over_equal_parents_differ() -> None:
    def spread(*tags: str) -> Environment:
        environment = open_world()
        for word in tags:
            at = box(environment)
            for tag in word:
                do(environment, "add_slot", box=at, tag=tag)
        return environment

    assert agree(spread("AB", ""), spread("", "BA"))
    assert not agree(spread("AB", ""), spread("A", "B"))
    assert not agree(spread("AB", "A"), spread("AB", "B"))


def test_surrogate_keys_over_two_foreign_keys() -> None:
    def mark(*colours: str) -> Environment:
        environment = open_world()
        ids = [box(environment) for _ in colours]
        for at, colour in zip(ids, colours, strict=True):
            do(environment, "add_slot", box=at, tag="t")
            do(environment, "add_mark", box=at, tag="t", colour=colour)
        return environment

    assert agree(mark("r", "g"), mark("g", "r"))
    assert not agree(mark("r", "g"), mark("r", "r"))
    environment = mark("r", "g")
    assert not any(key in str(environment.diff()) for _, key in environment.issued)


@pytest.mark.parametrize(
    ("first", "second"), [([(0, 1), (1, 0)], [(0, 0), (1, 1)]), ([(0, 1), (1, 2), (2, 0)], [(0, 1), (1, 0), (2, 2)])]
)
def test_cycles_are_no_self_references(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    """Colour refinement alone cannot tell these apart."""

    def ring(links: list[tuple[int, int]]) -> Environment:
        environment = open_world()
        ids = [box(environment) for _ in links]
        for one, other in links:
            do(environment, "link", box=ids[one], parent=ids[other])
        return environment

    assert agree(ring(first), ring(list(reversed(first))))
    assert not agree(ring(first), ring(second))


def rings(*lengths: int) -> Diff:
    environment = open_world()
    for length in lengths:
        ids = [box(environment) for _ in range(length)]
        for index, one in enumerate(ids):
            do(environment, "link", box=one, parent=ids[index - 1])
    return environment.close()


def test_two_triangles_are_no_hexagon() -> None:
    assert same(rings(3, 3), rings(3, 3)) and same(rings(6), rings(6))
    assert not same(rings(3, 3), rings(6))
    assert not same(rings(4, 2), rings(6))
    assert same(rings(3, 6, 3), rings(6, 3, 3)) and same(rings(3, 3, 6), rings(6, 3, 3))


def test_rows_that_only_their_distance_tells_apart() -> None:
    """Two hubs that name each other, one amid two triangles, one amid a hexagon: refinement gives both the same colour."""

    def hubs(*around: tuple[int, ...]) -> Diff:
        environment = open_world()
        middle = [box(environment) for _ in around]
        do(environment, "link", box=middle[0], parent=middle[1])
        do(environment, "link", box=middle[1], parent=middle[0])
        for hub, lengths in zip(middle, around, strict=True):
            for length in lengths:
                ids = [box(environment) for _ in range(length)]
                for index, one in enumerate(ids):
                    do(environment, "link", box=one, parent=ids[index - 1], friend=hub)
        return environment.close()

    assert same(hubs((3, 3), (6,)), hubs((6,), (3, 3)))
    assert not same(hubs((3, 3), (6,)), hubs((3, 3), (3, 3)))


@pytest.mark.parametrize("shape", ["alone", "children", "entangled", "ladder"])
def test_many_equal_rows_are_labelled_in_time(shape: str) -> None:
    def build(order: list[int]) -> Diff:
        environment = open_world()
        ids = {index: box(environment) for index in order}
        for index in order:
            if shape == "children":
                do(environment, "add_item", box=ids[index], name="i")
                do(environment, "add_item", box=ids[index], name="i")
            elif shape == "entangled":  # pairs that name each other twice
                do(environment, "link", box=ids[index], parent=ids[index ^ 1], friend=ids[index ^ 1])
            elif shape == "ladder":  # one large symmetric cycle
                do(
                    environment,
                    "link",
                    box=ids[index],
                    parent=ids[(index + 1) % len(ids)],
                    friend=ids[(index + 2) % len(ids)],
                )
        start = time.thread_time()
        diff = environment.close()
        assert time.thread_time() - start < 1
        return diff

    order = list(range(24))
    assert same(build(order), build(random.Random(1).sample(order, len(order))))


def test_exempt_columns_tables_and_trigger_history_do_not_count() -> None:
    one, other = open_world(), open_world()
    box(one, note="some words")
    box(other, note="other words")
    assert agree(one, other)
    lone = open_world()
    box(lone)
    assert set(lone.close()) == {"boxes"}


def test_floats_and_json_and_semantic_columns() -> None:
    def after(*calls: tuple[str, dict[str, Any]]) -> Diff:
        environment = open_world()
        for tool, arguments in calls:
            do(environment, tool, **arguments)
        return environment.close()

    assert after(("set_fixed", {"code": "f2", "value": -0.0})) == {}  # 0.0 already; its trigger's history is exempt
    assert same(after(("set_size", {"box": "b1", "size": 2})), after(("set_size", {"box": "b1", "size": 2.0})))
    assert not same(after(("set_size", {"box": "b1", "size": 2})), after(("set_size", {"box": "b1", "size": 2.5})))
    assert after(("set_data", {"box": "b1", "data": '{ "b": 2, "a": 1 }'})) == {}
    assert same(
        after(("set_data", {"box": "b1", "data": '[-0.0,{"x":1,"y":2}]'})),
        after(("set_data", {"box": "b1", "data": '[0.0, {"y":2,"x":1}]'})),
    )
    assert not same(
        after(("set_data", {"box": "b1", "data": "[1]"})), after(("set_data", {"box": "b1", "data": "[1.0]"}))
    )
    assert not same(after(("set_data", {"box": "b1", "data": "[1]"})), after(("set_data", {"box": "b1", "data": "[1"})))
    assert after(("set_mood", {"box": "b1", "mood": " glad "})) == {}
    deep = "[" * 240 + "]" * 240
    assert same(after(("set_data", {"box": "b1", "data": deep})), after(("set_data", {"box": "b1", "data": deep})))


def test_undone_changes_leave_nothing_but_their_keys() -> None:
    environment = open_world()
    do(environment, "set_size", box="b1", size=7)
    do(environment, "set_size", box="b1", size=1.5)
    at = box(environment)
    do(environment, "drop_box", box=at)
    assert environment.net_keys() == () and environment.diff() == {}


def test_delete_and_reinsert() -> None:
    environment = open_world()
    do(environment, "add_box", name="keeper")
    do(environment, "set_fixed", code="f2", value=3, box=next(i for _, i in environment.issued))
    do(environment, "drop_box", box="b1")
    do(environment, "put_box", box="b1", name="old")
    diff = environment.diff()
    # slots cascaded away; the box itself came back poorer: one update, no delete and insert.
    assert [row["op"] for row in diff["slots"]] == ["delete", "delete"]
    assert {"op": "update", "key": {"box_id": "b1"}, "columns": {"data": None, "mood": None}} in diff["boxes"]


def test_an_update_of_exempt_columns_alone_changes_no_key() -> None:
    """Else a detour would hide behind a timestamp: a row written and written back differs in its timestamp for ever."""
    environment = World.of(load_domain("notes"), 1).open()
    there = environment.call("agent", "move_note", {"note": "Garden plan", "folder": "Work"})
    back = environment.call("agent", "move_note", {"note": "Garden plan", "folder": "Home"})
    assert there.changed_keys == back.changed_keys != ()
    assert environment.net_keys() == () and environment.close() == {}
