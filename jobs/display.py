"""Progress for a person: a live table where stdout is a terminal, a log line every ten seconds where it is not."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cluster.dispatcher import Progress as Counts
from cluster.serving import Figures

log = logging.getLogger("progress")
LINE_S = 10.0
Show = Callable[[Counts, Figures, float], None]


@contextmanager
def display() -> Iterator[Show]:
    if sys.stdout.isatty():
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=Console(), transient=False) as bar:
            task = bar.add_task("rollouts", total=None)

            def show_live(counts: Counts, figures: Figures, seconds: float) -> None:
                bar.update(
                    task,
                    description=words(counts, figures, seconds),
                    total=counts.planned,
                    completed=counts.finished + counts.resumed,
                )

            yield show_live
        return
    last = [0.0]

    def show_lines(counts: Counts, figures: Figures, seconds: float) -> None:
        ended = counts.remaining == 0
        if time.monotonic() - last[0] > LINE_S or (ended and last[0] != math.inf):
            last[0] = math.inf if ended else time.monotonic()
            log.info("%d/%d %s", counts.finished + counts.resumed, counts.planned, words(counts, figures, seconds))

    yield show_lines


def words(counts: Counts, figures: Figures, seconds: float) -> str:
    """accepted 12 · rejected 30 (validity 3, state_match 27) · void 0 · 210 tok/s · 32 in flight (limit 40) · 8/8 engines · 95 s left"""
    stages = ", ".join(f"{stage} {count}" for stage, count in sorted(counts.stages.items()))
    parts = [
        f"accepted {counts.outcomes['accepted']}",
        f"rejected {counts.outcomes['rejected']}" + (f" ({stages})" if stages else ""),
        f"void {counts.outcomes['void']}",
        f"{counts.completion_tokens / max(seconds, 1e-6):.0f} tok/s",
        f"{counts.in_flight} in flight (limit {figures.limit})",
    ]
    if figures.replicas_wanted:
        parts.append(f"{figures.replicas_ready}/{figures.replicas_wanted} engines")
    restarts = figures.engine_restarts + figures.worker_restarts + figures.epochs
    if restarts:
        parts.append(f"{restarts} restarts")
    if counts.finished and counts.remaining:
        parts.append(f"{counts.remaining * seconds / counts.finished:.0f} s left")
    return " · ".join(parts)
