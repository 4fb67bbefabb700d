from __future__ import annotations

import pytest

from agentscaler.adapters.acebench.special import check_words, right_words

CASES = {
    "special_incomplete": {"find": ["place", "date"], "rent": ["code"]},
    "special_error_param": {"place": ["B3rn"], "date": ["soon", "never"]},
    "special_irrelevant": "Due to the limitations of the function, I cannot solve this problem.",
}


@pytest.mark.parametrize("kind", CASES)
def test_the_benchmarks_own_words_are_right(kind):
    assert check_words(kind, right_words(kind, CASES[kind]), CASES[kind]) == []
    assert check_words(kind, f'["{right_words(kind, CASES[kind])}"]', CASES[kind]) == []


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("words", ["", "Sure.", "[find(place='Bern')]", "missing NECESSARY parameters (place, date)"])
def test_other_words_are_wrong(kind, words):
    assert check_words(kind, words, CASES[kind])


@pytest.mark.parametrize("kind", CASES)
def test_the_sentence_of_another_case_is_wrong(kind):
    for other in CASES.keys() - {kind}:
        assert check_words(kind, right_words(other, CASES[other]), CASES[kind])


@pytest.mark.parametrize(
    ("kind", "word"), [("special_incomplete", w) for w in ("place", "date", "code", "find", "rent")]
)
def test_every_name_must_be_said(kind, word):
    words = right_words(kind, CASES[kind]).replace(word, "…")
    assert len(check_words(kind, words, CASES[kind])) == 1


@pytest.mark.parametrize("word", ["B3rn", "soon", "never"])
def test_every_wrong_value_must_be_said(word):
    words = right_words("special_error_param", CASES["special_error_param"]).replace(word, "…")
    assert len(check_words("special_error_param", words, CASES["special_error_param"])) == 1
