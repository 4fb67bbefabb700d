from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentscaler.adapters.acebench.match import match_calls, plain, tool_of


def tool(name: str = "find", required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    described = {key: value if isinstance(value, dict) else {"type": value} for key, value in properties.items()}
    return {"name": name, "parameters": {"type": "dict", "properties": described, "required": list(required)}}


def accepts(function: dict[str, Any], given_arguments: dict[str, Any], answer: dict[str, Any]) -> bool:
    return not match_calls([function], [("find", given_arguments)], {"find": answer}).reasons


OBJECTS = {"type": "array", "items": {"type": "object"}}


@pytest.mark.parametrize(
    ("kind", "value", "answer", "right"),
    [
        ("string", "New York City", "new york", True),  # the answer stands in what was given
        ("string", "new_york", "New-York", True),
        ("string", "New\nYork", "New York", True),
        ("string", "York", "New York", False),
        ("string", 5, "5", False),
        ("string", "", "x", False),
        ("string", "true", "true", False),  # as published: the word is a truth value
        ("integer", 5, 5, True),
        ("integer", 5.0, 5, True),
        ("integer", 5.5, 5, False),
        ("integer", "5", 5, False),
        ("number", 2.5, 7.5, True),  # by its type alone
        ("number", "2.5", 2.5, False),
        ("float", 3, 3.0, True),
        ("boolean", "true", True, True),
        ("boolean", "yes", True, False),
        ("boolean", None, True, False),
        ("array", ["A b", "c"], ["ab", "C"], True),
        ("array", ["c", "A b"], ["ab", "C"], False),
        ("array", ["ab"], ["ab", "c"], False),
        ("array", "ab", ["ab"], False),
        ("array", [], ["ab"], False),
        ("array", ["ab"], [], False),
        ("array", [], [], True),
        ("list", ["a"], ["a"], True),
        (OBJECTS, [{"k": "v w"}], [{"k": "V"}], True),
        (OBJECTS, [{"k": "v"}, {"k": "v"}], [{"k": "v"}], False),
        (OBJECTS, [{"k": "x"}], [{"k": "v"}], False),
        (OBJECTS, ["v"], [{"k": "v"}], False),
        (OBJECTS, ["None"], ["None"], True),
        (OBJECTS, ["Some"], ["None"], False),
        ("dict", {"a": {"b": "x y"}}, {"a": {"b": "xy"}}, True),
        ("dict", {"a": {"b": "x"}}, {"a": {"b": "y"}}, False),
        ("dict", {"a": "x", "b": 1}, {"a": "x"}, False),
        ("dict", {"b": "x"}, {"a": "x"}, False),
        ("dict", {"a": "x"}, {"a": {"b": "x"}}, False),
        ("dict", {"a": ["p q"]}, {"a": ["pq"]}, True),
        ("dict", {"a": ["q", "p"]}, {"a": ["p", "q"]}, False),
        ("dict", {"a": False}, {"a": True}, False),
        ("dict", {"a": "true"}, {"a": True}, True),
        ("dict", {"a": 4}, {"a": 5}, False),
        ("dict", "x", {"a": 5}, False),
        ("object", {}, {"a": 5}, False),
        ("date", "x", "y", True),  # a type that is none: by the answer's type
        ("date", 4, "y", False),
    ],
)
def test_values(kind, value, answer, right):
    assert accepts(tool(value=kind), {"value": value}, {"value": answer}) is right


def test_parameters_that_are_missing_or_too_many():
    function = tool(required=("place",), place="string", size="integer", tag="string")
    answer = {"place": "Bern", "size": 3}
    assert accepts(function, {"place": "Bern", "size": 3}, answer)
    assert accepts(function, {"place": "Bern"}, answer)  # an optional one may be left out
    assert not accepts(function, {"size": 3}, answer)
    assert not accepts(function, {"place": "Bern", "tag": "x"}, answer)
    assert not accepts(function, {"place": "Bern", "other": "x"}, answer)
    assert not accepts(function, {}, answer)
    assert not accepts(function, {"place": "Bern"}, {})
    assert accepts(tool(), {}, {})


def test_calls_in_any_order_but_neither_more_nor_fewer():
    functions = [tool("find", ("place",), place="string"), tool("rent", ("code",), code="string")]
    answer = {"find_1": {"place": "Bern"}, "find_2": {"place": "Chur"}, "rent": {"code": "B7"}}
    calls = [("rent", {"code": "B7"}), ("find", {"place": "Chur"}), ("find", {"place": "Bern"})]
    assert not match_calls(functions, calls, answer).reasons
    assert match_calls(functions, calls[:2], answer).reasons
    assert match_calls(functions, [*calls, calls[0]], answer).reasons
    assert match_calls(functions, [calls[1], calls[1], calls[0]], answer).reasons  # Bern is nowhere
    assert match_calls(functions, [calls[0], calls[0], calls[1]], answer).reasons  # rent twice
    assert match_calls(functions, [*calls[:2], ("other", {"place": "Bern"})], answer).reasons
    assert match_calls(functions, [], answer).reasons


def test_a_name_that_ends_in_a_number_is_that_tool():
    functions = [tool("find"), tool("find_2", ("place",), place="string")]
    assert tool_of(functions, "find_2") is functions[1]
    assert tool_of(functions, "find_3") is functions[0]
    assert tool_of(functions, "rent") is None
    assert not match_calls(functions, [("find_2", {"place": "Bern"})], {"find_2": {"place": "Bern"}}).reasons
    assert match_calls(functions, [("find", {})], {"rent": {}}).reasons


def test_one_of_several_answers_is_enough_and_reasons_are_those_of_the_first():
    function = tool("find", ("place",), place="string")
    answers = [{"find": {"place": "Bern"}}, {"find": {"place": "Chur"}}]
    assert not match_calls([function], [("find", {"place": "Chur"})], answers).reasons
    assert "'Bern'" in match_calls([function], [("find", {"place": "Thun"})], answers).reasons[0]
    assert match_calls([function], [], []).reasons


def test_a_number_is_not_compared_but_named():
    match = match_calls(
        [tool(size="integer", ok="boolean")], [("find", {"size": 4, "ok": True})], {"find": {"size": 5, "ok": True}}
    )
    assert match.reasons == ()
    assert len(match.unchecked) == 1 and "size is 4, not 5" in match.unchecked[0]


def test_of_several_calls_that_match_the_one_that_is_equal_is_taken():
    calls = [("find", {"size": 4}), ("find", {"size": 5})]
    match = match_calls([tool(size="integer")], calls, {"find_1": {"size": 5}, "find_2": {"size": 4}})
    assert match.reasons == match.unchecked == ()


def test_arguments_without_end_are_a_reason_and_no_crash():
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert match_calls(
        [tool(value="dict")], [("find", {"value": {"a": deep}})], {"find": {"value": {"a": "x"}}}
    ).reasons


TEXTS = st.text(alphabet="abcXYZ -_/", min_size=1, max_size=8).filter(lambda text: plain(text))
OBJECT = st.dictionaries(st.sampled_from("pqrs"), TEXTS | st.integers(0, 99) | st.booleans(), min_size=1, max_size=3)
SCHEMAS = {
    "string": ({"type": "string"}, TEXTS),
    "texts": ({"type": "array", "items": {"type": "string"}}, st.lists(TEXTS, max_size=3)),
    "object": ({"type": "dict"}, OBJECT),
    "objects": ({"type": "array", "items": {"type": "object"}}, st.lists(OBJECT, max_size=3)),
    "number": ({"type": "number"}, st.integers() | st.floats(allow_nan=False)),
    "truth": ({"type": "boolean"}, st.booleans()),
}


@st.composite
def answers(draw: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    kinds = draw(st.lists(st.sampled_from(sorted(SCHEMAS)), min_size=1, max_size=4, unique=True))
    function = tool("find", tuple(kinds), **{kind: SCHEMAS[kind][0] for kind in kinds})
    return function, {kind: draw(SCHEMAS[kind][1]) for kind in kinds}


@given(answers(), st.data())
def test_an_answer_is_its_own_match_and_a_broken_one_is_none(drawn, data):
    function, answer = drawn
    assert accepts(function, answer, answer)
    key = data.draw(st.sampled_from(sorted(answer)))
    broken = copy.deepcopy(answer)
    broken[key] = {
        "string": "no",
        "texts": [*answer.get("texts", ()), "no"],
        "object": {**answer.get("object", {}), "z": 1},
        "objects": [*answer.get("objects", ()), {"z": 1}],
        "number": "no",
        "truth": "no",
    }[key]
    assert not accepts(function, broken, answer)
    assert not accepts(function, {k: v for k, v in answer.items() if k != key}, answer)
    assert not accepts(function, {**answer, "more": 1}, answer)
