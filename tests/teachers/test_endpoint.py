"""The endpoint against a real local server that misbehaves. Promises:

1. Overload is retried, up to the bound, and then named so; a lost connection is tried once more.
2. Timeout, refusal, garbage and too long a conversation are told apart; a refusal and an overflow are asked once only.
3. A busy or lost server gets no new conversation while another is there; a conversation stays where it started.
4. What the model wrote is recorded as it is; a reply said through the tool is recorded as words and rendered back as a call.
5. A prefix break is seen from token ids; the identity holds everything that shapes words, and no secret.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from agentscaler.errors import ConfigError, ContextOverflow, FaultClass, RolloutFault
from agentscaler.messages import Message, Outcome, ToolCall
from agentscaler.teachers.endpoint import (
    ChatEndpoint,
    EndpointAgent,
    EndpointConfig,
    EndpointTeacher,
    EndpointTeacherConfig,
    engine_tools,
)

TOOL = {
    "type": "function",
    "function": {
        "name": "move_note",
        "description": "Move a note.",
        "parameters": {
            "type": "object",
            "properties": {
                "title": {"type": "string"},
                "folder": {"type": "string", "maxLength": 9},
                "access": {"type": "string", "enum": ["view"]},
                "enum": {"type": "array", "items": {"type": "string"}},
            },
        },
    },
}
OPENING = [Message(role="system", content="Help."), Message(role="user", content="Hello.")]


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
async def asking(
    *urls: str, max_retries: int = 2, timeout_s: float = 5, key: str | None = None
) -> AsyncIterator[ChatEndpoint]:
    endpoint = ChatEndpoint(
        EndpointConfig(base_urls=urls, max_retries=max_retries, timeout_s=timeout_s, api_key_env=key)
    )
    try:
        yield endpoint
    finally:
        await endpoint.close()


def agent(endpoint: ChatEndpoint, **settings: Any) -> EndpointAgent:
    config = EndpointTeacherConfig(model="m", **settings)
    return EndpointAgent(config, endpoint, engine_tools([TOOL], config), (), 7, "session-1")


def said(content: str | None = "Hi.", calls: list[tuple[str, str]] | None = None, **more: Any) -> web.Response:
    tool_calls = [{"id": f"c{i}", "function": {"name": n, "arguments": a}} for i, (n, a) in enumerate(calls or [])]
    choice = {"message": {"content": content, "tool_calls": tool_calls}, **more.pop("choice", {})}
    return web.json_response({"choices": [choice], **more})


def error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message}}, status=status)


async def fault_of(answer: Callable[[int], web.StreamResponse], **settings: Any) -> tuple[RolloutFault, int]:
    async with served(answer) as server, asking(server.url, **settings) as endpoint:
        with pytest.raises(RolloutFault) as caught:
            await agent(endpoint).reply(OPENING)
        return caught.value, len(server.bodies)


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [429, 500, 503])
async def test_overload_is_retried(status: int) -> None:
    async with served(lambda n: error(status, "busy") if n < 3 else said()) as server, asking(server.url) as endpoint:
        assert (await agent(endpoint).reply(OPENING)).content == "Hi."
        assert len(server.bodies) == 3
        assert server.bodies[0] == server.bodies[2]


@pytest.mark.asyncio
async def test_overload_has_an_end() -> None:
    fault, asked = await fault_of(lambda n: error(503, "full up"))
    assert (fault.fault, fault.retryable, asked) == (FaultClass.ENGINE_OVERLOADED, True, 3)
    assert "full up" in fault.words


@pytest.mark.asyncio
async def test_a_cut_body_is_tried_once_more() -> None:
    fault, asked = await fault_of(lambda n: Cut())
    assert (fault.fault, fault.retryable, asked) == (FaultClass.ENGINE_GONE, True, 2)
    async with served(lambda n: Cut() if n == 1 else said()) as server, asking(server.url) as endpoint:
        assert (await agent(endpoint).reply(OPENING)).content == "Hi."


@pytest.mark.asyncio
async def test_nobody_there() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    async with asking(url) as endpoint:
        with pytest.raises(RolloutFault) as caught:
            await agent(endpoint).reply(OPENING)
    assert caught.value.fault is FaultClass.ENGINE_GONE


@pytest.mark.asyncio
async def test_timeout() -> None:
    fault, asked = await fault_of(lambda n: Slow(), timeout_s=0.2)
    assert (fault.fault, fault.retryable, asked) == (FaultClass.TIMEOUT, True, 1)


@pytest.mark.asyncio
@pytest.mark.parametrize("body", [b"not json", b"{}", b'{"choices": []}', b"[1]", b'{"choices": [{"message": null}]}'])
async def test_garbage(body: bytes) -> None:
    fault, asked = await fault_of(lambda n: web.Response(body=body))
    assert (fault.fault, asked) == (FaultClass.MALFORMED_REPLY, 1)


@pytest.mark.asyncio
async def test_a_refusal_is_asked_once_and_says_why() -> None:
    fault, asked = await fault_of(lambda n: error(400, "the model `m`\n does not exist"))
    assert (fault.fault, fault.retryable, asked) == (FaultClass.ENGINE_REJECTED, False, 1)
    assert "the model `m` does not exist" in fault.words


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "words",
    [
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens.",
        "context_length_exceeded",
        "prompt is too long: 210000 tokens > 200000 maximum",
    ],
)
async def test_too_long_is_no_fault_and_is_asked_once(words: str) -> None:
    async with served(lambda n: error(400, words)) as server, asking(server.url) as endpoint:
        with pytest.raises(ContextOverflow):
            await agent(endpoint).reply(OPENING)
        assert len(server.bodies) == 1


@pytest.mark.asyncio
async def test_routes_to_the_least_loaded_and_stays() -> None:
    async with served(lambda n: said()) as one, served(lambda n: said()) as two, asking(one.url, two.url) as endpoint:
        agents = [agent(endpoint) for _ in range(6)]
        for _ in range(2):
            await asyncio.gather(*(a.reply(OPENING) for a in agents))
        assert len(one.bodies) == len(two.bodies) == 6
        assert one.headers[0]["X-Session-ID"] == "session-1"


@pytest.mark.asyncio
async def test_a_lost_server_gets_no_new_conversation() -> None:
    async with (
        served(lambda n: Cut()) as lost,
        served(lambda n: said()) as good,
        asking(lost.url, good.url) as endpoint,
    ):
        with pytest.raises(RolloutFault):
            await agent(endpoint).reply(OPENING)
        before = len(lost.bodies)
        for _ in range(4):
            await agent(endpoint).reply(OPENING)
        assert (len(lost.bodies), len(good.bodies)) == (before, 4)


@pytest.mark.asyncio
async def test_arguments_stay_the_models_own_text() -> None:
    broken = '{"title": "Garden plan", '
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 8}}
    logprobs = {"logprobs": {"content": [{"logprob": -0.5}]}}
    async with (
        served(lambda n: said(None, [("move_note", broken)], usage=usage, choice=logprobs)) as server,
        asking(server.url) as endpoint,
    ):
        message = await agent(endpoint, logprobs=True).reply(OPENING)
    assert message.tool_calls == (ToolCall("c0", "move_note", broken),)
    assert message.content == "" and message.logprobs == (-0.5,)
    assert message.usage is not None and (message.usage.prompt_tokens, message.usage.cached_tokens) == (9, 8)


@pytest.mark.asyncio
async def test_words_through_the_reply_tool() -> None:
    arguments = '{"message": "Which folder?"}'
    async with served(lambda n: said(None, [("reply_to_user", arguments)])) as server, asking(server.url) as endpoint:
        speaker = agent(endpoint, reply_tool=True, tool_choice="required")
        first = await speaker.reply(OPENING)
        assert (first.content, first.tool_calls, first.raw) == ("Which folder?", (), arguments)
        await speaker.reply([*OPENING, first, Message(role="user", content="Archive.")])
    assert [tool["function"]["name"] for tool in server.bodies[0]["tools"]] == ["move_note", "reply_to_user"]
    rendered = server.bodies[1]["messages"][2]
    assert rendered["content"] == "" and rendered["tool_calls"][0]["function"]["name"] == "reply_to_user"
    assert json.loads(rendered["tool_calls"][0]["function"]["arguments"]) == {"message": "Which folder?"}
    assert server.bodies[0]["seed"] != server.bodies[1]["seed"]


def result(outcome: Outcome) -> list[Message]:
    call = Message(role="assistant", tool_calls=(ToolCall("c0", "move_note", "{}"),))
    return [call, Message(role="tool", content="{}", tool_call_id="c0", outcome=outcome)]


@pytest.mark.asyncio
async def test_after_call_speaks_when_a_call_went_well_or_two_failed() -> None:
    ok, refused = result(Outcome.OK), result(Outcome.REFUSED)
    histories = [[], ok, refused, [*refused, *refused], [*ok, *refused], [*ok, OPENING[1]]]
    async with served(lambda n: said()) as server, asking(server.url) as endpoint:
        for history in histories:
            await agent(endpoint, speak="after_call", speaking={"stop": ["x"]}).reply([*OPENING, *history])
    choices = [body["tool_choice"] for body in server.bodies]
    assert choices == ["required", "none", "required", "none", "required", "required"]
    assert [("stop" in body) for body in server.bodies] == [choice == "none" for choice in choices]


@pytest.mark.asyncio
async def test_prefix_break() -> None:
    turns = {1: ([1, 2], [3]), 2: ([1, 2, 3, 4], [5]), 3: ([1, 2, 3, 9, 5], [6])}

    def answer(n: int) -> web.Response:
        return said(prompt_token_ids=turns[n][0], choice={"token_ids": turns[n][1]})

    async with served(answer) as server, asking(server.url) as endpoint:
        speaker = agent(endpoint, return_token_ids=True)
        messages = [await speaker.reply(OPENING) for _ in turns]
    assert [message.prefix_break for message in messages] == [False, False, True]
    assert [message.token_ids for message in messages] == [(3,), (5,), (6,)]


def test_tools_are_bounded_and_strict_without_touching_the_domains_own() -> None:
    before = json.dumps(TOOL)
    config = EndpointTeacherConfig(model="m", strict=True, max_string_length=50, max_items=3)
    function = engine_tools([TOOL], config)[0]["function"]
    properties = function["parameters"]["properties"]
    assert function["strict"] is True
    assert (properties["title"]["maxLength"], properties["folder"]["maxLength"]) == (50, 9)
    assert "maxLength" not in properties["access"]
    assert properties["enum"] == {"type": "array", "maxItems": 3, "items": {"type": "string", "maxLength": 50}}
    assert json.dumps(TOOL) == before


def test_a_tool_may_not_take_the_reply_tools_name() -> None:
    with pytest.raises(ConfigError, match="reply_to_user"):
        config = EndpointTeacherConfig(model="m", reply_tool=True)
        engine_tools([{"type": "function", "function": {"name": "reply_to_user"}}], config)


@pytest.mark.asyncio
async def test_the_key_comes_from_the_environment_and_stays_out_of_the_identity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SOME_KEY", "hush")
    async with served(lambda n: said()) as server, asking(server.url, key="SOME_KEY") as endpoint:
        await agent(endpoint).reply(OPENING)
        teacher = EndpointTeacher(EndpointTeacherConfig(model="m", sampling={"temperature": 0.5}), endpoint)
        assert server.headers[0]["Authorization"] == "Bearer hush"
        assert "hush" not in repr(teacher.identity) + repr(endpoint.config)
        assert json.loads(teacher.identity.sampling)["sampling"] == {"temperature": 0.5}
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"):
        ChatEndpoint(EndpointConfig(base_urls=("http://x",), api_key_env="NO_SUCH_KEY"))
