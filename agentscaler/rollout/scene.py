"""What one attempt is played on: an environment, what agent and person are told of it, and who judges its end.

`Scene` is the seam between the loop and worlds of every origin: our own (`world_scene.py`) and those that others wrote
(`agentscaler/adapters/`). The loop, the teachers and the users know nothing else of either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from agentscaler.messages import Message
from agentscaler.rollout.limits import StopReason
from agentscaler.teachers.chat import Agent, ToolSchema
from agentscaler.teachers.few_shot import ToolExample
from agentscaler.verify.verdict import Verdict
from agentscaler.world.environment import CallResult

Actor = Literal["agent", "user"]


class Person(Protocol):
    """The simulated user of one rollout. `opening` starts the conversation; `reply` is None when there is nothing more to say. A message
    with calls is the person's own use of tools: what they answer comes back with the next `reply`, and the agent sees neither."""

    @property
    def unmatched_questions(self) -> int: ...

    async def opening(self, messages: Sequence[Message]) -> Message: ...

    async def reply(self, messages: Sequence[Message]) -> Message | None: ...

    def ends(self, message: Message) -> bool:
        """Whether the person leaves with these words. Follows from the message alone."""
        ...

    def close(self) -> None:
        """The rollout is over, however it ended; called once."""
        ...


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The tools that an agent is offered. Equal `key`, equal tools: what is made of them is kept by it."""

    key: str
    schemas: tuple[ToolSchema, ...]
    examples: tuple[ToolExample, ...] = ()


@dataclass(frozen=True, slots=True)
class Role:
    """What a model that plays the person is told. Without an `opening` it begins by itself. A message with one of `stop_tokens` in it is
    its last; `keeps_last`: that message belongs to the conversation."""

    instructions: str
    opening: str | None
    stop_tokens: tuple[str, ...]
    tools: tuple[ToolSchema, ...] = ()
    keeps_last: bool = False


@dataclass(frozen=True, slots=True)
class End:
    """`state_changes` is canonical JSON: what the rollout changed, net. `net_keys` as in the record."""

    verdict: Verdict
    state_changes: str
    net_keys: tuple[str, ...] = ()


class Scene(Protocol):
    """Single use. `close` may come at any time, and more than once."""

    @property
    def opening(self) -> Sequence[Message]:
        """The system message, and what was said before the rollout begins."""
        ...

    @property
    def toolbox(self) -> Toolbox:
        """As it is now: some worlds hand out tools in the middle of a conversation."""
        ...

    @property
    def recorded_tools(self) -> str:
        """All tools of the agent, as the record keeps them: JSON text."""
        ...

    @property
    def hidden_tools(self) -> frozenset[str]:
        """That no example may show."""
        ...

    @property
    def is_over(self) -> bool:
        """Nothing more can be done here: the conversation ends."""
        ...

    def call(self, actor: Actor, tool: str, arguments: str) -> CallResult: ...

    def scripted_person(self, seed: int) -> Person: ...

    def role(self) -> Role | None:
        """For a model that plays the person; None where the benchmark itself says what the person says."""
        ...

    def reference_agent(self) -> Agent: ...

    def judge(self, messages: Sequence[Message], stop_reason: StopReason) -> End:
        """Where the conversation ended; the environment is of no further use."""
        ...

    def close(self) -> None: ...
