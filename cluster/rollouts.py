"""A rollout job from plan to summary: start the parts, watch them, end them. The same for Ray and for one process.

Reads in the order of time: engines, committer and dispatcher, workers; a tick a second; the end. What dies, and what is done about it:
  a worker                  replaced; what it had leased goes to others, what it says later is not heard
  an engine                 `fleet.py` starts another; sessions move at their next turn
  dispatcher or committer   a new epoch: both and the workers start again from what is committed, the engines stay
  the tracker               replaced (`report.py`)
  the driver                everything ends with it, and running the same command again goes on
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from agentscaler.errors import ShardError
from agentscaler.rollout.attempt import PlaySettings
from agentscaler.rollout.record import FailedAttempt, now_text, rollout_name
from agentscaler.shards import schema
from agentscaler.shards.manifest import Fenced, Manifest
from agentscaler.shards.storage import is_local
from cluster.committer import Batch, Committer, OutputError
from cluster.config import RolloutConfig
from cluster.dispatcher import Dispatcher, Progress, Rules
from cluster.environment_actor import EnvironmentActor, WorkSettings
from cluster.gauges import write_targets
from cluster.handles import NEAR_DRIVER, Crew, Handle, PartGone
from cluster.plan import Plan, claim, standing
from cluster.serving import Figures, JobFailed, Serving, Stopped
from cluster.session import num_cpus, num_nodes

log = logging.getLogger(__name__)
TICK_S = 1.0
MAX_EPOCHS = 50  # dispatchers or committers that may die in a job
LAG_S, LAG_TICKS = 0.05, 5  # an event loop later than this for so many ticks: one more process
PACKED = 0.9  # of a core


@dataclass(frozen=True, slots=True)
class Ran:
    """This run's own figures."""

    progress: Progress
    seconds: float
    figures: Figures


OnTick = Callable[[Progress, Figures, float], None]


async def run_rollouts(plan: Plan, epoch: int, config: RolloutConfig, crew: Crew, on_tick: OnTick) -> Ran:
    """Play what the plan still lacks; `on_tick(progress, figures, seconds)` comes about once a second, and once at the end."""
    job = _Job(plan, epoch, config, crew, on_tick)
    before = standing(plan)
    if before.done.all():
        return Ran(Progress(planned=len(before.done), resumed=len(before.done)), 0.0, Figures())
    loop, main = asyncio.get_running_loop(), asyncio.current_task()
    assert main is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, job.stop)
    try:
        await job.serving.start(job.is_stopping)
        return await job.play()
    finally:
        await asyncio.shield(job.end())
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


