"""Golden transcripts of the model families in conf/teacher: what a model of each writes, what is recorded of it, what it is shown next.

Each family's file in `families/` holds raw texts as its models write them. They go through vLLM's own parsers (`families/front.py`, a
process that answers as vLLM's server would) and through our teacher as the preset sets it up. Promises:

1. Reasoning, words and calls are recorded as the file says; arguments are those the server gave; the raw text is in the token ids.
2. The next request brings exactly the turns so far, with the reasoning the preset keeps: none, that since the last user message, or all.
3. vLLM takes the request, and shows its template that reasoning under both names. Where it writes the prompt itself (gpt-oss,
   DeepSeek-V3.2), the prompt is the one in the file, and whether the next prompt goes on from the last turn's tokens is known.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from agentscaler.messages import Message
from agentscaler.teachers.endpoint import EndpointTeacher, EndpointTeacherConfig
from agentscaler.teachers.http import ChatEndpoint, EndpointConfig
from cluster.config import RolloutConfig
from cluster.parts import TeacherSpec
from jobs.compose import CONF, compose
from tests.rollout.offering import offering

FOLDER = Path(__file__).parent / "families"
FAMILIES = [path.stem for path in sorted(FOLDER.glob("*.yaml"))]
GOLDEN = {name: yaml.safe_load((FOLDER / f"{name}.yaml").read_text()) for name in FAMILIES}
CASES = [(name, conversation) for name in FAMILIES for conversation in GOLDEN[name]["conversations"]]
OPENING = [Message(role="system", content="You keep notes."), Message(role="user", content="Show me my notes.")]


def tool(name: str, **properties: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {key: {"type": kind} for key, kind in properties.items()}}
    return {"type": "function", "function": {"name": name, "description": "A tool.", "parameters": parameters}}


TOOLS = [tool("find_notes", folder="string", limit="integer"), tool("move_note", note="string", folder="string")]


def preset(name: str) -> TeacherSpec:
    return compose("rollout", RolloutConfig, ["domain=notes", f"teacher={name}"]).teacher


@pytest.fixture(scope="module")
def front() -> Iterator[str]:
    """The URL of a process in which vLLM is imported."""
    engines = {name: preset(name).engine for name in FAMILIES}
    asked = json.dumps({name: engine.model_dump(mode="json") for name, engine in engines.items() if engine})
    command = [sys.executable, str(FOLDER / "front.py"), asked]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        port = process.stdout.readline().decode().strip()
        assert port, f"front.py did not start: run {' '.join(command)!r}"
        yield f"http://127.0.0.1:{port}"
        process.terminate()


async def ask(method: str, url: str, body: Any = None) -> Any:
    async with aiohttp.ClientSession() as session, session.request(method, url, json=body) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def play(url: str, config: EndpointTeacherConfig, turns: list[dict[str, Any]]) -> tuple[list[Message], list[int]]:
    """The whole conversation, and where in it each of the model's turns stands."""
    await ask("POST", f"{url}/script", [turn["says"] for turn in turns])
    endpoint = ChatEndpoint(EndpointConfig(base_urls=(f"{url}/v1",), max_retries=0))
    agent = EndpointTeacher(config, endpoint).start(offering(TOOLS), 7, "session")
    said, places = list(OPENING), []
    try:
        for turn in turns:
            places.append(len(said))
            message = await agent.reply(said)
            said.append(message)
            ids = iter(call.id for call in message.tool_calls)
            for answer in turn.get("then", ()):
                (role, content), *_ = answer.items()
                said.append(Message(role=role, content=content, tool_call_id=next(ids) if role == "tool" else None))
    finally:
        agent.close()
        await endpoint.close()
    return said, places


def shown(said: list[Message], brings: list[str | None]) -> list[dict[str, Any]]:
    """What vLLM's template is to see of a conversation whose assistant messages bring this reasoning."""
    reasoning = iter(brings)
    seen: list[dict[str, Any]] = []
    for message in said:
        entry: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.role == "assistant" and (thought := next(reasoning)) is not None:
            entry |= {"reasoning": thought, "reasoning_content": thought}
        if message.tool_calls:
            entry["tool_calls"] = [
                {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": _object(c.arguments)}}
                for c in message.tool_calls
            ]
        if message.tool_call_id:
            entry["tool_call_id"] = message.tool_call_id
        seen.append(entry)
    return seen


def _object(arguments: str) -> Any:
    """vLLM shows a template objects; what is none, it shows as an empty one."""
    try:
        value = json.loads(arguments)
    except json.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


@pytest.mark.slow
@pytest.mark.parametrize(("family", "conversation"), CASES)
def test_golden_transcript(front: str, family: str, conversation: str) -> None:
    asyncio.run(_golden_transcript(f"{front}/{family}", family, GOLDEN[family]["conversations"][conversation]))


async def _golden_transcript(url: str, family: str, turns: list[dict[str, Any]]) -> None:
    config = preset(family).chat
    assert config is not None
    said, places = await play(url, config, turns)
    requests = await ask("GET", f"{url}/seen")
    assert len(requests) == len(turns)
    for turn, place, request in zip(turns, places, requests, strict=True):
        message = said[place]
        assert message.reasoning == turn.get("reasoning")
        assert message.content == turn["content"]
        calls = [{"name": call.name, "arguments": call.arguments} for call in message.tool_calls]
        assert calls == turn.get("calls", [])
        assert await ask("POST", f"{url}/detokenize", message.token_ids) == turn["says"]
        assert request["template_sees"] == shown(said[:place], turn.get("brings", []))
        assert message.prefix_break == turn.get("prefix_break", False)
        if "prompt" in turn:
            prompt = request["prompt"]
            assert prompt[prompt.index(GOLDEN[family]["prompt_from"]) :] == turn["prompt"]


def test_every_preset_of_a_model_family_has_its_transcripts() -> None:
    general = {"vllm", "endpoint", "smollm2", "sim", "reference", "noop", "random_call"}
    assert {path.stem for path in (CONF / "teacher").glob("*.yaml")} - general == set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_preset_takes_another_model_of_its_family(family: str) -> None:
    spec = compose(
        "rollout", RolloutConfig, ["domain=notes", f"teacher={family}", "teacher.engine.model=org/other"]
    ).teacher
    assert spec.engine is not None
    assert spec.chat is not None
    assert spec.engine.model == spec.chat.model == "org/other"
    assert spec.engine.max_model_len is not None
    assert (
        spec.chat.sampling["max_tokens"] <= spec.engine.max_model_len / 2
    )  # else one turn could take the context of all
    keeps = spec.chat.keep_reasoning != "never"
    assert keeps == (spec.engine.reasoning_parser is not None)
