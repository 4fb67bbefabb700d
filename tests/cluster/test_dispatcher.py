"""Promises of the dispatcher:

1. Whatever workers do (finish, die, fall silent, speak too late), every entry is done exactly once and then the job ends.
2. Loads of others are absolute: a worker that is gone weighs nothing.
3. A task that keeps failing is quarantined; an entry that kills its workers is given up; the solve-rate filter leaves out what it says.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentscaler.errors import FaultClass
from agentscaler.shards.files import write_tasks
from agentscaler.tasks.compile import compile_shipped
from agentscaler.tasks.task import Task
from agentscaler.teachers.routing import Load
from cluster.dispatcher import Dispatcher, Finished, Orders, Rules, WorkReport

TASKS = compile_shipped("notes")[:7]


@pytest.fixture(scope="module")
def tasks_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tasks") / "tasks.parquet"
    write_tasks(path, TASKS)
    return str(path)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def make(
    path: str, attempts: int, rules: Rules | None = None, done: np.ndarray | None = None
) -> tuple[Dispatcher, Clock]:
    clock = Clock()
    done = np.zeros(len(TASKS) * attempts, bool) if done is None else done
    dispatcher = Dispatcher(path, len(TASKS), attempts, done, None, rules or Rules(lease_s=10), clock)
    dispatcher.steer({}, 64)
    return dispatcher, clock


def ask(dispatcher: Dispatcher, worker: str, room: int, *finished: Finished) -> Orders:
    return dispatcher.sync(WorkReport(worker, finished, room))


def accepted(index: int) -> Finished:
    return Finished(index, "accepted", None, None, 1, 2, 1)


ACTIONS = st.tuples(
    st.sampled_from("abc"), st.sampled_from(["ask", "finish", "die", "late", "silence"]), st.integers(1, 8)
)


@given(st.integers(1, 4), st.lists(ACTIONS, max_size=60), st.sets(st.integers(0, 27), max_size=10))
def test_every_entry_is_done_exactly_once(
    tasks_path: str, attempts: int, steps: list[tuple[str, str, int]], ready: set[int]
) -> None:
    done = np.zeros(len(TASKS) * attempts, bool)
    done[[index for index in ready if index < len(done)]] = True
    dispatcher, clock = make(tasks_path, attempts, Rules(lease_s=10, max_deaths=1000), done)
    held: dict[str, list[int]] = {}
    names = {"a": "a0", "b": "b0", "c": "c0"}
    lost: list[tuple[str, int]] = []
    finished: list[int] = []

    def gone(letter: str) -> None:
        name = names[letter]
        lost.extend((name, index) for index in held.pop(name, []))
        dispatcher.leave(name)
        names[letter] = f"{letter}{int(name[1:]) + 1}"

    for letter, action, number in steps:
        name = names[letter]
        mine = held.setdefault(name, [])
        if action == "ask":
            mine += [entry.index for entry in ask(dispatcher, name, number).leases]
        elif action == "finish":
            ask(dispatcher, name, 0, *map(accepted, mine[:number]))
            finished += mine[:number]
            held[name] = mine[number:]
        elif action == "die":
            gone(letter)
        elif action == "late" and lost:
            late, index = lost.pop()
            orders = ask(dispatcher, late, 5, accepted(index))
            assert orders.ended and not orders.leases  # it is not heard, and told to go
        elif action == "silence":
            clock.now += 11
            overdue = dispatcher.progress().overdue
            assert set(overdue) <= {*names.values()}
            for letter_, name_ in list(names.items()):
                if name_ in overdue:
                    gone(letter_)
        assert len(set(finished)) == len(finished)
    ended = False
    for _ in range(1000):
        orders = ask(dispatcher, "last", 5)
        indices = [entry.index for entry in orders.leases]
        if orders.ended:
            ended = True
            break
        for letter, name in names.items():
            if held.get(name):
                gone(letter)
        ask(dispatcher, "last", 0, *map(accepted, indices))
        finished += indices
    assert ended
    assert sorted(finished) == np.flatnonzero(~done).tolist()
    progress = dispatcher.progress()
    assert (progress.finished, progress.remaining, progress.in_flight) == (int((~done).sum()), 0, 0)


def test_entries_say_which_task_and_attempt_they_are(tasks_path: str) -> None:
    dispatcher, _ = make(tasks_path, 3)
    entries = ask(dispatcher, "a", 100).leases
    assert [(entry.attempt, entry.row) for entry in entries] == [(a, r) for a in range(3) for r in range(len(TASKS))]
    assert all(Task.model_validate_json(entry.task) == TASKS[entry.row] for entry in entries)


def test_loads_of_others_and_none_of_the_gone(tasks_path: str) -> None:
    dispatcher, _ = make(tasks_path, 1)
    for name, sessions in (("a", 3), ("b", 4)):
        dispatcher.sync(WorkReport(name, loads={"teacher": {"u1": Load(sessions, 10 * sessions), "gone": Load(9, 9)}}))
    dispatcher.steer({"teacher": ("u1", "u2")}, 8)
    assert ask(dispatcher, "a", 0).replicas == {"teacher": {"u1": Load(4, 40), "u2": Load()}}
    assert ask(dispatcher, "c", 0).replicas == {"teacher": {"u1": Load(7, 70), "u2": Load()}}
    dispatcher.leave("b")
    dispatcher.steer({"teacher": ("u1", "u2")}, 8)
    assert ask(dispatcher, "c", 0).replicas["teacher"]["u1"] == Load()  # a's last word had no loads


def test_the_first_worker_does_not_take_the_share_of_those_to_come(tasks_path: str) -> None:
    dispatcher, _ = make(tasks_path, 1)
    dispatcher.steer({}, 64, num_workers=4)
    assert ask(dispatcher, "a", 0).share == 16


def test_the_limit_is_shared(tasks_path: str) -> None:
    dispatcher, _ = make(tasks_path, 1)
    assert ask(dispatcher, "a", 0).share == 64
    ask(dispatcher, "b", 0)
    assert ask(dispatcher, "a", 0).share == 32


def test_a_task_that_keeps_failing_is_quarantined(tasks_path: str) -> None:
    dispatcher, _ = make(tasks_path, 10, Rules(quarantine_after=3))
    bad = 2
    for _ in range(200):
        entries = ask(dispatcher, "a", 4).leases
        results = [
            Finished(e.index, "void", fault="tool_bug", num_faults=1) if e.row == bad else accepted(e.index)
            for e in entries
        ]
        if ask(dispatcher, "a", 0, *results).ended:
            break
    progress = dispatcher.progress()
    notes = dispatcher.take_notes()
    assert (progress.quarantined, progress.outcomes["void"], progress.remaining) == (1, 10, 0)
    assert 5 <= len(notes) <= 7 and all("quarantined" in words for *_, words in notes)
    assert dispatcher.take_notes() == []


def test_engine_faults_quarantine_no_task(tasks_path: str) -> None:
    dispatcher, _ = make(tasks_path, 10, Rules(quarantine_after=2))
    while not ask(dispatcher, "a", 0).ended:
        entries = ask(dispatcher, "a", 8).leases
        ask(dispatcher, "a", 0, *(Finished(e.index, "void", fault="engine_gone") for e in entries))
    assert dispatcher.progress().quarantined == 0


def test_what_kills_its_workers_is_given_up(tasks_path: str) -> None:
    dispatcher, _ = make(tasks_path, 1, Rules(max_deaths=3))
    for number in range(3):
        (first, *_) = ask(dispatcher, f"w{number}", 1).leases
        assert first.index == 0 and first.deaths == number
        dispatcher.leave(f"w{number}")
    assert [entry.index for entry in ask(dispatcher, "x", 2).leases] == [1, 2]
    ((attempt, _, fault, words),) = dispatcher.take_notes()
    assert (attempt, fault, words) == (0, FaultClass.CANCELLED, "3 workers died with it")


def test_solve_rate_filter(tasks_path: str) -> None:
    dispatcher, _ = make(tasks_path, 8, Rules(easy_after=2, hopeless_after=4))
    always, never = 0, 1
    while True:
        entries = ask(dispatcher, "a", 7).leases
        results = [
            Finished(
                e.index,
                "rejected" if e.row == never or (e.row != always and e.attempt % 2) else "accepted",
                "state_match",
            )
            for e in entries
        ]
        if ask(dispatcher, "a", 0, *results).ended:
            break
    progress = dispatcher.progress()
    words = [words for *_, words in dispatcher.take_notes()]
    assert progress.outcomes["skipped"] == len(words) and progress.outcomes.total() == len(TASKS) * 8
    # What is leased already is played: by then one more attempt of either may have been.
    assert 5 <= sum("too easy, the first" in text for text in words) <= 6
    assert 3 <= sum("hopeless, the first" in text for text in words) <= 4


def test_after_a_stop_nothing_is_handed_out(tasks_path: str) -> None:
    dispatcher, _ = make(tasks_path, 2)
    (entry,) = ask(dispatcher, "a", 1).leases
    dispatcher.stop()
    assert not ask(dispatcher, "a", 5).leases
    assert ask(dispatcher, "a", 5, accepted(entry.index)).ended
