"""Shared by all tests: one Ray cluster as README starts it (authentication on), and one vLLM engine in a Ray actor on it."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parent.parent
settings.register_profile("agentscaler", deadline=None)
settings.load_profile("agentscaler")

# Before anything imports Ray: its core reads these once, when it is loaded.
TOKEN_FOLDER = Path(tempfile.mkdtemp(prefix="as-token-"))
(TOKEN_FOLDER / "token").write_text(secrets.token_hex(32))
(TOKEN_FOLDER / "token").chmod(0o600)
os.environ |= {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN_PATH": str(TOKEN_FOLDER / "token"),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_prestart_worker_first_driver": "0",  # idle processes, a second of a core each, at each of a dozen starts of Ray
}

RunJob = Callable[..., subprocess.CompletedProcess[str]]


@dataclass(frozen=True)
class RayHead:
    address: str
    dashboard: str
    environment: dict[str, str]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def ray_head() -> Iterator[RayHead]:
    folder = Path(tempfile.mkdtemp(prefix="as-ray-", dir="/tmp"))  # short: Ray's sockets lie in it
    port, dashboard = free_port(), free_port()
    environment = dict(os.environ)
    command = [*patient_ray(), "start", "--head", "--block", "--node-ip-address=127.0.0.1"]
    command += [f"--port={port}", "--num-cpus=4"]
    command += ["--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
    command += [f"--dashboard-agent-listen-port={free_port()}", f"--temp-dir={folder}"]  # there may be other heads
    with (folder / "start.log").open("wb") as log:
        head = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    address, url = f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}"
    try:
        _wait_for_port(dashboard, head, folder / "start.log")
        yield RayHead(address, url, {**environment, "RAY_ADDRESS": address})
    finally:
        os.killpg(head.pid, signal.SIGTERM)
        try:
            head.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)
            head.wait()
        shutil.rmtree(folder, ignore_errors=True)


def ray_command() -> str:
    return str(Path(sys.executable).with_name("ray"))


def patient_ray() -> list[str]:
    return [sys.executable, "-m", "cluster.ray_start"]


def _wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.3)
    raise RuntimeError(f"Ray did not start: {log.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def smollm2_url(ray_head: RayHead) -> Iterator[str]:
    """The one engine: SmolLM2 by vLLM, owned by the TeacherServer actor that a job would use."""
    import ray

    from cluster.config import RolloutConfig
    from cluster.handles import Needs, OnRay, PartGone
    from cluster.teacher_server import TeacherServer
    from jobs.compose import compose

    ray.init(address=ray_head.address, log_to_driver=False)
    config = compose("rollout", RolloutConfig, ["domain=notes", "teacher=smollm2"])
    assert config.teacher.engine is not None
    crew = OnRay()
    logs = tempfile.mkdtemp(prefix="as-engine-")
    server = crew.spawn(TeacherServer, config.teacher.engine, "shared", logs, False, needs=Needs(cpus=1))
    try:
        yield server.ask("start")
    finally:
        with contextlib.suppress(PartGone):  # a test has killed it
            server.ask("stop")
        ray.shutdown()


@pytest.fixture
def run_job() -> RunJob:
    """Run a job's `main` on a command line: here, or (given an environment) in a process of its own, as a user does."""

    def run(job: str, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        line = list(arguments)
        if job != "show" and not any(a.startswith(("tracking", "--help")) for a in arguments):
            line.append("tracking=none")
        if environment is not None:
            command = [sys.executable, "-m", f"jobs.{job}", *line]
            return subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False
            )
        out, err = io.StringIO(), io.StringIO()
        root = logging.getLogger()
        before = root.handlers[:]
        root.handlers.clear()
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = importlib.import_module(f"jobs.{job}").main(line)
        except SystemExit as stop:
            code = stop.code
        finally:
            root.handlers[:] = before
        return subprocess.CompletedProcess(line, int(code or 0), out.getvalue(), err.getvalue())

    return run
