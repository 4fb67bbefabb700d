"""Plays the rollouts leased to it: one coroutine a rollout, the next one starts as one ends, environments in this process.

Two Ray calls a batch, none a turn: results go to the committer as Arrow bytes, and only when it has them does the dispatcher hear of them,
in the call that brings new leases. Backpressure: while the committer has not taken `MAX_UNSAVED` results, nothing new starts.
"""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections import OrderedDict, deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from agentscaler.benchmark import AnyDomain, AnyTask
from agentscaler.rollout.attempt import Played, PlaySettings, play
from agentscaler.rollout.journal import Journal
from agentscaler.rollout.record import UserIdentity, WorkItem, work_item
from agentscaler.shards import schema
from agentscaler.teachers.chat import TeacherIdentity
from agentscaler.teachers.routing import Load, Router
from cluster.committer import Batch, OutputError
from cluster.dispatcher import Finished, Orders, WorkReport
from cluster.event_loop import LoopLag
from cluster.garbage import collect_rarely
from cluster.handles import Handle
from cluster.parts import TeacherSpec, UserSpec, build_teacher, build_users, roles
from cluster.task_queue import Entry

log = logging.getLogger(__name__)
SYNC_S = 0.5
IDLE_S = 0.1
BATCH = 64
MAX_UNSAVED = 512
UNWRITABLE_S = 2.0
KEPT_TASKS = 1024


@dataclass(frozen=True, slots=True)
class WorkSettings:
    """What every worker of a job is given."""

    teacher: TeacherSpec
    user: UserSpec
    teacher_identity: TeacherIdentity
    user_identity: UserIdentity
    run_seed: int
    play: PlaySettings
    journal: str | None = None  # the folder that keeps turns
    own_process: bool = False  # nobody else lives in the worker's process


