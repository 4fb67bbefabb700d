"""What goes wrong outside of us, done for real. Promises: a passing fault of a server costs no rollout; a lasting one ends each attempt as
VOID, with its class in the sidecar, and the same command plays it once the server is well; a full disk is waited for; a folder that
cannot be written is one line before anything starts; a hanging engine is replaced; nothing is decided by the wall clock.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from agentscaler.shards.files import attempt_paths, committed
from cluster.engine_metrics import parse_metrics
from jobs.bench.chaos_checks import committed_rows, examine
from tests.cluster.engines import engines
from tests.conftest import ROOT, RunJob

SIM = {"time_scale": 0.02, "output_median": 40, "turns_median": 3}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """One simulated engine that somebody else runs, under any address of this machine's own."""
    command = [sys.executable, "-m", "cluster.sim_engine", "--host", "0.0.0.0", "--config", json.dumps(SIM)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.stdout.readline().strip().replace("0.0.0.0", "127.0.0.1")
    process.terminate()
    process.wait(10)


@pytest.fixture
def faults(server: str) -> Iterator[Any]:
    """Make it suffer: `faults(kind=…)`; without anything, all is well again."""

    def change(**fault: Any) -> None:
        method, body = ("POST", json.dumps(fault).encode()) if fault else ("DELETE", None)
        request = urllib.request.Request(server.removesuffix("/v1") + "/sim/faults", body, method=method)
        urllib.request.urlopen(request, timeout=5).close()

    yield change
    change()


def line_for(server: str, output: Path, *more: str) -> list[str]:
    line = ["teacher=endpoint", f"teacher.base_urls=[{server}]", "teacher.chat.model=sim", "cluster=in_process"]
    return [*line, "cluster.concurrency=8", f"output={output}", *more]


def summary_of(output: Path) -> dict[str, Any]:
    return json.loads((output / "summary.json").read_text())


def sidecar(output: Path) -> list[dict[str, Any]]:
    return [row for path in attempt_paths(output) for row in pq.read_table(str(path)).to_pylist()]


def nothing_lost(output: Path) -> None:
    found = examine(output, attempts=1)
    assert (found.lost, found.given_up, found.duplicated, found.torn, found.losers) == (0, 0, 0, 0, 0)
    assert found.summary_agrees and found.committed == found.planned


# Fewer than one rollout could meet in all its tries: three trials, in each two requests after garbage, one after a hang.
PASSING = [
    {"kind": "status", "status": 500, "count": 5},
    {"kind": "status", "status": 429, "count": 5},
    {"kind": "garbage", "count": 5},
    {"kind": "close_mid_body", "count": 1},
    {"kind": "hang", "count": 2},
]


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: f"{fault['kind']}{fault.get('status', '')}")
def test_a_passing_fault_costs_no_rollout(
    fault: dict[str, Any], server: str, faults: Any, run_job: RunJob, tmp_path: Path
) -> None:
    faults(**fault)
    line = line_for(server, tmp_path / "o", "tasks_sample=10", "teacher.timeout_s=1")
    if fault["kind"] == "close_mid_body":  # then nobody asks there for ten seconds: a second address to go to
        line.append(f"teacher.base_urls=[{server},{server.replace('127.0.0.1', '127.0.0.2')}]")
    done = run_job("rollout", *line)
    assert done.returncode == 0, done.stderr
    nothing_lost(tmp_path / "o")
    assert {row["retried"] for row in sidecar(tmp_path / "o")} <= {True}


LASTING = [
    ({"kind": "status", "status": 500}, "engine_overloaded"),
    ({"kind": "status", "status": 429}, "engine_overloaded"),
    ({"kind": "status", "status": 404}, "engine_rejected"),
    ({"kind": "garbage"}, "malformed_reply"),
    ({"kind": "close_mid_body"}, "engine_gone"),
    ({"kind": "hang"}, "timeout"),
]


