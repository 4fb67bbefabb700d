"""Between a job and its engine: passes requests on as they are, and keeps their bodies, in the order they came.

A thread of the bench's own process, on the harness's core: what it costs (well under a millisecond a request) is on the job's side of the
comparison, not on that of the open loop.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import aiohttp
import orjson
from aiohttp import web

_MAX_BODY = 64 * 2**20


@dataclass(slots=True)
class Recording:
    """Chat requests in the order of their arrival; times are monotonic seconds."""

    bodies: list[bytes] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)  # of the answers, in the order of their ends
    first_at: float = 0.0
    last_at: float = 0.0

    @property
    def seconds(self) -> float:
        return self.last_at - self.first_at

    @property
    def tokens_per_s(self) -> float:
        return sum(self.tokens) / self.seconds


class Recorder:
    def __init__(self, engine_url: str):
        self._engine = engine_url.removesuffix("/v1")
        self._recording = Recording()
        self._http: aiohttp.ClientSession | None = None

    def start_anew(self) -> Recording:
        """What comes from now on is kept in the recording that is returned."""
        self._recording = Recording()
        return self._recording

    async def handle(self, request: web.Request) -> web.Response:
        assert self._http is not None
        body, recording = await request.read(), self._recording
        is_chat = request.path.endswith("/chat/completions")
        if is_chat:
            recording.first_at = recording.first_at or time.monotonic()
            recording.bodies.append(body)
        headers = {"Content-Type": "application/json"}
        async with self._http.request(
            request.method, self._engine + request.path, data=body, headers=headers
        ) as answer:
            text = await answer.read()
            if is_chat and answer.status == 200:
                recording.last_at = time.monotonic()
                recording.tokens.append(orjson.loads(text)["usage"]["completion_tokens"])
            return web.Response(body=text, status=answer.status, content_type=answer.content_type)

    @contextmanager
    def serving(self) -> Iterator[str]:
        """The address to give to a job."""
        loop = asyncio.new_event_loop()
        started: asyncio.Future[int] = loop.create_future()
        thread = threading.Thread(target=loop.run_until_complete, args=(self._serve(started),), daemon=True)
        self._stop = asyncio.Event()
        thread.start()
        while not started.done():
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{started.result()}/v1"
        finally:
            loop.call_soon_threadsafe(self._stop.set)
            thread.join(5)

    async def _serve(self, started: asyncio.Future[int]) -> None:
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as self._http:
            await runner.setup()
            try:
                site = web.TCPSite(runner, "127.0.0.1", 0)
                await site.start()
                started.set_result(runner.addresses[0][1])
                await self._stop.wait()
            finally:
                await runner.cleanup()
