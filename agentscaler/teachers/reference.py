"""Scripted teachers: `reference` replays the solution, `noop` ends at once, `random_call` makes one random valid call, then ends.

They are measuring rods for verifier and plumbing: the first must always be accepted, the second never, the third hardly ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import orjson

from agentscaler.domain.domain import Domain
from agentscaler.messages import Message, ToolCall, Usage
from agentscaler.tasks.arguments import resolve
from agentscaler.tasks.task import Answer, Ask, Say, Task
from agentscaler.teachers.chat import Agent, TeacherIdentity
from agentscaler.verify.call_match import spell
from agentscaler.world.drawing import draw_arguments
from agentscaler.world.environment import CallResult


class ReferenceTeacher:
    identity = TeacherIdentity("reference", "1", "{}")

    def start(self, task: Task, domain: Domain, seed: int, session: str) -> Agent:
        return _Replay(task)

    async def close(self) -> None:
        pass


class _Replay:
    def __init__(self, task: Task):
        self._task = task
        written = task.written
        asked_in_place = any(isinstance(step, Ask) for step in written.reference)
        asks = [] if asked_in_place else [Ask(ask=name) for name in written.facts]
        self._steps = [*asks, *written.reference]

    async def reply(self, messages: Sequence[Message]) -> Message:
        """The step that comes after those said: nothing is remembered, so that another can go on."""
        said = sum(message.role == "assistant" for message in messages)
        if said < len(self._steps):
            step = self._steps[said]
            if isinstance(step, Ask):
                return Message("assistant", self._task.written.facts[step.ask].question)
            if isinstance(step, Say):
                return Message("assistant", step.say)
            results = [CallResult(m.outcome, m.content) for m in messages if m.role == "tool" and m.outcome]
            arguments = orjson.dumps(resolve(step.arguments, results)).decode()
            return Message(
                "assistant", tool_calls=(ToolCall(f"call_{len(results) + 1}", step.call, arguments),), usage=Usage()
            )
        return Message("assistant", closing_words(self._task))

    def close(self) -> None:
        pass


def closing_words(task: Task) -> str:
    """The last thing a right agent says: the answers, a refusal, or that it is done."""
    words = [_tell(answer) for answer in task.written.must_tell]
    if task.kind.must_decline:
        words.append("I am sorry, I cannot do that.")
    return " ".join(words) or "That is done."


def _tell(answer: Answer) -> str:
    return f"The {answer.type} is {spell(answer.type, answer.value)}."


class NoopTeacher:
    identity = TeacherIdentity("noop", "1", "{}")

    def start(self, task: Task, domain: Domain, seed: int, session: str) -> Agent:
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

    def start(self, task: Task, domain: Domain, seed: int, session: str) -> Agent:
        return _OneRandomCall(domain, seed)

    async def close(self) -> None:
        pass


class _OneRandomCall:
    """Texts are words that the person used, so that a call can hit something; which call and which words is chance."""

    def __init__(self, domain: Domain, seed: int):
        self._tools = domain.tools_for("agent")
        self._random = Random(seed)

    async def reply(self, messages: Sequence[Message]) -> Message:
        if any(message.role == "assistant" for message in messages):
            return Message("assistant", "Done.")
        tool = self._random.choice(self._tools)
        said = " ".join(m.content for m in messages if m.role == "user")
        chosen = draw_arguments(tool.parameters, quoted_and_words(said), self._random)
        return Message("assistant", tool_calls=(ToolCall("call_1", tool.name, orjson.dumps(chosen).decode()),))

    def close(self) -> None:
        pass


def quoted_and_words(said: str) -> list[str]:
    """What stands between quotation marks, and every single word."""
    return [*said.split('"')[1::2], *(word.strip('.,!?"') for word in said.split()), "x"]