class _Job:
    def __init__(self, plan: Plan, epoch: int, config: RolloutConfig, crew: Crew, on_tick: OnTick):
        self._plan, self._epoch, self._config, self._crew, self._on_tick = plan, epoch, config, crew, on_tick
        folder = plan.output / "logs" if is_local(plan.output) else None
        self.serving = Serving(config, crew, str(folder.absolute()) if folder else "runs/logs")
        self._committer: Handle | None = None
        self._dispatcher: Handle | None = None
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._handles: dict[str, Handle] = {}
        self._numbered = 0
        self._deaths_in_a_row = 0
        self._finished_at_death = 0
        self._late_ticks = 0
        self._stopping: float | None = None
        self._figures = Figures()
        self._last = Progress()
        self._earlier = [0, 0, 0]  # tokens of the epochs before: completion, prompt, cached
        self._started = time.monotonic()
        self._unwritable: float | None = None
        self._told: dict[str, tuple[str, ...]] = {}

    def stop(self) -> None:
        """First: hand out nothing more, let what is in flight end. Again: now."""
        if self._stopping is not None:
            self._stopping = 0.0
            return
        self._stopping = time.monotonic()
        log.warning("stopping: what is in flight has %.0f s; again to stop at once", self._config.cluster.drain_s)

    def is_stopping(self) -> bool:
        return self._stopping is not None

    async def play(self) -> Ran:
        """Epoch by epoch: each is over when all is played, or when a part died that everything hangs on."""
        while True:
            try:
                await self._start_parts()
                progress = await self._watch()
                Manifest(self._plan.output).sweep(self._epoch)  # what a fenced committer wrote too late
                return Ran(progress, time.monotonic() - self._started, self._figures)
            except PartGone as gone:
                self._figures.epochs += 1
                last = self._last
                self._earlier = [last.completion_tokens, last.prompt_tokens, last.cached_tokens]
                if self._figures.epochs > MAX_EPOCHS:
                    raise JobFailed(f"dispatcher or committer died, the {MAX_EPOCHS}th time: {gone}") from None
                log.warning("dispatcher or committer died (%s): going on from what is committed", gone)
                await self._end_parts()
                self._epoch = claim(self._plan)

    async def _start_parts(self) -> None:
        plan, config = self._plan, self._config
        now = standing(plan)
        rules = Rules(
            lease_s=config.cluster.lease_s,
            quarantine_after=config.quarantine_after,
            easy_after=config.solve_rate.easy_after,
            hopeless_after=config.solve_rate.hopeless_after,
        )
        output = str(plan.output)
        shards = (config.cluster.shard_rollouts, config.cluster.shard_age_s)
        self._committer = self._crew.spawn(Committer, output, self._epoch, now.done, *shards, needs=NEAR_DRIVER)
        self._dispatcher = self._crew.spawn(
            Dispatcher,
            str(plan.tasks_path),
            plan.num_tasks,
            plan.attempts,
            now.done,
            now.outcomes,
            rules,
            needs=NEAR_DRIVER,
        )
        workers = config.cluster.workers
        num_workers = workers if isinstance(workers, int) else min(num_nodes(), config.cluster.max_workers)
        self.serving.admit(self._figures, 0, num_workers)
        await self._dispatcher.call("steer", self.serving.urls(), self._figures.limit, num_workers)
        for _ in range(num_workers):
            self._hire()

    def _hire(self) -> None:
        config, plan = self._config, self._plan
        name = f"worker-{self._epoch}-{self._numbered}"
        self._numbered += 1
        limits = PlaySettings(
            config.limits, config.verify, config.shape_digest(), config.cluster.max_trials, config.is_benchmark
        )
        journal = str(plan.output / "journal") if config.cluster.journal else None
        models = (config.teacher, config.user, plan.teacher, plan.user)
        own_process = not self._crew.shares_memory
        settings = WorkSettings(*models, plan.run_seed, limits, journal=journal, own_process=own_process)
        assert self._dispatcher and self._committer
        worker = self._crew.spawn(EnvironmentActor, name, plan.domains, settings, self._dispatcher, self._committer)
        self._handles[name] = worker
        self._workers[name] = asyncio.create_task(worker.call("run"))

    async def _watch(self) -> Progress:
        assert self._dispatcher and self._committer
        ticked = 0.0
        while self._workers:
            pause_s = max(0.0, ticked + TICK_S - time.monotonic())
            await asyncio.wait(self._workers.values(), timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
            for name in [name for name, task in self._workers.items() if task.done()]:
                await self._let_go(name)
            if time.monotonic() - ticked >= TICK_S:
                ticked = time.monotonic()
                await self._tick()
        await self._committer.call("flush")
        return await self._tick()

    async def _tick(self) -> Progress:
        assert self._dispatcher and self._committer
        await self.serving.tick()
        self._tell_prometheus()
        self.serving.heed(self._plan.output)
        steered = (self.serving.urls(), self._figures.limit, len(self._workers))
        progress: Progress = await self._dispatcher.call("steer", *steered)
        self.serving.admit(self._figures, progress.in_flight, len(self._workers))
        await self._write_notes()
        await self._save_what_is_old()
        for name in progress.overdue:
            await self._lose(name, f"was silent for {self._config.cluster.lease_s:g} s")
        if self._stopping is None:
            self._hire_if_late(progress)
        else:
            await self._drain()
        completion, prompt, cached = self._earlier
        self._last = replace(
            progress,
            completion_tokens=progress.completion_tokens + completion,
            prompt_tokens=progress.prompt_tokens + prompt,
            cached_tokens=progress.cached_tokens + cached,
        )
        self._on_tick(self._last, self._figures, time.monotonic() - self._started)
        return self._last

    def _tell_prometheus(self) -> None:
        """Where the engines are: their own metrics are scraped from them."""
        urls, place = self.serving.urls(), self._config.cluster.engine_targets
        if place is not None and urls != self._told:
            self._told = urls
            write_targets(Path(place), urls)

    async def _save_what_is_old(self) -> None:
        """A full disk is waited for: the committer keeps what it has, and takes nothing more, so that the workers stand still."""
        assert self._committer
        try:
            self._figures.saved = await self._committer.call("tick")
            self._unwritable = None
        except OutputError as error:
            now = time.monotonic()
            if self._unwritable is None:
                log.warning("%s; waiting up to %.0f s for that to change", error, self._config.cluster.no_output_s)
                self._unwritable = now
            self._figures.saved = await self._committer.call("stats")
            if now - self._unwritable >= self._config.cluster.no_output_s:
                raise

    async def _drain(self) -> None:
        assert self._dispatcher and self._stopping is not None
        await self._dispatcher.call("stop")
        if time.monotonic() - self._stopping > self._config.cluster.drain_s:
            raise Stopped
        if all(task.done() for task in self._workers.values()):
            raise Stopped

    def _hire_if_late(self, progress: Progress) -> None:
        """One more process where an event loop has run late, or a core been full, for some ticks, and a core is free for it."""
        cluster = self._config.cluster
        if cluster.workers != "auto" or not progress.remaining or self._crew.shares_memory:
            return
        late = progress.lag_s > LAG_S or progress.cpu_share > PACKED
        self._late_ticks = self._late_ticks + 1 if late else 0
        if self._late_ticks >= LAG_TICKS and len(self._workers) < min(cluster.max_workers, num_cpus()):
            self._late_ticks = 0
            log.info("event loops run %.0f ms late: one more worker", 1000 * progress.lag_s)
            self._hire()

    async def _let_go(self, name: str) -> None:
        """A worker that is through, or that died."""
        task = self._workers.pop(name)
        try:
            task.result()
            self._handles.pop(name, None)
        except PartGone as gone:
            self._workers[name] = task
            await self._lose(name, f"died ({gone})")

    async def _lose(self, name: str, why: str) -> None:
        """Fence first, then hand its work to others."""
        assert self._dispatcher and self._committer
        task, handle = self._workers.pop(name, None), self._handles.pop(name, None)
        if task is None:
            return
        try:
            await self._committer.call("fence", name)
            given_back = await self._dispatcher.call("leave", name)
        finally:  # nobody else has its handle now: where one of those two is dead, it would outlive the epoch
            task.cancel()
            if handle is not None:
                self._crew.dismiss(handle)
        progress = await self._dispatcher.call("progress")
        self._deaths_in_a_row = self._deaths_in_a_row + 1 if progress.finished == self._finished_at_death else 1
        self._finished_at_death = progress.finished
        self._figures.worker_restarts += 1
        if self._deaths_in_a_row > self._config.cluster.max_worker_restarts:
            raise JobFailed(f"{name} {why}: the {self._deaths_in_a_row}th in a row, with no rollout finished between")
        log.warning("%s %s: %d rollouts given back, a new worker starts", name, why, given_back)
        self._hire()

    async def _write_notes(self) -> None:
        """What was given up (quarantine, solve rate, a killer of workers) is a row of the attempts sidecar like every other."""
        assert self._dispatcher and self._committer
        rows = []
        for attempt, task, fault, words in await self._dispatcher.call("take_notes"):
            plan, given_up = self._plan, schema.parse_task(task)
            name = rollout_name(given_up.task_digest, attempt, plan.teacher, plan.user, plan.run_seed)
            rows.append(FailedAttempt(name, given_up.task_id, attempt, 0, fault, words, False, now_text()))
        if rows:
            none, failures = schema.to_ipc(schema.to_table([])), schema.to_ipc(schema.attempts_table(rows))
            await self._committer.call("add", "driver", Batch([], none, failures))

    async def _end_parts(self) -> None:
        for task in self._workers.values():
            task.cancel()
        await asyncio.gather(*self._workers.values(), return_exceptions=True)
        for handle in (*self._handles.values(), self._committer, self._dispatcher):
            if handle is not None:
                self._crew.dismiss(handle)
        self._workers, self._handles = {}, {}

    async def end(self) -> None:
        """Keep what is played, leave no process behind."""
        for task in self._workers.values():
            task.cancel()
        await asyncio.gather(*self._workers.values(), return_exceptions=True)
        if self._committer is not None:
            try:
                await self._committer.call("flush")
            except (PartGone, OutputError, Fenced, ShardError) as gone:
                log.warning("flush at the end: %s", gone)
        await self._end_parts()
        await self.serving.stop()
