"""The endpoint against real local servers that misbehave. Promises, one a class of fault:

1. Overload: the same request later, as late as the server wishes (bounded), up to the bound, and then named so.
2. A server that is gone: the same request at another at once, and its conversations stay there; where none lives it waits, up to a bound.
   A request that many servers break on does not go round for ever. An idle connection that was closed says nothing about its server.
3. A timeout moves the request once; garbage is asked for once more; a refusal and an overflow are asked once only.
4. A conversation stays where it started; a cancelled request and an ended conversation leave nothing behind.
5. Each class of fault has its rule.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from agentscaler.errors import RULES, ConfigError, ContextOverflow, FaultClass, RolloutFault
from agentscaler.teachers.http import ChatEndpoint, EndpointConfig
from agentscaler.teachers.routing import Load, Router
from tests.teachers.served import Cut, Slow, asking, error, nobody, said, served

BODY = b'{"messages":[]}'
Answer = Callable[[int], web.StreamResponse]


def words(answer: dict[str, Any]) -> str:
    return answer["choices"][0]["message"]["content"]


async def fault_of(answer: Answer, **settings: Any) -> tuple[RolloutFault, int]:
    async with served(answer) as server, asking(server.url, **settings) as endpoint:
        with pytest.raises(RolloutFault) as caught:
            await endpoint.complete("s", BODY)
        return caught.value, len(server.bodies)


def only(url: str) -> Router:
    """A router that knows of this server alone until a test tells it more."""
    router = Router()
    router.update({url: Load()})
    return router


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [429, 500, 503])
async def test_overload_is_retried(status: int) -> None:
    async with served(lambda n: error(status, "busy") if n < 3 else said()) as server, asking(server.url) as endpoint:
        assert words(await endpoint.complete("s", BODY)) == "Hi."
        assert len(server.bodies) == 3


@pytest.mark.asyncio
async def test_overload_has_an_end() -> None:
    fault, asked = await fault_of(lambda n: error(503, "full up"))
    assert (fault.fault, fault.retryable, asked) == (FaultClass.ENGINE_OVERLOADED, True, 3)
    assert "full up" in fault.words


@pytest.mark.asyncio
async def test_the_servers_own_wish_is_honoured() -> None:
    def answer(n: int) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "1"}) if n == 1 else said()

    async with served(answer) as server, asking(server.url) as endpoint:
        started = time.monotonic()
        await endpoint.complete("s", BODY)
        assert 1.0 <= time.monotonic() - started < 3


@pytest.mark.asyncio
@pytest.mark.parametrize("wish", ["-1", "1e9", "nan", "Fri, 31 Dec 2100 23:59:59 GMT"])
async def test_a_wish_that_is_none_counts_for_nothing(wish: str) -> None:
    def answer(n: int) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": wish}) if n == 1 else said()

    async with served(answer) as server, asking(server.url) as endpoint, asyncio.timeout(2):
        await endpoint.complete("s", BODY)


@pytest.mark.asyncio
async def test_a_server_that_closes_in_the_middle_is_left_and_its_conversations_move() -> None:
    async with (
        served(lambda n: Cut()) as bad,
        served(lambda n: said()) as good,
        asking(router=(router := only(bad.url))) as endpoint,
    ):
        router.route("s")
        router.update({bad.url: Load(), good.url: Load()})
        for _ in range(3):
            assert words(await endpoint.complete("s", BODY)) == "Hi."
        assert (len(bad.bodies), len(good.bodies)) == (1, 3)
        for session in range(4):
            await endpoint.complete(f"new-{session}", BODY)
        assert len(bad.bodies) == 1


@pytest.mark.asyncio
async def test_nobody_there_but_another() -> None:
    async with served(lambda n: said()) as good, asking(nobody(), nobody(), good.url) as endpoint:
        for session in range(6):
            await endpoint.complete(f"{session}", BODY)
        assert len(good.bodies) == 6


@pytest.mark.asyncio
async def test_where_none_lives_it_waits_until_one_does() -> None:
    async with served(lambda n: said()) as late, asking(router=(router := only(nobody()))) as endpoint:
        asked = asyncio.create_task(endpoint.complete("s", BODY))
        await asyncio.sleep(0.3)
        assert not asked.done()
        endpoint.update({late.url: Load()})
        assert words(await asyncio.wait_for(asked, 3)) == "Hi."
        assert router.route("s") == late.url


@pytest.mark.asyncio
async def test_waiting_for_a_server_has_an_end() -> None:
    async with asking(nobody(), no_server_s=0.3) as endpoint:
        started = time.monotonic()
        with pytest.raises(RolloutFault) as caught:
            await endpoint.complete("s", BODY)
    assert (caught.value.fault, caught.value.retryable) == (FaultClass.ENGINE_GONE, True)
    assert 0.3 <= time.monotonic() - started < 2


@pytest.mark.asyncio
async def test_a_request_that_breaks_servers_does_not_break_them_all() -> None:
    async with (
        served(lambda n: Cut()) as one,
        served(lambda n: Cut()) as two,
        served(lambda n: Cut()) as three,
        served(lambda n: Cut()) as four,
        asking(one.url, two.url, three.url, four.url, max_retries=1) as endpoint,
    ):
        with pytest.raises(RolloutFault) as caught:
            await endpoint.complete("s", BODY)
        assert caught.value.fault is FaultClass.ENGINE_GONE
        assert sum(len(server.bodies) for server in (one, two, three, four)) == 2


@pytest.mark.asyncio
async def test_an_idle_connection_that_was_closed_says_nothing_about_the_server() -> None:
    connections = 0

    async def answer_then_hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(BODY)
        body = b'{"choices":[{"message":{"content":"Hi."}}]}'
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        await reader.read(1)  # the second request on the same connection
        writer.close()

    server = await asyncio.start_server(answer_then_hang_up, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server, asking(url) as endpoint, asyncio.timeout(4):
        for _ in range(2):
            assert words(await endpoint.complete("s", BODY)) == "Hi."
    assert connections == 2


@pytest.mark.asyncio
async def test_a_timeout_has_nowhere_to_go() -> None:
    fault, asked = await fault_of(lambda n: Slow(), timeout_s=0.2)
    assert (fault.fault, fault.retryable, asked) == (FaultClass.TIMEOUT, True, 1)


@pytest.mark.asyncio
async def test_a_timeout_moves_once() -> None:
    async with (
        served(lambda n: Slow()) as slow,
        served(lambda n: said() if n < 2 else Slow()) as other,
        asking(router=(router := only(slow.url)), timeout_s=0.2) as endpoint,
    ):
        router.route("s")
        router.update({slow.url: Load(), other.url: Load()})
        assert words(await endpoint.complete("s", BODY)) == "Hi."
        with pytest.raises(RolloutFault) as caught:
            await endpoint.complete("s", BODY)
        assert caught.value.fault is FaultClass.TIMEOUT
        assert (len(slow.bodies), len(other.bodies)) == (1, 2)


GARBAGE = [
    b"not json",
    b"{}",
    b'{"choices": []}',
    b"[1]",
    b'{"choices": [{"message": null}]}',
    b'{"choices": [{"message": {"content": 7}}]}',
    b'{"choices": [{"message": {"tool_calls": [{"id": "a", "function": {"name": "f"}}]}}]}',
    b'{"choices": [{"message": {"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {}}}]}}]}',
    b'{"choices": [{"message": {"content": ""}}], "usage": 3}',
]


@pytest.mark.asyncio
@pytest.mark.parametrize("body", GARBAGE)
async def test_garbage_is_asked_for_once_more(body: bytes) -> None:
    fault, asked = await fault_of(lambda n: web.Response(body=body))
    assert (fault.fault, fault.retryable, asked) == (FaultClass.MALFORMED_REPLY, True, 2)
    async with (
        served(lambda n: web.Response(body=body) if n == 1 else said()) as server,
        asking(server.url) as endpoint,
    ):
        assert words(await endpoint.complete("s", BODY)) == "Hi."


@pytest.mark.asyncio
async def test_what_is_no_http_is_garbage_too() -> None:
    async def talk_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(BODY)
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk_nonsense, "127.0.0.1", 0)
    async with server, asking(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1") as endpoint:
        with pytest.raises(RolloutFault) as caught:
            await endpoint.complete("s", BODY)
    assert caught.value.fault is FaultClass.MALFORMED_REPLY


@pytest.mark.asyncio
async def test_a_refusal_is_asked_once_and_says_why() -> None:
    fault, asked = await fault_of(lambda n: error(400, "the model `m`\n does not exist"))
    assert (fault.fault, fault.retryable, asked) == (FaultClass.ENGINE_REJECTED, False, 1)
    assert "the model `m` does not exist" in fault.words


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "reason",
    [
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens.",
        "context_length_exceeded",
        "prompt is too long: 210000 tokens > 200000 maximum",
    ],
)
async def test_too_long_is_no_fault_and_is_asked_once(reason: str) -> None:
    async with served(lambda n: error(400, reason)) as server, asking(server.url) as endpoint:
        with pytest.raises(ContextOverflow):
            await endpoint.complete("s", BODY)
        assert len(server.bodies) == 1


@pytest.mark.asyncio
async def test_conversations_spread_and_stay() -> None:
    router = Router()
    async with (
        served(lambda n: said(usage={"prompt_tokens": 9, "completion_tokens": 2})) as one,
        served(lambda n: said()) as two,
        asking(router=router) as endpoint,
    ):
        endpoint.update({one.url: Load(), two.url: Load()})
        where = []
        for _ in range(3):
            seen = len(one.bodies)
            await endpoint.complete("s", BODY)
            where.append(len(one.bodies) > seen)
            assert (one if where[-1] else two).headers[-1]["X-Session-ID"] == "s"
        assert len(set(where)) == 1
        assert router.loads()[one.url if where[0] else two.url] == Load(1, 11 if where[0] else 0)
        endpoint.end("s")
        assert set(router.loads().values()) == {Load()}


@pytest.mark.asyncio
async def test_a_cancelled_request_leaves_nothing_behind() -> None:
    async with served(lambda n: Slow()) as server, asking(server.url) as endpoint:
        asked = asyncio.create_task(endpoint.complete("s", BODY))
        await asyncio.sleep(0.2)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert endpoint._connections.num_busy == 0
        assert not endpoint._connections._take(server.url)  # its connection is not used again


def test_each_class_of_fault_has_its_rule() -> None:
    assert set(RULES) == set(FaultClass)
    assert all(RolloutFault(fault, "").retryable is rule.play_again for fault, rule in RULES.items())


def test_wrong_input() -> None:
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"):
        ChatEndpoint(EndpointConfig(base_urls=("http://x",), api_key_env="NO_SUCH_KEY"))
    with pytest.raises(ConfigError, match="base_urls"):
        ChatEndpoint(EndpointConfig())


@pytest.mark.asyncio
async def test_an_address_that_is_none_is_a_refusal() -> None:
    async with asking("nonsense") as endpoint:
        with pytest.raises(RolloutFault) as caught:
            await endpoint.complete("s", BODY)
    assert (caught.value.fault, caught.value.retryable) == (FaultClass.ENGINE_REJECTED, False)
