"""The simulated engine over HTTP, in real time, as vLLM's server looks from outside.

Owns `SimServer`: /v1/chat/completions (whole turns, not streamed), /v1/models, /health, /metrics with vLLM's names, and POST /sim/faults,
which takes one fault as in `config.Fault` (DELETE ends them all). When an answer comes is `model.SimEngine`'s business, what it says
`speech.py`'s. A prompt's texts are the tools with the system message, then one message each, so the prefix cache sees what a real one
would; an answer that comes back in a later prompt counts as many tokens as it had, reasoning included.

Invariants: a fault is done on the wire, never only counted; a request whose client went away gives its place up; the same requests get
the same answers from any process. It loads no weights and needs no GPU.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web
from pydantic import ValidationError

from cluster.sim_engine import speech
from cluster.sim_engine.config import Fault, SimConfig
from cluster.sim_engine.model import Request, SimEngine, TooLong

_REMEMBERED = 200_000  # answers whose length is known
_MAX_BODY = 64 * 2**20


@dataclass(slots=True)
class _ActiveFault:
    fault: Fault
    left: int | None
    until: float


class _Refused(Exception):
    def __init__(self, status: int, words: str):
        super().__init__(words)
        self.status, self.words = status, words


class SimServer:
    """One server of one model. Lives on the event loop that runs `serve`."""

    def __init__(self, model: str, config: SimConfig):
        self.model, self.config = model, config
        self._engine = SimEngine(config)
        self._futures: dict[Request, asyncio.Future[None]] = {}
        self._lengths: dict[int, int] = {}  # tokens of each answer, by the key of the text that it is
        self._faults = [self._active(fault) for fault in config.faults]
        self._draw = random.Random(config.seed)
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at: float | None = None
        self._born = time.monotonic()
        self._count = self._num_hung = 0
        self._labels = f'{{engine="0",model_name="{model}"}}'

    @contextlib.asynccontextmanager
    async def serve(self, host: str, port: int) -> AsyncIterator[int]:
        """Listens while inside; gives the port (0 asks for a free one)."""
        server = web.Server(self._handle, request_factory=_request, handler_cancellation=True, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, host, port, backlog=4096)
            await site.start()
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        try:
            if path == "/v1/chat/completions":
                if fault := self._strikes():
                    return await self._suffer(request, fault)
                return _json(await self._complete(request))
            if path == "/health":
                if any(active.fault.health for active in self._living()):
                    await asyncio.Event().wait()
                return web.Response()
            if path == "/metrics":
                return web.Response(text=self._metrics(), content_type="text/plain")
            if path == "/v1/models":
                entry = {
                    "id": self.model,
                    "object": "model",
                    "owned_by": "sim",
                    "max_model_len": self.config.max_model_len,
                }
                return _json({"object": "list", "data": [entry]})
            if path == "/sim/faults":
                return await self._change_faults(request)
        except _Refused as refused:
            return _error(refused.status, refused.words)
        return _error(404, f"no such path: {path}")

    # Chat

    async def _complete(self, http: web.BaseRequest) -> dict[str, Any]:
        try:
            payload = orjson.loads(await http.read())
            messages = payload["messages"]
            begin = speech.conversation_of(messages, http.headers.get("X-Session-ID", ""))
            chain, ids = self._texts(payload)
            said = speech.answer(payload, begin, self.config)
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise _Refused(400, f"no chat request: {error!r}") from None
        if payload.get("model", self.model) != self.model:
            raise _Refused(404, f"The model `{payload['model']}` does not exist.")
        if payload.get("stream"):
            raise _Refused(400, "stream: the simulated engine answers whole turns alone")
        calls = ((said.tool, said.arguments),) if said.tool else ()
        key = hash((chain[-1][0], "assistant", said.content, calls))
        request = Request(chain, said.tokens, key)
        await self._computed(request)
        self._remember(key, said.tokens)
        self._count += 1
        message: dict[str, Any] = {"role": "assistant", "content": said.content or None, "tool_calls": []}
        name = f"{begin.hex()[:12]}-{self._count}"
        if said.tool:
            function = {"name": said.tool, "arguments": said.arguments}
            message["tool_calls"] = [{"id": f"call-{name}", "type": "function", "function": function}]
        visible = speech.count_tokens(said.content, said.tool or "", said.arguments)
        if self.config.reasoning and said.tokens > visible:
            message["reasoning"] = speech.reasoning(said.tokens - visible)
        reason = "length" if said.cut else "tool_calls" if said.tool else "stop"
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
        body: dict[str, Any] = {
            "id": f"chatcmpl-{name}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self.model,
            "choices": [choice],
            "usage": {
                "prompt_tokens": request.prompt_tokens,
                "completion_tokens": said.tokens,
                "total_tokens": request.prompt_tokens + said.tokens,
                "prompt_tokens_details": {"cached_tokens": request.cached_tokens},
            },
        }
        if payload.get("return_token_ids"):
            body["prompt_token_ids"] = ids()
            choice["token_ids"] = _ids(key, said.tokens)
        if payload.get("logprobs"):
            entry = {"token": "a", "logprob": -0.1, "bytes": None, "top_logprobs": []}
            choice["logprobs"] = {"content": [entry] * said.tokens}
        return body

    def _texts(self, payload: dict[str, Any]) -> tuple[tuple[tuple[int, int], ...], Callable[[], list[int]]]:
        """The prompt as a chain of texts, and a function that makes its token ids."""
        tools = orjson.dumps(payload["tools"]) if payload.get("tools") else b""
        key, extra = hash(tools), len(tools) // speech.BYTES_A_TOKEN
        chain: list[tuple[int, int]] = []
        for message in payload["messages"]:
            content, role = speech.text_of(message.get("content")), message["role"]
            calls = tuple(
                (call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls") or ()
            )
            key = hash((key, role, content, calls))
            tokens = self._lengths.get(key) or speech.count_tokens(content, *(text for call in calls for text in call))
            chain.append((key, tokens + extra))
            extra = 0
        if not chain:
            raise KeyError("messages")
        return tuple(chain), lambda: [one for text, length in chain for one in _ids(text, length)]

    def _remember(self, key: int, tokens: int) -> None:
        self._lengths[key] = tokens
        if len(self._lengths) > _REMEMBERED:
            del self._lengths[next(iter(self._lengths))]

    async def _computed(self, request: Request) -> None:
        now = self._advance()
        try:
            self._engine.submit(now, request)
        except TooLong as error:
            words = f"This model's maximum context length is {self.config.max_model_len} tokens: {error}"
            raise _Refused(400, words) from None
        future = self._futures[request] = asyncio.get_running_loop().create_future()
        self._sleep()
        try:
            await future
        except asyncio.CancelledError:  # the client went away
            if self._futures.pop(request, None):
                self._engine.abort(self._advance(), request)
                self._sleep()
            raise

    # The model's time

    def _advance(self) -> float:
        now = (time.monotonic() - self._born) / self.config.time_scale
        for request in self._engine.advance(now):
            future = self._futures.pop(request, None)
            if future is not None and not future.done():
                future.set_result(None)
        return now

    def _sleep(self) -> None:
        """Wake when the model has something."""
        at = self._engine.next_event()
        if at == self._wakes_at:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wakes_at = at
        if at is not None:
            delay = at * self.config.time_scale + self._born - time.monotonic()
            self._timer = asyncio.get_running_loop().call_later(max(0.0, delay), self._wake)

    def _wake(self) -> None:
        self._timer, self._wakes_at = None, None
        self._advance()
        self._sleep()

    # Faults

    def _active(self, fault: Fault) -> _ActiveFault:
        until = time.monotonic() + fault.seconds if fault.seconds is not None else float("inf")
        return _ActiveFault(fault, fault.count, until)

    def _living(self) -> list[_ActiveFault]:
        if self._faults:
            now = time.monotonic()
            self._faults = [active for active in self._faults if active.until > now and active.left != 0]
        return self._faults

    def _strikes(self) -> Fault | None:
        """The fault that this request meets."""
        for active in self._living():
            if active.fault.share is None or self._draw.random() < active.fault.share:
                if active.left is not None:
                    active.left -= 1
                return active.fault
        return None

    async def _suffer(self, request: web.BaseRequest, fault: Fault) -> web.StreamResponse:
        if fault.kind == "status":
            return _error(fault.status, "a fault was asked for")
        if fault.kind == "garbage":
            return web.Response(body=b"\x00<html>upstream said nothing useful", content_type="application/json")
        if fault.kind == "hang":
            self._num_hung += 1  # as a wedged engine would: it runs, and makes no token
            try:
                await asyncio.Event().wait()
            finally:
                self._num_hung -= 1
        body = orjson.dumps(await self._complete(request))
        response = web.StreamResponse(headers={"Content-Length": str(len(body)), "Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        if request.transport is not None:
            request.transport.close()
        await asyncio.Event().wait()  # until the loss of the connection ends this
        return response

    async def _change_faults(self, request: web.BaseRequest) -> web.Response:
        if request.method == "DELETE":
            self._faults = []
        elif request.method == "POST":
            try:
                self._faults.append(self._active(Fault.model_validate_json(await request.read())))
            except ValidationError as error:
                first = error.errors()[0]
                raise _Refused(422, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        faults = [{**active.fault.model_dump(), "left": active.left} for active in self._living()]
        return _json({"faults": faults})

    # Metrics

    def _metrics(self) -> str:
        self._advance()
        self._sleep()
        engine = self._engine
        rows = (
            ("num_requests_running", "gauge", engine.num_running + self._num_hung),
            ("num_requests_waiting", "gauge", engine.num_waiting),
            ("kv_cache_usage_perc", "gauge", engine.kv_usage),
            ("num_preemptions_total", "counter", engine.preemptions),
            ("prefix_cache_queries_total", "counter", engine.queried_tokens),
            ("prefix_cache_hits_total", "counter", engine.hit_tokens),
            ("prompt_tokens_total", "counter", engine.prompt_tokens),
            ("generation_tokens_total", "counter", engine.generated_tokens),
        )
        lines = []
        for name, kind, value in rows:
            lines.append(f"# TYPE vllm:{name} {kind}\nvllm:{name}{self._labels} {float(value)}\n")
        # Answers cut off by max_tokens count as stopped here.
        reason = f'vllm:request_success_total{{engine="0",finished_reason="stop",model_name="{self.model}"}}'
        lines.append(f"# TYPE vllm:request_success_total counter\n{reason} {float(engine.finished)}\n")
        return "".join(lines)


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=_MAX_BODY)


def _ids(key: int, length: int) -> list[int]:
    first = key % 32_000
    return list(range(first, first + length))


def _json(body: dict[str, Any]) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json")


def _error(status: int, words: str) -> web.Response:
    kind = "BadRequestError" if status < 500 else "InternalServerError"
    body = {"error": {"message": words, "type": kind, "param": None, "code": status}}
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")
