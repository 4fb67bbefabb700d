"""A great many short rollouts through Ray: rollouts a second, and whether memory stays flat.

The job is the real one: tasks stream from a tasks.parquet to dispatcher, workers and committer, and a teacher that needs no model answers.
Memory is looked at twice a second at least, as it is: nothing is collected or trimmed for the figure. `…_100k` is the resident memory
after a tenth of the rollouts, `…_1m` after all of them (under those names whatever `num_rollouts` is), each the median over a few readings
around that moment. At the end every committed row is read back: as many rows as rollouts, each of another attempt of the plan.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from pydantic import BaseModel, ConfigDict, Field, model_validator

from agentscaler.domain.store import load_domain, write_domains
from agentscaler.errors import ConfigError
from agentscaler.shards.files import write_tasks
from agentscaler.shards.manifest import EntryKind, Manifest
from agentscaler.tasks.compile import compile_shipped
from agentscaler.tasks.load import DOMAINS_FILE
from agentscaler.tasks.task import Task
from cluster.config import DomainChoice, RolloutConfig
from cluster.dispatcher import Progress
from cluster.plan import Plan, open_output, prepare, standing
from cluster.rollouts import Figures, JobFailed, run_rollouts
from cluster.session import crew
from jobs.bench.actor_processes import DRIVER, ActorProcesses, Use
from jobs.bench.drawing import save
from jobs.compose import compose, redacted_yaml, refuse

PARTS = {"driver": DRIVER, "committer": "Committer", "dispatcher": "Dispatcher", "worker": "EnvironmentActor"}
FLAT = ("driver", "committer")  # whose growth counts
NEAR = 5  # readings around a moment
SAY_EVERY_S = 10.0


class VolumeBench(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    domain: DomainChoice
    num_rollouts: int = Field(ge=10)
    num_tasks: int = Field(ge=1)
    workers: int = Field(ge=1)
    in_flight: int = Field(ge=1)
    output: str | None

    @model_validator(mode="after")
    def _divides(self) -> VolumeBench:
        if self.num_rollouts % self.num_tasks:
            raise ValueError(f"num_rollouts={self.num_rollouts}: is no multiple of num_tasks={self.num_tasks}")
        return self


@dataclass(slots=True)
class Watch:
    """Readings of memory, one a tick: seconds, rollouts finished, memory by part."""

    num_rollouts: int
    processes: ActorProcesses = field(default_factory=ActorProcesses)
    readings: list[tuple[float, int, dict[str, Use]]] = field(default_factory=list)
    bytes_written: int = 0
    busy_s: float = 0.0  # up to the tick that saw the last rollout end
    said: float = 0.0

    def tick(self, progress: Progress, figures: Figures, seconds: float) -> None:
        self.bytes_written = figures.saved.bytes_written
        if not self.readings or self.readings[-1][1] < self.num_rollouts:
            self.busy_s = seconds
        used = self.processes.use()
        if all(used[part].processes for part in PARTS.values()):
            self.readings.append((seconds, progress.finished, used))
        if seconds - self.said >= SAY_EVERY_S and self.readings:
            self.said = seconds
            words = ", ".join(f"{name} {used[part].rss_mib:.0f} MiB" for name, part in PARTS.items())
            rate = progress.finished / seconds
            say(f"{seconds:5.0f} s: {progress.finished:,} of {self.num_rollouts:,}, {rate:.0f} a second; {words}")

    def mib(self, part: str, finished: int) -> float:
        """The resident memory of one process of a part when so many rollouts had ended."""
        at = next((i for i, one in enumerate(self.readings) if one[1] >= finished), len(self.readings) - 1)
        start = max(0, min(at - NEAR // 2, len(self.readings) - NEAR))
        near = [used[part] for _, _, used in self.readings[start : start + NEAR]]
        return statistics.median(one.rss_mib / one.processes for one in near)


def main(arguments: list[str]) -> int:
    config = compose("bench_volume", VolumeBench, arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    work = Path(tempfile.mkdtemp(prefix="as-volume-"))
    try:
        figures = measure(config, work)
    except ConfigError as error:
        refuse(str(error))
    except JobFailed as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(orjson.dumps(figures).decode())
    return 0


def measure(config: VolumeBench, work: Path) -> dict[str, float | int | str]:
    output = Path(config.output).absolute() if config.output else work / "output"
    domain = load_domain(config.domain.name, config.domain.path)
    say(f"{config.num_tasks:,} tasks, {config.num_rollouts // config.num_tasks} attempts at each")
    write_domains([domain], work / DOMAINS_FILE)
    write_tasks(work / "tasks.parquet", named_anew(compile_shipped(domain.name, config.domain.path), config.num_tasks))
    job = rollout_config(config, work / "tasks.parquet")
    plan = prepare(job, output, redacted_yaml(job))
    watch = Watch(config.num_rollouts)
    with crew("local") as hands:
        epoch = open_output(plan)
        if standing(plan).done.any():
            raise ConfigError(f"output={output}: holds rollouts already")
        start = time.monotonic()
        ran = asyncio.run(run_rollouts(plan, epoch, job, hands, watch.tick))
        seconds = time.monotonic() - start
    if ran.progress.finished != config.num_rollouts:
        raise JobFailed(f"{ran.progress.finished} of {config.num_rollouts} rollouts ended")
    say(f"{seconds:.0f} s; reading back what is committed")
    rows = read_back(plan)
    tenth = config.num_rollouts // 10
    memory = {
        f"{name}_mib_{label}": round(watch.mib(part, finished), 1)
        for name, part in PARTS.items()
        for label, finished in (("100k", tenth), ("1m", config.num_rollouts))
    }
    growth = {name: memory[f"{name}_mib_1m"] / memory[f"{name}_mib_100k"] for name in PARTS}
    last = watch.readings[-1][2]
    cpu_s = sum(last[part].cpu_s for part in PARTS.values())
    return {
        "num_rollouts": config.num_rollouts,
        "num_tasks": config.num_tasks,
        "committed": rows,
        "rollouts_per_s": round(config.num_rollouts / watch.busy_s, 1),
        "seconds": round(seconds, 1),
        "workers": config.workers,
        "growth": round(max(growth[name] for name in FLAT), 3),
        **memory,
        "worker_growth": round(growth["worker"], 3),
        "dispatcher_growth": round(growth["dispatcher"], 3),
        "cpu_ms_per_rollout": round(1000 * cpu_s / config.num_rollouts, 3),
        "bytes": watch.bytes_written,
        "figure": draw(config, watch),
    }


def named_anew(written: list[Task], number: int) -> Iterator[Task]:
    """So many tasks with names and digests of their own, made of the written ones in turn."""
    for index, task in zip(range(number), itertools.cycle(written), strict=False):
        named = task.written.model_copy(update={"id": f"{task.written.id[:60]}_{index}"})
        kept = {name: getattr(task, name) for name in Task.model_fields}  # a copy would keep the digest that is cached
        yield Task(**{**kept, "written": named})


def rollout_config(config: VolumeBench, tasks: Path) -> RolloutConfig:
    attempts = config.num_rollouts // config.num_tasks
    overrides = [
        f"tasks={tasks}",
        "teacher=reference",
        f"attempts={attempts}",
        "cluster=local",
        f"cluster.workers={config.workers}",
        f"cluster.concurrency={config.in_flight}",
        "tracking=none",
    ]
    return compose("rollout", RolloutConfig, overrides)


def read_back(plan: Plan) -> int:
    """Rows committed, as the files have them; JobFailed unless they are the planned attempts, each once."""
    manifest = Manifest(plan.output)
    manifest.entries()
    rows = sum(entry.rows for entry in manifest.named(EntryKind.SHARD))
    done = standing(plan).done  # ShardError where one is there twice
    if not done.all() or rows != len(done):
        raise JobFailed(f"{rows} rows are committed, {int(done.sum())} of {len(done)} planned rollouts among them")
    return rows


def draw(config: VolumeBench, watch: Watch) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4))
    rates, memory = figure.subplots(1, 2)
    seconds = [one[0] for one in watch.readings]
    finished = [one[1] for one in watch.readings]
    rates.plot(seconds, finished)
    rates.set(
        xlabel="s", ylabel="rollouts finished", title=f"{config.num_rollouts:,} rollouts, {config.workers} workers"
    )
    for name, part in PARTS.items():
        memory.plot(finished, [used[part].rss_mib / used[part].processes for *_, used in watch.readings], label=name)
    memory.set(xlabel="rollouts finished", ylabel="resident memory of a process, MiB", ylim=(0, None))
    memory.legend(frameon=False)
    for axis in (rates, memory):
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return save(figure, "volume")


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
