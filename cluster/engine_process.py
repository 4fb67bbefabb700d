"""One engine's server process, from its start until nothing of it is left.

Invariants: an engine that dies while starting is an `EngineError` with its own last words, at once and not after the timeout; `stop`
takes the whole process group (the server forks an EngineCore and workers); all of it dies with the thread that started it
(`engine_guardian.py`), so start it from one that lives as long as its owner does. `launch` does not wait; `state` says what became of it.

It sends one warm-up request and no other, and restarts nothing (`cluster/fleet.py` does).
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Literal, Self

import orjson

from cluster.engine import EngineConfig, Rank, engine_command, engine_environment

_LAST_WORDS = re.compile(r"\b(?:[A-Z]\w*(?:Error|Exception)|error): .+")
State = Literal["starting", "ready", "ended"]
# Waits for its owner's end of a pipe to close. No child of the owner (it forks once more), unlike the guardian: where Ray ends an actor
# in order (its driver was killed), it kills the actor's children with SIGKILL, the guardian among them, and nobody is left to end what the
# server had forked. Measured so: with the guardian alone that lived on, with both it was gone in 3 s.
_GUARD = """
import os, signal, sys, time
if os.fork():
    os._exit(0)
group = int(sys.argv[1])
if os.read(0, 1):
    os._exit(0)
try:
    os.killpg(group, signal.SIGTERM)
    for _ in range(50):
        time.sleep(0.1)
        os.killpg(group, 0)
    os.killpg(group, signal.SIGKILL)
except ProcessLookupError:
    pass
"""


class EngineError(Exception):
    """The engine died or did not get ready. One line."""


class EngineProcess:
    """A running server. Use it as a context manager, or call `start` and `stop`; `stop` may be called twice."""

    def __init__(self, config: EngineConfig, log_path: Path):
        self.config = config
        self.log_path = log_path
        self._port = config.port
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: int | None = None
        self._deadline = 0.0
        self._log_start = 0

    @property
    def url(self) -> str:
        return f"http://{self.config.host}:{self._port}/v1"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def launch(self, rank: Rank | None = None) -> None:
        """Start the server and wait for nothing."""
        self._port = self.config.port or free_port(self.config.host)
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        self._deadline = time.monotonic() + self.config.start_timeout_s
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                engine_command(self.config, self._port, rank),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=engine_environment(self.config) | {"PYTHONPATH": _with_ours()},
                start_new_session=True,
            )
        self._guard = guard(self._process.pid)

    def state(self) -> State:
        """`ready` once /health answers. Raises EngineError where it died before that, or takes longer than `start_timeout_s`."""
        if self._process is None:
            return "ended"
        if self._process.poll() is not None:
            words = last_words(self.log_path, self._log_start)
            raise EngineError(
                f"engine {self.config.name} ended with code {self._process.returncode}: {words} ({self.log_path})"
            )
        if self.healthy():
            return "ready"
        if time.monotonic() > self._deadline:
            raise EngineError(
                f"engine {self.config.name} not ready after {self.config.start_timeout_s:g} s ({self.log_path})"
            )
        return "starting"

    def start(self) -> Self:
        """Start the server and return once it answers; raises EngineError when it dies or takes too long."""
        self.launch()
        try:
            while self.state() != "ready":
                time.sleep(0.2)
        except BaseException:
            self.stop()
            raise
        return self

    def warm_up(self, timeout_s: float = 120.0) -> None:
        """One token: what a server compiles or loads at its first request is not waited for by a rollout. Raises EngineError."""
        body = {"model": self.config.name, "messages": [{"role": "user", "content": "Hello."}], "max_tokens": 1}
        request = urllib.request.Request(
            self.url + "/chat/completions", orjson.dumps(body), {"Content-Type": "application/json"}
        )
        try:
            urllib.request.urlopen(request, timeout=timeout_s).close()
        except (urllib.error.URLError, OSError) as error:
            raise EngineError(f"engine {self.config.name} fails its first request: {error} ({self.log_path})") from None

    def healthy(self) -> bool:
        """The process lives and /health answers within two seconds."""
        if not self.alive():
            return False
        try:
            with urllib.request.urlopen(self.url.removesuffix("/v1") + "/health", timeout=2) as reply:
                return reply.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self, grace_s: float = 5.0) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        _signal_group(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
        _signal_group(process.pid, signal.SIGKILL)  # children may outlive the server: the group is theirs too
        process.wait()
        if self._guard is not None:
            release(self._guard)
            self._guard = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _with_ours() -> str:
    """Our packages are found whatever folder an actor runs in."""
    ours = str(Path(__file__).parent.parent)
    return os.pathsep.join([ours, *filter(None, [os.environ.get("PYTHONPATH")])])


def guard(group: int) -> int:
    """Have this process group ended when this process is gone. Hand what it returns to `release` once the group has ended."""
    theirs, ours = os.pipe()  # neither is inherited by what is started later
    try:
        command = [sys.executable, "-S", "-E", "-c", _GUARD, str(group)]
        subprocess.run(command, stdin=theirs, start_new_session=True, check=True)
    finally:
        os.close(theirs)
    return ours


def release(ours: int) -> None:
    """There is nothing to guard any more."""
    with contextlib.suppress(BrokenPipeError):
        os.write(ours, b".")
    os.close(ours)


def last_words(log_path: Path, start: int = 0) -> str:
    """The last line of a log, from byte `start` on, that says what went wrong, else its last line."""
    text = log_path.read_bytes()[start:].decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # vLLM ends with "Engine core initialization failed. See root cause above": the cause is what is wanted.
    errors = [hit[0] for line in lines if (hit := _LAST_WORDS.search(line)) and "See root cause above" not in line]
    return (errors or lines or ["its log is empty"])[-1][:400]


def free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
