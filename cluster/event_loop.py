"""How late an event loop runs: the measure by which a job decides that one more process is needed."""

from __future__ import annotations

import asyncio
import time
from collections import deque

PERIOD_S = 0.05
KEPT = 100  # five seconds


class LoopLag:
    """Sleeps and looks how much too late it wakes. `p95_s` is over the last five seconds."""

    def __init__(self) -> None:
        self._lags: deque[float] = deque(maxlen=KEPT)
        self._cpu, self._wall = time.process_time(), time.monotonic()

    async def run(self) -> None:
        while True:
            wanted = time.monotonic() + PERIOD_S
            await asyncio.sleep(PERIOD_S)
            self._lags.append(max(0.0, time.monotonic() - wanted))

    @property
    def p95_s(self) -> float:
        ordered = sorted(self._lags)
        return ordered[int(0.95 * (len(ordered) - 1))] if ordered else 0.0

    def cpu_share(self) -> float:
        """Of a core, used by this process since last asked."""
        cpu, wall = time.process_time(), time.monotonic()
        share = (cpu - self._cpu) / max(wall - self._wall, 1e-6)
        self._cpu, self._wall = cpu, wall
        return share
