"""A scene on one of our own worlds: SQLite underneath, the funnel as judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentscaler.canonical import canonical_json
from agentscaler.domain.domain import Domain
from agentscaler.errors import RolloutFault
from agentscaler.messages import Message
from agentscaler.rollout.limits import StopReason
from agentscaler.rollout.scene import Actor, End, Role, Toolbox
from agentscaler.tasks.task import Task
from agentscaler.teachers.chat import Agent
from agentscaler.teachers.few_shot import ToolExample
from agentscaler.teachers.replay import Replay
from agentscaler.users.scripted import ScriptedUser
from agentscaler.verify.funnel import VerifyMode, verify
from agentscaler.world.environment import CallResult, Environment
from agentscaler.world.world import World

STOP = "###STOP###"


class WorldScene:
    is_over = False

    def __init__(self, task: Task, domain: Domain, mode: VerifyMode):
        self._task, self._mode = task, mode
        told = _told(domain)
        self.opening, self.toolbox, self.recorded_tools = told.opening, told.toolbox, told.recorded_tools
        world = World.of(domain, task.world_seed)
        self._write_tools = world.program.write_tools
        self._environment: Environment | None = world.open()

    @property
    def hidden_tools(self) -> frozenset[str]:
        return self._task.reference_tools

    def call(self, actor: Actor, tool: str, arguments: str) -> CallResult:
        assert self._environment is not None
        try:
            return self._environment.call(actor, tool, arguments)
        except RolloutFault:
            self._environment = None  # it ran past a bound of the machine: nobody uses this copy again
            raise

    def scripted_person(self, seed: int) -> ScriptedUser:
        return ScriptedUser(self._task.written)

    def role(self) -> Role:
        return Role(instructions(self._task), self._task.intent, (STOP,))

    def reference_agent(self) -> Agent:
        return Replay(self._task)

    def judge(self, messages: Sequence[Message], stop_reason: StopReason) -> End:
        environment = self._environment
        assert environment is not None
        net_keys = environment.net_keys()
        diff = environment.close()
        self._environment = None
        verdict = verify(self._task, messages, stop_reason, diff, net_keys, self._write_tools, self._mode)
        return End(verdict, canonical_json(diff), net_keys)

    def close(self) -> None:
        """The copy of the world goes back rolled back."""
        if self._environment is not None:
            self._environment.close()
            self._environment = None


@dataclass(frozen=True, slots=True)
class _Told:
    """What every agent of a domain is told."""

    opening: tuple[Message, ...]
    toolbox: Toolbox
    recorded_tools: str


_told_by_domain: dict[str, _Told] = {}


def _told(domain: Domain) -> _Told:
    """Kept by fingerprint: the tools' text alone cost half of a short rollout."""
    found = _told_by_domain.get(domain.fingerprint)
    if found is None:
        if len(_told_by_domain) >= 2048:
            _told_by_domain.clear()
        tools = domain.tools_for("agent")
        schemas = tuple(tool.schema_for_model() for tool in tools)
        examples = tuple(ToolExample(tool.name, **dict(tool.example)) for tool in tools if tool.example)
        found = _told_by_domain[domain.fingerprint] = _Told(
            (Message("system", domain.system_prompt()),),
            Toolbox(domain.fingerprint, schemas, examples),
            canonical_json(list(schemas)),
        )
    return found


def instructions(task: Task) -> str:
    written = task.written
    facts = "".join(f"\n- Only when asked ({fact.question}): {fact.says}" for fact in written.facts.values())
    later = "".join(f"\n- Once the agent has dealt with what came before: {words}" for words in written.then)
    return (
        "You play a person who talks to an assistant. Stay in that role; write one short message at a time. Never do the "
        f"assistant's work, never invent details.\nWhat you want: {written.intent}{facts}{later}\n"
        f"When all of it is done, or the assistant says that it cannot be done, answer only {STOP}"
    )
