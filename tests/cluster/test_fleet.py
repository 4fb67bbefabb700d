"""Real processes of the simulated engine under a fleet. Promises: only replicas that answer are in `urls`; one that dies or hangs is out
and replaced; the fleet grows and shrinks while it runs; an engine that cannot start says why; nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from agentscaler.errors import ConfigError
from cluster.engine import EngineConfig
from cluster.fleet import Fleet
from cluster.handles import InProcess
from tests.cluster.engines import engines

SIM = EngineConfig(kind="sim", model="sim", sim={"time_scale": 0.05})


async def until(fleet: Fleet, condition: Callable[[], bool], timeout_s: float = 90.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not come about"
        await fleet.tick()
        await asyncio.sleep(0.05)


@pytest_asyncio.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    one = Fleet("teacher", InProcess(), str(tmp_path), SIM, 2, wedged_s=1.0, stuck_s=2.0)
    await one.start(2)
    yield one
    await one.stop()
    assert not engines()


@pytest.mark.asyncio
async def test_a_killed_engine_is_replaced(fleet: Fleet) -> None:
    before = fleet.urls
    assert len(before) == 2 and len(engines()) == 2
    engines()[0].kill()
    await until(fleet, lambda: len(fleet.urls) == 1)
    await until(fleet, lambda: len(fleet.urls) == 2)
    assert len({*before, *fleet.urls}) == 3
    assert fleet.restarts == 1 and set(fleet.figures()) <= {"teacher-0", "teacher-1"}


@pytest.mark.asyncio
async def test_a_stopped_engine_is_wedged_and_replaced(fleet: Fleet) -> None:
    (victim, *_) = engines()
    victim.suspend()
    await until(fleet, lambda: fleet.restarts == 1)
    await until(fleet, lambda: len(fleet.urls) == 2)
    await until(fleet, lambda: not victim.is_running())


@pytest.mark.asyncio
async def test_an_engine_that_makes_no_token_is_replaced(fleet: Fleet) -> None:
    url = fleet.urls[0]
    fault = urllib.request.Request(
        url.removesuffix("/v1") + "/sim/faults",
        json.dumps({"kind": "hang"}).encode(),
        {"Content-Type": "application/json"},
    )
    await asyncio.to_thread(lambda: urllib.request.urlopen(fault).read())
    chat = urllib.request.Request(
        url + "/chat/completions",
        json.dumps({"model": "sim", "messages": [{"role": "user", "content": "hi"}]}).encode(),
        {"Content-Type": "application/json"},
    )
    asking = asyncio.create_task(asyncio.to_thread(lambda: urllib.request.urlopen(chat, timeout=30)))
    await until(fleet, lambda: url not in fleet.urls)
    await until(fleet, lambda: len(fleet.urls) == 2)
    with pytest.raises(OSError):
        await asking


@pytest.mark.asyncio
async def test_it_grows_and_shrinks(fleet: Fleet) -> None:
    first = fleet.urls
    fleet.resize(3)
    await until(fleet, lambda: len(fleet.urls) == 3)
    fleet.resize(1)
    assert fleet.urls == first[:1]  # at once: no new request goes to the others
    await until(fleet, lambda: len(engines()) == 1)
    assert fleet.restarts == 0


@pytest.mark.asyncio
async def test_an_engine_that_cannot_start_says_why(tmp_path: Path) -> None:
    broken = Fleet("teacher", InProcess(), str(tmp_path), SIM.model_copy(update={"sim": {"colour": "red"}}), 1)
    with pytest.raises(ConfigError, match="colour"):
        await broken.start()
    await broken.stop()
    assert not engines()


@pytest.mark.asyncio
async def test_urls_of_others_are_asked_and_never_judged(fleet: Fleet, tmp_path: Path) -> None:
    nobody = "http://127.0.0.1:9/v1"
    listed = Fleet("teacher", InProcess(), str(tmp_path), None, 1, (*fleet.urls, nobody))
    await listed.start()
    await listed.tick()
    assert listed.urls == (*fleet.urls, nobody) and listed.wanted == 3
    assert set(listed.figures()) == set(fleet.urls)
    await listed.stop()
    assert len(engines()) == 2
