"""What is asked of a real local server, and what becomes of its answer. Promises:

1. The request holds the whole conversation, tools and sampling as configured, however often and in whatever steps it is asked for.
2. What the model wrote is recorded as it is; a reply said through the tool is recorded as words and rendered back as a call.
3. Reasoning is sent back as `keep_reasoning` says, and no longer than that.
4. A prefix break is seen from token ids; the identity holds everything that shapes words, and no secret.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from agentscaler.domain.store import load_domain
from agentscaler.errors import ConfigError
from agentscaler.messages import Message, Outcome, ToolCall, to_chat
from agentscaler.rollout.scenes import open_scene
from agentscaler.tasks.compile import compile_shipped
from agentscaler.teachers.chat import ToolSchema
from agentscaler.teachers.endpoint import (
    EndpointAgent,
    EndpointTeacher,
    EndpointTeacherConfig,
    engine_tools,
)
from agentscaler.teachers.http import ChatEndpoint, EndpointConfig
from tests.rollout.offering import offering
from tests.teachers.served import asking, said, served

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


def agent(endpoint: ChatEndpoint, tools: Sequence[ToolSchema] = (TOOL,), **settings: Any) -> EndpointAgent:
    config = EndpointTeacherConfig(model="m", **settings)
    return EndpointTeacher(config, endpoint).start(offering(tools), 7, "session-1")


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
    async with served(lambda n: said()) as server, asking(server.url, api_key_env="SOME_KEY") as endpoint:
        await agent(endpoint).reply(OPENING)
        teacher = EndpointTeacher(EndpointTeacherConfig(model="m", sampling={"temperature": 0.5}), endpoint)
        assert server.headers[0]["Authorization"] == "Bearer hush"
        assert "hush" not in repr(teacher.identity) + repr(endpoint.config)
        assert json.loads(teacher.identity.sampling)["sampling"] == {"temperature": 0.5}
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"):
        ChatEndpoint(EndpointConfig(base_urls=("http://x",), api_key_env="NO_SUCH_KEY"))


UNASKED = ChatEndpoint(EndpointConfig(base_urls=("http://127.0.0.1:1/v1",)))
THINKS = Message("assistant", reasoning="Hm.", tool_calls=(ToolCall("c0", "move_note", "{}"),))
RESULT = Message("tool", "{}", tool_call_id="c0", outcome=Outcome.OK)
DONE = Message("assistant", "Done.", reasoning="So.")
NEXT = Message("user", "And now?")


def bodies(messages: Sequence[Message], sizes: Sequence[int], **settings: Any) -> list[dict[str, Any]]:
    """What one agent would send when it is shown the first n messages, for each n of `sizes` in turn."""
    asker = agent(UNASKED, **settings)
    return [json.loads(asker._body(messages[:size])) for size in sizes]


@pytest.mark.parametrize(
    ("keep", "sent"),
    [
        ("never", [[None], [None, None], [None, None, None]]),
        ("since_user", [["Hm."], [None, None], [None, None, "Hm."]]),
        ("always", [["Hm."], ["Hm.", "So."], ["Hm.", "So.", "Hm."]]),
    ],
)
def test_reasoning_goes_back_as_configured(keep: str, sent: list[list[str | None]]) -> None:
    talk = [*OPENING, THINKS, RESULT, DONE, NEXT, THINKS, RESULT]
    for field in ("reasoning", "reasoning_content"):
        found = bodies(talk, [4, 6, 8], keep_reasoning=keep, reasoning_field=field)
        told = [[m.get(field) for m in body["messages"] if m["role"] == "assistant"] for body in found]
        assert told == sent


TURNS = st.lists(st.sampled_from([*OPENING, THINKS, RESULT, DONE, NEXT]), min_size=1, max_size=8)


@given(TURNS, st.data())
def test_what_is_sent_does_not_depend_on_what_was_asked_before(turns: list[Message], data: st.DataObject) -> None:
    sizes = sorted(data.draw(st.lists(st.integers(1, len(turns)), max_size=3)))
    keep = data.draw(st.sampled_from(["never", "since_user", "always"]))
    settings = {"keep_reasoning": keep, "reply_tool": data.draw(st.booleans()), "system_suffix": "!"}
    assert bodies(turns, [*sizes, len(turns)], **settings)[-1] == bodies(turns, [len(turns)], **settings)[0]


def test_another_conversation_is_encoded_anew() -> None:
    asker = agent(UNASKED)
    asker._body([*OPENING, DONE])
    assert json.loads(asker._body([*OPENING, NEXT]))["messages"] == [to_chat(m, False) for m in [*OPENING, NEXT]]


def test_the_request_in_full() -> None:
    (body,) = bodies(OPENING, [2], sampling={"temperature": 0.5}, extra_body={"top_k": 3}, return_token_ids=True)
    assert body.pop("seed") < 2**31
    assert body == {
        "model": "m",
        "messages": [{"role": "system", "content": "Help."}, {"role": "user", "content": "Hello."}],
        "tools": [TOOL],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "return_token_ids": True,
        "temperature": 0.5,
        "top_k": 3,
    }
    assert bodies(OPENING, [2], extra_body={"seed": 5})[0]["seed"] == 5
    assert "tool_choice" not in bodies(OPENING, [2], tools=())[0]


def test_shots_stand_behind_the_system_message_and_hide_the_solution() -> None:
    domain, task = load_domain("notes"), compile_shipped("notes")[0]
    teacher = EndpointTeacher(EndpointTeacherConfig(model="m", shots=2), UNASKED)
    sent = [
        json.loads(teacher.start(open_scene(task, domain), 1, f"session-{n}")._body([*OPENING, DONE]))["messages"]
        for n in (1, 2)
    ]
    assert sent[0] == sent[1]
    assert [sent[0][0], *sent[0][-2:]] == [to_chat(m, False) for m in [*OPENING, DONE]]
    shown = {call["function"]["name"] for message in sent[0][1:-2] for call in message.get("tool_calls", ())}
    assert len(shown) == 2 and not shown & task.reference_tools


def test_an_extra_may_not_replace_the_conversation() -> None:
    with pytest.raises(ValueError, match="messages"):
        EndpointTeacherConfig(model="m", extra_body={"messages": []})
