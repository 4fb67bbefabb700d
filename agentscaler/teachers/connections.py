"""Kept-alive HTTP/1.1 connections for whole requests and whole answers: what a model call costs on the wire, and nothing else.

Owns the sockets. `aiohttp`'s client does far more than a chat completion needs, at 115 us of processor time a request; with httptools'
parser (llhttp) on a bare protocol it is 31 (18 KB sent, 64 in flight). Invariants: a connection carries one request at a time, and goes
back only after a whole answer; whatever ends a request early (timeout, cancellation, a broken answer) closes its connection. No
redirects, no cookies, no compression (none is asked for), no proxies; TLS by Python's default context.

It knows nothing of chat, retries or routing: each way to fail is an exception of its own.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httptools

_IDLE_S = 4.0  # uvicorn closes idle connections after 5 s


class NoConnection(Exception):
    """The server takes no connection."""


class Broken(Exception):
    """The connection ended before the answer did. `answered`: some of it had come."""

    def __init__(self, words: str, answered: bool):
        super().__init__(words)
        self.answered = answered


class NoHttp(Exception):
    """What came back is no HTTP."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class _Server:
    host: str
    port: int
    secure: ssl.SSLContext | None
    head: bytes  # of a request, up to what differs


class Connections:
    """To any number of servers. Belongs to the event loop that first uses it."""

    def __init__(self, headers: Mapping[str, str], timeout_s: float, connect_s: float):
        self._headers, self._timeout_s, self._connect_s = dict(headers), timeout_s, connect_s
        self._servers: dict[str, _Server] = {}
        self._idle: dict[str, deque[_Connection]] = {}
        self._busy: set[_Connection] = set()

    @property
    def num_busy(self) -> int:
        return len(self._busy)

    async def post(self, url: str, session: str, body: bytes) -> Answer:
        """Raises NoConnection, Broken, NoHttp, TimeoutError, or ValueError where `url` is no address."""
        server = self._servers.get(url)
        if server is None:
            server = self._servers[url] = _server(url, self._headers)
        connection = self._take(url) or await self._connect(url, server)
        self._busy.add(connection)
        head = b"%bX-Session-ID: %b\r\nContent-Length: %d\r\n\r\n" % (server.head, session.encode(), len(body))
        try:
            answer = await connection.ask(head, body, self._timeout_s)
        except BaseException:
            connection.abort()
            raise
        finally:
            self._busy.discard(connection)
        if connection.is_open:
            connection.idle_since = time.monotonic()
            self._idle.setdefault(url, deque()).append(connection)
        return answer

    def close(self) -> None:
        for connection in (*self._busy, *(one for idle in self._idle.values() for one in idle)):
            connection.abort()
        self._idle.clear()

    def _take(self, url: str) -> _Connection | None:
        """The one used last; those that lay too long are closed."""
        idle = self._idle.get(url)
        if not idle:
            return None
        too_old = time.monotonic() - _IDLE_S
        while idle and idle[0].idle_since < too_old:
            idle.popleft().abort()
        while idle:
            connection = idle.pop()
            if connection.is_open:
                return connection
        return None

    async def _connect(self, url: str, server: _Server) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_s):
                _, connection = await loop.create_connection(
                    lambda: _Connection(loop), server.host, server.port, ssl=server.secure
                )
        except TimeoutError:
            raise NoConnection(f"{url} takes no connection for {self._connect_s:g} s") from None
        except OSError as error:
            raise NoConnection(f"{url}: {error or type(error).__name__}") from error
        return connection


class _Connection(asyncio.Protocol):
    """Also the parser's target: its callbacks are the `on_…` methods."""

    def __init__(self, loop: asyncio.AbstractEventLoop):
        self._loop = loop
        self._transport: Any = None
        self._waiter: asyncio.Future[Answer] | None = None
        self.is_open = False
        self.idle_since = 0.0
        self._new_answer()

    def _new_answer(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._retry_after: str | None = None
        self._answered = False  # some of it has come
        self._has_head = self._has_end = False  # `_has_end`: it says itself where it ends

    async def ask(self, head: bytes, body: bytes, timeout_s: float) -> Answer:
        waiter = self._waiter = self._loop.create_future()
        timer = self._loop.call_later(timeout_s, self._fail, TimeoutError())
        try:
            self._transport.write(head + body)
            return await waiter
        finally:
            timer.cancel()
            self._waiter = None

    def abort(self) -> None:
        self.is_open = False
        self._transport.abort()

    def _fail(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        if self._waiter is None or self._waiter.done():  # nobody asked for this
            self.abort()
            return
        self._answered = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(NoHttp(str(error) or type(error).__name__))
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if exc is None and self._has_head and not self._has_end:
            self.on_message_complete()  # without a length it ends where the connection does
        self._fail(Broken(str(exc) if exc else "the server closed the connection", self._answered))

    def on_message_begin(self) -> None:
        if self._waiter is None or self._waiter.done():
            self.abort()  # an answer behind the answer

    def on_header(self, name: bytes, value: bytes) -> None:
        lowered = name.lower()
        if lowered == b"retry-after":
            self._retry_after = value.decode("latin-1")
        elif lowered in (b"content-length", b"transfer-encoding"):
            self._has_end = True

    def on_headers_complete(self) -> None:
        self._has_head = self._parser.get_status_code() >= 200

    def on_body(self, data: bytes) -> None:
        self._parts.append(data)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # an interim answer: the real one follows
            return
        if self.is_open and not self._parser.should_keep_alive():
            self.is_open = False
            self._transport.close()
        parts = self._parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(Answer(status, body, self._retry_after))
        self._new_answer()


def _server(url: str, headers: Mapping[str, str]) -> _Server:
    parts = urlsplit(f"{url.rstrip('/')}/chat/completions")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url} is no address of a server")
    secure = ssl.create_default_context() if parts.scheme == "https" else None
    host = parts.netloc.rpartition("@")[2]
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    lines = [f"POST {target} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers.items())]
    if any(ord(letter) <= 32 for letter in target) or any(ord(letter) < 32 for line in lines for letter in line):
        raise ValueError(f"{url} is no address of a server, or a header holds a control character")
    head = "".join(f"{line}\r\n" for line in lines).encode("latin-1")
    return _Server(parts.hostname, parts.port or (443 if secure else 80), secure, head)
