"""When Python looks for garbage in a process that makes many objects and few cycles."""

from __future__ import annotations

import gc


def collect_rarely() -> None:
    """Python's garbage collector looks through what lives: at its own thresholds that took a tenth to a fifth of a worker's time, for a
    rollout makes many objects and few cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
