"""A rollout job from plan to summary: start the parts, watch them, end them. The same for Ray and for one process.

Reads in the order of time: engines, committer, dispatcher, workers; a tick a second; the end. A worker that dies gives its leases
back and is replaced; an engine that dies stops the job (what is committed stays, and running again continues).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agentscaler.errors import ConfigError
from agentscaler.rollout.attempt import PlaySettings
from cluster.committer import Committer
from cluster.config import RolloutConfig
from cluster.dispatcher import Dispatcher, Progress
from cluster.environment_actor import EnvironmentActor
from cluster.handles import Crew, Handle, InProcess, PartGone
from cluster.parts import TeacherSpec, UserActor, UserSpec, build_teacher, user_identity
from cluster.plan import Plan
from cluster.session import num_nodes
from cluster.teacher_server import TeacherServer

log = logging.getLogger(__name__)
TICK_S = 1.0
HEALTH_S = 10.0


class JobFailed(Exception):
    """Our own failure, in one line; what was committed stays."""


@dataclass(frozen=True, slots=True)
class Ran:
    """This run's own figures."""

    progress: Progress
    seconds: float


async def run_rollouts(
    plan: Plan, config: RolloutConfig, crew: Crew, on_tick: Callable[[Progress, float], None]
) -> Ran:
    """Play what the plan still lacks; `on_tick(progress, seconds)` comes about once a second, and once at the end."""
    teacher = build_teacher(config.teacher).identity if config.teacher.base_urls else _identity(config.teacher)
    items = plan.items(config, teacher, user_identity(config.user))
    waiting = [item for item in items if item.rollout_id not in plan.committed]
    num_resumed = len(items) - len(waiting)
    job = _Job(plan, config, crew)
    try:
        if not waiting:
            return Ran(Progress(planned=len(items), resumed=num_resumed), 0.0)
        teacher_spec, user_spec = await job.start_models()
        started = time.monotonic()
        await job.start_workers(waiting, num_resumed, teacher_spec, user_spec)
        progress = await job.watch(on_tick, started)
        return Ran(progress, time.monotonic() - started)
    finally:
        await job.end()


def _identity(spec: TeacherSpec) -> Any:
    """Known before any engine runs: the address of a server is no part of it."""
    return build_teacher(spec.model_copy(update={"base_urls": ("http://unused/v1",), "api_key_env": None})).identity


class _Job:
    def __init__(self, plan: Plan, config: RolloutConfig, crew: Crew):
        self._plan, self._config, self._crew = plan, config, crew
        self._servers: list[Handle] = []
        self._committer: Handle | None = None
        self._dispatcher: Handle | None = None
        self._user_actor: Handle | None = None
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._restarts = 0

    async def start_models(self) -> tuple[TeacherSpec, UserSpec]:
        teacher, user = self._config.teacher, self._config.user
        if teacher.kind == "vllm":
            assert teacher.engine is not None
            gpus = teacher.engine.num_gpus
            across_nodes = not isinstance(self._crew, InProcess) and num_nodes() > 1
            logs = str((self._plan.output / "logs").absolute())
            for number in range(teacher.replicas):
                arguments = (teacher.engine, f"teacher-{number}", logs, across_nodes)
                self._servers.append(self._crew.spawn(TeacherServer, *arguments, cpus=0 if gpus else 1, gpus=gpus))
            log.info("starting %d engine(s) of %s", teacher.replicas, teacher.engine.name)
            started = time.monotonic()
            urls = await asyncio.gather(*(server.call("start") for server in self._servers))
            log.info("engines ready after %.0f s", time.monotonic() - started)
            teacher = teacher.model_copy(update={"base_urls": tuple(urls)})
        if user.kind == "simulated" and not user.base_urls:
            if not teacher.base_urls:
                raise ConfigError("user.base_urls: the teacher has no servers that the simulated user could share")
            user = user.model_copy(update={"base_urls": teacher.base_urls, "api_key_env": teacher.api_key_env})
        return teacher, user

    async def start_workers(self, items: list[Any], num_resumed: int, teacher: TeacherSpec, user: UserSpec) -> None:
        cluster = self._config.cluster
        output = str(self._plan.output.absolute())
        self._committer = self._crew.spawn(
            Committer, output, set(self._plan.committed), cluster.shard_rollouts, cluster.shard_age_s, near_driver=True
        )
        self._dispatcher = self._crew.spawn(Dispatcher, items, num_resumed, near_driver=True)
        if user.kind == "simulated":
            self._user_actor = self._crew.spawn(UserActor, user)
        self._models = (teacher, user)
        for number in range(cluster.workers):
            self._hire(f"worker-{number}")

    def _hire(self, name: str) -> None:
        config = self._config
        settings = PlaySettings(config.limits, config.verify, config.shape_digest(), config.cluster.max_trials)
        share = max(1, config.cluster.concurrency // config.cluster.workers)
        worker = self._crew.spawn(
            EnvironmentActor,
            name,
            self._plan.domains,
            *self._models,
            settings,
            share,
            self._dispatcher,
            self._committer,
            self._user_actor,
        )
        self._workers[name] = asyncio.create_task(worker.call("run"))

    async def watch(self, on_tick: Callable[[Progress, float], None], started: float) -> Progress:
        assert self._dispatcher and self._committer
        checked = time.monotonic()
        while self._workers:
            await asyncio.wait(self._workers.values(), timeout=TICK_S, return_when=asyncio.FIRST_COMPLETED)
            for name in [name for name, task in self._workers.items() if task.done()]:
                await self._replace_or_let_go(name)
            if time.monotonic() - checked > HEALTH_S:
                await self._check_engines()
                checked = time.monotonic()
            on_tick(await self._dispatcher.call("progress"), time.monotonic() - started)
        await self._committer.call("flush")
        progress = await self._dispatcher.call("progress")
        on_tick(progress, time.monotonic() - started)
        if progress.outcomes[
            "void"
        ]:  # an engine that dies fails all that is in flight within a second, before the next look at it
            await self._check_engines()
        return progress

    async def _replace_or_let_go(self, name: str) -> None:
        assert self._dispatcher
        task = self._workers.pop(name)
        try:
            task.result()
        except PartGone as gone:
            self._restarts += 1
            given_back = await self._dispatcher.call("requeue", name)
            if self._restarts > self._config.cluster.max_worker_restarts:
                raise JobFailed(f"{name} died, the {self._restarts}th time that a worker did: {gone}") from None
            log.warning("%s died (%s): %d rollouts given back, a new worker starts", name, gone, given_back)
            self._hire(f"{name}+")

    async def _check_engines(self) -> None:
        for number, server in enumerate(self._servers):
            try:
                alive = await server.call("healthy") or await server.call("healthy")
            except PartGone:
                alive = False
            if not alive:
                where = self._plan.output / "logs" / f"teacher-{number}.log"
                raise JobFailed(f"engine teacher-{number} is gone (see {where}); run the same command again to go on")

    async def end(self) -> None:
        """Keep what is played, leave no process behind."""
        for task in self._workers.values():
            task.cancel()
        await asyncio.gather(*self._workers.values(), return_exceptions=True)
        for handle, method in [
            (self._committer, "flush"),
            (self._user_actor, "close"),
            *((s, "stop") for s in self._servers),
        ]:
            if handle is not None:
                try:
                    await handle.call(method)
                except PartGone as gone:
                    log.warning("%s at the end: %s", method, gone)
