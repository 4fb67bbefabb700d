"""Exactly once: however often a rollout is handed in, it is in one shard."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pyarrow.parquet as pq

from agentscaler.domain.store import load_domain
from agentscaler.errors import FaultClass
from agentscaler.rollout.attempt import Played, PlaySettings, play
from agentscaler.rollout.limits import Limits
from agentscaler.rollout.record import FailedAttempt, UserIdentity, work_item
from agentscaler.shards.files import committed, shard_paths
from agentscaler.tasks.compile import compile_shipped
from agentscaler.teachers.reference import ReferenceTeacher
from agentscaler.users.scripted import ScriptedUsers
from agentscaler.verify.funnel import VerifyMode
from cluster.committer import Committer


def played(count: int) -> list[Played]:
    teacher, settings = ReferenceTeacher(), PlaySettings(Limits(), VerifyMode.STATE, "digest")
    tasks = compile_shipped("notes")[:count]
    items = [work_item(task, 0, teacher.identity, UserIdentity("scripted"), 0) for task in tasks]
    domain = load_domain("notes")
    return [asyncio.run(play(item, domain, teacher, ScriptedUsers(), settings)) for item in items]


def test_doubles_in_one_run_and_over_runs_are_dropped(tmp_path: Path) -> None:
    batch = played(6)
    first = Committer(str(tmp_path), [], shard_rollouts=4, max_age_s=1e9)
    first.add(batch[:4])
    first.add(batch[:4])
    assert len(shard_paths(tmp_path)) == 1
    second = Committer(str(tmp_path), committed(tmp_path), shard_rollouts=4, max_age_s=1e9)
    second.add(batch)
    second.flush()
    assert [path.name for path in shard_paths(tmp_path)] == ["shard-0001-00001.parquet", "shard-0002-00001.parquet"]
    assert set(committed(tmp_path)) == {one.rollout_id for one in batch}


def test_faults_go_to_the_sidecar(tmp_path: Path) -> None:
    one = played(1)[0]
    one.rollout = None
    one.failures.append(
        FailedAttempt(one.rollout_id, "notes/x", 0, 1, FaultClass.ENGINE_GONE, "gone", False, "2026-01-01")
    )
    committer = Committer(str(tmp_path), [], shard_rollouts=4, max_age_s=1e9)
    committer.add([one])
    committer.flush()
    assert shard_paths(tmp_path / "shards") == []
    (sidecar,) = (tmp_path / "attempts").glob("*.parquet")
    assert pq.read_table(sidecar).to_pylist()[0]["fault"] == "engine_gone"
