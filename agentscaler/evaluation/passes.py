"""How often tasks are solved in several trials: pass^k (solved in all of k trials) and pass@k (in at least one), with intervals.

Both are unbiased for a task with n >= k finished trials: each is the share of the k-subsets of its trials that pass. pass^k is of
τ-bench (arXiv 2406.12045), pass@k of Chen et al. 2021 (arXiv 2107.03374). A figure is the mean over tasks, and its interval a percentile
bootstrap over tasks: trials of one task are not independent of each other, tasks are taken to be.

Void trials are not finished: they are in no figure. A task with fewer than k finished trials is left out of the figures of k. A figure
of no task is null. The intervals know only the tasks that were seen: where all of them passed (or none did) they have no width.

Reads no shards and draws nothing; that is `cluster/evaluation_figures.py`.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Measure = Literal["pass_hat", "pass_at"]

COVERAGE = 0.95
RESAMPLES = 2000
SEED = 20240612
DIGITS = 4
# The number of calls of a task's reference, in the order in which the figure shows them.
EXACT_CALLS = 8
CALL_BUCKETS = (*(str(number) for number in range(EXACT_CALLS + 1)), "9-12", "13-20", "21+")


@dataclass(frozen=True, slots=True)
class TaskTrials:
    """What became of one task's trials. `num_finished` leaves out void ones."""

    task_id: str
    domain: str
    kind: str
    num_calls: int
    num_finished: int
    num_passed: int

    def __post_init__(self) -> None:
        if not 0 <= self.num_passed <= self.num_finished or self.num_calls < 0:
            raise ValueError(
                f"{self.task_id}: {self.num_passed} of {self.num_finished} trials passed, {self.num_calls} calls"
            )


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over `num_tasks` tasks and its 95 % interval; None where there is no task."""

    value: float | None
    low: float | None
    high: float | None
    num_tasks: int
    num_left_out: int = 0  # tasks with fewer than k finished trials


def pass_hat(n: int, c: int, k: int) -> float:
    """The chance that k trials, drawn from n of which c passed, passed all."""
    _check(n, c, k)
    # Whole numbers of any size, divided once: exact to the last bit, and no overflow.
    return math.comb(c, k) / math.comb(n, k)


def pass_at(n: int, c: int, k: int) -> float:
    """The chance that of k trials, drawn from n of which c passed, at least one passed."""
    _check(n, c, k)
    every = math.comb(n, k)
    return (every - math.comb(n - c, k)) / every


def estimate(tasks: Iterable[TaskTrials], k: int, how: Measure) -> Estimate:
    """The mean over the tasks with at least k finished trials."""
    return _estimate(_cells(tasks), k, how)


def figures(tasks: Sequence[TaskTrials], trials: int) -> dict[str, Any]:
    """All figures of an evaluation with so many trials a task, as plain JSON for `summary.json`: of all tasks, by domain, by kind and by
    the number of calls. `tasks` beside an estimate counts those that are in it; in a group, all of the group."""
    if trials < 1:
        raise ValueError(f"an evaluation has at least one trial a task, not {trials}")
    return {
        **_group(tasks, trials),
        "by_domain": _by(tasks, trials, lambda task: task.domain),
        "by_kind": _by(tasks, trials, lambda task: task.kind),
        "by_num_calls": _by(tasks, trials, lambda task: call_bucket(task.num_calls), CALL_BUCKETS.index),
    }


def call_bucket(num_calls: int) -> str:
    if num_calls <= EXACT_CALLS:
        return str(num_calls)
    return "9-12" if num_calls <= 12 else "13-20" if num_calls <= 20 else "21+"


def _check(n: int, c: int, k: int) -> None:
    if not (1 <= k <= n and 0 <= c <= n):
        raise ValueError(f"no estimate for k = {k} of n = {n} trials with c = {c} passed")


def _cells(tasks: Iterable[TaskTrials]) -> Counter[tuple[int, int]]:
    """How many tasks have so many finished and so many passed trials: no figure asks for more."""
    return Counter((task.num_finished, task.num_passed) for task in tasks)


def _estimate(cells: Counter[tuple[int, int]], k: int, how: Measure) -> Estimate:
    # Sorted, so that neither the order of the tasks nor that of the cells shows.
    kept = sorted((cell, number) for cell, number in cells.items() if cell[0] >= k)
    num_tasks = sum(number for _, number in kept)
    left_out = sum(cells.values()) - num_tasks
    if not kept:
        return Estimate(None, None, None, 0, left_out)
    of_task = pass_hat if how == "pass_hat" else pass_at
    values = np.array([of_task(n, c, k) for (n, c), _ in kept])
    numbers = np.array([number for _, number in kept])
    value = math.fsum(values * numbers) / num_tasks
    if num_tasks < 2:
        return Estimate(value, value, value, num_tasks, left_out)
    # Drawing tasks with replacement is a multinomial draw over the cells: as many columns as cells, not as tasks (2 ms instead of 400
    # at 5,000 tasks). The same seed and cells give the same draws for every k, so the bounds too fall (pass^k) or rise (pass@k) with k.
    draws = np.random.default_rng(SEED).multinomial(num_tasks, numbers / num_tasks, size=RESAMPLES)
    low, high = np.quantile(draws @ values / num_tasks, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    # Equal values may differ in their last bit after two ways of summing.
    return Estimate(value, min(float(low), value), max(float(high), value), num_tasks, left_out)


def _group(tasks: Sequence[TaskTrials], trials: int) -> dict[str, Any]:
    cells = _cells(tasks)
    measures: tuple[Measure, ...] = ("pass_hat", "pass_at")
    return {
        **{how: {str(k): _plain(_estimate(cells, k, how)) for k in range(1, trials + 1)} for how in measures},
        "tasks": len(tasks),
        "finished": sum(task.num_finished for task in tasks),
        "passed": sum(task.num_passed for task in tasks),
    }


def _by(
    tasks: Sequence[TaskTrials], trials: int, name_of: Callable[[TaskTrials], str], order: Callable[[str], Any] = str
) -> dict[str, Any]:
    groups: dict[str, list[TaskTrials]] = defaultdict(list)
    for task in tasks:
        groups[name_of(task)].append(task)
    return {name: _group(groups[name], trials) for name in sorted(groups, key=order)}


def _plain(found: Estimate) -> dict[str, float | int | None]:
    return {
        "value": _rounded(found.value),
        "low": _rounded(found.low),
        "high": _rounded(found.high),
        "tasks": found.num_tasks,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)
