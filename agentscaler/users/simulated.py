"""The model-backed user. It opens with the task's own words; each further message is written by a model that knows the intent, the
facts and the agenda, and is told to give facts only when asked. Its stop token ends the conversation.

A fault of its model is a `RolloutFault` of class `user_fault`: never blamed on the agent.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from agentscaler.errors import ContextOverflow, FaultClass, RolloutFault
from agentscaler.messages import Message
from agentscaler.rollout.record import UserIdentity
from agentscaler.tasks.task import Task
from agentscaler.teachers.http import ChatEndpoint

STOP = "###STOP###"


class SimulatedUserConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    sampling: dict[str, Any] = Field(default_factory=lambda: {"temperature": 0.7, "max_tokens": 200})


class SimulatedUsers:
    def __init__(self, config: SimulatedUserConfig, endpoint: ChatEndpoint):
        self._config, self.endpoint = config, endpoint
        self.identity = UserIdentity("simulated", config.model)

    def start(self, task: Task, seed: int, session: str) -> SimulatedUser:
        return SimulatedUser(task, self._config, self.endpoint, seed, session)

    async def close(self) -> None:
        await self.endpoint.close()


class SimulatedUser:
    unmatched_questions = 0

    def __init__(self, task: Task, config: SimulatedUserConfig, endpoint: ChatEndpoint, seed: int, session: str):
        self._task, self._config, self._endpoint, self._seed = task, config, endpoint, seed
        self._session = f"user-{session}"

    async def opening(self) -> str:
        return self._task.written.intent

    async def reply(self, messages: Sequence[Message]) -> str | None:
        """From the user's side the agent is the one who asks: roles change places, and tools are not seen."""
        chat = [{"role": "system", "content": instructions(self._task)}]
        for message in messages:
            if message.role == "user":
                chat.append({"role": "assistant", "content": message.content})
            elif message.role == "assistant" and message.content:
                chat.append({"role": "user", "content": message.content})
        seed = zlib.crc32(f"{self._seed}:{len(chat)}".encode()) >> 1
        payload = {"model": self._config.model, "messages": chat, "seed": seed, **self._config.sampling}
        try:
            answer = await self._endpoint.complete(self._session, orjson.dumps(payload))
        except RolloutFault as fault:
            raise RolloutFault(FaultClass.USER_FAULT, f"the simulated user: {fault.words}", fault.retryable) from None
        except ContextOverflow as error:
            raise RolloutFault(FaultClass.USER_FAULT, f"the simulated user's context: {error}", False) from None
        words = (answer["choices"][0]["message"].get("content") or "").strip()
        if not words:
            raise RolloutFault(FaultClass.USER_FAULT, "the simulated user said nothing")
        return None if STOP in words else words

    def close(self) -> None:
        self._endpoint.end(self._session)


def instructions(task: Task) -> str:
    written = task.written
    facts = "".join(f"\n- Only when asked ({fact.question}): {fact.says}" for fact in written.facts.values())
    later = "".join(f"\n- Once the agent has dealt with what came before: {words}" for words in written.then)
    return (
        "You play a person who talks to an assistant. Stay in that role; write one short message at a time. Never do the "
        f"assistant's work, never invent details.\nWhat you want: {written.intent}{facts}{later}\n"
        f"When all of it is done, or the assistant says that it cannot be done, answer only {STOP}"
    )
