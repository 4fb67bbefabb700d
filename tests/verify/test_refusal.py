"""Promise: the refusal patterns err on at most 5 % of all labelled replies, and on at most 8 % of those never tuned on."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from agentscaler.verify.refusal import declines

REPLIES = yaml.safe_load((Path(__file__).parent / "refusals.yaml").read_text())["replies"]


def error_rate(replies: list[dict]) -> float:
    return sum(declines(one["reply"]) != one["declines"] for one in replies) / len(replies)


def test_error_rate_on_labelled_replies() -> None:
    held_out = [one for one in REPLIES if one.get("held_out")]
    tuned = [one for one in REPLIES if not one.get("held_out")]
    whole, held = error_rate(REPLIES), error_rate(held_out)
    print(
        f"refusal patterns: {whole:.1%} of {len(REPLIES)} wrong; tuned on {error_rate(tuned):.1%}, held out {held:.1%}"
    )
    assert whole <= 0.05
    assert held <= 0.08


def test_no_report_of_the_deed_is_taken_for_a_refusal() -> None:
    """The costly error: a reply that did, promised or asked, counted as a refusal. At most 2 %."""
    others = [one for one in REPLIES if not one["declines"]]
    assert error_rate(others) <= 0.02


def test_the_set_is_large_and_has_both_sides() -> None:
    assert sum(one["declines"] for one in REPLIES) >= 60
    assert sum(not one["declines"] for one in REPLIES) >= 60
    assert sum(bool(one.get("held_out")) for one in REPLIES) >= len(REPLIES) / 4
    assert len({one["reply"] for one in REPLIES}) == len(REPLIES)


@pytest.mark.parametrize("words", ["", " ", "?", "no", "the policy " * 4000, "nothing left i'm not " * 2000])
def test_degenerate_replies_end_quickly_and_are_no_refusals(words: str) -> None:
    assert not declines(words)


@pytest.mark.parametrize(
    ("words", "refuses"),
    [
        ("As much as I would like to help, I may not do this.", True),
        ("The rules are clear that no refund may be given in this case.", True),
        ("I've cancelled it, and the fee won't be charged.", False),
        ("I have refunded it; you cannot use the voucher any more.", False),
        ("I cannot say how glad I am to help.", False),
        ("I may not have understood you.", False),
        ("I am sorry, I cannot book hotels. We only handle flights, so I have booked nothing.", True),
        ("I cannot assign seats, so I have changed nothing.", True),
    ],
)
def test_what_held_out_wordings_showed(words: str, refuses: bool) -> None:
    """Found wrong by fresh readers or by the measurement of error rates (`verify/soundness/rates.py`), and mended."""
    assert declines(words) is refuses
