"""Three Ray nodes on this machine: a job survives a node that is killed and uses one that is added; a replica over two nodes gets two.

The cluster lives in a process of its own: Ray connects a process to one cluster, and other tests share another.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
from asyncio.subprocess import DEVNULL
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from agentscaler.shards.manifest import EntryKind, Manifest
from cluster.config import RolloutConfig
from cluster.dispatcher import Progress
from cluster.handles import Crew, Needs, OnRay
from cluster.plan import open_output, prepare, standing
from cluster.ray_start import patient_start
from cluster.rollouts import Figures, run_rollouts
from cluster.serving import CONTROL_FILE
from jobs.compose import compose, redacted_yaml
from tests.cluster.held import Holding
from tests.cluster.place import Place
from tests.conftest import ROOT, patient_ray

pytestmark = pytest.mark.slow

NODES, GPUS_A_NODE, CORES_ADDED = 3, 4, 8
SEEN_S = 150.0  # for a node and an engine to come up on a machine that is full


@dataclass
class Seen:
    """What the other process saw. `slots`: the nodes of a replica over two; `spread`: those of three parts."""

    slots: list[str] = field(default_factory=list)
    spread: list[str] = field(default_factory=list)
    planned: int = 0
    accounted: int = 0
    rows: int = 0
    finished_at_kill: int = 0
    finished_at_added: int = 0
    restarts: int = 0
    engine_on_added: bool = False
    gave_up: str = ""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(1, mp_context=context)
    try:
        yield pool.submit(live, tmp_path_factory.mktemp("nodes")).result(timeout=420)
    finally:  # one that hangs is not waited for
        for child in psutil.Process().children(recursive=True):
            if child.pid in pool._processes:
                for one in (*child.children(recursive=True), child):
                    one.kill()
        pool.shutdown(wait=True, cancel_futures=True)


def live(folder: Path) -> Seen:
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}  # workers import parts from here
    import ray
    from ray.cluster_utils import Cluster

    with patient_start():
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    seen = Seen()
    try:
        with patient_start():
            others = [cluster.add_node(num_cpus=2, num_gpus=GPUS_A_NODE) for _ in range(NODES - 1)]
        ray.init(address=cluster.address, log_to_driver=False)
        asyncio.run(look_around(OnRay(), seen))
        asyncio.run(play(cluster, others, folder / "output", seen))
    finally:
        ray.shutdown()
        cluster.shutdown()
    return seen


async def look_around(crew: Crew, seen: Seen) -> None:
    slots = await asyncio.wait_for(crew.reserve(2, GPUS_A_NODE), 30)
    there = [crew.spawn(Place, needs=Needs(gpus=GPUS_A_NODE, slot=slot)) for slot in slots]
    seen.slots = [await one.call("node") for one in there]
    parts = [crew.spawn(Place) for _ in range(NODES)]
    seen.spread = [await one.call("node") for one in parts]
    for one in (*there, *parts):
        crew.dismiss(one)
    crew.release(slots)


async def play(cluster: Any, others: list[Any], output: Path, seen: Seen) -> None:
    import ray

    arguments = [
        "domain=notes",
        "teacher=sim",
        "teacher.replicas=2",
        "++teacher.engine.sim={turns_median: 3, turns_sigma: 0.3, output_median: 60, output_sigma: 0.3}",
        "attempts=4",
        "cluster.workers=3",
        "cluster.concurrency=24",
        "cluster.shard_rollouts=40",
        "tracking=none",
    ]
    config = compose("rollout", RolloutConfig, arguments)
    plan = prepare(config, output, redacted_yaml(config))
    epoch = open_output(plan)
    seen.planned = plan.num_tasks * plan.attempts
    released = output.with_name("released")  # the job does not get beyond its middle before the new node has its engine
    changing: asyncio.Task[None] | None = None
    finished = 0

    async def change_nodes() -> None:
        """Kill one, add one; a third engine then has the most room on the new node."""
        seen.finished_at_kill = finished
        await asyncio.to_thread(cluster.remove_node, others[0], allow_graceful=False)
        line = ["start", f"--address={cluster.address}", f"--num-cpus={CORES_ADDED}", "--block"]
        added = await asyncio.create_subprocess_exec(*patient_ray(), *line, stdout=DEVNULL, stderr=DEVNULL)
        try:
            async with asyncio.timeout(SEEN_S):
                await until(
                    lambda: any(one["Alive"] and one["Resources"].get("CPU") == CORES_ADDED for one in ray.nodes())
                )
                seen.finished_at_added = finished
                (output / CONTROL_FILE).write_text("replicas: 3\n")
                await until(lambda: has_child(added.pid, "cluster.sim_engine"))
                seen.engine_on_added = True
            released.touch()
            await asyncio.Event().wait()  # the node stays until the job is over
        except TimeoutError as error:
            seen.gave_up = repr(error)
            released.touch()  # so that the job ends, and the test says what was not seen
        finally:
            added.terminate()
            await added.wait()

    def on_tick(progress: Progress, figures: Figures, seconds: float) -> None:
        nonlocal finished, changing
        finished = progress.finished
        seen.restarts = figures.worker_restarts + figures.engine_restarts
        if finished >= seen.planned // 10 and changing is None:
            changing = asyncio.create_task(change_nodes())

    await run_rollouts(plan, epoch, config, Holding(released), on_tick)
    assert changing is not None
    changing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await changing
    seen.accounted = int(standing(plan).done.sum())
    manifest = Manifest(output)
    manifest.entries()
    seen.rows = sum(entry.rows for entry in manifest.named(EntryKind.SHARD))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - of other processes
        await asyncio.sleep(0.2)


def has_child(process: int, words: str) -> bool:
    for one in psutil.Process(process).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if words in " ".join(one.cmdline()):
                return True
    return False


def test_a_replica_over_two_nodes_gets_two(seen: Seen) -> None:
    assert len(set(seen.slots)) == 2


def test_parts_are_spread_over_the_nodes(seen: Seen) -> None:
    assert len(set(seen.spread)) == NODES


def test_a_killed_node_loses_nothing(seen: Seen) -> None:
    assert 0 < seen.finished_at_kill < seen.planned
    assert seen.restarts > 0, "the node that was killed held nothing"
    assert 0 < seen.finished_at_added < seen.planned
    assert seen.engine_on_added
    assert seen.accounted == seen.planned
    assert seen.rows == seen.planned
