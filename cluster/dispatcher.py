"""Hands out work in leases and counts what came of it.

Invariants: an entry is waiting, leased to one worker, or done; a worker's leases come back when it dies or is overdue, and nothing that it
says afterwards is heard; an index is done once. It holds what is in flight and a flag an index, no results and no tasks.

One call a worker, twice a second: `sync` takes its report and gives orders (leases, its share of what may be in flight, the servers that
live and what others put on them). No worker is asked anything.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from agentscaler.errors import FaultClass
from agentscaler.shards.storage import folder
from agentscaler.teachers.routing import Load
from cluster.task_queue import Entry, TaskQueue

TASK_FAULTS = frozenset({FaultClass.TOOL_BUG, FaultClass.USER_FAULT, FaultClass.UNKNOWN, FaultClass.TIMEOUT})


@dataclass(frozen=True, slots=True)
class Finished:
    """What the dispatcher needs to know of a played attempt. `outcome` is accepted, rejected or void; `fault` says why it is void."""

    index: int
    outcome: str
    stage: str | None = None
    fault: str | None = None
    completion_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    num_faults: int = 0


@dataclass(frozen=True, slots=True)
class WorkReport:
    """A worker's word, in absolute figures: the last one replaces all before it. `loads`: by role, then URL."""

    worker: str
    finished: tuple[Finished, ...] = ()
    room: int = 0
    playing: int = 0
    lag_s: float = 0.0
    cpu_share: float = 0.0
    loads: Mapping[str, Mapping[str, Load]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Orders:
    """`share`: rollouts that this worker may have in flight. `ended`: nothing is left, or it is not to go on: hand in and leave."""

    leases: tuple[Entry, ...] = ()
    share: int = 0
    replicas: Mapping[str, Mapping[str, Load]] = field(default_factory=dict)
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """Of a job, for handing out. `easy_after`, `hopeless_after`: the solve-rate filter, off where None."""

    lease_s: float = 60.0
    max_deaths: int = 5
    quarantine_after: int = 3
    easy_after: int | None = None
    hopeless_after: int | None = None


@dataclass(slots=True)
class Progress:
    """Of this run alone: what was found committed is not in it, but for `planned` and `resumed`."""

    planned: int = 0
    resumed: int = 0
    in_flight: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    completion_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    num_faults: int = 0  # trials that ended in one, retried ones among them
    quarantined: int = 0  # tasks
    workers: int = 0
    lag_s: float = 0.0  # of the slowest worker's event loop
    cpu_share: float = 0.0  # of a core, of the busiest worker
    overdue: tuple[str, ...] = ()

    @property
    def finished(self) -> int:
        return self.outcomes.total()

    @property
    def remaining(self) -> int:
        return self.planned - self.resumed - self.finished


@dataclass(slots=True)
class _Worker:
    seen: float
    leased: dict[int, Entry] = field(default_factory=dict)
    report: WorkReport | None = None
    summed: Mapping[str, Mapping[str, Load]] = field(default_factory=dict)  # its loads, as they are in the totals


class Dispatcher:
    def __init__(
        self,
        tasks_path: str,
        num_tasks: int,
        attempts: int,
        done: np.ndarray,
        counts: np.ndarray | None,
        rules: Rules,
        now: Callable[[], float] = time.monotonic,
    ):
        """`done`: bool a planned attempt. `counts`: accepted and rejected so far, shape (num_tasks, 2), where the solve-rate filter needs
        them."""
        self._done = done.copy()
        self._num_tasks = num_tasks
        self._queue = TaskQueue(folder(tasks_path), num_tasks, attempts, self._done)
        self._returned: deque[Entry] = deque()
        self._workers: dict[str, _Worker] = {}
        self._gone: set[str] = set()
        self._rules, self._now = rules, now
        self._counts = counts.copy() if counts is not None else np.zeros((num_tasks if self._filters else 0, 2), int)
        self._voids: Counter[int] = Counter()
        self._closed: dict[int, str] = {}  # task rows that are played no more, and why
        self._notes: list[tuple[Entry, FaultClass, str]] = []
        self._limit = self._num_workers = 1
        self._replicas: dict[str, tuple[str, ...]] = {}
        self._totals: dict[str, dict[str, Load]] = {}
        self._stopping = False
        self._exhausted = False
        resumed = int(done.sum())
        self._progress = Progress(planned=num_tasks * attempts, resumed=resumed)

    @property
    def _filters(self) -> bool:
        return self._rules.easy_after is not None or self._rules.hopeless_after is not None

    def sync(self, report: WorkReport) -> Orders:
        if report.worker in self._gone:
            return Orders(ended=True)
        worker = self._workers.setdefault(report.worker, _Worker(self._now()))
        worker.seen, worker.report = self._now(), report
        for result in report.finished:
            worker.leased.pop(result.index, None)
            self._count(result)
        leases = () if self._stopping else tuple(self._lease(worker, report.room))
        idle = not leases and not worker.leased and (self._stopping or self._nothing_left())
        return Orders(leases, self._share(), self._loads_beside(worker), ended=idle)

    def steer(self, replicas: Mapping[str, tuple[str, ...]], limit: int, num_workers: int = 1) -> Progress:
        """The driver's tick: the servers that live, by role, how many rollouts may be in flight, and how many workers there are, those
        that have not reported yet among them: else the first to come would take the others' share."""
        self._replicas, self._limit, self._num_workers = dict(replicas), limit, num_workers
        self._sum_loads()
        return self.progress()

    def stop(self) -> None:
        """Hand out nothing more; what is in flight may end."""
        self._stopping = True

    def leave(self, worker: str) -> int:
        """A worker died or is overdue: its entries go to others, its late words are not heard. How many came back."""
        self._gone.add(worker)
        one = self._workers.pop(worker, None)
        if one is None:
            return 0
        back = [replace(entry, deaths=entry.deaths + 1) for index, entry in one.leased.items() if not self._done[index]]
        for entry in back:
            if entry.deaths >= self._rules.max_deaths:
                self._give_up(entry, FaultClass.CANCELLED, f"{entry.deaths} workers died with it")
            else:
                self._returned.append(entry)
        return len(back)

    def take_notes(self) -> list[tuple[int, bytes, FaultClass, str]]:
        """What was given up since last asked: attempt, the task's JSON, class, words. For the attempts sidecar."""
        notes, self._notes = self._notes, []
        return [(entry.attempt, entry.task, fault, words) for entry, fault, words in notes]

    def progress(self) -> Progress:
        progress, now = self._progress, self._now()
        progress.in_flight = sum(len(worker.leased) for worker in self._workers.values())
        progress.workers = len(self._workers)
        reports = [worker.report for worker in self._workers.values() if worker.report]
        progress.lag_s = max((report.lag_s for report in reports), default=0.0)
        progress.cpu_share = max((report.cpu_share for report in reports), default=0.0)
        progress.overdue = tuple(
            name for name, worker in self._workers.items() if now - worker.seen > self._rules.lease_s
        )
        return progress

    def _count(self, result: Finished) -> None:
        if self._done[result.index]:
            return
        self._done[result.index] = True
        progress, row = self._progress, result.index % self._num_tasks
        progress.outcomes[result.outcome] += 1
        if result.stage:
            progress.stages[result.stage] += 1
        if result.fault:
            progress.faults[result.fault] += 1
        progress.num_faults += result.num_faults
        progress.completion_tokens += result.completion_tokens
        progress.prompt_tokens += result.prompt_tokens
        progress.cached_tokens += result.cached_tokens
        if result.outcome == "void":
            if result.fault in TASK_FAULTS:
                self._voids[row] += 1
                if self._voids[row] >= self._rules.quarantine_after and row not in self._closed:
                    self._closed[row] = (
                        f"quarantined: {self._voids[row]} attempts at the task failed, last {result.fault}"
                    )
                    progress.quarantined += 1
            return
        if result.outcome == "skipped":
            return
        self._voids.pop(row, None)
        if self._filters:
            self._counts[row, 0 if result.outcome == "accepted" else 1] += 1

    def _lease(self, worker: _Worker, room: int) -> list[Entry]:
        leases: list[Entry] = []
        while len(leases) < room:
            entry = self._returned.popleft() if self._returned else self._queue.next_entry()
            if entry is None:
                self._exhausted = True
                break
            if self._done[entry.index]:
                continue
            if why := self._closed.get(entry.row) or self._solved(entry.row):
                self._give_up(entry, FaultClass.CANCELLED, why)
                continue
            worker.leased[entry.index] = entry
            leases.append(entry)
        return leases

    def _solved(self, row: int) -> str | None:
        """The solve-rate filter: the first n finished attempts at a task were all accepted, or all rejected."""
        if not self._filters:
            return None
        accepted, rejected = (int(count) for count in self._counts[row])
        easy, hopeless = self._rules.easy_after, self._rules.hopeless_after
        if easy is not None and accepted >= easy and not rejected:
            return f"solve rate: too easy, the first {accepted} attempts were all accepted"
        if hopeless is not None and rejected >= hopeless and not accepted:
            return f"solve rate: hopeless, the first {rejected} attempts were all rejected"
        return None

    def _give_up(self, entry: Entry, fault: FaultClass, words: str) -> None:
        self._notes.append((entry, fault, words))
        self._count(Finished(entry.index, "skipped" if words.startswith("solve rate") else "void", fault=fault.value))

    def _nothing_left(self) -> bool:
        return self._exhausted and not self._returned and not any(one.leased for one in self._workers.values())

    def _share(self) -> int:
        return max(1, -(-self._limit // max(self._num_workers, len(self._workers), 1)))

    def _sum_loads(self) -> None:
        """Made anew from the last reports: what a worker took with it when it died is in no sum."""
        self._totals = {role: dict.fromkeys(urls, Load()) for role, urls in self._replicas.items()}
        for worker in self._workers.values():
            worker.summed = worker.report.loads if worker.report else {}
            for role, sums in self._totals.items():
                for url, load in worker.summed.get(role, {}).items():
                    if url in sums:
                        sums[url] = Load(sums[url].sessions + load.sessions, sums[url].tokens + load.tokens)

    def _loads_beside(self, worker: _Worker) -> dict[str, dict[str, Load]]:
        """What all other workers put on each living server, as of the last tick."""
        view: dict[str, dict[str, Load]] = {}
        for role, sums in self._totals.items():
            own = worker.summed.get(role, {})
            view[role] = {
                url: Load(load.sessions - own[url].sessions, load.tokens - own[url].tokens) if url in own else load
                for url, load in sums.items()
            }
        return view
