"""Promises: two fleets are coupled, the tighter one's limit holds; `control.yaml` resizes a running fleet, nonsense in it is not heeded; a
role without engines for too long ends the job in one line."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest

from cluster.config import RolloutConfig
from cluster.handles import InProcess
from cluster.serving import CONTROL_FILE, Figures, JobFailed, Serving
from jobs.compose import compose
from tests.cluster.engines import engines

SIM = ["teacher=sim", "teacher.engine.sim.time_scale=0.02", "cluster=in_process", "tracking=none", "domain=notes"]
USER = [
    "user=simulated",
    "user.chat.model=person",
    "user.engine={kind: sim, model: person, sim: {max_turns: 0, min_turns: 0}}",
]


def serving(tmp_path: Path, *line: str) -> Serving:
    return Serving(compose("rollout", RolloutConfig, [*SIM, *line]), InProcess(), str(tmp_path))


@pytest.mark.asyncio
async def test_fleets_are_coupled_and_resized(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    both = serving(tmp_path, "teacher.replicas=3", "teacher.min_replicas=3", *USER, "cluster.concurrency_start=5")
    try:
        await both.start(lambda: False)
        await both.tick()
        assert {role: len(urls) for role, urls in both.urls().items()} == {"teacher": 3, "user": 1}
        figures = Figures()
        both.admit(figures, 0, 1)
        assert figures.limit == 5 and figures.why.startswith("user")
        assert (figures.replicas_ready, figures.replicas_wanted) == (4, 4)
        for text in ("replicas: none", "judge: 2", "[1]", "replicas: {"):
            (tmp_path / CONTROL_FILE).write_text(text)
            both.heed(tmp_path)
        assert caplog.text.count("is not heeded") == 4
        (tmp_path / CONTROL_FILE).write_text("replicas: 1\nuser: 2\n")
        both.heed(tmp_path)
        deadline = time.monotonic() + 90
        while {role: len(urls) for role, urls in both.urls().items()} != {"teacher": 1, "user": 2}:
            assert time.monotonic() < deadline
            await both.tick()
            await asyncio.sleep(0.1)
    finally:
        await both.stop()
    assert not engines()


@pytest.mark.asyncio
async def test_a_role_without_engines_ends_the_job(tmp_path: Path) -> None:
    one = serving(tmp_path, "cluster.no_engine_s=0.5")
    try:
        await one.start(lambda: False)
        # What it would start next cannot be started any more.
        one._fleets["teacher"]._engine = one._fleets["teacher"]._engine.model_copy(update={"port": 1})  # type: ignore[union-attr]
        engines()[0].kill()
        deadline = time.monotonic() + 90
        with pytest.raises(JobFailed, match="no teacher engine for"):
            while time.monotonic() < deadline:
                await one.tick()
                await asyncio.sleep(0.1)
    finally:
        await one.stop()


def test_no_model_no_fleet(tmp_path: Path) -> None:
    figures = Figures()
    none = Serving(compose("rollout", RolloutConfig, ["domain=notes", "teacher=noop"]), InProcess(), str(tmp_path))
    none.admit(figures, 0, 2)
    assert (none.urls(), figures.limit, figures.replicas_wanted) == ({}, 128, 0)
