"""Promises: `jobs.bench loop` plays the real job on Ray, all accepted, and says for each number in flight what a model call costs us, what
it costs a bare loop, and the ratio; both sides send the same requests."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from agentscaler.messages import Outcome
from agentscaler.rollout.attempt import PlaySettings, play
from agentscaler.rollout.limits import Limits
from agentscaler.rollout.record import work_item
from agentscaler.teachers.endpoint import EndpointTeacher, EndpointTeacherConfig
from agentscaler.teachers.http import ChatEndpoint, EndpointConfig
from agentscaler.users.scripted import ScriptedUsers
from agentscaler.verify.funnel import VerifyMode
from agentscaler.verify.verdict import VerdictOutcome
from cluster.config import DomainChoice
from jobs.bench import loop_floor
from jobs.bench.chat_server import serving
from jobs.bench.loop_work import MODEL, SAMPLING, LoopWork, choose
from tests.jobs.benches import run_bench
from tests.teachers.served import served


def work() -> LoopWork:
    return choose(DomainChoice(name="notes"), 5, 3)


async def play_one(work: LoopWork, url: str) -> None:
    teacher = EndpointTeacher(
        EndpointTeacherConfig(model=MODEL, sampling=SAMPLING), ChatEndpoint(EndpointConfig(base_urls=(url,)))
    )
    users = ScriptedUsers()
    item = work_item(work.task, 0, teacher.identity, users.identity, 0)
    played = await play(item, work.domain, teacher, users, PlaySettings(Limits(), VerifyMode.STATE, "x"))
    await teacher.close()
    assert played.rollout is not None and played.rollout.verdict.outcome is VerdictOutcome.ACCEPTED
    calls = [message for message in played.rollout.messages if message.role == "tool"]
    assert len(calls) == 8 and all(message.outcome is Outcome.OK for message in calls)


def test_the_server_answers_by_turn_and_counts() -> None:
    found = work()
    with serving(found.answers, core=0) as server:
        asyncio.run(play_one(found, server.url))
        assert server.calls() == found.num_calls == 9
        asyncio.run(loop_floor.play_bare(found, server.url, 3, 2))
        assert server.calls() == 9 + 27


def test_both_sides_send_the_same_requests() -> None:
    found = work()

    async def run() -> list[list[dict[str, object]]]:
        sides = []
        for side in (play_one, lambda work, url: loop_floor.play_bare(work, url, 1, 1)):
            async with served(lambda n: web.json_response(found.answers[n - 1])) as server:
                await side(found, server.url)
                sides.append(server.bodies)
        return sides

    ours, bare = asyncio.run(run())
    assert len(ours) == len(bare) == 9
    for one, other in zip(ours, bare, strict=True):
        assert {**one, "seed": 0} == {**other, "seed": 0}


@pytest.mark.slow
def test_on_ray(tmp_path: Path) -> None:
    figures = run_bench("loop", tmp_path, "domain=notes", "in_flight=[8]", "rounds=1", "rollouts=32")
    for number in (8,):
        ours, floor = figures[f"cpu_ms_per_call_{number}"], figures[f"floor_cpu_ms_per_call_{number}"]
        assert ours > 0 and floor > 0
        assert figures[f"ratio_{number}"] == pytest.approx(ours / floor, rel=0.05)
        assert figures[f"calls_per_s_{number}"] > 0 and figures[f"raylet_cpu_ms_per_call_{number}"] >= 0
    assert figures["calls_a_rollout"] == 9
    assert (tmp_path / figures["figure"]).stat().st_size > 10_000
