"""Reference calls are parsed, never evaluated; an agent's arguments are read as the package reads them."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentscaler.adapters.bfcl.calls import Call, parse_call, read_call
from tests.adapters.bfcl.beside import spell

LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
UNHURRIED = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
NAMES = st.sampled_from(["cd", "ls", "post_tweet", "startEngine"])


@UNHURRIED
@given(NAMES, st.dictionaries(st.sampled_from(["a", "folder", "x_1"]), LITERALS), st.lists(LITERALS, max_size=2))
def test_what_was_spelled_is_read_back(name: str, arguments: dict[str, object], positional: list[object]) -> None:
    call = Call(name, arguments, tuple(positional))
    assert parse_call(spell(call)) == call


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cd",
        "cd(",
        "cd(folder=name)",
        "cd(folder=other(x=1))",
        "cd(folder='a' + 'b')",
        "cd(folder=[open('x')])",
        "cd(*['x'])",
        "cd(**{'folder': 'x'})",
        "os.remove('x')",
        "(lambda: 1)()",
        "cd('x'); rm('y')",
        "x = cd('y')",
        "cd(f'{1}')",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_call(text)


@UNHURRIED
@given(st.dictionaries(st.text(), LITERALS))
def test_arguments_are_json_objects(arguments: dict[str, object]) -> None:
    assert read_call("cd", json.dumps(arguments)) == Call("cd", arguments)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "1", "null", '"x"', "{'folder': 'x'}", '{"a": 1} {"b": 2}', "[" * 100_000]
)
def test_what_is_no_object_is_no_call(text: str) -> None:
    assert read_call("cd", text) is None


def test_arguments_that_fail_whatever_is_called() -> None:
    nested = "[" * 150 + "]" * 150
    faults = [
        ("NaN", "name 'nan' is not defined"),
        ("-Infinity", "name 'inf' is not defined"),
        ("1e999", "name 'inf' is not defined"),
        ('[{"y": [1, NaN]}]', "name 'nan' is not defined"),
        (nested, "too many nested parentheses"),
    ]
    for text, words in faults:
        call = read_call("add", f'{{"a": {text}}}')
        assert call is not None and call.fault.startswith(words)
    call = read_call("add", '{"a": [[1.5, "NaN"]]}')
    assert call is not None and call.fault == ""
