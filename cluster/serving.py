"""The fleets of a job, by role, and how many rollouts they carry together.

Coupled: a rollout waits for its teacher or for its user, so the tighter fleet's limit holds for all. What a running job is asked to change
(`control.yaml` in its output folder) is read here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import yaml

from agentscaler.shards.storage import AnyPath, is_local
from cluster.admission import Admission
from cluster.committer import CommitStats
from cluster.config import RolloutConfig
from cluster.engine_metrics import EngineFigures
from cluster.fleet import Fleet
from cluster.handles import Crew
from cluster.parts import roles

log = logging.getLogger(__name__)
CONTROL_FILE = "control.yaml"
SCRIPTED_LIMIT = 64  # a worker, where no model is asked


class JobFailed(Exception):
    """Our own failure, in one line; what was committed stays."""


class Stopped(Exception):
    """By Ctrl-C or SIGTERM: what was played is kept."""


@dataclass(frozen=True, slots=True)
class FleetFigures:
    """The engines of one role. `metrics_age_s`: of the oldest reading that is in use."""

    ready: int = 0
    wanted: int = 0
    restarts: int = 0
    running: int = 0
    waiting: int = 0
    preemptions: int = 0
    kv_use_max: float = 0.0
    kv_use_mean: float = 0.0
    metrics_age_s: float = 0.0
    gpu_seconds: float = 0.0


@dataclass(slots=True)
class Figures:
    """What a tick knows beside the dispatcher's progress; `fleets` by role."""

    limit: int = 0
    why: str = ""
    fleets: dict[str, FleetFigures] = field(default_factory=dict)
    worker_restarts: int = 0
    epochs: int = 0
    saved: CommitStats = field(default_factory=CommitStats)

    @property
    def replicas_ready(self) -> int:
        return sum(fleet.ready for fleet in self.fleets.values())

    @property
    def replicas_wanted(self) -> int:
        return sum(fleet.wanted for fleet in self.fleets.values())

    @property
    def engine_restarts(self) -> int:
        return sum(fleet.restarts for fleet in self.fleets.values())

    @property
    def gpu_seconds(self) -> float:
        return sum(fleet.gpu_seconds for fleet in self.fleets.values())


class Serving:
    def __init__(self, config: RolloutConfig, crew: Crew, logs: str):
        cluster = config.cluster
        self._cluster, self._logs = cluster, logs
        self._fixed = cluster.concurrency if isinstance(cluster.concurrency, int) else None
        self._specs = roles(config.teacher, config.user)
        patience = (cluster.wedged_s, cluster.stuck_s)
        self._fleets = {
            role: Fleet(role, crew, logs, spec.engine, spec.replicas, spec.base_urls, *patience)
            for role, spec in self._specs.items()
        }
        self._admissions = {role: Admission(cluster.concurrency_start, self._fixed) for role in self._fleets}
        self._seen = dict.fromkeys(self._fleets, time.monotonic())
        self._control: str | None = None

    async def start(self, is_stopping: Callable[[], bool]) -> None:
        """Return once every fleet has as many replicas as it needs to begin; the others join later."""
        counts = [f"{role}: {fleet.wanted} server(s)" for role, fleet in self._fleets.items()]
        log.info("%s", ", ".join(counts) or "no model")
        begin = (fleet.start(self._specs[role].min_replicas) for role, fleet in self._fleets.items())
        starting = asyncio.gather(*begin)
        while not starting.done():
            await asyncio.wait([starting], timeout=0.2)
            if is_stopping():
                starting.cancel()
                raise Stopped
        await starting
        self._seen = dict.fromkeys(self._fleets, time.monotonic())

    async def tick(self) -> None:
        """Raises JobFailed where a role has had no engine for too long."""
        for fleet in self._fleets.values():
            await fleet.tick()
        now = time.monotonic()
        for role, fleet in self._fleets.items():
            if fleet.urls:
                self._seen[role] = now
            elif now - self._seen[role] > self._cluster.no_engine_s:
                raise JobFailed(f"no {role} engine for {now - self._seen[role]:.0f} s (logs in {self._logs})")

    def urls(self) -> dict[str, tuple[str, ...]]:
        return {role: fleet.urls for role, fleet in self._fleets.items()}

    def admit(self, figures: Figures, in_flight: int, num_workers: int) -> None:
        """Fill in what the engines say and how many rollouts may be in flight."""
        now = time.monotonic()
        readings = {role: fleet.figures() for role, fleet in self._fleets.items()}
        limits = {
            role: self._admissions[role].update(now, len(fleet.urls), readings[role], in_flight)
            for role, fleet in self._fleets.items()
        }
        if limits:
            tightest = min(limits, key=lambda role: limits[role])
            figures.limit, figures.why = limits[tightest], f"{tightest}: {self._admissions[tightest].why}"
        else:
            figures.limit = self._fixed if self._fixed is not None else SCRIPTED_LIMIT * max(1, num_workers)
        figures.fleets = {
            role: _figures_of(fleet, list(readings[role].values()), now) for role, fleet in self._fleets.items()
        }

    def heed(self, output: AnyPath) -> None:
        """`control.yaml` changes a running job: `replicas: 4`, or `teacher: 4` and `user: 2`. Read again whenever its text changes."""
        path = output / CONTROL_FILE
        if not self._fleets or not is_local(output) or not path.is_file():
            return
        text = path.read_text()
        if text == self._control:
            return
        self._control = text
        try:
            wishes = yaml.safe_load(text) or {}
            for key, number in wishes.items():
                role = "teacher" if key == "replicas" else key
                if role not in self._fleets or not isinstance(number, int) or number < 1:
                    raise ValueError(f"{key}: {number} (the roles are {', '.join(self._fleets)}, a number from 1 on)")
                log.info("%s: %s %d replicas", CONTROL_FILE, role, number)
                self._fleets[role].resize(number)
        except (ValueError, AttributeError, yaml.YAMLError) as error:
            log.warning("%s is not heeded: %s", path, " ".join(str(error).split()))

    async def stop(self) -> None:
        await asyncio.gather(*(fleet.stop() for fleet in self._fleets.values()))


def _figures_of(fleet: Fleet, engines: list[EngineFigures], now: float) -> FleetFigures:
    return FleetFigures(
        ready=len(fleet.urls),
        wanted=fleet.wanted,
        restarts=fleet.restarts,
        running=sum(one.running for one in engines),
        waiting=sum(one.waiting for one in engines),
        preemptions=sum(one.preemptions for one in engines),
        kv_use_max=max((one.kv_use for one in engines), default=0.0),
        kv_use_mean=sum(one.kv_use for one in engines) / max(1, len(engines)),
        metrics_age_s=max((now - one.at for one in engines), default=0.0),
        gpu_seconds=fleet.gpu_seconds(),
    )
