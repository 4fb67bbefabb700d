"""What a model call costs us, over all our processes, where the model costs nothing.

A local server answers at once: eight turns with a tool call each, then words. Ours is the rollout job as it is: dispatcher, environment
actor and committer as Ray actors and the driver, with world, verification and shards; each rollout is checked to be accepted. Beside it
a bare aiohttp and orjson loop (`loop_floor.py`) makes the same calls with the same bodies. Both in the same run by turns, at each number
of conversations in flight; figures are medians over the rounds.

Processor time is what psutil says of each process, between the moment when the job runs warm and its end; model calls are counted by
the server. Ray's own processes (`raylet_…`: GCS, raylet, their agents, idle workers) are reported apart.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import psutil
from pydantic import BaseModel, ConfigDict, Field

from agentscaler.domain.store import write_domains
from agentscaler.errors import ConfigError
from agentscaler.shards.files import write_tasks
from cluster.config import DomainChoice, RolloutConfig
from cluster.handles import Crew
from cluster.plan import DOMAINS_FILE, TASKS_FILE, open_output, prepare
from cluster.rollouts import run_rollouts
from cluster.session import crew
from jobs.bench import drawing
from jobs.bench.actor_processes import DRIVER, OURS, RAY, ActorProcesses
from jobs.bench.chat_server import ChatServer, serving
from jobs.bench.loop_floor import measure_bare
from jobs.bench.loop_work import MODEL, SAMPLING, LoopWork, choose
from jobs.compose import compose, redacted_yaml, refuse

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class LoopBench(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    domain: DomainChoice
    num_reads: int = Field(ge=0)
    num_writes: int = Field(ge=0)
    in_flight: tuple[int, ...] = Field(min_length=1)
    rounds: int = Field(ge=1)
    rollouts: int = Field(ge=1)


@dataclass(frozen=True, slots=True)
class Cost:
    """Processor seconds by kind of process, and wall seconds, of a number of model calls."""

    calls: int
    wall_s: float
    cpu_s: dict[str, float]

    def cpu_ms(self, *kinds: str) -> float:
        return 1000 * sum(self.cpu_s[kind] for kind in kinds) / self.calls


def main(arguments: list[str]) -> int:
    config = compose("bench_loop", LoopBench, arguments)
    logging.getLogger("cluster").setLevel(logging.ERROR)
    try:
        work = choose(config.domain, config.num_reads, config.num_writes)
        print(orjson.dumps(measure(work, config)).decode())
    except ConfigError as error:
        refuse(str(error))
    return 0


def measure(work: LoopWork, config: LoopBench) -> dict[str, float | int | str]:
    cores = sorted(os.sched_getaffinity(0))
    costs: dict[int, list[tuple[Cost, Cost]]] = {number: [] for number in config.in_flight}
    with (
        tempfile.TemporaryDirectory(prefix="as-loop-") as folder,
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as bare,
        crew("local") as hands,
        pinned_apart(cores),
        serving(work.answers, core=cores[-1]) as server,
    ):
        tasks = Path(folder) / TASKS_FILE
        write_tasks(tasks, [work.task])
        write_domains([work.domain], tasks.with_name(DOMAINS_FILE))
        for number in range(config.rounds):
            for in_flight, found in costs.items():
                rollouts = config.rollouts // 4 if in_flight == 1 else config.rollouts
                rollouts = max(rollouts, 4 * in_flight)
                output = Path(folder) / f"{number}-{in_flight}"
                ours = play_ours(work, server, tasks, output, rollouts, in_flight, hands)
                cpu_s, wall_s = bare.submit(measure_bare, work, server.url, rollouts, in_flight).result()
                found.append((ours, Cost(rollouts * work.num_calls, wall_s, {"bare": cpu_s})))
    figures: dict[str, float | int | str] = {
        "domain": work.domain.name,
        "calls_a_rollout": work.num_calls,
        "tools": len(work.domain.tools_for("agent")),
    }
    for in_flight, found in costs.items():
        figures |= figures_of(in_flight, found)
    return {**figures, "figure": drawing.save(draw(figures, config.in_flight), "loop")}


@contextmanager
def pinned_apart(cores: list[int]) -> Iterator[None]:
    """This process and all that it has started, on all cores but the last, which is the server's; what they start later inherits it."""
    if len(cores) == 1:
        yield
        return
    here = psutil.Process()
    for process in (here, *here.children(recursive=True)):
        with suppress(psutil.Error):
            process.cpu_affinity(cores[:-1])
    try:
        yield
    finally:
        here.cpu_affinity(cores)


