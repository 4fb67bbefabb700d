from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentscaler.adapters.acebench.call_text import NotCalls, read_arguments, read_calls, read_milestone, write_calls

WORDS = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="'\\", exclude_categories=("Cc", "Cs")))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)
NAMES = st.from_regex(r"[a-z][a-z0-9]{0,6}(\.[a-z][a-z0-9]{0,4})?_x", fullmatch=True)
KEYS = st.from_regex(r"[a-z][a-z0-9]{0,6}_x", fullmatch=True)


@settings(max_examples=40)
@given(st.lists(st.tuples(NAMES, st.dictionaries(KEYS, VALUES, max_size=3)), min_size=1, max_size=3))
def test_what_is_written_is_read_back(calls):
    assert read_calls(write_calls(calls)) == calls
    assert read_milestone(write_calls(calls)) == calls


def test_reads_the_benchmarks_own_form():
    text = """ [Find(place="New York", tags=['a', 'b'], deep={"k": [-1, 2.5]}, ok=true, no=False, word=Asia), Other.one()] """
    assert read_calls(text) == [
        (
            "Find",
            {
                "place": "New York",
                "tags": ["a", "b"],
                "deep": {"k": [-1, 2.5]},
                "ok": True,
                "no": False,
                "word": "Asia",
            },
        ),
        ("Other.one", {}),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot do that.",
        "[]",
        "['Missing necessary parameters (place) for the api (Find)']",
        "Find(place='x')",
        "[Find('x')]",
        "[Find(**{'place': 'x'})]",
        "[Find(place=open('/etc/passwd'))]",
        "[Find(place=1 + 1)]",
        "[Find(place=x.y)]",
        "[Find(place='x']",
        "[Find(place={1: 2})]",
        "[Find(place={**x})]",
        "[(lambda: 1)()]",
        "Sure: [Find(place='x')]",
        "[Find(place='\0')]",
        "[" * 500,
    ],
)
def test_refuses_what_is_no_list_of_calls_with_literals(text):
    with pytest.raises(NotCalls):
        read_calls(text)


def test_an_apostrophe_inside_quotes_is_mended_in_milestones_alone():
    text = "[order(shop='Domino's', items=[{'product':'Pizza', 'note': 'Don't'}])]"
    with pytest.raises(NotCalls):
        read_calls(text)
    calls = [("order", {"shop": "Domino's", "items": [{"product": "Pizza", "note": "Don't"}]})]
    assert read_milestone(text) == calls
    assert write_calls(calls) == text.replace("':'", "': '")


def test_arguments_of_a_native_call():
    assert read_arguments('{"a": 1}') == {"a": 1}
    assert read_arguments("[1]") is None
    assert read_arguments('{"a":') is None
