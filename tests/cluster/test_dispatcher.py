"""Leases: every item finishes exactly once, whatever workers do. A state machine in hypothesis's hands."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentscaler.rollout.record import UserIdentity, WorkItem, work_item
from agentscaler.tasks.compile import compile_shipped
from agentscaler.teachers.chat import TeacherIdentity
from cluster.dispatcher import Dispatcher, Finished

TASKS = compile_shipped("notes")


def make_items(count: int) -> list[WorkItem]:
    return [work_item(TASKS[0], n, TeacherIdentity("m", "1", "{}"), UserIdentity("scripted"), 0) for n in range(count)]


def done(name: str, outcome: str = "accepted") -> Finished:
    return Finished(name, outcome, None, 1, 2, 1)


@given(
    st.integers(0, 30),
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["lease", "finish", "die", "late"]), st.integers(1, 8)),
        max_size=60,
    ),
)
def test_nothing_is_lost_or_counted_twice(count: int, steps: list[tuple[str, str, int]]) -> None:
    dispatcher = Dispatcher(make_items(count), 5)
    held: dict[str, list[str]] = {"a": [], "b": [], "c": []}
    lost: list[tuple[str, str]] = []
    for worker, action, number in steps:
        if action == "lease":
            held[worker] += [item.rollout_id for item in dispatcher.lease(worker, number) or []]
        elif action == "finish":
            dispatcher.finished(worker, [done(name) for name in held[worker][:number]])
            held[worker] = held[worker][number:]
        elif action == "die":
            assert dispatcher.requeue(worker) <= len(held[worker])
            lost += [(worker, name) for name in held[worker]]
            held[worker] = []
        elif lost:
            dispatcher.finished(lost[-1][0], [done(lost.pop()[1])])
    for worker in "abc":  # whoever still holds something hands it in; the rest is leased anew
        dispatcher.finished(worker, [done(name) for name in held[worker]])
    while (items := dispatcher.lease("z", 7)) is not None:
        dispatcher.finished("z", [done(item.rollout_id) for item in items])
    progress = dispatcher.progress()
    assert (progress.planned, progress.finished, progress.remaining, progress.in_flight) == (count + 5, count, 0, 0)
    assert progress.completion_tokens == count


def test_an_idle_worker_waits_while_another_may_still_die() -> None:
    dispatcher = Dispatcher(make_items(1), 0)
    assert len(dispatcher.lease("a", 4) or []) == 1
    assert dispatcher.lease("b", 4) == []
    dispatcher.requeue("a")
    assert len(dispatcher.lease("b", 4) or []) == 1
    dispatcher.finished("b", [done(make_items(1)[0].rollout_id)])
    assert dispatcher.lease("b", 4) is None
