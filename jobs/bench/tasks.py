"""Tasks from walks: how many a second and core, the whole path on each domain, and where the time goes.

Units as the job build_tasks makes them: one world after the other, with all that a world costs before its first task. A fixed number of
tasks a domain, so that two runs measure the same work; `seconds` only keeps a slow machine from taking too long. Rates are by processor
time. What selection does afterwards is not in them.
"""

from __future__ import annotations

import sys
import time
from collections import Counter

import orjson
from pydantic import BaseModel, ConfigDict, Field

from agentscaler.errors import ConfigError
from agentscaler.tasks.dials import Dials
from agentscaler.tasks.units import UnitOrder, UnitRecord, make_unit
from cluster.garbage import collect_rarely
from cluster.task_building import order_of
from jobs.compose import compose, refuse


class TasksBench(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    domains: tuple[str, ...] = Field(min_length=1)
    tasks: int = Field(ge=1)
    tasks_a_world: int = Field(ge=1)
    seconds: float = Field(gt=0)
    seed: int


def main(arguments: list[str]) -> int:
    config = compose("bench_tasks", TasksBench, arguments)
    collect_rarely()  # as the job's own processes
    try:
        orders = [order_of(name, None, Dials(), config.seed, config.tasks_a_world, "train") for name in config.domains]
    except ConfigError as error:
        refuse(str(error))
    print(orjson.dumps(measure(orders, config)).decode())
    return 0


def measure(orders: list[UnitOrder], config: TasksBench) -> dict[str, float | int]:
    figures: dict[str, float | int] = {}
    stages, dropped = Counter[str](), Counter[str]()
    tasks, worlds, processor_s = 0, 0, 0.0
    for order in orders:
        made = _make(order, config.tasks, config.seconds / len(orders))
        own_s = sum(record.processor_s for record, _ in made)
        own_tasks = sum(number for _, number in made)
        figures[f"{order.domain.name}_tasks_per_s"] = round(own_tasks / own_s, 2)
        figures[f"{order.domain.name}_tasks"] = own_tasks
        tasks, worlds, processor_s = tasks + own_tasks, worlds + len(made), processor_s + own_s
        for record, _ in made:
            stages.update(record.seconds)
            dropped.update(record.dropped)
    for reason, count in dropped.most_common(10):
        print(f"{count:6} drawn and dropped: {reason}", file=sys.stderr)
    whole = sum(stages.values()) or 1.0
    return {
        "tasks_per_s": round(tasks / processor_s, 2),
        **figures,
        "tasks": tasks,
        "worlds": worlds,
        "drawn": tasks + dropped.total(),
        "processor_s": round(processor_s, 2),
        **{f"{stage}_share": round(spent / whole, 3) for stage, spent in sorted(stages.items())},
    }


def _make(order: UnitOrder, tasks: int, seconds: float) -> list[tuple[UnitRecord, int]]:
    """Each unit's record and how many tasks it has."""
    made: list[tuple[UnitRecord, int]] = []
    end = time.monotonic() + seconds
    while sum(number for _, number in made) < tasks and (not made or time.monotonic() < end):
        unit = make_unit(order, len(made) + 1)
        made.append((unit.record, len(unit.sketches)))
    return made
