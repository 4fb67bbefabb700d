"""What the chaos bench kills: a Ray cluster of two nodes on this machine, a job on it, and every process of theirs.

Invariant: no process that descends from the bench is ever out of sight: the bench is the subreaper of its descendants, so whoever loses
its parent becomes its child, and `look` finds it. A kill is SIGKILL, to the one process that was chosen.

It decides nothing: who dies, and when, is `chaos.py`'s; what must be true afterwards is `chaos_checks.py`'s.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import psutil

from cluster.engine_metrics import parse_metrics

_SET_CHILD_SUBREAPER = 36
_ENGINE = re.compile(r"cluster\.sim_engine|vllm\.entrypoints\.openai\.api_server|VLLM::")
_ACTOR = re.compile(r"^ray::(EnvironmentActor|TeacherServer|Committer|Dispatcher|Tracker)\b")
_HOST, _PORT = re.compile(r"--host (\S+)"), re.compile(r"--port (\d+)")
_START_S = 120.0


class Kind(StrEnum):
    DRIVER = "driver"
    WORKER = "environment_actor"
    TEACHER_SERVER = "teacher_server"
    ENGINE = "engine"
    COMMITTER = "committer"
    DISPATCHER = "dispatcher"
    TRACKER = "tracker"
    RAYLET = "raylet"


_KIND_OF_ACTOR = {
    "EnvironmentActor": Kind.WORKER,
    "TeacherServer": Kind.TEACHER_SERVER,
    "Committer": Kind.COMMITTER,
    "Dispatcher": Kind.DISPATCHER,
    "Tracker": Kind.TRACKER,
}


@dataclass(frozen=True, slots=True)
class Part:
    """A living process of the job. `started` tells it from another that has the same pid later. `address`: an engine's host:port."""

    kind: Kind
    pid: int
    started: float
    parent: int
    address: str = ""


@dataclass(slots=True)
class Seen:
    """The job's processes at one moment. Of an engine only the process that serves HTTP is in `parts`; what it forked is in `others`."""

    parts: list[Part] = field(default_factory=list)
    others: list[Part] = field(default_factory=list)

    def of(self, kind: Kind) -> list[Part]:
        return [part for part in self.parts if part.kind is kind]

    @property
    def all(self) -> list[Part]:
        return [*self.parts, *self.others]


def adopt_descendants() -> None:
    """Orphans among them become children of this process instead of init's."""
    if ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


class RayNodes:
    """A head and a second node, with token authentication on, as `ray start` makes them."""

    def __init__(self, num_cpus: int):
        self._num_cpus = num_cpus
        self._folder = Path(tempfile.mkdtemp(prefix="as-", dir="/tmp"))  # short: Ray's sockets lie in it
        token = self._folder / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        self._port = 0
        self._nodes: list[subprocess.Popen[bytes]] = []
        self.environment = os.environ | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            # A driver whose head is dead ends by itself, Ray says after 60 s; that it does is seen sooner so.
            "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
        }

    def start(self) -> None:
        self._port = _free_port()
        self.environment["RAY_ADDRESS"] = f"127.0.0.1:{self._port}"
        temporary = self._folder / f"ray-{self._port}"
        head = ["--head", f"--port={self._port}", "--include-dashboard=false", f"--temp-dir={temporary}"]
        self._nodes = [self._start_node(head)]
        self._wait(1)
        self.add()
        self._wait(2)

    def add(self) -> None:
        """The second node. Does not wait for it."""
        self._nodes.append(self._start_node([f"--address=127.0.0.1:{self._port}"]))

    def tend(self) -> None:
        """A second node that ended by itself is added again: on a busy machine Ray's start may miss its own limit of 30 s."""
        if len(self._nodes) > 1 and self._nodes[1].poll() is not None:
            self.drop_second()
            self.add()

    def raylet(self, node: int) -> psutil.Process | None:
        """The head's (0) or the second node's (1)."""
        if node >= len(self._nodes) or self._nodes[node].poll() is not None:
            return None
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self._nodes[node].pid).children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    if child.name() == "raylet" and child.status() != psutil.STATUS_ZOMBIE:
                        return child
        return None

    def drop_second(self) -> None:
        """Whatever is left of it."""
        for node in self._nodes[1:]:
            _end(node)
        del self._nodes[1:]

    def stop(self) -> None:
        for node in reversed(self._nodes):
            _end(node)
        self._nodes = []

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start_node(self, options: list[str]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "cluster.ray_start", "start", "--block", "--node-ip-address=127.0.0.1"]
        command += [f"--num-cpus={self._num_cpus}", "--object-store-memory=200000000", "--include-log-monitor=false"]
        command += [f"--dashboard-agent-listen-port={_free_port()}", *options]
        with (self._folder / "start.log").open("ab") as log:
            return subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _wait(self, count: int) -> None:
        deadline = time.monotonic() + _START_S
        while not all(self.raylet(node) for node in range(count)) or not _listens(self._port):
            if self._nodes[0].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Ray did not start: {(self._folder / 'start.log').read_text()[-1500:]}")
            self.tend()
            time.sleep(0.1)


