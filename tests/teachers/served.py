"""A real local chat server that answers, or misbehaves, as a test says, and endpoints that ask it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from agentscaler.teachers.http import ChatEndpoint, EndpointConfig
from agentscaler.teachers.routing import Router


class Server:
    """Answers with what `answer` says; remembers every request."""

    def __init__(self, answer: Callable[[int], web.StreamResponse]):
        self._answer = answer
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.json())
        self.headers.append(dict(request.headers))
        response = self._answer(len(self.bodies))
        if isinstance(response, Cut):
            await response.prepare(request)
            await response.write(b'{"choices"')
            assert request.transport is not None
            request.transport.abort()
        if isinstance(response, Slow):
            await asyncio.sleep(1)
        return response


class Cut(web.StreamResponse):
    def __init__(self) -> None:
        super().__init__(headers={"Content-Length": "500"})


class Slow(web.Response):
    pass


@asynccontextmanager
async def served(answer: Callable[[int], web.StreamResponse]) -> AsyncIterator[Server]:
    server = Server(answer)
    app = web.Application()
    app.router.add_post("/v1/chat/completions", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield server
    finally:
        await runner.cleanup()


@asynccontextmanager
async def asking(*urls: str, router: Router | None = None, **settings: Any) -> AsyncIterator[ChatEndpoint]:
    patience: dict[str, Any] = {"max_retries": 2, "timeout_s": 5, "no_server_s": 5} | settings
    endpoint = ChatEndpoint(EndpointConfig(base_urls=urls, **patience), router)
    try:
        yield endpoint
    finally:
        await endpoint.close()


def nobody() -> str:
    """An address at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/v1"


def said(content: str | None = "Hi.", calls: list[tuple[str, str]] | None = None, **more: Any) -> web.Response:
    tool_calls = [{"id": f"c{i}", "function": {"name": n, "arguments": a}} for i, (n, a) in enumerate(calls or [])]
    choice = {"message": {"content": content, "tool_calls": tool_calls}, **more.pop("choice", {})}
    return web.json_response({"choices": [choice], **more})


def error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message}}, status=status)
