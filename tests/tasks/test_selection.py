"""Selection. Promises:

1. Of tasks that are the same, ask for the same, or say nearly the same, the first is kept; what comes later changes nothing before it.
2. Trivial is one call with all that it needs in the opening, and a question that says its answer.
3. Exactly as many are chosen as are wanted, or all there are: evenly over domains, in the mix over all, evenly over tools and lengths;
   the same again for the same seed.
4. The split depends on the domain's name alone.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentscaler.tasks.compile import compile_shipped
from agentscaler.tasks.near_duplicates import shingles_of
from agentscaler.tasks.selection import (
    Drop,
    Sketch,
    choose,
    length_class,
    share_out,
    sift,
    sketch_of,
    split_of,
    wanted_kinds,
)
from agentscaler.tasks.task import Call, Kind, Task, WrittenTask

NOTES = compile_shipped("notes")


def task(**changes: Any) -> Task:
    written = {"id": "one", "kind": "write", "intent": "Please tidy up my notes about the garden, they are in a mess"}
    calls = changes.pop("calls", [("find", {"about": "garden"}), ("move", {"note": 3})])
    reference = [{"call": name, "arguments": arguments} for name, arguments in calls]
    return Task(
        written=WrittenTask.model_validate({**written, "reference": reference, **changes}),
        domain="notes",
        domain_fingerprint="f",
        expected_diff={},
        expected_calls=tuple(Call(call=name, arguments=arguments) for name, arguments in calls),
    )


def sifted(*tasks: Task, worlds: str = "") -> list[Drop | None]:
    return sift([sketch_of(one, worlds[place : place + 1]) for place, one in enumerate(tasks)])


OTHER_WORDS = "I would like the one on the garden to be somewhere else, if that is possible at all"
FACT = {"which": {"about": ["note"], "question": "Which note?", "says": "The one on roses."}}


def test_the_same_again_and_the_same_problem_in_other_words() -> None:
    again = task(id="two")
    reordered = task(id="three", intent=OTHER_WORDS, calls=[("move", {"note": 3}), ("find", {"about": "garden"})])
    assert sifted(task(), task(), again, reordered) == [None, Drop.SAME_TASK, Drop.SAME_PROBLEM, Drop.SAME_PROBLEM]
    assert sifted(task(), reordered, worlds="ab") == [None, None]  # of another world
    assert sifted(task(), task(id="two", intent=OTHER_WORDS, facts=FACT, kind="missing_parameter")) == [None, None]


def test_nearly_the_same_words() -> None:
    other = [("find", {"about": "garden"}), ("move", {"note": 4})]
    assert sifted(task(), task(calls=other)) == [None, Drop.NEARLY_SAME_WORDS]
    assert sifted(task(), task(calls=other, intent=OTHER_WORDS)) == [None, None]
    changed = task(calls=other, kind="changed_mind", then=["No, wait, I would rather have it the other way round"])
    assert sifted(task(), changed) == [None, None]


def test_what_no_tool_can_do_is_in_the_words() -> None:
    one = task(kind="irrelevant")
    assert sifted(one, task(kind="irrelevant", intent=OTHER_WORDS)) == [None, None]
    assert sifted(one, task(kind="irrelevant", id="two")) == [None, Drop.SAME_PROBLEM]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, Drop.TRIVIAL),
        ({"kind": "missing_parameter", "facts": FACT}, None),
        ({"kind": "changed_mind", "then": ["No, the other one."]}, None),
        ({"kind": "refusal", "forbidden": {"call": "move", "arguments": {"note": 1}}}, None),
        ({"kind": "irrelevant", "calls": []}, None),
        ({"kind": "read_only", "must_tell": [{"type": "date", "value": "2026-03-02"}]}, None),
    ],
)
def test_one_call_is_trivial_where_nothing_has_to_be_asked_or_told(changes: dict[str, Any], fault: Drop | None) -> None:
    assert sifted(task(**{"calls": [("move", {"note": 3})], **changes})) == [fault]


@pytest.mark.parametrize(
    ("answers", "fault"),
    [
        ([("date", "2026-03-02")], Drop.ANSWER_SAID),
        ([("date", "2026-03-03")], None),
        ([("date", "2026-03-02"), ("money", 1234)], None),
        ([("money", 1000)], Drop.ANSWER_SAID),
        ([("count", 10)], None),
    ],
)
def test_a_question_that_says_its_answer(answers: list[tuple[str, Any]], fault: Drop | None) -> None:
    must_tell = [{"type": kind, "value": value} for kind, value in answers]
    intent = "Did I pay 10.00 on March 2 or so? And for 10 of them?"
    assert sifted(task(kind="read_only", must_tell=must_tell, intent=intent)) == [fault]


def test_the_written_tasks_are_faultless_but_for_single_calls() -> None:
    faults = Counter(sift([sketch_of(one, "w") for one in NOTES]))
    assert set(faults) <= {None, Drop.TRIVIAL}


def test_what_comes_later_changes_nothing() -> None:
    sketches = [sketch_of(one, "w") for one in (*NOTES, *reversed(NOTES))]
    assert sift(sketches[:45]) == sift(sketches)[:45]


# -- what is chosen

NAMES = st.dictionaries(st.sampled_from("abcdef"), st.tuples(st.floats(0, 3), st.integers(0, 9)))


@given(st.integers(0, 60), NAMES)
def test_shares_add_up_and_keep_to_their_room(total: int, names: dict[str, tuple[float, int]]) -> None:
    weights, room = {n: w for n, (w, _) in names.items()}, {n: r for n, (_, r) in names.items()}
    given_out = share_out(total, weights, room)
    assert sum(given_out.values()) == min(total, sum(room.values()))
    assert all(0 <= given_out[name] <= room[name] for name in room)


def test_shares_are_in_proportion() -> None:
    room = dict.fromkeys("abc", 100)
    assert share_out(100, {"a": 1, "b": 2, "c": 1}, room) == {"a": 25, "b": 50, "c": 25}
    assert share_out(10, {"a": 1, "b": 1, "c": 1}, room) == {"a": 4, "b": 3, "c": 3}
    assert share_out(100, {"a": 1, "b": 1, "c": 1}, {**room, "a": 10}) == {"a": 10, "b": 45, "c": 45}


MIX = {Kind.WRITE: 0.5, Kind.READ_ONLY: 0.3, Kind.REFUSAL: 0.2}
ROOMS = st.dictionaries(
    st.sampled_from("abcd"), st.dictionaries(st.sampled_from(list(MIX)), st.integers(0, 30)), min_size=1
)


@given(ROOMS, st.integers(0, 100))
def test_kinds_add_up_and_keep_to_their_room(rooms: dict[str, dict[Kind, int]], count: int) -> None:
    wanted = wanted_kinds(rooms, count, MIX)
    have = sum(sum(kinds.values()) for kinds in rooms.values())
    assert sum(sum(kinds.values()) for kinds in wanted.values()) == min(count, have)
    assert all(number <= rooms[name].get(kind, 0) for name, kinds in wanted.items() for kind, number in kinds.items())


def test_a_kind_that_one_domain_lacks_is_made_up_for_by_others() -> None:
    full = dict.fromkeys(MIX, 100)
    wanted = wanted_kinds({"a": full, "b": {**full, Kind.REFUSAL: 2}}, 100, MIX)
    assert [sum(kinds.values()) for kinds in wanted.values()] == [50, 50]
    over_all = {kind: sum(kinds[kind] for kinds in wanted.values()) for kind in MIX}
    assert all(abs(over_all[kind] - 100 * MIX[kind]) <= 1 for kind in MIX)
    assert wanted["b"][Kind.REFUSAL] == 2


def drawn(random: Random, kind: Kind, tools: str, calls: int) -> Sketch:
    name = random.randbytes(16)
    return Sketch(name, name, kind, calls, frozenset(tools), shingles_of(name.hex()), None)


def test_exactly_the_number_in_balance_and_the_same_again() -> None:
    random = Random(1)
    pool = [drawn(random, random.choice(list(MIX)), random.choice(["ab", "a", "abc"]), 3) for _ in range(400)]
    pool += [drawn(random, random.choice(list(MIX)), "az", 9) for _ in range(60)]
    pools = {"one": pool, "two": [drawn(random, Kind.WRITE, "q", 2) for _ in range(30)]}
    chosen = choose(pools, 130, MIX, 7)
    assert sum(map(len, chosen.values())) == 130
    assert len(chosen["two"]) == 30 and len(set(chosen["one"])) == 100
    assert chosen["one"] == sorted(chosen["one"])
    kinds = Counter(pool[place].kind for place in chosen["one"]) + Counter({Kind.WRITE: 30})
    assert all(abs(kinds[kind] - 130 * MIX[kind]) <= 1 for kind in MIX)
    rare = sum("z" in pool[place].tools for place in chosen["one"])
    assert rare >= 25  # 13 by chance
    assert choose(pools, 130, MIX, 7) == chosen
    assert choose(pools, 130, MIX, 8) != chosen
    assert choose(pools, 1000, MIX, 7) == {name: list(range(len(some))) for name, some in pools.items()}
    assert choose({"none": []}, 10, MIX, 0) == {"none": []}


def test_lengths_are_spread() -> None:
    random = Random(2)
    pool = [drawn(random, Kind.WRITE, "a", 3) for _ in range(100)]
    pool += [drawn(random, Kind.WRITE, "a", 10) for _ in range(20)]
    (chosen,) = choose({"one": pool}, 40, MIX, 0).values()
    assert Counter(length_class(pool[place].num_calls) for place in chosen) == {1: 20, 4: 20}


# -- parting


def test_the_split_is_by_name() -> None:
    names = [f"domain{number}" for number in range(400)]
    held_out = {name for name in names if split_of(name, 0.2) == "held_out"}
    assert 50 < len(held_out) < 110
    assert held_out < {name for name in names if split_of(name, 0.3) == "held_out"}
    assert {split_of(name, 0.0) for name in names} == {"train"}
    assert {split_of(name, 1.0) for name in names} == {"held_out"}
    assert [split_of(name, ("retail",)) for name in ("airline", "retail")] == ["train", "held_out"]
