"""One job on more and more Ray nodes: model calls a second, and what a call costs us in processor time.

All nodes are raylets on this machine (`ray.cluster_utils.Cluster`), one environment actor on each; work in flight, turns and the latency of
the one server are fixed, so that every node has equal work and the machine is never full. Perfect scaling is then n times the calls of one
node, at the same cost a call. What is measured is the steady middle of each job: start-up and the last rollouts are left out. Calls are
counted by the server; processor time is psutil's, over driver, dispatcher, committer and environment actors, Ray's own processes apart.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
from pydantic import BaseModel, ConfigDict, Field, field_validator

from agentscaler.domain.store import write_domains
from agentscaler.errors import ConfigError
from agentscaler.shards.files import write_tasks
from agentscaler.tasks.load import DOMAINS_FILE
from cluster.config import DomainChoice, RolloutConfig
from cluster.dispatcher import Progress
from cluster.handles import OnRay
from cluster.plan import TASKS_FILE, open_output, prepare
from cluster.ray_start import patient_start
from cluster.rollouts import Figures, JobFailed, run_rollouts
from jobs.bench.actor_processes import DRIVER, OURS, RAY, ActorProcesses
from jobs.bench.chat_server import ChatServer, serving
from jobs.bench.drawing import save
from jobs.bench.loop_work import MODEL, SAMPLING, LoopWork, choose
from jobs.compose import compose, redacted_yaml, refuse

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = (DRIVER, *OURS)
STEADY = (0.2, 0.8)  # of the rollouts of a job: what lies between is measured


class ScalingBench(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    domain: DomainChoice
    nodes: tuple[int, ...] = Field(min_length=1)
    in_flight: int = Field(ge=1)
    latency_s: float = Field(gt=0)
    num_reads: int = Field(ge=0)
    num_writes: int = Field(ge=0)
    rounds: int = Field(ge=4)

    @field_validator("nodes")
    @classmethod
    def _from_one_up(cls, nodes: tuple[int, ...]) -> tuple[int, ...]:
        if nodes[0] != 1 or list(nodes) != sorted(set(nodes)):
            raise ValueError("begins with 1 and goes up")
        return nodes


@dataclass(frozen=True, slots=True)
class Reading:
    at: float
    finished: int
    calls: int
    cpu_s: dict[str, float]
    server_cpu_s: float


@dataclass(slots=True)
class Watch:
    """A reading a tick."""

    server: ChatServer
    processes: ActorProcesses
    readings: list[Reading] = field(default_factory=list)
    nodes_used: int = 0

    def tick(self, progress: Progress, figures: Figures, seconds: float) -> None:
        used = self.processes.use()
        cpu_s = {part: one.cpu_s for part, one in used.items()}
        calls, server_cpu_s = self.server.calls(), self.server.cpu_s()
        self.readings.append(Reading(time.monotonic(), progress.finished, calls, cpu_s, server_cpu_s))
        self.nodes_used = max(self.nodes_used, self.processes.nodes_of("EnvironmentActor"))


@dataclass(frozen=True, slots=True)
class Steady:
    """The middle of one job."""

    seconds: float
    calls: int
    cpu_ms: dict[str, float]  # a call, by part
    server_share: float  # of a core

    @property
    def calls_per_s(self) -> float:
        return self.calls / self.seconds

    @property
    def cpu_ms_per_call(self) -> float:
        return sum(self.cpu_ms[part] for part in PARTS)


def main(arguments: list[str]) -> int:
    config = compose("bench_scaling", ScalingBench, arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    try:
        work = choose(config.domain, config.num_reads, config.num_writes)
        print(orjson.dumps(measure(work, config)).decode())
    except ConfigError as error:
        refuse(str(error))
    except JobFailed as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    return 0


def measure(work: LoopWork, config: ScalingBench) -> dict[str, float | int | str]:
    began = time.monotonic()
    found: dict[int, Steady] = {}
    with (
        tempfile.TemporaryDirectory(prefix="as-scaling-") as folder,
        serving(work.answers, config.latency_s) as server,
        growing_cluster() as cluster,
    ):
        write_tasks(Path(folder) / TASKS_FILE, [work.task])
        write_domains([work.domain], Path(folder) / DOMAINS_FILE)
        for number in config.nodes:
            cluster.grow(number)
            found[number] = play(work, config, number, server, Path(folder))
            steady = found[number]
            print(
                f"{time.monotonic() - began:4.0f} s: {number} nodes: {steady.calls_per_s:.1f} calls/s, "
                f"{steady.cpu_ms_per_call:.2f} CPU-ms a call",
                file=sys.stderr,
                flush=True,
            )
    most, one = config.nodes[-1], found[1]
    figures: dict[str, float | int | str] = {
        "efficiency": round(found[most].calls_per_s / (most * one.calls_per_s), 4),
        "cpu_ratio": round(found[most].cpu_ms_per_call / one.cpu_ms_per_call, 3),
        "most_nodes": most,
        "in_flight_a_node": config.in_flight,
        "calls_a_rollout": work.num_calls,
        "latency_s": config.latency_s,
    }
    for number, steady in found.items():
        figures |= {
            f"calls_per_s_{number}": round(steady.calls_per_s, 2),
            f"share_of_possible_{number}": round(
                steady.calls_per_s * config.latency_s / (config.in_flight * number), 4
            ),
            f"cpu_ms_per_call_{number}": round(steady.cpu_ms_per_call, 4),
            **{f"{part.lower()}_cpu_ms_per_call_{number}": round(steady.cpu_ms[part], 4) for part in (*PARTS, RAY)},
            f"server_core_share_{number}": round(steady.server_share, 3),
            f"window_s_{number}": round(steady.seconds, 1),
        }
    seconds = round(time.monotonic() - began, 1)
    return {**figures, "figure": save(draw(found), "scaling"), "seconds": seconds}


class GrowingCluster:
    """Raylets on this machine; this process is the driver, at the first."""

    def __init__(self) -> None:
        import ray
        from ray.cluster_utils import Cluster

        with patient_start():
            self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        self._num_nodes = 1
        ray.init(address=self._cluster.address, log_to_driver=False, logging_level=logging.WARNING)

    def grow(self, number: int) -> None:
        while self._num_nodes < number:
            with patient_start():
                self._cluster.add_node(num_cpus=1, include_dashboard=False)
            self._num_nodes += 1

    def close(self) -> None:
        import ray

        ray.shutdown()
        self._cluster.shutdown()


@contextmanager
def growing_cluster() -> Iterator[GrowingCluster]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    cluster = GrowingCluster()
    try:
        yield cluster
    finally:
        cluster.close()


def play(work: LoopWork, config: ScalingBench, nodes: int, server: ChatServer, folder: Path) -> Steady:
    in_flight = nodes * config.in_flight
    arguments = [
        f"tasks={folder / TASKS_FILE}",
        "teacher=endpoint",
        f"teacher.base_urls=[{server.url}]",
        f"teacher.chat.model={MODEL}",
        *(f"teacher.chat.sampling.{key}={value}" for key, value in SAMPLING.items()),
        f"cluster.workers={nodes}",
        f"cluster.concurrency={in_flight}",
        f"attempts={in_flight * config.rounds}",
        "tracking=none",
    ]
    job = compose("rollout", RolloutConfig, arguments)
    plan = prepare(job, folder / f"nodes-{nodes}", redacted_yaml(job))
    epoch = open_output(plan)
    watch = Watch(server, ActorProcesses())
    ran = asyncio.run(run_rollouts(plan, epoch, job, OnRay(), watch.tick))
    accepted = ran.progress.outcomes["accepted"]
    if accepted != plan.attempts:
        raise JobFailed(
            f"{nodes} nodes: {accepted} of {plan.attempts} rollouts were accepted; the server's words solve each"
        )
    if watch.nodes_used != nodes:
        raise JobFailed(f"{nodes} environment actors came to lie on {watch.nodes_used} nodes")
    return steady_part(watch.readings, plan.attempts)


def steady_part(readings: list[Reading], rollouts: int) -> Steady:
    inside = [one for one in readings if STEADY[0] * rollouts <= one.finished <= STEADY[1] * rollouts]
    if len(inside) < 2:
        raise JobFailed("the job was over before it was steady: more rounds")
    first, last = inside[0], inside[-1]
    calls, seconds = last.calls - first.calls, last.at - first.at
    return Steady(
        seconds=seconds,
        calls=calls,
        cpu_ms={part: 1000 * (last.cpu_s[part] - first.cpu_s[part]) / calls for part in (*PARTS, RAY)},
        server_share=(last.server_cpu_s - first.server_cpu_s) / seconds,
    )


def draw(found: dict[int, Steady]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4))
    rate, cost = figure.subplots(1, 2)
    nodes = list(found)
    rate.plot(nodes, [one.calls_per_s for one in found.values()], "o-", label="measured")
    rate.plot(nodes, [found[1].calls_per_s * number for number in nodes], "--", color="grey", label="one node, times n")
    rate.set(xlabel="Ray nodes", ylabel="model calls a second", xticks=nodes, ylim=(0, None))
    rate.legend(frameon=False)
    below = [0.0] * len(nodes)
    for part in PARTS:
        heights = [one.cpu_ms[part] for one in found.values()]
        cost.bar([str(number) for number in nodes], heights, 0.6, bottom=below, label=part)
        below = [low + height for low, height in zip(below, heights, strict=True)]
    cost.set(xlabel="Ray nodes", ylabel="CPU-ms a model call")
    cost.legend(frameon=False)
    for axis in (rate, cost):
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure
