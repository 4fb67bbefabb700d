"""Dials. Promises: the defaults ask for every kind; what no task could satisfy is an error that names the dial; equal demands have equal
digests."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from agentscaler.tasks.dials import Dials
from agentscaler.tasks.task import Kind


def test_the_defaults_ask_for_every_kind_at_least_three_times_in_a_hundred() -> None:
    dials = Dials()
    assert dials.kinds == tuple(Kind)
    assert sum(dials.shares.values()) == pytest.approx(1)
    assert min(dials.shares.values()) >= 0.03


@pytest.mark.parametrize(
    ("dials", "words"),
    [
        ({"mix": {"write": 0}}, "mix: sums to 0"),
        ({"mix": {}}, "mix: sums to 0"),
        ({"mix": {"write": -1}}, "mix.write"),
        ({"mix": {"write": float("nan")}}, "mix.write"),
        ({"mix": {"wirte": 1}}, "mix.wirte"),
        ({"min_calls": 5, "max_calls": 4}, "min_calls: 5"),
        ({"goals": [1, 2]}, "goals: 1"),
        ({"goals": []}, "goals"),
        ({"goals": [2, 5], "max_calls": 4, "mix": {"multi_goal": 1}}, "max_calls: 4, but a multi_goal task"),
        ({"max_calls": 1, "mix": {"recovery": 1}}, "max_calls: 1, but a recovery task"),
        ({"max_writes": 0}, "max_writes: 0, but mix asks for write, multi_goal"),
        ({"max_writes": 0, "mix": {"write": 1}}, "max_writes: 0"),
        ({"min_writes": 3, "max_writes": 2}, "min_writes: 3"),
        ({"min_writes": 3, "max_calls": 2, "mix": {"write": 1}}, "min_writes: 3 is more than max_calls"),
        ({"extra_reads": 1.5}, "extra_reads"),
        ({"colour": 1}, "colour"),
    ],
)
def test_what_cannot_be_satisfied_names_the_dial(dials: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as error:
        Dials.model_validate(dials)
    first = error.value.errors()[0]
    assert words in f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def test_what_does_not_write_needs_no_writes() -> None:
    assert Dials.model_validate({"mix": {"read_only": 2, "refusal": 1}, "max_writes": 0}).shares == {
        Kind.READ_ONLY: pytest.approx(2 / 3),
        Kind.REFUSAL: pytest.approx(1 / 3),
    }


def test_equal_demands_have_equal_digests() -> None:
    one = Dials(mix={Kind.WRITE: 1, Kind.REFUSAL: 3})
    assert one.dials_digest == Dials(mix={Kind.REFUSAL: 0.75, Kind.WRITE: 0.25, Kind.RECOVERY: 0}).dials_digest
    assert one.dials_digest != Dials(mix={Kind.WRITE: 1}).dials_digest
    assert one.dials_digest != Dials(mix={Kind.WRITE: 1, Kind.REFUSAL: 3}, max_calls=9).dials_digest
    assert Dials.model_validate(one.model_dump(mode="json")) == one


def test_no_more_goals_than_anybody_says() -> None:
    with pytest.raises(ValidationError, match="goals: 10 is more than 9"):
        Dials(goals=(10,))
