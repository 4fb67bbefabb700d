"""Promises of the simulated engine.

The model: 1. when requests end is what one step after the other says, however far it skips ahead; 2. whatever comes, every request ends
once, the KV cache is never over-full and is empty of use at the end; 3. prefixes are reused in whole blocks until their room is needed;
4. a full cache sends the last one back to compute again, and nothing is lost.

The server: 5. calls fit their schema, conversations end in words, the same requests get the same answers from any process; 6. its metrics
have vLLM's names; 7. every fault is done on the wire; 8. who goes away gives its place up; it starts fast and ends on SIGTERM.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import json
import math
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.sim_engine.config import BLOCK, SimConfig
from cluster.sim_engine.model import Request, SimEngine, TooLong
from cluster.sim_engine.server import SimServer

ROOT = Path(__file__).parents[2]


def ask(key: int, prompt: int, output: int, *before: tuple[int, int]) -> Request:
    return Request((*before, (key, prompt)), output, key)


def play(engine: SimEngine, arrivals: list[tuple[float, Request]], looks: list[float] = []) -> dict[Request, float]:  # noqa: B006
    """Ends of all requests; `looks` are further moments at which the engine is asked."""
    ends: dict[Request, float] = {}
    moments = sorted([*((at, i) for i, (at, _) in enumerate(arrivals)), *((at, -1) for at in looks)])
    while moments or engine.next_event() is not None:
        event = engine.next_event()
        if moments and (event is None or moments[0][0] <= event):
            now, which = moments.pop(0)
            ends |= dict.fromkeys(engine.advance(now), now)
            if which >= 0:
                engine.submit(now, arrivals[which][1])
        else:
            assert event is not None
            ends |= dict.fromkeys(engine.advance(event), event)
        assert 0 <= engine.kv_usage <= 1
    return ends


def step_by_step(config: SimConfig, arrivals: list[tuple[float, int, int]]) -> list[float]:
    """The same model without a cache and without skipping: each step in turn. Prompts and outputs by number; their ends."""
    now, ends = 0.0, [math.nan] * len(arrivals)
    waiting = sorted(range(len(arrivals)), key=lambda i: arrivals[i][0])
    prefill: dict[int, int] = {}
    decode: dict[int, int] = {}
    while waiting or prefill or decode:
        if not prefill and not decode:
            now = max(now, arrivals[waiting[0]][0])
        budget = config.max_num_batched_tokens - len(decode)
        chunks: dict[int, int] = {}
        for i, left in prefill.items():
            chunks[i] = min(left, budget)
            budget -= chunks[i]
        while (
            waiting
            and arrivals[waiting[0]][0] <= now
            and budget > 0
            and len(decode) + len(chunks) < config.max_num_seqs
        ):
            i = waiting.pop(0)
            prefill[i] = arrivals[i][1]
            chunks[i] = min(prefill[i], budget)
            budget -= chunks[i]
        context = sum(arrivals[i][1] + made for i, made in decode.items())
        now += config.step_base_s + config.step_per_seq_s * (len(decode) + len(chunks))
        now += config.step_per_kv_token_s * context + config.prefill_per_token_s * sum(chunks.values())
        for i in decode:
            decode[i] += 1
        for i, chunk in chunks.items():
            prefill[i] -= chunk
            if not prefill[i]:
                del prefill[i]
                decode[i] = 1
        for i in [i for i, made in decode.items() if made == arrivals[i][2]]:
            ends[i] = now
            del decode[i]
    return ends


def test_one_request_takes_what_the_formula_says() -> None:
    config = SimConfig()
    request = ask(1, 1000, 101)
    end = play(SimEngine(config), [(3.0, request)])[request]
    base = config.step_base_s + config.step_per_seq_s
    decode = sum(base + config.step_per_kv_token_s * (1000 + made) for made in range(1, 101))
    assert end == pytest.approx(3.0 + base + 1000 * config.prefill_per_token_s + decode)
    assert request.first_token_s == pytest.approx(3.0 + base + 1000 * config.prefill_per_token_s)


loads = st.lists(st.tuples(st.floats(0, 3), st.integers(1, 3000), st.integers(1, 120)), min_size=1, max_size=10)


@settings(max_examples=40)
@given(loads, st.integers(1, 6), st.sampled_from([64, 700, 8192]))
def test_skipping_ahead_changes_nothing(load: list[tuple[float, int, int]], seqs: int, budget: int) -> None:
    config = SimConfig(max_num_seqs=seqs, max_num_batched_tokens=budget)
    # No two at the same moment: a request starts a step at once, and one that comes with it must wait for the next.
    load = [(round(at, 2) + 1.2345e-5 * i, prompt, output) for i, (at, prompt, output) in enumerate(sorted(load), 1)]
    load.sort()
    requests = [ask(i, prompt, output) for i, (_, prompt, output) in enumerate(load)]
    arrivals = [(at, request) for (at, _, _), request in zip(load, requests, strict=True)]
    ends = play(SimEngine(config), arrivals)
    assert [ends[request] for request in requests] == pytest.approx(step_by_step(config, load), abs=1e-6)


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.floats(0, 5), st.integers(0, 4), st.integers(1, 600), st.integers(1, 200)), max_size=25),
    st.lists(st.floats(0, 8), max_size=10),
)
def test_whatever_comes_all_ends_once_and_nothing_stays(
    load: list[tuple[float, int, int, int]], looks: list[float]
) -> None:
    engine = SimEngine(SimConfig(kv_tokens=1200, max_num_batched_tokens=256))
    load.sort(key=lambda one: one[0])
    arrivals = [(at, ask(10 + text, prompt, output, (text % 2, 200))) for at, text, prompt, output in load]
    ends = play(engine, arrivals, looks)
    assert ends.keys() == {request for _, request in arrivals}
    assert engine.finished == len(arrivals)
    assert engine.generated_tokens == sum(request.output_tokens for _, request in arrivals)
    assert engine.prompt_tokens == engine.queried_tokens == sum(request.prompt_tokens for _, request in arrivals)
    assert 0 <= engine.hit_tokens < max(1, engine.queried_tokens)
    assert engine.num_running == engine.num_waiting == engine.kv_usage == 0
    assert 0 <= engine.busy_s(1000.0) <= max(ends.values(), default=0.0)


def test_prefixes_are_reused_in_whole_blocks() -> None:
    engine = SimEngine(SimConfig())
    first, second = ask(7, 500, 60, (1, 1000)), ask(7, 600, 10, (1, 1000))
    other, same = ask(8, 90, 5, (1, 1000)), ask(9, 480, 5)
    same_again = ask(9, 480, 5)
    play(engine, [(0.0, first), (10.0, second), (20.0, other), (30.0, same), (40.0, same_again)])
    assert first.cached_tokens == 0
    assert second.cached_tokens == 1560 // BLOCK * BLOCK  # what was asked and what was answered
    assert other.cached_tokens == 1000 // BLOCK * BLOCK  # what all share
    assert same.cached_tokens == 0
    assert same_again.cached_tokens == 480 - BLOCK  # the last token is computed again, so its block is


def test_the_oldest_prefix_goes_first_and_from_its_end() -> None:
    engine = SimEngine(SimConfig(kv_tokens=4800))
    texts = [ask(i, 1500, 4) for i in range(4)]
    play(engine, [(float(i), text) for i, text in enumerate(texts)])  # the fourth takes the room of most of the first
    again = ask(3, 1504, 1), ask(0, 1504, 1)
    play(engine, [(10.0, again[0])])
    play(engine, [(11.0, again[1])])
    assert again[0].cached_tokens == 1504 - BLOCK
    assert 0 < again[1].cached_tokens < 400


def test_a_full_cache_sends_the_last_one_back() -> None:
    engine = SimEngine(SimConfig(kv_tokens=2000))
    early, late = ask(1, 900, 300), ask(2, 900, 300)
    ends = play(engine, [(0.0, early), (0.01, late)])
    assert (early.preemptions, engine.preemptions) == (0, late.preemptions)
    assert late.preemptions >= 1
    assert ends[early] < ends[late]
    assert engine.generated_tokens == 600


def test_too_long_and_aborted() -> None:
    engine = SimEngine(SimConfig(kv_tokens=2000, max_num_seqs=1))
    with pytest.raises(TooLong, match="maximum context length"):
        engine.submit(0.0, ask(1, 1900, 200))
    running, waiting, last = ask(1, 100, 500), ask(2, 100, 500), ask(3, 100, 5)
    for request in (running, waiting, last):
        engine.submit(0.0, request)
    assert engine.advance(1.0) == []
    engine.abort(1.0, waiting)
    engine.abort(1.0, running)
    assert play(engine, []).keys() == {last}
    assert engine.kv_usage == 0


# The server

TOOL = {
    "name": "book",
    "description": "Book something.",
    "parameters": {
        "type": "object",
        "properties": {
            "cabin": {"type": "string", "enum": ["economy", "business"]},
            "seats": {"type": "integer", "minimum": 2, "maximum": 5},
            "price": {"type": "number", "exclusiveMinimum": 10, "maximum": 12},
            "note": {"type": "string", "minLength": 30, "maxLength": 40},
            "day": {"type": "string", "format": "date"},
            "people": {
                "type": "array",
                "minItems": 1,
                "items": {"type": "object", "properties": {"name": {"type": "string"}}},
            },
            "either": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
            "maybe": {"type": ["null", "integer"]},
        },
        "required": ["cabin", "seats", "price", "note", "day", "people", "either", "maybe"],
        "additionalProperties": False,
    },
}
TOOLS = [{"type": "function", "function": TOOL}]
FAST = SimConfig(time_scale=1e-4, min_turns=2, max_turns=5)


class Client:
    def __init__(self, http: aiohttp.ClientSession, url: str):
        self.http, self.url = http, url

    async def chat(self, messages: list[dict[str, Any]], session: str = "s", **keys: Any) -> dict[str, Any]:
        body = {"model": "sim", "messages": messages, "tools": TOOLS, "seed": len(messages)} | keys
        async with self.http.post(
            f"{self.url}/chat/completions", json=body, headers={"X-Session-ID": session}
        ) as reply:
            assert reply.status == 200, await reply.text()
            return await reply.json()

    async def converse(self, name: str, session: str, **keys: Any) -> list[dict[str, Any]]:
        """All answers of a conversation."""
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": "Be of help. " * 40},
            {"role": "user", "content": name},
        ]
        answers = []
        while True:
            answers.append(await self.chat(messages, session, **keys))
            said = answers[-1]["choices"][0]["message"]
            messages.append({"role": "assistant", "content": said["content"] or "", "tool_calls": said["tool_calls"]})
            if not said["tool_calls"]:
                return answers
            messages.append({"role": "tool", "tool_call_id": said["tool_calls"][0]["id"], "content": "done " * 30})

    async def fault(self, **fault: Any) -> None:
        async with self.http.post(f"{self.url.removesuffix('/v1')}/sim/faults", json=fault) as reply:
            assert reply.status == 200, await reply.text()

    async def metrics(self) -> dict[str, float]:
        async with self.http.get(f"{self.url.removesuffix('/v1')}/metrics") as reply:
            lines = (await reply.text()).splitlines()
        return {line.split("{")[0]: float(line.split()[-1]) for line in lines if not line.startswith("#")}


@asynccontextmanager
async def served(config: SimConfig = FAST) -> AsyncIterator[Client]:
    async with SimServer("sim", config).serve("127.0.0.1", 0) as port, aiohttp.ClientSession() as http:
        yield Client(http, f"http://127.0.0.1:{port}/v1")


@pytest.fixture(scope="module")
def process() -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "cluster.sim_engine", "--model", "sim", "--config", FAST.model_dump_json()]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.stdout is not None
    yield server, server.stdout.readline().strip()
    server.kill()
    server.wait()


def said(answers: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What does not depend on when it was asked."""
    messages = [answer["choices"][0]["message"] for answer in answers]
    calls = [[call["function"] for call in message["tool_calls"]] for message in messages]
    tokens = [answer["usage"]["completion_tokens"] for answer in answers]
    return [(m["content"], m.get("reasoning"), c, t) for m, c, t in zip(messages, calls, tokens, strict=True)]


