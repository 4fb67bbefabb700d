"""An OpenAI-compatible chat server with fixed answers, for `jobs.bench loop` and `scaling`: a process of its own, so cheap that it limits
nothing.

The n-th answer of its list goes, at once or after a fixed time, to a request that holds n tool results, so it needs no memory of
conversations. It parses no JSON: the results are counted in the body's bytes. Answers are whole HTTP responses, rendered once.
`GET /count` says how many chat requests it has answered; it has no other page.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
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
class ChatServer:
    """One that runs; `url` is what a teacher is given. It may be sent to other processes."""

    url: str
    pid: int

    def calls(self) -> int:
        """Answers given so far. A plain socket: this runs while others are measured."""
        host, _, port = self.url.split("/")[2].partition(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(b"GET /count HTTP/1.1\r\n\r\n")
            return int(connection.recv(4096).rpartition(b"\r\n")[2])

    def cpu_s(self) -> float:
        times = psutil.Process(self.pid).cpu_times()
        return times.user + times.system


@contextmanager
def serving(answers: Sequence[dict[str, Any]], latency_s: float = 0.0, core: int | None = None) -> Iterator[ChatServer]:
    """`core` is the one that it is bound to."""
    command = [sys.executable, "-m", "jobs.bench.chat_server"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    process = Popen(command, stdin=PIPE, stdout=PIPE, env=environment)
    try:
        assert process.stdin is not None and process.stdout is not None
        if core is not None:
            psutil.Process(process.pid).cpu_affinity([core])
        process.stdin.write(orjson.dumps({"answers": list(answers), "latency_s": latency_s}) + b"\n")
        process.stdin.flush()
        yield ChatServer(f"http://127.0.0.1:{int(process.stdout.readline())}/v1", process.pid)
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
            found = b"%d" % self._server.calls if is_count else b"no such page"
            self._transport.write(_render(found, "200 OK" if is_count else "404 Not Found"))
            return
        lowered = received[:head].lower()
        start = lowered.index(_LENGTH) + len(_LENGTH)
        end = lowered.find(b"\r\n", start)
        length = int(lowered[start : end if end > 0 else head])
        if len(received) < head + 4 + length:
            self._received = received
            return
        self._received = b""
        turn = received.count(_RESULT, head)
        if self._server.latency_s:
            self._loop.call_later(self._server.latency_s, self._answer, turn)
        else:
            self._answer(turn)

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
