"""Scripted teachers: `reference` replays the solution, `noop` ends at once, `random_call` makes one random valid call, then ends.

They are measuring rods for verifier and plumbing: the first must always be accepted, the second never, the third hardly ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import orjson

from agentscaler.messages import Message, ToolCall
from agentscaler.rollout.scene import Scene
from agentscaler.teachers.chat import Agent, TeacherIdentity
from agentscaler.world.drawing import draw_arguments


class ReferenceTeacher:
    identity = TeacherIdentity("reference", "1", "{}")

    def start(self, scene: Scene, seed: int, session: str) -> Agent:
        return scene.reference_agent()

    async def close(self) -> None:
        pass


class NoopTeacher:
    identity = TeacherIdentity("noop", "1", "{}")

    def start(self, scene: Scene, seed: int, session: str) -> Agent:
        return _Silent()

    async def close(self) -> None:
        pass


class _Silent:
    async def reply(self, messages: Sequence[Message]) -> Message:
        return Message("assistant", "")

    def close(self) -> None:
        pass


class RandomCallTeacher:
    identity = TeacherIdentity("random_call", "1", "{}")

    def start(self, scene: Scene, seed: int, session: str) -> Agent:
        return _OneRandomCall(scene, seed)

    async def close(self) -> None:
        pass


class _OneRandomCall:
    """Texts are words that the person used, so that a call can hit something; which call and which words is chance."""

    def __init__(self, scene: Scene, seed: int):
        self._tools = [schema["function"] for schema in scene.toolbox.schemas]
        self._num_before = len(scene.opening)
        self._random = Random(seed)

    async def reply(self, messages: Sequence[Message]) -> Message:
        if any(message.role == "assistant" for message in messages[self._num_before :]):
            return Message("assistant", "Done.")
        tool = self._random.choice(self._tools)
        said = " ".join(m.content for m in messages if m.role == "user")
        chosen = draw_arguments(tool["parameters"], quoted_and_words(said), self._random)
        return Message("assistant", tool_calls=(ToolCall("call_1", tool["name"], orjson.dumps(chosen).decode()),))

    def close(self) -> None:
        pass


def quoted_and_words(said: str) -> list[str]:
    """What stands between quotation marks, and every single word."""
    return [*said.split('"')[1::2], *(word.strip('.,!?"') for word in said.split()), "x"]
