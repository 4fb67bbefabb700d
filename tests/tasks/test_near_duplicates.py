"""Near-duplicates. Promises: exactly those are found that a comparison of all pairs finds; what comes later changes nothing before it;
letter case and punctuation make no other text."""

from __future__ import annotations

from array import array
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentscaler.tasks.near_duplicates import near_duplicates, shingles_of

SETS = st.lists(st.sets(st.integers(0, 14), min_size=1, max_size=14), max_size=12)
THRESHOLDS = st.sampled_from([0.3, 0.5, 0.75, 0.8, 0.9, 1.0])


def of_all_pairs(sets: list[set[int]], threshold: float) -> list[int]:
    kept: list[set[int]] = []
    dropped = []
    for place, one in enumerate(sets):
        if any(len(one & other) >= threshold * len(one | other) for other in kept):
            dropped.append(place)
        else:
            kept.append(one)
    return dropped


@given(SETS, THRESHOLDS)
@settings(max_examples=400)
def test_as_a_comparison_of_all_pairs(sets: list[set[int]], threshold: float) -> None:
    texts = [array("I", one) for one in sets]
    found = list(near_duplicates(texts, threshold))
    assert found == of_all_pairs(sets, threshold)
    half = len(texts) // 2
    assert list(near_duplicates(texts[:half], threshold)) == [place for place in found if place < half]


def test_long_texts_at_the_threshold() -> None:
    """Where the sizes are such that ceil() and floats could disagree."""
    for size in range(1, 200):
        one = set(range(size))
        for missing in range(size // 5 + 1):
            other = {*range(missing, size)}
            texts = [array("I", one), array("I", other)]
            alike = 10 * (size - missing) >= 9 * size
            assert list(near_duplicates(texts, 0.9)) == ([1] if alike else [])


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("Please move my flight to Monday.", "please move my flight to monday", True),
        ("Please  move\nmy flight, to Monday!", "Please move my flight to Monday", True),
        ("Please move my flight to Monday", "Please move my flight to Tuesday", False),
        ("Yes", "No", False),
        ("", "", True),
    ],
)
def test_words_alone_count(one: str, other: str, alike: bool) -> None:
    assert bool(list(near_duplicates([shingles_of(one), shingles_of(other)], 0.9))) is alike


def test_a_word_in_a_long_text_makes_no_other_one() -> None:
    random = Random(1)
    words = [f"word{random.randrange(1000)}" for _ in range(90)]
    changed = [*words[:40], "else", *words[41:]]
    texts = [shingles_of(" ".join(words)), shingles_of(" ".join(changed)), shingles_of(" ".join(words[:45]))]
    assert list(near_duplicates(texts, 0.9)) == [1]
