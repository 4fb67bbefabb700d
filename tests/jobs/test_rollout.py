"""The main job as a user runs it: in one process, on Ray, as a submitted Ray job, with a real engine; resumed, extended, refused."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from agentscaler.shards.files import committed, shard_paths
from tests.conftest import ROOT, RayHead, RunJob, ray_command


def summary_of(run: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert run.returncode == 0, run.stderr[-3000:]
    summary = json.loads(Path(run.stdout.strip().splitlines()[-1]).read_text())
    assert summary["planned"] == summary["accepted"] + summary["rejected"] + summary["void"]
    assert summary["rejected"] == sum(summary["rejected_by_stage"].values())
    return summary


@pytest.mark.parametrize(("teacher", "most"), [("reference", None), ("noop", 0), ("random_call", 1)])
def test_measuring_rods(run_job: RunJob, tmp_path: Path, teacher: str, most: int | None) -> None:
    summary = summary_of(
        run_job(
            "rollout",
            "domain=notes",
            f"teacher={teacher}",
            "cluster=in_process",
            "attempts=4",
            f"output={tmp_path / 'o'}",
        )
    )
    assert (summary["planned"], summary["void"], summary["resumed"]) == (180, 0, 0)
    if most is None:
        assert summary["accepted"] == 180
        assert summary["accepted_with_writes"] >= 4 * 30
        assert summary["detour"] == 0
    else:
        assert summary["accepted"] <= most


def test_running_again_continues_and_more_attempts_extend(run_job: RunJob, tmp_path: Path) -> None:
    output = tmp_path / "o"
    base = ["domain=notes", "teacher=reference", "cluster=in_process", f"output={output}"]
    summary_of(run_job("rollout", *base))
    assert summary_of(run_job("rollout", *base))["resumed"] == 45
    before = {path.name: path.read_bytes() for path in shard_paths(output)}
    more = summary_of(run_job("rollout", *base, "attempts=2"))
    assert (more["planned"], more["accepted"], more["resumed"]) == (90, 90, 45)
    assert {name: (output / "shards" / name).read_bytes() for name in before} == before
    assert len(committed(output)) == 90
    lost = shard_paths(output)[0]
    lost.unlink()  # what was committed and is gone is said, not quietly played again
    again = run_job("rollout", *base, "attempts=2")
    assert again.returncode == 2 and f"{lost}: is missing" in again.stderr


def test_tasks_from_a_file_with_its_domains_beside_it(run_job: RunJob, tmp_path: Path) -> None:
    summary_of(run_job("rollout", "teacher=reference", "cluster=in_process", f"output={tmp_path / 'a'}"))
    again = summary_of(
        run_job(
            "rollout",
            f"tasks={tmp_path / 'a' / 'tasks.parquet'}",
            "tasks_sample=7",
            "teacher=reference",
            "cluster=in_process",
            f"output={tmp_path / 'b'}",
        )
    )
    assert (again["planned"], again["accepted"]) == (7, 7)


@pytest.mark.parametrize("mode", ["verdict", "replay"])
def test_reverify_changes_nothing(run_job: RunJob, tmp_path: Path, mode: str) -> None:
    for teacher in ("reference", "random_call"):
        output = tmp_path / teacher
        summary_of(run_job("rollout", f"teacher={teacher}", "cluster=in_process", f"output={output}"))
        run = run_job("reverify", f"input={output}", f"mode={mode}", f"output={tmp_path / (teacher + '-again')}")
        assert run.returncode == 0, run.stderr
        summary = json.loads(Path(run.stdout.strip()).read_text())
        assert (summary["verified"], summary["changed"]) == (45, 0)
        assert len(committed(tmp_path / (teacher + "-again"))) == 45


def test_show_prints_one_rollout(run_job: RunJob, tmp_path: Path) -> None:
    summary_of(
        run_job("rollout", "teacher=reference", "cluster=in_process", "tasks_sample=3", f"output={tmp_path / 'o'}")
    )
    listed = run_job("show", f"input={tmp_path / 'o'}").stdout.splitlines()
    assert len(listed) == 3
    shown = run_job("show", f"input={tmp_path / 'o'}", f"rollout={listed[0].split()[0]}")
    assert shown.returncode == 0
    assert "ACCEPTED" in shown.stdout
    assert run_job("show", f"input={tmp_path / 'o'}", "rollout=zz").returncode == 2


@pytest.mark.slow
def test_submitted_as_a_ray_job_with_authentication(ray_head: RayHead, tmp_path: Path) -> None:
    job = [
        sys.executable,
        "-m",
        "jobs.rollout",
        "domain=notes",
        "teacher=reference",
        "cluster.workers=1",
        "tracking=none",
    ]
    submit = [ray_command(), "job", "submit", "--address", ray_head.dashboard, "--working-dir", ".", "--"]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*submit, *job, *more],
            cwd=ROOT,
            env=ray_head.environment,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )

    deadline = time.monotonic() + 240
    done = run("output=first", f"output_root={tmp_path}")
    while (
        "No available agent" in done.stderr and time.monotonic() < deadline
    ):  # Ray's job agent starts after its port is open
        time.sleep(1)
        done = run("output=first", f"output_root={tmp_path}")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    summary = json.loads((tmp_path / "first" / "summary.json").read_text())
    assert (summary["accepted"], summary["void"]) == (45, 0)
    assert str(tmp_path / "first" / "summary.json") in done.stdout
    for headers in ({}, {"Authorization": f"Bearer {'0' * 64}"}):
        jobs = urllib.request.Request(f"{ray_head.dashboard}/api/jobs/", headers=headers)
        with pytest.raises(HTTPError) as refused:
            urllib.request.urlopen(jobs, timeout=60)
        assert refused.value.code in (401, 403)


def test_a_relative_output_inside_a_ray_job_needs_a_root(
    run_job: RunJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    line = ["teacher=reference", "cluster=in_process", "tasks_sample=2", "output=here"]
    refused = run_job("rollout", *line)
    assert (refused.returncode, "output_root" in refused.stderr) == (2, True)
    assert run_job("rollout", *line, f"output_root={tmp_path}").returncode == 0
    assert (tmp_path / "here" / "summary.json").is_file()
