"""A dispatcher that hands out half of a job and no more, until a file is there: what a test waits for comes before the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.dispatcher import Dispatcher, _Worker
from cluster.handles import NOTHING, Handle, Needs, OnRay
from cluster.task_queue import Entry


class Held(Dispatcher):
    def __init__(self, released: str, *args: Any):
        super().__init__(*args)
        self._released = Path(released)

    def _lease(self, worker: _Worker, room: int) -> list[Entry]:
        """By what is handed out, not by what is finished: a worker may play many before one of them counts as finished."""
        if not self._released.exists():
            progress = self._progress
            handed_out = progress.planned - progress.remaining + sum(len(one.leased) for one in self._workers.values())
            room = min(room, max(0, progress.planned // 2 - handed_out))
        return super()._lease(worker, room)


class Holding(OnRay):
    """Held until `released` exists."""

    def __init__(self, released: Path):
        super().__init__()
        self._released = released

    def spawn(self, part: Callable[..., Any], *args: Any, needs: Needs = NOTHING) -> Handle:
        if part is Dispatcher:
            return super().spawn(Held, str(self._released), *args, needs=needs)
        return super().spawn(part, *args, needs=needs)
