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


async def converse(system: str, environment: Environment, agent: Agent, person: Person, limits: Limits) -> Conversation:
    talk = Conversation([Message("system", system)])
    start = time.monotonic()
    talk.messages.append(Message("user", await person.opening()))
    talk.user_s += time.monotonic() - start
    turns = calls = bad_calls = 0
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
        elif _repeats(talk.messages) >= limits.max_repeats:
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


def _repeats(messages: Sequence[Message]) -> int:
    """How often the last assistant message has come in a row: same words, same calls."""
    said = [(m.content, tuple((c.name, c.arguments) for c in m.tool_calls)) for m in messages if m.role == "assistant"]
    count = 0
    for one in reversed(said):
        if one != said[-1]:
            break
        count += 1
    return count
