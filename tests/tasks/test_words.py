"""Words with slots: forms, tidying, what is refused."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentscaler.tasks.words import FORMS, check_words, fill, slots_of, tidy
from agentscaler.verify.call_match import is_told


def test_slots_are_found_and_filled():
    words = "put {n:more bag} on {trip}, {first.n} was wrong"
    assert slots_of(words) == {"n", "trip", "first.n"}
    assert fill("{trip} on {n:number}", {"trip": "my trip", "n": 30}, Random(1)) == "my trip on 30"


@pytest.mark.parametrize(
    ("words", "tidied"),
    [
        ("hello .  it is me , ann", "Hello. It is me, ann"),
        ("ann.lee@example.org. move it", "ann.lee@example.org. Move it"),
        ("at 2:05 p.m. tomorrow", "At 2:05 p.m. tomorrow"),
        ("the note.. really", "The note. Really"),
    ],
)
def test_sentences_are_tidied(words: str, tidied: str):
    assert tidy(words) == tidied


def test_wrong_patterns_are_told():
    assert "form 'dya'" in str(check_words("on {date:dya}"))
    assert check_words("a { alone") == "a brace that is no slot"
    assert check_words("on {date:day} for {cents:money $}") is None


@given(st.dates(min_value=__import__("datetime").date(2000, 1, 1)), st.integers(0, 2**32))
def test_a_date_is_told_in_every_form(date, seed: int):
    for form in ("day", "birthday", "day week"):
        said = fill(f"on {{date:{form}}}.", {"date": date.isoformat()}, Random(seed))
        assert is_told("date", date.isoformat(), said), said


@given(st.integers(0, 5_000_000), st.integers(0, 2**32))
def test_money_is_told_in_every_form(cents: int, seed: int):
    for unit in ("euros", "$"):
        said = fill(f"it is {{c:money {unit}}} now", {"c": cents}, Random(seed))
        assert is_told("money", cents, said.replace("$", " ")), said


@given(st.integers(1, 12), st.integers(0, 2**32))
def test_a_count_is_told(number: int, seed: int):
    said = fill("{n:count bag}", {"n": number}, Random(seed))
    assert is_told("count", number, said)
    assert said.endswith("bag" if number == 1 else "bags")


def test_every_form_takes_a_value_of_its_kind():
    values = {
        "day": "2026-05-20",
        "nth": "2026-05-20",
        "birthday": "1990-01-02",
        "money": 1250,
        "count": 2,
        "more": 1,
        "number": 3,
        "time": "14:05",
    }
    for form in FORMS:
        assert FORMS[form](values.get(form, "some_word"), "bag", Random(0))


@pytest.mark.parametrize("form", sorted(FORMS))
@pytest.mark.parametrize("value", [4.5, "09:00", "May 2019", "2026-05-01", "", -3, True])
def test_a_value_of_another_form_stands_as_it_is(form: str, value: object) -> None:
    """Forms are guessed from names where nobody wrote a world's words: a wrong guess is no crash."""
    assert isinstance(fill(f"{{it:{form} week/weeks}}", {"it": value}, Random(0)), str)
