"""The replicas of one model: brought up, watched, replaced, added and taken away while a job runs.

A replica is *starting*, *ready* or *leaving*. Invariants: only ready ones are in `urls`; one that is dead or wedged leaves `urls` in the
same tick that finds it, and a new one is started in its place; what a replica held is given back before that.

Dead: its process or its actor is gone. Wedged: it has not answered for `wedged_s`, or has requests running and has made no token for
`stuck_s`. Sessions are moved by the routers of the workers, which see `urls` change; nothing is moved here.

A list of URLs that somebody else runs stands in for a fleet: it is asked for figures, and never started or judged (`Router` leaves out
a server that does not answer).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field

import aiohttp

from agentscaler.errors import ConfigError
from cluster.engine import EngineConfig, Rank
from cluster.engine_metrics import EngineFigures, parse_metrics
from cluster.handles import Crew, Handle, Needs, PartGone, Slot
from cluster.teacher_server import TeacherServer

log = logging.getLogger(__name__)
POLL_S = 0.3
ANSWER_S, LEAVE_S, STOP_S = 5.0, 120.0, 15.0
BACKOFF_S, BACKOFF_MAX_S = 1.0, 60.0
MAX_FAILED_STARTS = 3  # in a row, with no replica ready: then it is the engine, not the machine


@dataclass(slots=True)
class _Replica:
    name: str
    url: str = ""
    is_ready: bool = False
    is_leaving: bool = False
    ranks: list[Handle] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)
    coming: asyncio.Task[None] | None = None
    failed_starts: int = 0
    wait_until: float = 0.0
    answered: float = 0.0
    moved: float = 0.0  # when it last made a token, or had nothing to do
    ready_since: float = 0.0
    figures: EngineFigures | None = None


class Fleet:
    """Belongs to the driver's event loop. Call `start`, then `tick` about once a second, `stop` at the end."""

    def __init__(
        self,
        role: str,
        crew: Crew,
        logs: str,
        engine: EngineConfig | None,
        wanted: int,
        urls: tuple[str, ...] = (),
        wedged_s: float = 30.0,
        stuck_s: float = 180.0,
    ):
        self.role = role
        self._crew, self._logs, self._engine = crew, logs, engine
        self._wanted = wanted
        self._wedged_s, self._stuck_s = wedged_s, stuck_s
        self._numbered = 0
        self._replicas: list[_Replica] = [_Replica(url, url, is_ready=True) for url in urls]
        self._http: aiohttp.ClientSession | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._spent_s = 0.0  # replica seconds of those that are gone
        self.restarts = 0

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(one.url for one in self._replicas if one.is_ready and not one.is_leaving)

    @property
    def wanted(self) -> int:
        return self._wanted if self._engine else len(self._replicas)

    def figures(self) -> dict[str, EngineFigures]:
        return {one.name: one.figures for one in self._replicas if one.is_ready and one.figures}

    def gpu_seconds(self) -> float:
        """Held so far, from ready to gone."""
        now = time.monotonic()
        held = self._spent_s + sum(now - one.ready_since for one in self._replicas if one.ready_since)
        return held * (self._engine.num_gpus if self._engine else 0)

    async def start(self, at_least: int = 1) -> None:
        """Return once `at_least` replicas are ready; the others go on starting. ConfigError, in the engine's words, if it cannot start."""
        if self._engine is None:
            return
        self.resize(self._wanted)
        while len(self.urls) < min(at_least, self._wanted):
            await self.tick()
            await asyncio.sleep(POLL_S)

    def resize(self, wanted: int) -> None:
        """Add replicas, or let the last ones leave: those get no new request, and end once they have answered what they have."""
        self._wanted = wanted
        staying = [one for one in self._replicas if not one.is_leaving]
        for _ in range(wanted - len(staying)):
            self._replicas.append(_Replica(f"{self.role}-{self._numbered}"))
            self._numbered += 1
        for one in staying[wanted:]:
            one.is_leaving, one.wait_until = True, time.monotonic() + LEAVE_S

    async def tick(self) -> None:
        """Look at every replica once, all at the same time."""
        for one in list(self._replicas):
            if one.coming is not None and one.coming.done():
                self._settle(one, one.coming)
            elif one.coming is None and not one.is_ready and not one.is_leaving and time.monotonic() >= one.wait_until:
                one.coming = asyncio.create_task(self._bring_up(one))
        await asyncio.gather(*(self._look_at(one) for one in self._replicas if one.is_ready))
        for one in [one for one in self._replicas if one.is_leaving]:
            idle = one.figures is not None and one.figures.running + one.figures.waiting == 0
            if not one.is_ready or idle or time.monotonic() > one.wait_until:
                log.info("%s leaves", one.name)
                self._put_out(one)
                self._replicas.remove(one)

    async def stop(self) -> None:
        for one in self._replicas:
            if one.coming is not None:
                one.coming.cancel()
                await asyncio.gather(one.coming, return_exceptions=True)
            self._put_out(one)
        await asyncio.gather(*self._closing)
        if self._http is not None:
            await self._http.close()
            self._http = None

    def _settle(self, one: _Replica, coming: asyncio.Task[None]) -> None:
        one.coming = None
        try:
            coming.result()
            one.failed_starts = 0
        except (ConfigError, PartGone) as error:
            one.failed_starts += 1
            hopeless = isinstance(error, ConfigError) and one.failed_starts >= (
                MAX_FAILED_STARTS if self.restarts else 1
            )
            if hopeless and not self.urls:
                raise error if isinstance(error, ConfigError) else ConfigError(f"{one.name}: {error}") from None
            pause_s = min(BACKOFF_MAX_S, BACKOFF_S * 2**one.failed_starts)
            one.wait_until = time.monotonic() + pause_s
            self._put_out(one)
            log.warning("%s did not start, again in %.0f s: %s", one.name, pause_s, error)

    async def _bring_up(self, one: _Replica) -> None:
        engine, began = self._engine, time.monotonic()
        assert engine is not None
        if engine.num_nodes > 1:
            one.slots = await self._crew.reserve(engine.num_nodes, engine.num_gpus / engine.num_nodes)
        gpus = engine.num_gpus / engine.num_nodes
        for rank in range(engine.num_nodes):
            name = one.name if engine.num_nodes == 1 else f"{one.name}-rank-{rank}"
            arguments = (engine, name, self._logs, self._crew.spans_nodes)
            cpus = 0 if gpus or engine.kind == "sim" else 1
            needs = Needs(cpus, gpus, slot=one.slots[rank] if one.slots else None)
            one.ranks.append(self._crew.spawn(TeacherServer, *arguments, needs=needs))
        meeting = await one.ranks[0].call("where") if engine.num_nodes > 1 else None
        places = [Rank(rank, *meeting) if meeting else None for rank in range(engine.num_nodes)]
        one.url, *_ = await asyncio.gather(
            *(handle.call("launch", place) for handle, place in zip(one.ranks, places, strict=True))
        )
        is_ready = False
        while not is_ready:
            await asyncio.sleep(POLL_S)
            is_ready = await one.ranks[0].call("ready")
        now = time.monotonic()
        one.is_ready, one.answered, one.moved, one.ready_since, one.figures = True, now, now, now, None
        log.info("%s ready after %.0f s: %s", one.name, now - began, one.url)

    async def _look_at(self, one: _Replica) -> None:
        if self._http is None:
            self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=min(ANSWER_S, self._wedged_s / 2)))
        now = time.monotonic()
        try:
            async with self._http.get(one.url.removesuffix("/v1") + "/metrics") as answer:
                found = parse_metrics(await answer.text(), time.monotonic()) if answer.status == 200 else None
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            if self._engine is None:
                return
            if isinstance(error, aiohttp.ClientConnectorError) and not await self._alive(one):
                await self._replace(one, "is gone")
            elif now - one.answered > self._wedged_s:
                await self._replace(one, f"has not answered for {now - one.answered:.0f} s")
            return
        one.answered = now
        before, one.figures = one.figures, found or one.figures
        if found is None or self._engine is None:
            return
        tokens = found.generation_tokens + found.prompt_tokens
        if (
            before is None
            or tokens != before.generation_tokens + before.prompt_tokens
            or not found.running + found.waiting
        ):
            one.moved = now
        elif now - one.moved > self._stuck_s:
            await self._replace(one, f"has made no token for {now - one.moved:.0f} s")

    async def _alive(self, one: _Replica) -> bool:
        try:
            return all(await asyncio.gather(*(handle.call("alive") for handle in one.ranks)))
        except PartGone:
            return False

    async def _replace(self, one: _Replica, why: str) -> None:
        log.warning("%s %s: a new one starts", one.name, why)
        self.restarts += 1
        self._put_out(one)
        one.wait_until = time.monotonic() + BACKOFF_S

    def _put_out(self, one: _Replica) -> None:
        """It is no part of the fleet from now on; its processes end meanwhile."""
        if one.ready_since:
            self._spent_s += time.monotonic() - one.ready_since
        one.is_ready, one.ready_since, one.figures = False, 0.0, None
        ranks, slots, one.ranks, one.slots = one.ranks, one.slots, [], []
        closing = asyncio.create_task(self._close(ranks, slots))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _close(self, ranks: list[Handle], slots: list[Slot]) -> None:
        await asyncio.gather(*(_quietly(handle.call("stop")) for handle in ranks))
        for handle in ranks:
            self._crew.dismiss(handle)
        self._crew.release(slots)


async def _quietly(stopping: Coroutine[None, None, None]) -> None:
    """An actor that is gone needs no stopping; one that does not answer is killed by its dismissal."""
    with contextlib.suppress(PartGone, TimeoutError):
        await asyncio.wait_for(stopping, STOP_S)