@pytest.mark.parametrize(("fault", "name"), LASTING, ids=lambda one: one if isinstance(one, str) else one["kind"])
def test_a_lasting_fault_is_void_with_its_class_and_played_later(
    fault: dict[str, Any], name: str, server: str, faults: Any, run_job: RunJob, tmp_path: Path
) -> None:
    patience = ["teacher.timeout_s=0.3", "teacher.max_retries=1", "teacher.no_server_s=0.5", "cluster.max_trials=2"]
    line = line_for(server, tmp_path / "o", "tasks_sample=3", *patience)
    faults(**fault)
    assert run_job("rollout", *line).returncode == 0
    summary, rows = summary_of(tmp_path / "o"), sidecar(tmp_path / "o")
    assert (summary["void"], summary["accepted"], summary["rejected"]) == (3, 0, 0)
    assert {row["fault"] for row in rows} == {name}
    assert sum(not row["retried"] for row in rows) == 3
    assert examine(tmp_path / "o", attempts=1).given_up == 3
    faults()
    assert run_job("rollout", *line).returncode == 0
    nothing_lost(tmp_path / "o")


def test_a_hanging_engine_is_replaced(run_job: RunJob, tmp_path: Path) -> None:
    """One of two stops in the middle, by SIGSTOP: its connections stay open and nothing is answered."""
    output, ended = tmp_path / "o", threading.Event()
    hung: list[psutil.Process] = []

    def hang_one() -> None:
        while not ended.wait(0.05):
            if not committed_rows(output):
                continue  # engines that only warm up are not in the middle of anything
            for engine in engines():
                if (running := _running(engine)) is not None and running > 1:
                    engine.suspend()
                    hung.append(engine)
                    return

    hanging = threading.Thread(target=hang_one)
    sim = [f"++teacher.engine.sim.{key}={value}" for key, value in (SIM | {"time_scale": 1.0}).items()]
    line = ["teacher=sim", "teacher.replicas=2", "teacher.min_replicas=2", *sim, "cluster=in_process"]
    line += ["cluster.concurrency=8", "cluster.wedged_s=1.5", "cluster.shard_age_s=0.3", f"output={output}"]
    hanging.start()
    try:
        done = run_job("rollout", *line)
    finally:
        ended.set()
        hanging.join()
    assert done.returncode == 0, done.stderr
    assert hung, "the job was over before an engine could be hung"
    assert not hung[0].is_running()
    assert summary_of(output)["restarts"]["engines"] == 1
    assert "has not answered for" in done.stderr
    nothing_lost(output)


def _running(engine: psutil.Process) -> int | None:
    """Chat requests that it computes; None where it is no engine, or none yet."""
    try:
        words = engine.cmdline()
        address = f"{words[words.index('--host') + 1]}:{words[words.index('--port') + 1]}"
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=1) as reply:
            found = parse_metrics(reply.read().decode(), time.monotonic())
    except (psutil.Error, ValueError, OSError):
        return None
    return found.running if found else None


def test_a_full_disk_is_waited_for(server: str, tmp_path: Path) -> None:
    """The kernel refuses what makes a file longer than the limit (EFBIG, where a full disk is ENOSPC), until the limit is lifted."""
    output = tmp_path / "o"
    line = line_for(server, output, "tasks_sample=20", "cluster.shard_rollouts=20", "tracking=none")
    job = subprocess.Popen(
        [sys.executable, "-m", "jobs.rollout", *line],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not (output / "tasks.parquet").exists():
            assert job.poll() is None
            time.sleep(0.01)
        resource.prlimit(job.pid, resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
        said = _until_said(job, "cannot be written")
        assert f"output={output}" in said[-1] and "waiting" in said[-1]
        assert not committed(output) and not list(output.rglob("*.tmp"))
        resource.prlimit(job.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        _, rest = job.communicate(timeout=180)
        assert job.returncode == 0, rest
    finally:
        job.kill()
        job.wait()
    nothing_lost(output)


def _until_said(job: subprocess.Popen[str], words: str, timeout_s: float = 180.0) -> list[str]:
    assert job.stderr is not None
    said: list[str] = []
    deadline = time.monotonic() + timeout_s
    with selectors.DefaultSelector() as selector:
        selector.register(job.stderr, selectors.EVENT_READ)
        while not said or words not in said[-1]:
            assert time.monotonic() < deadline, said
            if selector.select(1.0):
                said.append(job.stderr.readline())
                assert said[-1], said
    return said


def test_a_disk_that_stays_full_ends_the_job_and_loses_nothing(server: str, tmp_path: Path, run_job: RunJob) -> None:
    output = tmp_path / "o"
    line = line_for(server, output, "tasks_sample=5", "cluster.no_output_s=1", "cluster.shard_age_s=0.5")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert run_job("rollout", *line, "attempts=1").returncode == 0
    before = committed(output)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))  # less than a shard
    try:
        done = run_job("rollout", *line, "attempts=2")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"failed: output={output}: cannot be written")
    assert committed(output) == before and not list(output.rglob("*.tmp"))
    assert run_job("rollout", *line, "attempts=2").returncode == 0
    assert len(committed(output)) == 10


