"""The seam between a rollout and whoever acts in it.

A `Teacher` is shared by many rollouts; `start` gives one rollout's `Agent`. An agent sees the messages so far and answers with one
assistant message. It raises `RolloutFault` where engine or network failed it, and `ContextOverflow` where the conversation got too
long. An empty message (no words, no calls) means that the agent ends the conversation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from agentscaler.messages import Message

if TYPE_CHECKING:
    from agentscaler.rollout.scene import Scene

ToolSchema = dict[str, Any]
"""An OpenAI function description: {"type": "function", "function": {"name", "description", "parameters"}}."""


@dataclass(frozen=True, slots=True)
class TeacherIdentity:
    """What of a teacher shapes its words; part of every rollout id."""

    model: str
    revision: str
    sampling: str  # canonical JSON


class Agent(Protocol):
    async def reply(self, messages: Sequence[Message]) -> Message:
        """The next turn. It follows from the messages: an agent that did not say the earlier ones itself goes on just the same, so that a
        killed player's conversation can be taken up (`rollout/journal.py`)."""
        ...

    def close(self) -> None:
        """The rollout is over, however it ended; called once."""
        ...


class Teacher(Protocol):
    @property
    def identity(self) -> TeacherIdentity: ...

    def start(self, scene: Scene, seed: int, session: str) -> Agent:
        """`scene` has tools and examples; `session` is a stable name for routing; `seed` is this attempt's own."""
        ...

    async def close(self) -> None: ...
