"""Those who know the way: an agent and a person that carry out a τ² task's reference actions between them, in the reference's order.

Each waits for the other where the reference does. The person also serves agents that do not know the way: it says what it wants and what it
knows, does its next own step whenever it is spoken to and the step is due, and leaves when it has nothing more to give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from agentscaler.messages import Message, ToolCall

STOP = "###STOP###"
DONE = "I have done that."
NO_MORE = "I have told you all I know. Please go on with what you have."
MAX_UNMATCHED = 3


class _Way:
    """One side of the reference. `made` counts the calls of both sides so far."""

    def __init__(self, task: Any, made: Mapping[str, int], side: str, other: str):
        criteria = task.evaluation_criteria
        actions = (criteria.actions if criteria is not None else None) or []
        requestor = "assistant" if side == "agent" else "user"
        self._made, self._side, self._other = made, side, other
        self._steps: list[tuple[Any, int]] = []  # an action of this side, and how many of the other's come before
        others = 0
        for action in actions:
            if action.requestor == requestor:
                self._steps.append((action, others))
            else:
                others += 1
        self._num_others = others

    @property
    def next(self) -> Any:
        """The next action of this side, if it is due."""
        number = self._made[self._side]
        if number >= len(self._steps):
            return None
        action, others_before = self._steps[number]
        return action if self._made[self._other] >= others_before else None

    @property
    def is_done(self) -> bool:
        return self._made[self._side] >= len(self._steps)

    @property
    def other_is_done(self) -> bool:
        return self._made[self._other] >= self._num_others

    def call(self, role: Any) -> Message:
        number = self._made[self._side]
        action = self._steps[number][0]
        name = f"{self._side}_call_{number + 1}"
        return Message(role, tool_calls=(ToolCall(name, action.name, orjson.dumps(action.arguments).decode()),))


class ReferenceAgent:
    def __init__(self, task: Any, made: Mapping[str, int]):
        self._way = _Way(task, made, "agent", "user")
        criteria = task.evaluation_criteria
        self._tells = list((criteria.communicate_info if criteria is not None else None) or [])

    async def reply(self, messages: Sequence[Message]) -> Message:
        if self._way.next is not None:
            return self._way.call("assistant")
        if not (self._way.is_done and self._way.other_is_done):
            return Message("assistant", "Please do your next step.")
        return Message("assistant", " ".join([*self._tells, "That is done."]))

    def close(self) -> None:
        pass


class ReferencePerson:
    def __init__(self, task: Any, made: Mapping[str, int]):
        self._way = _Way(task, made, "user", "agent")
        self._wants = _wants(task)
        self.unmatched_questions = 0

    async def opening(self, messages: Sequence[Message]) -> Message:
        return Message("user", self._wants)

    async def reply(self, messages: Sequence[Message]) -> Message:
        if self._way.next is not None:
            return self._way.call("user")
        if messages[-1].role == "tool":
            return Message("user", DONE)
        if "?" in messages[-1].content or not self._way.is_done:
            self.unmatched_questions += 1
            if self.unmatched_questions <= MAX_UNMATCHED:
                return Message("user", NO_MORE)
        return Message("user", STOP)

    def ends(self, message: Message) -> bool:
        return STOP in message.content

    def close(self) -> None:
        pass


def _wants(task: Any) -> str:
    told = task.user_scenario.instructions
    if isinstance(told, str):
        return told
    return " ".join(part.strip() for part in (told.reason_for_call, told.known_info) if part)
