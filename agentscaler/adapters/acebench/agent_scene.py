"""ACEBench's agent tasks as scenes: conversations on the benchmark's classes, judged by where they end.

multi_step has no user: words that do not finish the conversation are answered by one fixed sentence. In multi_turn a model plays the user,
by the benchmark's instructions; its scripted person only serves the reference, which needs no more than the task's text. However a
conversation ended, its end is compared, as published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from agentscaler.adapters.acebench.agent import AgentWorld, check_end, process_accuracy, read_way, ways
from agentscaler.adapters.acebench.call_text import Call, read_arguments
from agentscaler.adapters.acebench.checkout import NEEDED, Checkout, find_checkout, load_checkout
from agentscaler.adapters.acebench.functions import offer
from agentscaler.adapters.acebench.prompts import FINISHED, agent_prompt
from agentscaler.benchmark import BenchmarkDomain, BenchmarkTask, diff_of
from agentscaler.canonical import canonical_json, digest
from agentscaler.errors import ConfigError
from agentscaler.messages import Message, Outcome, ToolCall
from agentscaler.rollout.limits import StopReason
from agentscaler.rollout.scene import Actor, End, Role, Toolbox
from agentscaler.verify.verdict import Stage, Verdict, VerdictOutcome
from agentscaler.world.environment import CallResult

GREETING = "Is there anything that I can help you with today?"
NO_QUESTIONS = "Please ask me nothing: solve it with what you know."
MAX_REASONS = 20


class AgentScene:
    is_over = False
    hidden_tools: frozenset[str] = frozenset()

    def __init__(self, task: BenchmarkTask, domain: BenchmarkDomain):
        self.task = task
        data, self._checkout = task.data, _checkout(domain.source)
        self._involved: list[str] = data["involved_classes"]
        classes = self._checkout.classes[task.kind]
        self._world = AgentWorld(classes, self._involved, data["initial_config"])
        self._start = self._world.state()
        self._offer = offer(data["function"])
        self.opening = (
            Message("system", agent_prompt(task.kind, self._checkout.policy(self._involved))),
            *self._greeting,
        )
        schemas = list(self._offer.schemas)
        self.recorded_tools = canonical_json(schemas)
        self.toolbox = Toolbox(digest(schemas), self._offer.schemas)

    @property
    def _greeting(self) -> tuple[Message, ...]:
        return (Message("assistant", GREETING),) if self.task.kind == "agent_multi_turn" else ()

    def call(self, actor: Actor, tool: str, arguments: str) -> CallResult:
        own = self._offer.own_names.get(tool, "")
        if not self._world.has(own):
            return CallResult(Outcome.INVALID_CALL, orjson.dumps(f"There is no tool {tool}.").decode())
        parsed = read_arguments(arguments)
        if parsed is None:
            return CallResult(Outcome.INVALID_CALL, '"The arguments are no JSON object."')
        content, is_error = self._world.call(own, parsed)
        return CallResult(Outcome.REFUSED if is_error else Outcome.OK, content)

    def scripted_person(self, seed: int) -> TaskGiver:
        return TaskGiver(self.task.data["question"])

    def role(self) -> Role | None:
        if self.task.kind != "agent_multi_turn":
            return None
        instructions = self._checkout.user_instructions(self._involved, self.task.data["question"])
        return Role(instructions, None, (FINISHED,), keeps_last=True)

    def reference_agent(self) -> WayAgent:
        way = ways(self.task.data["mile_stone"])[self.task.data["reference"]]
        return WayAgent(read_way(way), self._offer.offered_names)

    def judge(self, messages: Sequence[Message], stop_reason: StopReason) -> End:
        state, truth = self._world.state(), self.task.data["ground_truth"]
        reasons = check_end(state, truth) if self._world.num_calls else ["no call was made"]
        changed = changes(self._start, state)
        verdict = Verdict(VerdictOutcome.ACCEPTED)
        if reasons:
            share = process_accuracy(self._made(messages), self.task.data["mile_stone"])
            told = (*reasons[:MAX_REASONS], f"process accuracy {share:.3f}")
            verdict = Verdict(VerdictOutcome.REJECTED, Stage.STATE_MATCH, told, tuple(reasons[:MAX_REASONS]))
        return End(verdict, canonical_json(diff_of(changed)), tuple(f"{table}/{key}" for table, key in changed))

    def _made(self, messages: Sequence[Message]) -> list[list[Call]]:
        """The agent's calls, message by message; those whose arguments are no JSON object were never made."""
        made = []
        for message in messages:
            if message.role == "assistant" and message.tool_calls:
                calls = [
                    (self._offer.own_names.get(c.name, c.name), read_arguments(c.arguments)) for c in message.tool_calls
                ]
                made.append([(name, arguments) for name, arguments in calls if arguments is not None])
        return made

    def close(self) -> None:
        pass


Place = tuple[str, str]  # class and attribute, or the entry of one that is an object: `MessageApi`, `inbox/7`


def changes(start: Sequence[Mapping[str, Any]], end: Sequence[Mapping[str, Any]]) -> dict[Place, tuple[Any, Any]]:
    """The saved attributes that are no longer what they were, before and after."""
    before, after = _flat(start), _flat(end)
    keys = [*after, *(key for key in before if key not in after)]
    return {
        key: (before.get(key), after.get(key)) for key in keys if key not in before or before[key] != after.get(key)
    }


def _flat(state: Sequence[Mapping[str, Any]]) -> dict[Place, Any]:
    found: dict[Place, Any] = {}
    for one in state:
        for name, attributes in one.items():
            for key, value in attributes.items():
                parts = {f"/{part}": item for part, item in value.items()} if isinstance(value, dict) else {"": value}
                found.update({(name, f"{key}{part}"): item for part, item in parts.items()})
    return found


def _checkout(source: str) -> Checkout:
    root = find_checkout(Path(source))
    if root is None:
        raise ConfigError(f"benchmark.path={source}: {NEEDED}")
    return load_checkout(root)


class TaskGiver:
    """Gives the task, answers no question, and leaves when the agent says that it is finished."""

    def __init__(self, asks: str):
        self._asks = asks
        self.unmatched_questions = 0

    async def opening(self, messages: Sequence[Message]) -> Message:
        return Message("user", self._asks)

    async def reply(self, messages: Sequence[Message]) -> Message | None:
        if FINISHED in messages[-1].content.lower():
            return None
        self.unmatched_questions += 1
        return Message("user", NO_QUESTIONS)

    def ends(self, message: Message) -> bool:
        return False

    def close(self) -> None:
        pass


class WayAgent:
    """Makes the calls of the benchmark's milestones, message by message, then finishes."""

    def __init__(self, way: Sequence[Sequence[Call]], offered_names: Mapping[str, str]):
        self._way, self._names = way, offered_names

    async def reply(self, messages: Sequence[Message]) -> Message:
        """The step that comes after those made: nothing is remembered, so that another can go on."""
        made = sum(bool(message.tool_calls) for message in messages if message.role == "assistant")
        if made >= len(self._way):
            return Message("assistant", f"That is done: {FINISHED}.")
        calls = tuple(
            ToolCall(f"call_{made + 1}_{number}", self._names.get(name, name), orjson.dumps(arguments).decode())
            for number, (name, arguments) in enumerate(self._way[made], 1)
        )
        return Message("assistant", tool_calls=calls)

    def close(self) -> None:
        pass