def test_calls_fit_their_schema_and_conversations_end(process: tuple[subprocess.Popen[str], str]) -> None:
    async def run() -> None:
        async with served() as here, aiohttp.ClientSession() as http:
            there = Client(http, process[1])
            conversations = await asyncio.gather(*(here.converse(f"task {i}", f"r{i}") for i in range(25)))
            again = await asyncio.gather(*(there.converse(f"task {i}", f"r{i}") for i in range(25)))
            assert [said(one) for one in conversations] == [said(one) for one in again]
        for answers in conversations:
            assert 2 <= len(answers) - 1 <= 5
            assert answers[-1]["choices"][0]["message"]["content"] == "I have done what I could. Goodbye."
            for answer in answers[:-1]:
                (call,) = answer["choices"][0]["message"]["tool_calls"]
                jsonschema_rs.validate(TOOL["parameters"], json.loads(call["function"]["arguments"]))
        assert len({len(answers) for answers in conversations}) > 1
        assert len({answer["usage"]["completion_tokens"] for answers in conversations for answer in answers}) > 20

    asyncio.run(run())


def test_later_turns_find_their_prefix_and_tokens_go_on_where_they_ended() -> None:
    async def run() -> None:
        async with served() as client:
            answers = await client.converse("task", "r", return_token_ids=True, logprobs=True)
            for before, after in itertools.pairwise(answers):
                tokens = before["prompt_token_ids"] + before["choices"][0]["token_ids"]
                assert after["prompt_token_ids"][: len(tokens)] == tokens
                assert after["usage"]["prompt_tokens_details"]["cached_tokens"] == len(tokens) // BLOCK * BLOCK
                assert len(before["choices"][0]["logprobs"]["content"]) == before["usage"]["completion_tokens"]
            metrics = await client.metrics()
            assert metrics["vllm:prompt_tokens_total"] == sum(answer["usage"]["prompt_tokens"] for answer in answers)
            assert metrics["vllm:generation_tokens_total"] == sum(a["usage"]["completion_tokens"] for a in answers)
            assert metrics["vllm:prefix_cache_hits_total"] == sum(
                answer["usage"]["prompt_tokens_details"]["cached_tokens"] for answer in answers
            )

    asyncio.run(run())


