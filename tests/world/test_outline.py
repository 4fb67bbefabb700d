"""Promises: equal diffs have equal outlines, whatever the order in which rows were made and whatever the keys they got; and most that
differ have different ones."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from agentscaler.domain.store import load_domain
from agentscaler.verify.soundness.ground import ground_of
from agentscaler.world.compare import same
from agentscaler.world.environment import Environment
from agentscaler.world.outline import Outline, Outliner
from agentscaler.world.world import World
from tests.world.graph_domain import DOMAIN, open_world

OUTLINER = Outliner(World.of(DOMAIN, 1).program.tables)
BOX = st.sampled_from(["b1", "new 0", "new 1", "new 2"])
DATA = st.sampled_from(['{"a":1,"b":2}', '{"b": 2, "a": 1}', '{"a":1}', "{", "-0.0", "0"])
MOOD = st.sampled_from(["Glad", " glad", "GLAD", "sad"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add_box"), st.sampled_from("ab"), st.none() | BOX, st.sampled_from(["x", "y"])),
        st.tuples(st.just("link"), BOX, st.none() | BOX),
        st.tuples(st.just("add_slot"), BOX, st.sampled_from(["x", "z"])),
        st.tuples(st.just("add_mark"), BOX, st.sampled_from(["x", "z"])),
        st.tuples(st.just("add_item"), st.none() | BOX),
        st.tuples(st.just("drop_box"), BOX),
        st.tuples(st.just("set_data"), BOX, DATA),
        st.tuples(st.just("set_mood"), BOX, MOOD),
        st.tuples(st.just("set_size"), BOX, st.sampled_from([0.0, -0.0, 1.5])),
        st.tuples(st.just("set_fixed"), st.sampled_from(["f1", "f2"]), st.sampled_from([1.0, -0.0]), st.none() | BOX),
    ),
    max_size=7,
)


def outline(environment: Environment, outliner: Outliner = OUTLINER) -> Outline:
    return outliner.outline(environment.changes, environment.issued)


def build(environment: Environment, steps: list[tuple[object, ...]]) -> None:
    def key(box: object) -> object:
        made = sorted(key for table, key in environment.issued if table == "boxes")
        return made[int(box[4:]) % len(made)] if isinstance(box, str) and box.startswith("new") and made else box

    for name, *values in steps:
        first = {"add_box": "name", "add_item": "box", "set_fixed": "code"}.get(str(name), "box")
        second = {"add_box": "parent", "link": "parent", "add_slot": "tag", "add_mark": "tag", "set_fixed": "value"}
        arguments = {first: key(values[0])}
        if len(values) > 1:
            arguments[second.get(str(name), str(name)[4:])] = key(values[1])
        if len(values) > 2:
            arguments["note" if name == "add_box" else "box"] = key(values[2])
        more = {"add_item": {"name": "n"}, "add_mark": {"colour": "red"}}.get(str(name), {})
        environment.call("agent", str(name), {**arguments, **more})


@settings(max_examples=400)
@given(STEPS, STEPS, st.randoms(use_true_random=False), st.booleans())
def test_equal_diffs_have_equal_outlines(
    steps: list[tuple[object, ...]], others: list[tuple[object, ...]], random: Random, is_shuffled: bool
) -> None:
    one, other = open_world(), open_world()
    build(one, steps)
    build(other, random.sample(steps, len(steps)) if is_shuffled else others)
    if same(one.diff(), other.diff()):
        assert outline(one) == outline(other)


def test_what_is_written_otherwise_and_means_the_same() -> None:
    one, other = open_world(), open_world()
    build(
        one,
        [("add_box", "a", None, "x"), ("add_box", "b", "b1"), ("set_data", "b1", "[1, 2]"), ("set_mood", "b1", "sad")],
    )
    build(
        other,
        [("set_mood", "b1", "Sad "), ("add_box", "b", "b1"), ("set_data", "b1", "[1,2]"), ("add_box", "a", None, "y")],
    )
    assert same(one.diff(), other.diff())
    assert outline(one) == outline(other) != outline(open_world())


def test_most_differences_show() -> None:
    world = World.of(load_domain("airline"), 1)
    ground = ground_of(world)
    calls = [call for calls in ground.valid_writes.values() for call in calls]
    ends = []
    for call in calls:
        environment = world.open()
        environment.call("agent", call.call, call.arguments)
        ends.append((environment.diff(), outline(environment, ground.outliner)))
        environment.close()
    pairs = [(one, other) for number, one in enumerate(ends) for other in ends[:number]]
    seen = [same(one[0], other[0]) == (one[1] == other[1]) for one, other in pairs]
    assert all(one[1] == other[1] for one, other in pairs if same(one[0], other[0]))
    assert sum(seen) > 0.99 * len(seen)
