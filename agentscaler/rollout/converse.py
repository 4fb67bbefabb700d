"""The one loop: an agent, a person and a scene, from the opening to exactly one stop reason.

Reads top to bottom. Owns no retry, no verdict, no recording beyond the messages; faults pass through to the rollout boundary.

Agent and person each see their own side: what the person does with tools of its own, and what those answer, stands in `messages` and not
in `shown`, which is all that the agent is given.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from agentscaler.errors import ContextOverflow
from agentscaler.messages import Message, Outcome
from agentscaler.rollout.limits import Limits, StopReason
from agentscaler.rollout.record import Timings
from agentscaler.rollout.scene import Actor, Person, Scene
from agentscaler.teachers.chat import Agent


@dataclass(slots=True)
class Conversation:
    messages: list[Message]
    shown: list[Message]
    stop_reason: StopReason | None = None
    teacher_s: float = 0.0
    user_s: float = 0.0
    environment_s: float = 0.0
    steps: int = 0  # messages, the results of one message's calls counted as one
    calls: int = 0
    errors: int = 0
    errors_in_a_row: int = 0
    started: float = field(default_factory=time.monotonic)

    def timings(self) -> Timings:
        return Timings(time.monotonic() - self.started, self.teacher_s, self.user_s, self.environment_s)


async def converse(scene: Scene, agent: Agent, person: Person, limits: Limits) -> Conversation:
    talk = Conversation([*scene.opening], shown_to_agent(scene.opening))
    last = talk.messages[-1]
    if last is not talk.shown[-1] or last.role in ("system", "assistant"):
        await _hear(scene, talk, person, limits, opening=last is talk.shown[-1])
    turns = in_a_row = repeats = 0
    before: Message | None = None
    while talk.stop_reason is None:
        start = time.monotonic()
        try:
            message = await agent.reply(talk.shown)
        except ContextOverflow:
            talk.stop_reason = StopReason.CONTEXT_OVERFLOW
            break
        finally:
            talk.teacher_s += time.monotonic() - start
        if not message.content.strip() and not message.tool_calls:
            talk.stop_reason = StopReason.AGENT_STOP
            break
        talk.messages.append(message)
        talk.shown.append(message)
        talk.steps += 1
        turns += 1
        in_a_row += 1
        repeats = repeats + 1 if before is not None and _says_the_same(message, before) else 1
        before = message
        if message.tool_calls:
            talk.shown += _carry_out(scene, talk, "agent", message)

        if talk.calls >= limits.max_calls:
            talk.stop_reason = StopReason.MAX_CALLS
        elif talk.errors_in_a_row >= limits.max_invalid_calls:
            talk.stop_reason = StopReason.MAX_INVALID_CALLS
        elif repeats >= limits.max_repeats:
            talk.stop_reason = StopReason.REPETITION
        elif scene.is_over:
            talk.stop_reason = StopReason.ENVIRONMENT_STOP
        elif (reason := _used_up(talk, limits)) is not None:
            talk.stop_reason = reason
        elif not message.tool_calls:
            in_a_row = 0
            await _hear(scene, talk, person, limits)
        elif limits.max_turns_in_a_row is not None and in_a_row >= limits.max_turns_in_a_row:
            talk.stop_reason = StopReason.MAX_TURNS
        if talk.stop_reason is None and turns >= limits.max_turns:
            talk.stop_reason = StopReason.MAX_TURNS
    return talk


async def _hear(scene: Scene, talk: Conversation, person: Person, limits: Limits, opening: bool = False) -> None:
    """The person's turn: whatever it does with tools of its own, until it speaks to the agent or leaves."""
    while talk.stop_reason is None:
        start = time.monotonic()
        said = await (person.opening(talk.messages) if opening else person.reply(talk.messages))
        talk.user_s += time.monotonic() - start
        opening = False
        if said is None:
            talk.stop_reason = StopReason.USER_STOP
            return
        talk.messages.append(said)
        talk.steps += 1
        if said.tool_calls:
            _carry_out(scene, talk, "user", said)
        elif person.ends(said):
            talk.stop_reason = StopReason.USER_STOP
        else:
            talk.shown.append(said)
        talk.stop_reason = _used_up(talk, limits) or talk.stop_reason
        if not said.tool_calls:
            return


def _carry_out(scene: Scene, talk: Conversation, actor: Actor, message: Message) -> Sequence[Message]:
    """The message's calls, one after another; their results, in place."""
    start = time.monotonic()
    results: list[Message] = []
    for call in message.tool_calls:
        made = scene.call(actor, call.name, call.arguments)
        results.append(
            Message("tool", made.content, tool_call_id=call.id, outcome=made.outcome, changed_keys=made.changed_keys)
        )
        talk.calls += 1
        if made.outcome is Outcome.OK:
            talk.errors_in_a_row = 0
        else:
            talk.errors_in_a_row += 1
            talk.errors += 1
    talk.messages += results
    talk.steps += 1
    talk.environment_s += time.monotonic() - start
    return results


def shown_to_agent(messages: Sequence[Message]) -> list[Message]:
    """Without the person's own calls and what those answered."""
    own = {call.id for message in messages if message.role == "user" for call in message.tool_calls}
    return [m for m in messages if not (m.role == "user" and m.tool_calls) and m.tool_call_id not in own]


def _used_up(talk: Conversation, limits: Limits) -> StopReason | None:
    if limits.max_errors is not None and talk.errors >= limits.max_errors:
        return StopReason.MAX_ERRORS
    if limits.max_steps is not None and talk.steps >= limits.max_steps:
        return StopReason.MAX_STEPS
    return None


def _says_the_same(one: Message, other: Message) -> bool:
    """The same words and the same calls; the ids of calls do not count."""
    return one.content == other.content and [(c.name, c.arguments) for c in one.tool_calls] == [
        (c.name, c.arguments) for c in other.tool_calls
    ]