# Root may write anywhere, but for this capability, which a process gives up for all that it becomes (PR_CAPBSET_DROP = 24).
AS_ANYBODY = (
    "import ctypes, os, sys; libc = ctypes.CDLL(None)\n"
    "if os.geteuid() == 0: assert libc.prctl(24, 1, 0, 0, 0) == 0 and libc.prctl(24, 2, 0, 0, 0) == 0\n"
    "os.execv(sys.executable, [sys.executable, '-m', 'jobs.rollout', *sys.argv[1:]])"
)


@pytest.mark.parametrize("place", ["closed", "closed/within"])
def test_a_folder_that_cannot_be_written_is_one_line(place: str, server: str, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    line = line_for(server, tmp_path / place, "tasks_sample=3", "tracking=none")
    done = subprocess.run(
        [sys.executable, "-c", AS_ANYBODY, *line], cwd=ROOT, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1 and f"output={tmp_path / place}: cannot be written" in done.stderr


OWNER = """
import subprocess, sys
from cluster.engine_process import guard
child = "import subprocess, time; print(subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"
server = subprocess.Popen([sys.executable, "-c", child], start_new_session=True, stdout=subprocess.PIPE, text=True)
guard(server.pid)
print(server.pid, server.stdout.readline().strip(), flush=True)
sys.stdin.read()
"""


def test_what_an_engine_forked_ends_with_its_owner() -> None:
    """Killed as Ray does it: the server first, by SIGKILL and without a word to what it had forked, then the owner."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    server, forked = (psutil.Process(int(pid)) for pid in owner.stdout.readline().split())
    try:
        server.kill()
        time.sleep(0.5)
        assert forked.is_running()  # nobody ends it while the owner lives: that is the owner's own to do
        owner.kill()
        owner.wait()
        _, left = psutil.wait_procs([forked], timeout=10)
        assert not left
    finally:
        for one in (server, forked):
            with suppress(psutil.NoSuchProcess):
                one.kill()


CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

/* Half a second of true time, then a day ahead, half a second, then a day back, and so on. */
static int (*real)(clockid_t, struct timespec *);
int clock_gettime(clockid_t id, struct timespec *out) {
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(id, out);
    if (id == CLOCK_REALTIME) {
        struct timespec steady;
        real(CLOCK_MONOTONIC, &steady);
        long phase = (steady.tv_sec * 2 + steady.tv_nsec / 500000000) % 4;
        out->tv_sec += phase == 1 ? 86400 : phase == 3 ? -86400 : 0;
    }
    return code;
}
int gettimeofday(struct timeval *out, void *zone) {
    struct timespec now;
    int code = clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return code;
}
time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_wall_clock_that_jumps_decides_nothing(tmp_path: Path) -> None:
    """The job and its engine, under a clock that jumps by a day, ahead and back, four times in two seconds."""
    source, library = tmp_path / "clock.c", tmp_path / "clock.so"
    source.write_text(CLOCK)
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    sim = [f"++teacher.engine.sim.{key}={value}" for key, value in (SIM | {"time_scale": 0.5}).items()]
    line = ["teacher=sim", *sim, "cluster=in_process", "cluster.concurrency=8", "cluster.lease_s=20"]
    line += ["cluster.shard_age_s=1", "tasks_sample=16", "tracking=none", f"output={tmp_path / 'o'}"]
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "jobs.rollout", *line],
        cwd=ROOT,
        env=os.environ | {"LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    took_s = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    nothing_lost(tmp_path / "o")
    summary = summary_of(tmp_path / "o")
    assert 0 < summary["seconds"] < took_s
    assert summary["failed_attempts"] == 0 and set(summary["restarts"].values()) == {0}
    days = {row[:10] for path in (tmp_path / "o" / "shards").glob("*") for row in _created(path)}
    assert len(days) > 1  # the clock did jump under it


def _created(shard: Path) -> list[str]:
    return pq.read_table(shard, columns=["created_at"])["created_at"].to_pylist()
