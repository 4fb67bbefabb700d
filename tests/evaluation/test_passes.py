"""Promises: both estimators are the share of k-subsets that pass; figures of k hold the tasks with k finished trials and no others; an
interval holds its value, is that of resampled tasks, and asks for no order; what no task finished is null, never zero."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentscaler.evaluation.passes import (
    CALL_BUCKETS,
    Measure,
    TaskTrials,
    call_bucket,
    estimate,
    figures,
    pass_at,
    pass_hat,
)

MEASURES: tuple[Measure, ...] = ("pass_hat", "pass_at")
BOTH = pytest.mark.parametrize("how", MEASURES)


def made(finished: int, passed: int, number: int = 0, **changes: object) -> TaskTrials:
    fields = {"domain": "airline", "kind": "single", "num_calls": 2, **changes}
    return TaskTrials(task_id=f"t{number}", num_finished=finished, num_passed=passed, **fields)  # pyright: ignore[reportArgumentType]


@st.composite
def counts(draw: st.DrawFn, largest: int = 40) -> tuple[int, int, int]:
    n = draw(st.integers(1, largest))
    return n, draw(st.integers(0, n)), draw(st.integers(1, n))


@st.composite
def task_lists(draw: st.DrawFn) -> list[TaskTrials]:
    tasks = []
    for number in range(draw(st.integers(0, 25))):
        n = draw(st.integers(0, 6))
        tasks.append(
            made(
                n,
                draw(st.integers(0, n)),
                number,
                domain=draw(st.sampled_from(["airline", "retail"])),
                kind=draw(st.sampled_from(["single", "multi_turn"])),
                num_calls=draw(st.integers(0, 30)),
            )
        )
    return tasks


@given(counts(largest=7))
def test_estimators_are_shares_of_subsets(count: tuple[int, int, int]) -> None:
    n, c, k = count
    subsets = list(combinations([True] * c + [False] * (n - c), k))
    assert pass_hat(n, c, k) == pytest.approx(sum(map(all, subsets)) / len(subsets), abs=1e-12)
    assert pass_at(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets), abs=1e-12)


@given(counts())
def test_estimators_rise_with_what_passed(count: tuple[int, int, int]) -> None:
    n, c, k = count
    assert pass_hat(n, n, k) == pass_at(n, n, k) == 1
    assert pass_hat(n, 0, k) == pass_at(n, 0, k) == 0
    if c < n:
        assert pass_hat(n, c, k) <= pass_hat(n, c + 1, k)
        assert pass_at(n, c, k) <= pass_at(n, c + 1, k)


@given(counts())
def test_pass_hat_falls_and_pass_at_rises_with_k(count: tuple[int, int, int]) -> None:
    n, c, k = count
    assert pass_hat(n, c, 1) == pass_at(n, c, 1) == c / n
    assert pass_hat(n, c, k) <= c / n <= pass_at(n, c, k)
    if k < n:
        assert pass_hat(n, c, k + 1) <= pass_hat(n, c, k)
        assert pass_at(n, c, k + 1) >= pass_at(n, c, k)


@given(counts())
def test_one_measure_is_the_other_of_the_failures(count: tuple[int, int, int]) -> None:
    n, c, k = count
    assert pass_at(n, c, k) == pytest.approx(1 - pass_hat(n, n - c, k), abs=1e-12)


def test_large_numbers_do_not_overflow() -> None:
    assert pass_hat(20_000, 10_000, 2) == pytest.approx(0.25, rel=1e-3)
    # Both numbers of subsets have hundreds of digits: no float holds them.
    assert math.comb(1_500, 1_000) > 10**400
    assert pass_hat(3_000, 1_500, 1_000) == pytest.approx(
        math.exp(sum(math.log((1_500 - i) / (3_000 - i)) for i in range(1_000))), rel=1e-9
    )
    assert pass_at(3_000, 1_500, 1_000) == 1.0


@pytest.mark.parametrize("count", [(4, 2, 5), (4, 5, 2), (4, -1, 2), (4, 2, 0), (0, 0, 1)])
@pytest.mark.parametrize("of_task", [pass_hat, pass_at])
def test_there_is_no_estimate_beyond_the_trials(
    of_task: Callable[[int, int, int], float], count: tuple[int, int, int]
) -> None:
    with pytest.raises(ValueError, match="no estimate"):
        of_task(*count)


@pytest.mark.parametrize("wrong", [{"passed": 3}, {"passed": -1}, {"num_calls": -1}])
def test_impossible_counts_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="t0: "):
        made(**{"finished": 2, "passed": 1, **wrong})


@BOTH
@given(tasks=task_lists(), k=st.integers(1, 4))
@settings(deadline=None)
def test_an_interval_holds_its_value(tasks: list[TaskTrials], k: int, how: Measure) -> None:
    found = estimate(tasks, k, how)
    kept = [task for task in tasks if task.num_finished >= k]
    assert (found.num_tasks, found.num_left_out) == (len(kept), len(tasks) - len(kept))
    if not kept:
        assert found.value is found.low is found.high is None
        return
    assert found.value is not None and found.low is not None and found.high is not None
    of_task = pass_hat if how == "pass_hat" else pass_at
    assert found.value == pytest.approx(
        sum(of_task(task.num_finished, task.num_passed, k) for task in kept) / len(kept), abs=1e-9
    )
    assert 0 <= found.low <= found.value <= found.high <= 1
    if len(kept) == 1:
        assert found.low == found.value == found.high


@BOTH
@given(tasks=task_lists(), data=st.data())
@settings(deadline=None)
def test_the_order_of_tasks_is_nothing(tasks: list[TaskTrials], data: st.DataObject, how: Measure) -> None:
    assert estimate(data.draw(st.permutations(tasks)), 2, how) == estimate(tasks, 2, how)


@BOTH
def test_the_interval_is_that_of_resampled_tasks(how: Measure) -> None:
    """Beside the plain way: tasks drawn one by one."""
    passed = [0] * 18 + [1] * 5 + [2] * 4 + [3] * 6 + [4] * 27
    found = estimate([made(4, c, number) for number, c in enumerate(passed)], 2, how)
    of_task = pass_hat if how == "pass_hat" else pass_at
    values = np.array([of_task(4, c, 2) for c in passed])
    drawn = values[np.random.default_rng(7).integers(0, len(values), (20_000, len(values)))].mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=0.012) and found.high == pytest.approx(high, abs=0.012)
    assert high - low > 0.15


@BOTH
def test_an_interval_covers_the_truth_about_as_often_as_it_says(how: Measure) -> None:
    """300 evaluations of 60 tasks drawn from a known world; a 95 % interval of so few misses a little more often than 1 in 20."""
    chances, trials, k = np.array([0.1, 0.5, 0.9, 0.98]), 4, 2
    truth = float(np.mean(chances**k if how == "pass_hat" else 1 - (1 - chances) ** k))
    random = np.random.default_rng(3)
    held = 0
    for _ in range(300):
        passed = random.binomial(trials, random.choice(chances, 60))
        found = estimate([made(trials, int(c), number) for number, c in enumerate(passed)], k, how)
        assert found.low is not None and found.high is not None
        held += found.low <= truth <= found.high
    assert 0.90 <= held / 300 <= 0.985


def test_more_tasks_make_a_narrower_interval() -> None:
    def width(number: int) -> float:
        found = estimate([made(1, place % 2, place) for place in range(number)], 1, "pass_hat")
        assert found.low is not None and found.high is not None
        return found.high - found.low

    assert width(20) > 1.5 * width(80) > 2 * width(320) > 0


@pytest.mark.parametrize(
    ("num_calls", "bucket"), [(0, "0"), (8, "8"), (9, "9-12"), (12, "9-12"), (13, "13-20"), (20, "13-20"), (21, "21+")]
)
def test_call_buckets(num_calls: int, bucket: str) -> None:
    assert call_bucket(num_calls) == bucket


def test_figures_of_a_small_evaluation() -> None:
    tasks = [
        made(4, 4, 1, num_calls=10),
        made(4, 2, 2, domain="retail", num_calls=2),
        made(3, 0, 3, domain="retail", kind="multi_turn", num_calls=30),
        made(0, 0, 4, domain="telecom", num_calls=0),
    ]
    found = figures(tasks, 4)
    assert (found["tasks"], found["finished"], found["passed"]) == (4, 11, 6)
    assert [found["pass_hat"][k]["value"] for k in "1234"] == [0.5, 0.3889, 0.3333, 0.5]
    assert [found["pass_hat"][k]["tasks"] for k in "1234"] == [3, 3, 3, 2]
    assert [found["pass_at"][k]["value"] for k in "1234"] == [0.5, 0.6111, 0.6667, 1.0]
    assert list(found["by_domain"]) == ["airline", "retail", "telecom"]
    assert list(found["by_kind"]) == ["multi_turn", "single"]
    assert list(found["by_num_calls"]) == ["0", "2", "9-12", "21+"]
    retail = found["by_domain"]["retail"]
    assert (retail["tasks"], retail["finished"], retail["passed"]) == (2, 7, 2)
    assert retail["pass_hat"]["1"] == {"value": 0.25, "low": 0.0, "high": 0.5, "tasks": 2}
    assert retail["pass_hat"]["4"] == {"value": 0.0, "low": 0.0, "high": 0.0, "tasks": 1}
    nothing = {"value": None, "low": None, "high": None, "tasks": 0}
    assert found["by_domain"]["telecom"]["pass_at"] == dict.fromkeys("1234", nothing)


def test_nothing_finished_is_null_and_not_zero() -> None:
    for tasks in ([], [made(0, 0, number) for number in range(3)]):
        found = figures(tasks, 2)
        assert {one["value"] for how in MEASURES for one in found[how].values()} == {None}
        assert found["tasks"] == len(tasks) and found["finished"] == found["passed"] == 0
    with pytest.raises(ValueError, match="at least one trial"):
        figures([], 0)


@given(tasks=task_lists(), trials=st.integers(1, 6))
@settings(deadline=None, max_examples=40)
def test_figures_are_plain_json_and_groups_add_up(tasks: list[TaskTrials], trials: int) -> None:
    found = figures(tasks, trials)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["pass_hat"]["1"] == found["pass_at"]["1"]
    for name in ("by_domain", "by_kind", "by_num_calls"):
        for count in ("tasks", "finished", "passed"):
            assert sum(group[count] for group in found[name].values()) == found[count]
        for k in range(1, trials + 1):
            one, groups = found["pass_hat"][str(k)], [group["pass_hat"][str(k)] for group in found[name].values()]
            assert sum(group["tasks"] for group in groups) == one["tasks"]
            if one["tasks"]:
                mean = sum(group["value"] * group["tasks"] for group in groups if group["tasks"]) / one["tasks"]
                assert one["value"] == pytest.approx(mean, abs=2e-4)
    assert set(found["by_num_calls"]) <= set(CALL_BUCKETS)


@given(passed=st.lists(st.integers(0, 5), min_size=2, max_size=30))
@settings(deadline=None, max_examples=40)
def test_bounds_fall_and_rise_with_k_like_their_values(passed: list[int]) -> None:
    found = figures([made(5, c, number) for number, c in enumerate(passed)], 5)
    for end in ("value", "low", "high"):
        hats, ats = ([found[how][k][end] for k in "12345"] for how in MEASURES)
        assert hats == sorted(hats, reverse=True) and ats == sorted(ats)
