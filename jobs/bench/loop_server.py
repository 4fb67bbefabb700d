"""An OpenAI-compatible chat server that answers at once, for `jobs.bench loop`: a process of its own, as cheap as Python allows.

The n-th answer of its list goes to a request that holds n tool results, so it needs no memory of conversations. It parses no JSON: the
results are counted in the body's bytes. Answers are whole HTTP responses, rendered once. `GET /count` says how many it has given.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import orjson
import psutil
import uvloop

_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
_RESULT = b'"tool_call_id":'
_LENGTH = b"content-length:"


@contextmanager
def serving(answers: Sequence[dict[str, object]], core: int) -> Iterator[str]:
    """The server's base URL; `core` is the one that it is bound to."""
    command = [sys.executable, "-m", "jobs.bench.loop_server"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    process = Popen(command, stdin=PIPE, stdout=PIPE, env=environment)
    try:
        assert process.stdin is not None and process.stdout is not None
        psutil.Process(process.pid).cpu_affinity([core])
        process.stdin.write(orjson.dumps(list(answers)) + b"\n")
        process.stdin.flush()
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.kill()
        process.wait()


def count(url: str) -> int:
    """Answers given so far. A plain socket: this runs while others are measured."""
    host, _, port = url.split("/")[2].partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"GET /count HTTP/1.1\r\n\r\n")
        return int(connection.recv(4096).rpartition(b"\r\n")[2])


class _Connection(asyncio.Protocol):
    num_answers = 0  # of all connections

    def __init__(self, responses: list[bytes]):
        self._responses = responses
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
            number = b"%d" % _Connection.num_answers
            found = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(number), number)
            self._transport.write(found if received.startswith(b"GET /count ") else _NOT_FOUND)
            return
        lowered = received[:head].lower()
        start = lowered.index(_LENGTH) + len(_LENGTH)
        end = lowered.find(b"\r\n", start)
        length = int(lowered[start : end if end > 0 else head])
        if len(received) < head + 4 + length:
            self._received = received
            return
        self._received = b""
        _Connection.num_answers += 1
        turn = received.count(_RESULT, head)
        self._transport.write(self._responses[min(turn, len(self._responses) - 1)])


def _render(answer: dict[str, object]) -> bytes:
    body = orjson.dumps(answer)
    head = f"HTTP/1.1 200 OK\r\nserver: stub\r\ncontent-length: {len(body)}\r\ncontent-type: application/json\r\n\r\n"
    return head.encode() + body


async def _serve(responses: list[bytes]) -> None:
    server = await asyncio.get_running_loop().create_server(
        lambda: _Connection(responses), "127.0.0.1", 0, backlog=4096
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve([_render(answer) for answer in orjson.loads(sys.stdin.buffer.readline())]))
