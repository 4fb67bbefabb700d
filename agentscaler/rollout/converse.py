"""The one loop: an agent, a person and a world, from the opening to exactly one stop reason.

Reads top to bottom. Owns no retry, no verdict, no recording beyond the messages; faults pass through to the rollout boundary.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agentscaler.errors import ContextOverflow
from agentscaler.messages import Message, Outcome
from agentscaler.rollout.limits import Limits, StopReason
from agentscaler.rollout.record import Timings
from agentscaler.teachers.chat import Agent
from agentscaler.world.environment import Environment


class Person(Protocol):
    """The simulated user of one rollout. `opening` starts the conversation; `reply` is None when there is nothing more to say."""

    @property
    def unmatched_questions(self) -> int: ...

    async def opening(self) -> str: ...

    async def reply(self, messages: Sequence[Message]) -> str | None: ...

    def close(self) -> None:
        """The rollout is over, however it ended; called once."""
        ...


@dataclass(slots=True)
class Conversation:
    messages: list[Message]
    stop_reason: StopReason | None = None
    teacher_s: float = 0.0
    user_s: float = 0.0
    environment_s: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def timings(self) -> Timings:
        return Timings(time.monotonic() - self.started, self.teacher_s, self.user_s, self.environment_s)


async def converse(
    system: Message, environment: Environment, agent: Agent, person: Person, limits: Limits
) -> Conversation:
    talk = Conversation([system])
    start = time.monotonic()
    talk.messages.append(Message("user", await person.opening()))
    talk.user_s += time.monotonic() - start
    turns = calls = bad_calls = repeats = 0
    before: Message | None = None
    while talk.stop_reason is None:
        start = time.monotonic()
        try:
            message = await agent.reply(talk.messages)
        except ContextOverflow:
            talk.stop_reason = StopReason.CONTEXT_OVERFLOW
            break
        finally:
            talk.teacher_s += time.monotonic() - start
        if not message.content.strip() and not message.tool_calls:
            talk.stop_reason = StopReason.AGENT_STOP
            break
        talk.messages.append(message)
        turns += 1
        repeats = repeats + 1 if before is not None and _says_the_same(message, before) else 1
        before = message

        start = time.monotonic()
        for call in message.tool_calls:
            result = environment.call("agent", call.name, call.arguments)
            talk.messages.append(
                Message(
                    "tool",
                    result.content,
                    tool_call_id=call.id,
                    outcome=result.outcome,
                    changed_keys=result.changed_keys,
                )
            )
            calls += 1
            bad_calls = 0 if result.outcome is Outcome.OK else bad_calls + 1
        talk.environment_s += time.monotonic() - start

        if calls >= limits.max_calls:
            talk.stop_reason = StopReason.MAX_CALLS
        elif bad_calls >= limits.max_invalid_calls:
            talk.stop_reason = StopReason.MAX_INVALID_CALLS
        elif repeats >= limits.max_repeats:
            talk.stop_reason = StopReason.REPETITION
        elif not message.tool_calls:
            start = time.monotonic()
            words = await person.reply(talk.messages)
            talk.user_s += time.monotonic() - start
            if words is None:
                talk.stop_reason = StopReason.USER_STOP
            else:
                talk.messages.append(Message("user", words))
        if talk.stop_reason is None and turns >= limits.max_turns:
            talk.stop_reason = StopReason.MAX_TURNS
    return talk


def _says_the_same(one: Message, other: Message) -> bool:
    """The same words and the same calls; the ids of calls do not count."""
    return one.content == other.content and [(c.name, c.arguments) for c in one.tool_calls] == [
        (c.name, c.arguments) for c in other.tool_calls
    ]
