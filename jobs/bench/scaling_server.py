"""A chat server that answers after a fixed time, for `jobs.bench scaling`: a process of its own, so cheap that it limits nothing.

The n-th answer of its list goes to a request that holds n tool results. It parses no JSON. `GET /count` says how many chat requests it
has answered; it has no other page.
"""

from __future__ import annotations

import asyncio
import os
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import orjson
import psutil
import uvloop

_RESULT = b'"tool_call_id":'
_LENGTH = b"content-length:"


@dataclass(frozen=True, slots=True)
class FixedLatencyServer:
    """One that runs; `url` is what a teacher is given."""

    url: str
    process: psutil.Process

    def calls(self) -> int:
        with urllib.request.urlopen(self.url.removesuffix("/v1") + "/count", timeout=10) as answer:
            return int(answer.read())

    def cpu_s(self) -> float:
        times = self.process.cpu_times()
        return times.user + times.system


@contextmanager
def serving(answers: Sequence[dict[str, Any]], latency_s: float) -> Iterator[FixedLatencyServer]:
    command = [sys.executable, "-m", "jobs.bench.scaling_server"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    process = Popen(command, stdin=PIPE, stdout=PIPE, env=environment)
    try:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(orjson.dumps({"answers": list(answers), "latency_s": latency_s}) + b"\n")
        process.stdin.flush()
        port = int(process.stdout.readline())
        yield FixedLatencyServer(f"http://127.0.0.1:{port}/v1", psutil.Process(process.pid))
    finally:
        process.kill()
        process.wait()


class _Server:
    def __init__(self, answers: list[dict[str, Any]], latency_s: float):
        self.responses = [_render(orjson.dumps(answer), "200 OK") for answer in answers]
        self.latency_s = latency_s
        self.calls = 0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(self, loop), "127.0.0.1", 0, backlog=4096)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


class _Connection(asyncio.Protocol):
    """One request at a time, as our client sends them."""

    def __init__(self, server: _Server, loop: asyncio.AbstractEventLoop):
        self._server, self._loop = server, loop
        self._received = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        head = received.find(b"\r\n\r\n")
        if head < 0:
            self._received = received
            return
        if received.startswith(b"GET "):
            self._received = b""
            is_count = received.startswith(b"GET /count ")
            body = str(self._server.calls).encode() if is_count else b"no such page"
            self._transport.write(_render(body, "200 OK" if is_count else "404 Not Found"))
            return
        lowered = received[:head].lower()
        start = lowered.index(_LENGTH) + len(_LENGTH)
        end = lowered.find(b"\r\n", start)
        length = int(lowered[start : end if end > 0 else head])
        if len(received) < head + 4 + length:
            self._received = received
            return
        self._received = b""
        self._loop.call_later(self._server.latency_s, self._answer, received.count(_RESULT, head))

    def _answer(self, turn: int) -> None:
        responses = self._server.responses
        if not self._transport.is_closing():
            self._server.calls += 1
            self._transport.write(responses[min(turn, len(responses) - 1)])


def _render(body: bytes, status: str) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nserver: fixed\r\ncontent-length: {len(body)}\r\ncontent-type: application/json\r\n\r\n"
    )
    return head.encode() + body


if __name__ == "__main__":
    uvloop.run(_Server(**orjson.loads(sys.stdin.buffer.readline())).run())