class EnvironmentActor:
    def __init__(
        self,
        worker: str,
        domains: Mapping[str, AnyDomain],
        settings: WorkSettings,
        dispatcher: Handle,
        committer: Handle,
    ):
        self._worker, self._domains, self._settings = worker, domains, settings
        self._dispatcher, self._committer = dispatcher, committer
        served = roles(settings.teacher, settings.user)
        self._routers = {role: Router(seed=zlib.crc32(worker.encode())) for role in served}
        for role, spec in served.items():
            if not spec.engine:
                self._routers[role].update({url: Load() for url in spec.base_urls})
        self._teacher = build_teacher(settings.teacher, self._routers)
        self._users = build_users(settings.user, settings.teacher, self._routers)
        self._journal = Journal(settings.journal, worker) if settings.journal else None
        self._tasks: OrderedDict[bytes, AnyTask] = OrderedDict()
        self._leased: deque[Entry] = deque()
        self._playing: set[asyncio.Task[Played]] = set()
        self._ready: list[Played] = []
        self._told: list[Finished] = []  # the committer has these, the dispatcher does not know yet
        self._unsaved = 0
        self._share = 0
        self._ended = False
        self._room = asyncio.Event()
        self._lag = LoopLag()

    async def run(self) -> None:
        """Work until the dispatcher has nothing left."""
        if self._settings.own_process:
            collect_rarely()
        lag = asyncio.create_task(self._lag.run())
        saving = asyncio.create_task(self._save())
        try:
            await self._sync_until_ended(saving)
        finally:
            for task in (lag, saving, *self._playing):
                task.cancel()
            await asyncio.gather(lag, saving, *self._playing, return_exceptions=True)
            await self._teacher.close()
            await self._users.close()

    async def _sync_until_ended(self, saving: asyncio.Task[None]) -> None:
        while not self._ended:
            told, self._told = self._told, []
            # A few more than may play, so that the next one starts without asking.
            room = self._share + max(1, self._share // 8) - len(self._playing) - len(self._leased)
            report = WorkReport(
                worker=self._worker,
                finished=tuple(told),
                room=max(0, room) if self._unsaved < MAX_UNSAVED else 0,
                playing=len(self._playing),
                lag_s=self._lag.p95_s,
                cpu_share=self._lag.cpu_share(),
                loads={role: router.loads() for role, router in self._routers.items()},
            )
            orders: Orders = await self._dispatcher.call("sync", report)
            for role, replicas in orders.replicas.items():
                self._routers[role].update(replicas)
            self._share, self._ended = orders.share, orders.ended
            self._leased.extend(orders.leases)
            self._refill()
            if saving.done():
                saving.result()  # raises what ended it
            self._room.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._room.wait(), SYNC_S if self._playing or self._share == 0 else IDLE_S)

    def _refill(self) -> None:
        while self._leased and len(self._playing) < self._share and self._unsaved < MAX_UNSAVED:
            item = self._item(self._leased.popleft())
            domain = self._domains[item.task.domain_fingerprint]
            playing = asyncio.create_task(
                play(item, domain, self._teacher, self._users, self._settings.play, self._journal)
            )
            self._playing.add(playing)
            playing.add_done_callback(self._ended_one)

    def _ended_one(self, playing: asyncio.Task[Played]) -> None:
        self._playing.discard(playing)
        if playing.cancelled():
            return
        self._ready.append(playing.result())
        self._unsaved += 1
        self._refill()
        if len(self._leased) <= self._share // 16:
            self._room.set()

    async def _save(self) -> None:
        """Hand results to the committer, a batch at a time or what there is after `SYNC_S`."""
        waited = time.monotonic()
        while True:
            if len(self._ready) >= BATCH or (self._ready and time.monotonic() - waited >= SYNC_S / 2):
                batch, self._ready = self._ready[:BATCH], self._ready[BATCH:]
                try:
                    if not await self._committer.call("add", self._worker, pack(batch)):
                        self._ended = True  # somebody else has our work
                        return
                except OutputError:  # the driver says it, and how long it will wait
                    self._ready = batch + self._ready
                    await asyncio.sleep(UNWRITABLE_S)
                    continue
                if self._journal is not None:
                    for played in batch:
                        self._journal.forget(played.rollout_id)
                self._told += [finished(played) for played in batch]
                self._unsaved -= len(batch)
                waited = time.monotonic()
                self._refill()
                if not self._playing:
                    self._room.set()
            else:
                await asyncio.sleep(SYNC_S / 10)

    def _item(self, entry: Entry) -> WorkItem:
        task = self._tasks.get(entry.task)
        if task is None:
            task = self._tasks[entry.task] = schema.parse_task(entry.task)
            if len(self._tasks) > KEPT_TASKS:
                self._tasks.popitem(last=False)
        settings = self._settings
        return work_item(
            task, entry.attempt, settings.teacher_identity, settings.user_identity, settings.run_seed, entry.index
        )


def pack(batch: list[Played]) -> Batch:
    whole = [played for played in batch if played.rollout is not None]
    failures = [failure for played in batch for failure in played.failures]
    return Batch(
        indices=[played.index for played in whole],
        rollouts=schema.to_ipc(schema.to_table([played.rollout for played in whole if played.rollout is not None])),
        failures=schema.to_ipc(schema.attempts_table(failures)) if failures else None,
    )


def finished(played: Played) -> Finished:
    rollout, num_faults = played.rollout, len(played.failures)
    if rollout is None:
        fault = played.failures[-1].fault.value if played.failures else None
        return Finished(played.index, "void", fault=fault, num_faults=num_faults)
    usages = [message.usage for message in rollout.messages if message.usage and message.role == "assistant"]
    return Finished(
        played.index,
        rollout.verdict.outcome.value,
        rollout.verdict.stage.value if rollout.verdict.stage else None,
        None,
        sum(usage.completion_tokens for usage in usages),
        sum(usage.prompt_tokens for usage in usages),
        sum(usage.cached_tokens for usage in usages),
        num_faults,
    )
