"""A job interrupted: a killed worker's rollouts are played by another, each in one shard once; Ctrl-C keeps what is played."""

from __future__ import annotations

import http.server
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from agentscaler.shards.files import committed
from tests.conftest import ROOT, RayHead

ANSWER = json.dumps({"choices": [{"message": {"role": "assistant", "content": "I have done nothing."}}]}).encode()
DELAY_S = 1.0


class Slow(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(DELAY_S)
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def slow_server() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


def workers() -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if "ray::EnvironmentActor" in " ".join(p.info["cmdline"] or [])]


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(ray_head: RayHead, slow_server: str, tmp_path: Path) -> None:
    line = [
        "teacher=endpoint",
        f"teacher.base_urls=[{slow_server}]",
        "teacher.chat.model=slow",
        "cluster.concurrency=4",
    ]
    line += ["tracking=none", f"output={tmp_path / 'o'}"]
    log = tmp_path / "log"
    with log.open("w") as sink:
        job = subprocess.Popen(
            [sys.executable, "-m", "jobs.rollout", *line], cwd=ROOT, env=ray_head.environment, stdout=sink, stderr=sink
        )
        deadline = time.monotonic() + 90
        while not workers() and time.monotonic() < deadline and job.poll() is None:
            time.sleep(0.2)
        time.sleep(4 * DELAY_S)  # some are finished, some in flight
        victims = workers()
        assert victims and job.poll() is None, log.read_text()
        for victim in victims:
            victim.kill()
        assert job.wait(120) == 0, log.read_text()
    summary = json.loads((tmp_path / "o" / "summary.json").read_text())
    assert (summary["planned"], summary["void"]) == (45, 0)
    assert len(committed(tmp_path / "o")) == 45
    assert "died" in log.read_text()


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_played(slow_server: str, tmp_path: Path) -> None:
    line = ["teacher=endpoint", f"teacher.base_urls=[{slow_server}]", "teacher.chat.model=slow", "cluster=in_process"]
    line += ["cluster.concurrency=4", "tasks_sample=20", "tracking=none", f"output={tmp_path / 'o'}"]
    command = [sys.executable, "-m", "jobs.rollout", *line]
    log = tmp_path / "log"
    with log.open("w") as sink:
        job = subprocess.Popen(command, cwd=ROOT, stdout=sink, stderr=sink)
        deadline = time.monotonic() + 60
        while "in flight" not in log.read_text() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(2.5 * DELAY_S)
        job.send_signal(signal.SIGINT)
        assert job.wait(30) == 130, log.read_text()
    assert "goes on with the rest" in log.read_text().splitlines()[-1]
    kept = len(committed(tmp_path / "o"))
    assert 0 < kept < 20
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    summary = json.loads(Path(again.stdout.strip()).read_text())
    assert (summary["resumed"], summary["planned"], summary["void"]) == (kept, 20, 0)