class JobRun:
    """One run of the command `python -m jobs.rollout …`, its log in a file of its own."""

    def __init__(self, arguments: list[str], environment: dict[str, str], log: Path):
        self.log = log
        with log.open("wb") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jobs.rollout", *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def words(self, start: int = 0) -> str:
        """Its log from byte `start` on."""
        with self.log.open("rb") as source:
            source.seek(start)
            return source.read().decode(errors="replace")


def look(driver: int | None) -> Seen:
    """Every living process of the job, among all that descend from this one."""
    seen = Seen()
    this = psutil.Process()
    for process in this.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            line = " ".join(process.cmdline())
            at = {"pid": process.pid, "started": process.create_time(), "parent": process.ppid()}
            if process.pid == driver:
                seen.parts.append(Part(Kind.DRIVER, **at))
            elif actor := _ACTOR.match(line):
                seen.parts.append(Part(_KIND_OF_ACTOR[actor[1]], **at))
            elif _ENGINE.search(line):
                host, port = _HOST.search(line), _PORT.search(line)
                is_guardian = "engine_guardian" in line  # which holds the server's command, and answers nothing
                if host and port and not is_guardian:
                    seen.parts.append(Part(Kind.ENGINE, **at, address=f"{host[1]}:{port[1]}"))
                else:
                    seen.others.append(Part(Kind.ENGINE, **at))
    return seen


def below(pid: int) -> set[int]:
    """All that descend from it at this moment."""
    try:
        return {process.pid for process in psutil.Process(pid).children(recursive=True)}
    except psutil.NoSuchProcess:
        return set()


def reap() -> None:
    """Those that were adopted and have ended; those that `subprocess` started are its own to wait for."""
    this = psutil.Process()
    own = {process.pid for process in subprocess._active}  # type: ignore[attr-defined]
    for process in this.children():
        with contextlib.suppress(psutil.NoSuchProcess, ChildProcessError):
            if process.status() == psutil.STATUS_ZOMBIE and process.pid not in own:
                os.waitpid(process.pid, os.WNOHANG)


def alive(parts: Iterable[Part]) -> list[Part]:
    """Those of them that still live."""
    found = []
    for part in parts:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(part.pid)
            if process.create_time() == part.started and process.status() != psutil.STATUS_ZOMBIE:
                found.append(part)
    return found


class OrphanWatch:
    """Processes that must be gone within `patience_s`; whoever is not is an orphan, said and counted once."""

    def __init__(self, patience_s: float, say: Callable[[str], None]):
        self._patience_s, self._say = patience_s, say
        self._expected: list[tuple[float, list[Part], str]] = []
        self._orphans: set[tuple[int, float]] = set()

    @property
    def num_orphans(self) -> int:
        return len(self._orphans)

    def expect_gone(self, parts: list[Part], why: str) -> None:
        if parts:
            self._expected.append((time.monotonic() + self._patience_s, parts, why))

    def look(self) -> None:
        for one in [one for one in self._expected if time.monotonic() > one[0]]:
            self._expected.remove(one)
            self._count(alive(one[1]), one[2])

    def finish(self) -> None:
        """Nothing may be left, of what was expected to go or at all."""
        deadline = time.monotonic() + self._patience_s
        while time.monotonic() < deadline and look(None).all:
            time.sleep(0.3)
        self._count(look(None).all, "at the end")
        for _, parts, why in self._expected:
            self._count(alive(parts), why)

    def _count(self, parts: list[Part], why: str) -> None:
        for part in parts:
            if (part.pid, part.started) not in self._orphans:
                self._orphans.add((part.pid, part.started))
                self._say(f"orphan {why}: {part}")


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def requests_in(engine: Part, timeout_s: float = 2.0) -> int:
    """Requests that the engine computes or queues, by its own /metrics; 0 where it does not answer."""
    try:
        with urllib.request.urlopen(f"http://{engine.address}/metrics", timeout=timeout_s) as reply:
            found = parse_metrics(reply.read().decode(), time.monotonic())
    except OSError:
        return 0
    return found.running + found.waiting if found else 0


def _end(node: subprocess.Popen[bytes]) -> None:
    """`ray start --block` and what it started; its workers die with their raylet."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(node.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    node.kill()
    node.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False
