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
from cluster.task_building import Progress as Units

log = logging.getLogger("progress")
LINE_S = 10.0
Show = Callable[[Counts, Figures, float], None]
ShowUnits = Callable[[Units, float], None]


@contextmanager
def display() -> Iterator[Show]:
    """For a job that plays rollouts."""
    with _bar_or_lines("rollouts") as draw:

        def show(counts: Counts, figures: Figures, seconds: float) -> None:
            draw(
                counts.finished + counts.resumed, counts.planned, counts.remaining == 0, words(counts, figures, seconds)
            )

        yield show


@contextmanager
def display_units() -> Iterator[ShowUnits]:
    """For the job that builds tasks."""
    with _bar_or_lines("units") as draw:

        def show(units: Units, seconds: float) -> None:
            draw(units.units, units.planned_units, units.units == units.planned_units, words_of_units(units, seconds))

        yield show


@contextmanager
def _bar_or_lines(what: str) -> Iterator[Callable[[int, int, bool, str], None]]:
    """Draws (done, planned, whether that is all, words)."""
    if sys.stdout.isatty():
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=Console(), transient=False) as bar:
            task = bar.add_task(what, total=None)

            def draw_live(done: int, planned: int, ended: bool, text: str) -> None:
                bar.update(task, description=text, total=planned, completed=done)

            yield draw_live
        return
    drawn_at, had_ended = -math.inf, False

    def draw_lines(done: int, planned: int, ended: bool, text: str) -> None:
        """An end is drawn once; what is planned may grow after it, and then goes on."""
        nonlocal drawn_at, had_ended
        if (ended and not had_ended) or (not ended and time.monotonic() - drawn_at > LINE_S):
            drawn_at = time.monotonic()
            log.info("%d/%d %s", done, planned, text)
        had_ended = ended

    yield draw_lines


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


def words_of_units(units: Units, seconds: float) -> str:
    """640 tasks · 58 tasks/s · write 128, multi_goal 140 · 14 s left"""
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(units.kinds.items()))
    parts = [f"{units.made} tasks", f"{units.made_now / max(seconds, 1e-6):.0f} tasks/s", kinds]
    if units.made_now and units.units < units.planned_units:
        parts.append(f"{(units.planned_units - units.units) * seconds / units.units_now:.0f} s left")
    return " · ".join(part for part in parts if part)
