"""A job interrupted, with a simulated engine. Promises: a killed worker's rollouts are played by another, each in one shard once; after
SIGTERM or Ctrl-C what is in flight ends and is kept; asked twice, the job ends at once; the same command goes on with the rest.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster.engine_metrics import parse_metrics
from jobs.bench.chaos_checks import committed_rows, examine
from tests.conftest import ROOT, RayHead, RunJob

SIM = {"turns_median": 3, "turns_sigma": 0.3, "output_median": 80, "output_sigma": 0.3}  # about half a second a turn


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    command = [sys.executable, "-m", "cluster.sim_engine", "--config", json.dumps(SIM)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.kill()
    process.wait()


def in_flight(server: str) -> int:
    with urllib.request.urlopen(server.removesuffix("/v1") + "/metrics", timeout=5) as reply:
        found = parse_metrics(reply.read().decode(), time.monotonic())
    assert found is not None
    return found.running


def line_for(server: str, output: Path, *more: str) -> list[str]:
    line = ["teacher=endpoint", f"teacher.base_urls=[{server}]", "teacher.chat.model=sim", "tracking=none"]
    return [*line, "cluster.shard_rollouts=8", "cluster.shard_age_s=1", f"output={output}", *more]


def start(line: list[str], log: Path, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    with log.open("wb") as sink:
        command = [sys.executable, "-m", "jobs.rollout", *line]
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=sink, stderr=sink)


def until(condition: Callable[[], Any], job: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert job.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def is_whole(output: Path) -> None:
    found = examine(output, attempts=1)
    assert (found.lost, found.given_up, found.duplicated, found.torn, found.named_twice) == (0, 0, 0, 0, 0)
    assert found.summary_agrees


def own_workers() -> list[psutil.Process]:
    """Of the cluster that this process started, and of no other on this machine."""
    below = psutil.Process().children(recursive=True)
    return [one for one in below if " ".join(one.cmdline()).startswith("ray::EnvironmentActor")]


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(ray_head: RayHead, server: str, tmp_path: Path) -> None:
    log, output = tmp_path / "log", tmp_path / "o"
    line = line_for(server, output, "cluster.concurrency=8", "cluster.workers=2")
    job = start(line, log, ray_head.environment)
    try:
        until(lambda: committed_rows(output) and len(own_workers()) == 2 and in_flight(server), job, log)
        own_workers()[0].kill()
        assert job.wait(240) == 0, log.read_text()
    finally:
        job.kill()
        job.wait()
    is_whole(output)
    assert json.loads((output / "summary.json").read_text())["restarts"] == {"engines": 0, "workers": 1, "epochs": 0}
    assert "rollouts given back, a new worker starts" in log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_in_flight_ends_and_is_kept(
    number: signal.Signals, server: str, tmp_path: Path, run_job: RunJob
) -> None:
    log, output = tmp_path / "log", tmp_path / "o"
    line = line_for(server, output, "cluster=in_process", "cluster.concurrency=6", "tasks_sample=30")
    job = start(line, log)
    until(lambda: committed_rows(output) and in_flight(server) >= 4, job, log)
    before = committed_rows(output)
    job.send_signal(number)
    assert job.wait(120) == 130, log.read_text()
    assert "goes on with the rest" in log.read_text().splitlines()[-1]
    kept = committed_rows(output)
    assert before + 4 <= kept < 30
    assert run_job("rollout", *line).returncode == 0
    summary = json.loads((output / "summary.json").read_text())
    assert (summary["resumed"], summary["planned"], summary["void"]) == (kept, 30, 0)
    is_whole(output)


def test_asked_twice_it_ends_at_once(server: str, tmp_path: Path) -> None:
    log, output = tmp_path / "log", tmp_path / "o"
    job = start(line_for(server, output, "cluster=in_process", "cluster.concurrency=6", "cluster.drain_s=100"), log)
    until(lambda: committed_rows(output) and in_flight(server) >= 4, job, log)
    fault = json.dumps({"kind": "hang"}).encode()
    urllib.request.urlopen(server.removesuffix("/v1") + "/sim/faults", fault, timeout=5).close()
    job.send_signal(signal.SIGTERM)
    until(lambda: "again to stop at once" in log.read_text(), job, log)
    time.sleep(2)
    assert job.poll() is None  # it waits for what hangs
    job.send_signal(signal.SIGTERM)
    assert job.wait(60) == 130, log.read_text()
    assert not list(output.rglob("*.tmp"))
