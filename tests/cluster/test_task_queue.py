"""Promises: the queue gives every index that is not done, once and in order; whether it keeps the tasks or streams them makes no
difference; what is committed is found again by rollout names alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentscaler.shards.files import write_tasks
from agentscaler.tasks.compile import compile_shipped
from agentscaler.tasks.task import Task
from cluster import task_queue
from cluster.task_queue import TaskQueue

TASKS = compile_shipped("notes")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tasks") / "tasks.parquet"
    write_tasks(path, TASKS)
    return path


def drain(queue: TaskQueue) -> list[tuple[int, int, int, bytes]]:
    found = []
    while entry := queue.next_entry():
        found.append((entry.index, entry.attempt, entry.row, entry.task))
    return found


@settings(max_examples=20)
@given(st.integers(1, 3), st.data())
def test_every_index_that_is_not_done(path: Path, attempts: int, data: st.DataObject) -> None:
    done = np.array(data.draw(st.lists(st.booleans(), min_size=attempts * len(TASKS), max_size=attempts * len(TASKS))))
    kept = drain(TaskQueue(path, len(TASKS), attempts, done))
    assert [index for index, *_ in kept] == np.flatnonzero(~done).tolist()
    assert all(index == attempt * len(TASKS) + row for index, attempt, row, _ in kept)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task_queue, "KEPT_TASKS", 3)
        assert drain(TaskQueue(path, len(TASKS), attempts, done)) == kept


def test_entries_carry_their_task(path: Path) -> None:
    for _, _, row, text in drain(TaskQueue(path, len(TASKS), 1, np.zeros(len(TASKS), bool))):
        assert Task.model_validate_json(text) == TASKS[row]


def test_what_gets_done_meanwhile_is_left_out(path: Path) -> None:
    done = np.zeros(2 * len(TASKS), bool)
    queue = TaskQueue(path, len(TASKS), 2, done)
    first = queue.next_entry()
    done[5] = True
    assert first is not None and 5 not in [index for index, *_ in drain(queue)]
