"""The attempts that a job will play, in order, without holding them: an index names each.

`index = attempt * num_tasks + row` of the output's tasks.parquet: all tasks once before any twice. A file of few tasks is kept; a longer
one is read a row group at a time, once an attempt. So memory does not grow with the number of rollouts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from agentscaler.shards import schema
from agentscaler.shards.files import open_parquet
from agentscaler.shards.storage import AnyPath

KEPT_TASKS = 4096


@dataclass(frozen=True, slots=True)
class Entry:
    """One attempt that is to be played. `task` is the task's JSON text; `deaths` counts workers that died with it."""

    index: int
    attempt: int
    row: int
    task: bytes
    deaths: int = 0


class TaskQueue:
    def __init__(self, tasks_path: AnyPath, num_tasks: int, attempts: int, done: np.ndarray):
        """`done`: bool, one for each index; those are left out. The array is only read, and may change while the queue is."""
        self._path, self._num_tasks, self._attempts, self._done = tasks_path, num_tasks, attempts, done
        self._kept = list(self._read()) if num_tasks <= KEPT_TASKS else None
        self._entries = self._walk()

    def next_entry(self) -> Entry | None:
        return next(self._entries, None)

    def _walk(self) -> Iterator[Entry]:
        for attempt in range(self._attempts):
            start = attempt * self._num_tasks
            if self._done[start : start + self._num_tasks].all():
                continue
            for row, task in enumerate(self._kept if self._kept is not None else self._read()):
                if not self._done[start + row]:
                    yield Entry(start + row, attempt, row, task)

    def _read(self) -> Iterator[bytes]:
        with open_parquet(self._path, schema.TASKS) as file:
            for batch in file.iter_batches(batch_size=1000, columns=["task"]):
                for text in batch.column(0):
                    yield text.as_buffer().to_pybytes()