def test_choices_and_limits() -> None:
    hello = [{"role": "user", "content": "Hello."}]

    async def run() -> None:
        async with served() as client:
            words = (await client.chat(hello, tool_choice="none"))["choices"][0]
            assert (words["finish_reason"], words["message"]["tool_calls"]) == ("stop", [])
            forced = await client.chat(hello * 20 + [{"role": "assistant", "content": "."}] * 9, tool_choice="required")
            assert forced["choices"][0]["finish_reason"] == "tool_calls"
            cut = await client.chat(hello, max_tokens=3)
            assert (cut["choices"][0]["finish_reason"], cut["usage"]["completion_tokens"]) == ("length", 3)
            for body, status in (
                ({"messages": hello, "model": "other"}, 404),
                ({"messages": [{"role": "user", "content": "long " * 200_000}]}, 400),
                ({"messages": []}, 400),
                ({"messages": hello, "stream": True}, 400),
            ):
                async with client.http.post(f"{client.url}/chat/completions", json=body) as reply:
                    assert reply.status == status
                    assert (await reply.json())["error"]["message"]
            async with client.http.get(f"{client.url}/models") as reply:
                assert (await reply.json())["data"][0]["id"] == "sim"

    asyncio.run(run())


def test_metrics_have_the_names_of_vllm() -> None:
    async def run() -> dict[str, float]:
        async with served() as client:
            await client.converse("task", "r")
            return await client.metrics()

    metrics = asyncio.run(run())
    spec = importlib.util.find_spec("vllm")
    assert spec is not None and spec.origin is not None
    source = (Path(spec.origin).parent / "v1" / "metrics" / "loggers.py").read_text()
    theirs = set(re.findall(r'name="(vllm:\w+)"', source))
    assert {name.removesuffix("_total") for name in metrics} <= theirs
    assert {"vllm:kv_cache_usage_perc", "vllm:num_requests_waiting", "vllm:num_preemptions_total"} <= metrics.keys()