def figures_of(in_flight: int, found: list[tuple[Cost, Cost]]) -> dict[str, float | int | str]:
    def median(values: list[float], digits: int) -> float:
        return round(statistics.median(values), digits)

    every = (*OURS, DRIVER)
    ours = [one.cpu_ms(*every) for one, _ in found]
    floor = [other.cpu_ms("bare") for _, other in found]
    return {
        f"cpu_ms_per_call_{in_flight}": median(ours, 4),
        f"floor_cpu_ms_per_call_{in_flight}": median(floor, 4),
        f"ratio_{in_flight}": median([one / other for one, other in zip(ours, floor, strict=True)], 3),
        **{
            f"{kind.lower()}_cpu_ms_per_call_{in_flight}": median([one.cpu_ms(kind) for one, _ in found], 4)
            for kind in every
        },
        f"raylet_cpu_ms_per_call_{in_flight}": median([one.cpu_ms(RAY) for one, _ in found], 4),
        f"calls_per_s_{in_flight}": median([one.calls / one.wall_s for one, _ in found], 1),
        f"floor_calls_per_s_{in_flight}": median([other.calls / other.wall_s for _, other in found], 1),
    }


def play_ours(
    work: LoopWork, server: ChatServer, tasks: Path, output: Path, rollouts: int, in_flight: int, hands: Crew
) -> Cost:
    """One rollout job, as `jobs.rollout` runs it. To measure another way of playing, this is the function to replace."""
    arguments = [
        f"tasks={tasks}",
        "teacher=endpoint",
        f"teacher.base_urls=[{server.url}]",
        f"teacher.chat.model={MODEL}",
        *(f"teacher.chat.sampling.{key}={value}" for key, value in SAMPLING.items()),
        "cluster=local",
        "cluster.workers=1",
        f"cluster.concurrency={in_flight}",
        f"attempts={rollouts}",
        "tracking=none",
        f"output={output}",
    ]
    config = compose("rollout", RolloutConfig, arguments)
    plan = prepare(config, output, redacted_yaml(config))
    meter = Meter(server, work.num_calls * (in_flight + rollouts // 10))
    ran = asyncio.run(run_rollouts(plan, open_output(plan), config, hands, lambda *_: meter.look()))
    if ran.progress.outcomes != {"accepted": rollouts}:
        raise RuntimeError(f"{rollouts} rollouts ended as {dict(ran.progress.outcomes)}, not all accepted")
    return meter.cost()


@dataclass(frozen=True, slots=True)
class _Reading:
    calls: int
    wall_s: float
    cpu_s: dict[str, float]


class Meter:
    """Reads once `warm_calls` are made, and at each `look`; what lies between the first reading and the last is the cost. Its own
    processor time counts for nothing."""

    def __init__(self, server: ChatServer, warm_calls: int):
        self._server, self._own_s, self._processes = server, 0.0, ActorProcesses()
        self._first: _Reading | None = None
        self._last: _Reading | None = None
        self._until = server.calls() + warm_calls
        self._lock = threading.Lock()
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        with suppress(OSError):  # the server ends with the bench
            while self._server.calls() < self._until:
                time.sleep(0.02)
            self._own_s += time.thread_time()
            self._first = self._read()

    def look(self) -> None:
        if self._first is not None:
            self._last = self._read()

    def _read(self) -> _Reading:
        with self._lock:
            before = time.thread_time()
            driver_s = time.process_time() - self._own_s
            used = self._processes.use()
            cpu_s = {**{kind: used[kind].cpu_s for kind in (*OURS, RAY)}, DRIVER: driver_s}
            reading = _Reading(self._server.calls(), time.perf_counter(), cpu_s)
            self._own_s += time.thread_time() - before
            return reading

    def cost(self) -> Cost:
        first, last = self._first, self._last
        if first is None or last is None or last.calls <= first.calls:
            raise RuntimeError("the job ended before it was warm: more rollouts are needed")
        spent = {kind: last.cpu_s[kind] - first.cpu_s[kind] for kind in last.cpu_s}
        return Cost(last.calls - first.calls, last.wall_s - first.wall_s, spent)


def draw(figures: dict[str, float | int | str], in_flight: tuple[int, ...]) -> Figure:
    """Stacked bars of ours by process, beside the floor's, for each number in flight."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    colours = dict(zip((*OURS, DRIVER), ("#4f86c0", "#f3c969", "#e08a3c", "#b8bec7"), strict=True))
    for place, number in enumerate(in_flight):
        height = 0.0
        for kind, colour in colours.items():
            part = float(figures[f"{kind.lower()}_cpu_ms_per_call_{number}"])
            axes.bar(place - 0.2, part, 0.36, bottom=height, color=colour, label=kind if place == 0 else None)
            height += part
        floor = float(figures[f"floor_cpu_ms_per_call_{number}"])
        axes.bar(place + 0.2, floor, 0.36, color="#6b7280", label="bare loop" if place == 0 else None)
        axes.text(place - 0.2, height, f"{figures[f'ratio_{number}']:.2f} ×", ha="center", va="bottom")
    axes.set_xticks(range(len(in_flight)), [str(number) for number in in_flight])
    axes.set_xlabel("rollouts in flight")
    axes.set_ylabel("CPU-ms a model call")
    axes.set_title(f"A model call on {figures['domain']}, over all processes", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure
