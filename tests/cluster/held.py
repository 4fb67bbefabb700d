"""A dispatcher that lets nothing start from the middle of the job on, until a file is there: what a test waits for comes before the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.dispatcher import Dispatcher
from cluster.handles import NOTHING, Handle, Needs, OnRay


class Held(Dispatcher):
    def __init__(self, released: str, *args: Any):
        super().__init__(*args)
        self._released = Path(released)

    def _share(self) -> int:
        # What is left, not what is finished: another epoch's dispatcher counts only what was finished in its own time.
        held = 2 * self._progress.remaining <= self._progress.planned and not self._released.exists()
        return 0 if held else super()._share()


class Holding(OnRay):
    """Held until `released` exists."""

    def __init__(self, released: Path):
        super().__init__()
        self._released = released

    def spawn(self, part: Callable[..., Any], *args: Any, needs: Needs = NOTHING) -> Handle:
        if part is Dispatcher:
            return super().spawn(Held, str(self._released), *args, needs=needs)
        return super().spawn(part, *args, needs=needs)