def test_faults_happen_on_the_wire() -> None:
    hello = [{"role": "user", "content": "Hello."}]
    body = {"messages": hello}

    async def run() -> None:
        async with served() as client:
            url = f"{client.url}/chat/completions"
            await client.fault(kind="status", status=429, count=2)
            assert [await status(client, body) for _ in range(3)] == [429, 429, 200]
            await client.fault(kind="status", status=500, share=0.5)
            statuses = [await status(client, body) for _ in range(60)]
            assert 10 < statuses.count(500) < 50
            assert statuses.count(200) == 60 - statuses.count(500)
            async with client.http.delete(f"{client.url.removesuffix('/v1')}/sim/faults") as reply:
                assert (await reply.json())["faults"] == []
            await client.fault(kind="garbage", count=1)
            async with client.http.post(url, json=body) as reply:
                assert reply.status == 200
                with pytest.raises(json.JSONDecodeError):
                    json.loads((await reply.read()).decode())
            await client.fault(kind="close_mid_body", count=1)
            async with client.http.post(url, json=body) as reply:
                assert (reply.status, int(reply.headers["Content-Length"]) > 200) == (200, True)
                with pytest.raises(aiohttp.ClientPayloadError):
                    await reply.read()
            await client.fault(kind="hang", seconds=0.4, health=True)
            for path in ("chat/completions", "../health"):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(client.http.post(f"{client.url}/{path}", json=body), 0.1)
            await asyncio.sleep(0.4)
            assert await status(client, body) == 200
            async with client.http.get(f"{client.url.removesuffix('/v1')}/health") as reply:
                assert reply.status == 200
            async with client.http.post(
                f"{client.url.removesuffix('/v1')}/sim/faults", json={"kind": "flood"}
            ) as reply:
                assert reply.status == 422
        async with served(FAST.model_copy(update={"faults": SimConfig.model_validate(CONFIGURED).faults})) as client:
            assert [await status(client, body) for _ in range(2)] == [503, 200]

    asyncio.run(run())


