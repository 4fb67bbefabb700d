"""Promises: the model sees the conversation from the person's side and no tools; its stop token ends it; whatever fails its model is a
user's fault, never the agent's; its session ends with the rollout."""

from __future__ import annotations

import pytest
from aiohttp import web

from agentscaler.domain.store import load_domain
from agentscaler.errors import FaultClass, RolloutFault
from agentscaler.messages import Message, Outcome, ToolCall
from agentscaler.rollout.scene import Person
from agentscaler.rollout.scenes import open_scene
from agentscaler.rollout.world_scene import STOP
from agentscaler.tasks.compile import compile_shipped
from agentscaler.teachers.http import ChatEndpoint
from agentscaler.teachers.routing import Load, Router
from agentscaler.users.simulated import SimulatedUserConfig, SimulatedUsers
from tests.teachers.served import asking, error, said, served

TALK = [
    Message("system", "You are an agent."),
    Message("user", "Move my note."),
    Message("assistant", "", tool_calls=(ToolCall("c", "find_notes", "{}"),)),
    Message("tool", "[]", tool_call_id="c", outcome=Outcome.OK),
    Message("assistant", "Which one?"),
]


def person(endpoint: ChatEndpoint) -> Person:
    users = SimulatedUsers(SimulatedUserConfig(model="u", sampling={"temperature": 0.5}), endpoint)
    return users.start(open_scene(compile_shipped("notes")[0], load_domain("notes")), 5, "r1")


@pytest.mark.asyncio
async def test_it_sees_its_own_side_and_ends_its_session() -> None:
    router = Router()
    async with served(lambda n: said(" The garden plan. ")) as server, asking(router=router) as endpoint:
        router.update({server.url: Load()})
        user = person(endpoint)
        assert await user.opening(TALK[:1]) == Message("user", compile_shipped("notes")[0].written.intent)
        answer = await user.reply(TALK)
        assert answer is not None and (answer.role, answer.content) == ("user", "The garden plan.")
        assert router.loads()[server.url].sessions == 1
        user.close()
        assert router.loads()[server.url].sessions == 0
    (body,) = server.bodies
    assert [(m["role"], m["content"]) for m in body["messages"][1:]] == [
        ("assistant", "Move my note."),
        ("user", "Which one?"),
    ]
    assert (body["model"], body["temperature"], "tools" in body) == ("u", 0.5, False)
    assert server.headers[0]["X-Session-ID"] == "user-r1"


@pytest.mark.asyncio
async def test_its_stop_token_ends_the_conversation() -> None:
    async with served(lambda n: said(f"Thanks. {STOP}")) as server, asking(server.url) as endpoint:
        assert await person(endpoint).reply(TALK) is None


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("answer", "retryable"),
    [
        (error(503, "busy"), True),
        (said("  "), True),
        (error(404, "no such model"), False),
        (error(400, "maximum context length is 4096 tokens"), False),
    ],
)
async def test_what_fails_its_model_is_the_users_fault(answer: web.Response, retryable: bool) -> None:
    async with served(lambda n: answer) as server, asking(server.url, max_retries=0) as endpoint:
        with pytest.raises(RolloutFault) as caught:
            await person(endpoint).reply(TALK)
    assert (caught.value.fault, caught.value.retryable) == (FaultClass.USER_FAULT, retryable)
