"""Hands out work in leases and counts what came of it.

Invariants: an item is waiting, leased to one worker, or finished; a worker's leases come back to the queue when the worker dies; an
item finishes once, and late results of a lost lease are counted once. It holds names of what is finished, not results.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from agentscaler.rollout.record import WorkItem


@dataclass(frozen=True, slots=True)
class Finished:
    """What the dispatcher needs to know of a played item. `outcome` is accepted, rejected or void."""

    rollout_id: str
    outcome: str
    stage: str | None
    completion_tokens: int
    prompt_tokens: int
    cached_tokens: int


@dataclass(slots=True)
class Progress:
    """Of this run alone: what was found committed is not in it, but for `planned` and `resumed`."""

    planned: int = 0
    resumed: int = 0
    in_flight: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)
    completion_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0

    @property
    def finished(self) -> int:
        return self.outcomes.total()

    @property
    def remaining(self) -> int:
        return self.planned - self.resumed - self.finished


class Dispatcher:
    def __init__(self, items: Sequence[WorkItem], num_resumed: int):
        self._waiting = deque(items)
        self._leased: dict[str, dict[str, WorkItem]] = {}
        self._done: set[str] = set()
        self._progress = Progress(planned=len(items) + num_resumed, resumed=num_resumed)

    def lease(self, worker: str, count: int) -> list[WorkItem] | None:
        """Up to `count` items; an empty list while others still work on the last ones; None when all is finished."""
        mine = self._leased.setdefault(worker, {})
        items = [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]
        mine.update((item.rollout_id, item) for item in items)
        return items if items or any(self._leased.values()) else None

    def finished(self, worker: str, results: list[Finished]) -> None:
        for result in results:
            self._leased.get(worker, {}).pop(result.rollout_id, None)
            if result.rollout_id in self._done:
                continue
            self._done.add(result.rollout_id)
            self._progress.outcomes[result.outcome] += 1
            if result.stage:
                self._progress.stages[result.stage] += 1
            self._progress.completion_tokens += result.completion_tokens
            self._progress.prompt_tokens += result.prompt_tokens
            self._progress.cached_tokens += result.cached_tokens

    def requeue(self, worker: str) -> int:
        """Give a dead worker's items back; how many."""
        items = [item for name, item in self._leased.pop(worker, {}).items() if name not in self._done]
        self._waiting.extendleft(items)
        return len(items)

    def progress(self) -> Progress:
        self._progress.in_flight = sum(len(items) for items in self._leased.values())
        return self._progress
