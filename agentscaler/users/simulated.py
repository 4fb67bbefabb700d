"""The model-backed user. A scene's `Role` says who it plays: its instructions, how it opens, the tools in its own hands and the words
with which it leaves. Where a benchmark scripts its user, the script plays.

A fault of its model is a `RolloutFault` of class `user_fault`: never blamed on the agent.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from agentscaler.errors import ContextOverflow, FaultClass, RolloutFault
from agentscaler.messages import Message, ToolCall, to_chat
from agentscaler.rollout.record import UserIdentity
from agentscaler.rollout.scene import Person, Role, Scene
from agentscaler.teachers.endpoint import usage_of
from agentscaler.teachers.http import ChatEndpoint


class SimulatedUserConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    sampling: dict[str, Any] = Field(default_factory=lambda: {"temperature": 0.7, "max_tokens": 200})


class SimulatedUsers:
    def __init__(self, config: SimulatedUserConfig, endpoint: ChatEndpoint):
        self._config, self.endpoint = config, endpoint
        self.identity = UserIdentity("simulated", config.model)

    def start(self, scene: Scene, seed: int, session: str) -> Person:
        role = scene.role()
        if role is None:
            return scene.scripted_person(seed)
        return SimulatedUser(role, self._config, self.endpoint, seed, session)

    async def close(self) -> None:
        await self.endpoint.close()


class SimulatedUser:
    unmatched_questions = 0

    def __init__(self, role: Role, config: SimulatedUserConfig, endpoint: ChatEndpoint, seed: int, session: str):
        self._role, self._config, self._endpoint, self._seed = role, config, endpoint, seed
        self._session = f"user-{session}"

    async def opening(self, messages: Sequence[Message]) -> Message:
        if self._role.opening is not None:
            return Message("user", self._role.opening)
        return await self._ask(messages)

    async def reply(self, messages: Sequence[Message]) -> Message | None:
        said = await self._ask(messages)
        return None if self.ends(said) and not self._role.keeps_last else said

    def ends(self, message: Message) -> bool:
        return not message.tool_calls and any(token in message.content for token in self._role.stop_tokens)

    def close(self) -> None:
        self._endpoint.end(self._session)

    async def _ask(self, messages: Sequence[Message]) -> Message:
        chat = [{"role": "system", "content": self._role.instructions}, *from_the_persons_side(messages)]
        seed = zlib.crc32(f"{self._seed}:{len(chat)}".encode()) >> 1
        payload: dict[str, Any] = {"model": self._config.model, "messages": chat, "seed": seed}
        if self._role.tools:
            payload["tools"] = self._role.tools
        try:
            answer = await self._endpoint.complete(self._session, orjson.dumps(payload | self._config.sampling))
        except RolloutFault as fault:
            raise RolloutFault(FaultClass.USER_FAULT, f"the simulated user: {fault.words}", fault.retryable) from None
        except ContextOverflow as error:
            raise RolloutFault(FaultClass.USER_FAULT, f"the simulated user's context: {error}", False) from None
        said = answer["choices"][0]["message"]
        words = (said.get("content") or "").strip()
        calls = tuple(
            ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"])
            for call in said.get("tool_calls") or ()
            if self._role.tools
        )
        if not words and not calls:
            raise RolloutFault(FaultClass.USER_FAULT, "the simulated user said nothing")
        return Message("user", words, tool_calls=calls, usage=usage_of(answer))


def from_the_persons_side(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The person is the one who asks the model: roles change places; the agent's calls and their results are not seen."""
    chat: list[dict[str, Any]] = []
    own: set[str | None] = set()
    for message in messages:
        if message.role == "user":
            own.update(call.id for call in message.tool_calls)
            chat.append(to_chat(message, keep_reasoning=False) | {"role": "assistant"})
        elif message.role == "tool" and message.tool_call_id in own:
            chat.append(to_chat(message, keep_reasoning=False))
        elif message.role == "assistant" and message.content and not message.tool_calls:
            chat.append({"role": "user", "content": message.content})
    return chat