CONFIGURED = {"faults": [{"kind": "status", "status": 503, "count": 1}]}


async def status(client: Client, body: dict[str, Any]) -> int:
    async with client.http.post(f"{client.url}/chat/completions", json=body) as reply:
        return reply.status


def test_time_passes_as_the_model_says_and_who_goes_away_gives_its_place_up() -> None:
    config = SimConfig(time_scale=0.1, output_median=1000, output_sigma=0, max_num_seqs=3)
    hello = [{"role": "user", "content": "Hello."}]

    async def run() -> None:
        async with served(config) as client:
            asked = [asyncio.create_task(client.chat(hello, session=str(i))) for i in range(5)]
            await asyncio.sleep(0.2)
            metrics = await client.metrics()
            assert (metrics["vllm:num_requests_running"], metrics["vllm:num_requests_waiting"]) == (3, 2)
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
            await asyncio.sleep(0.1)
            metrics = await client.metrics()
            assert (metrics["vllm:num_requests_running"], metrics["vllm:num_requests_waiting"]) == (0, 0)
            start = time.monotonic()
            await client.chat(hello)
            passed = time.monotonic() - start
            assert passed >= 999 * config.step_base_s * config.time_scale

    asyncio.run(run())


def test_it_ends_on_sigterm_and_wrong_input_is_one_line(process: tuple[subprocess.Popen[str], str]) -> None:
    server, _ = process
    server.send_signal(signal.SIGTERM)
    assert server.wait(30) == 0
    wrong = [sys.executable, "-m", "cluster.sim_engine", "--config", '{"time_skale": 1}']
    done = subprocess.run(wrong, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "time_skale" in done.stderr


def test_it_imports_only_what_it_needs() -> None:
    code = "import sys, cluster.sim_engine.__main__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {"ray", "hydra", "vllm", "torch", "numpy", "mlflow"}.isdisjoint(done.stdout.split())
