"""A τ² task as a scene: the package's tools behind our loop, its greeting, its user's part, its reward as the verdict.

What the agent and the simulated user are told is the package's own text, read from the installed package.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import orjson

from agentscaler.adapters.tau2.live import LiveWorld, Tau2Environment
from agentscaler.adapters.tau2.package import load_domain
from agentscaler.adapters.tau2.prompts import greeting, user_instructions
from agentscaler.adapters.tau2.reference import ReferenceAgent, ReferencePerson
from agentscaler.adapters.tau2.score import Said, Score, begin, reference_end, score
from agentscaler.benchmark import BenchmarkDomain, BenchmarkTask, diff_of
from agentscaler.canonical import canonical_json
from agentscaler.messages import Message, Outcome, ToolCall
from agentscaler.rollout.limits import StopReason
from agentscaler.rollout.scene import Actor, End, Role, Toolbox
from agentscaler.verify.verdict import Stage, Verdict, VerdictOutcome
from agentscaler.world.compare import explain
from agentscaler.world.environment import CallResult

STOP_TOKENS = ("###STOP###", "###TRANSFER###", "###OUT-OF-SCOPE###")
MAX_REASONS = 20


@cache
def live_world(source: str) -> LiveWorld:
    """One a process: loading takes 0.1 to 0.3 s."""
    return LiveWorld(load_domain(source))


def open_scene(task: BenchmarkTask, domain: BenchmarkDomain) -> Tau2Scene:
    return Tau2Scene(task, domain, live_world(domain.source))


class Tau2Scene:
    is_over = False
    hidden_tools: frozenset[str] = frozenset()

    def __init__(self, task: BenchmarkTask, domain: BenchmarkDomain, world: LiveWorld):
        self._world, self._source = world, domain.source
        self.task = parse_task(task)
        self._environment = world.open()
        begin(self._environment, self.task)
        self.toolbox, self.recorded_tools = _told(domain)
        self.opening = (Message("system", domain.prompt), *(_history(self.task) or (Message("assistant", greeting()),)))
        self._names = {
            "agent": {tool["function"]["name"] for tool in domain.tools},
            "user": {tool["function"]["name"] for tool in user_tools(domain.source)},
        }
        self.num_calls = {"agent": 0, "user": 0}

    def call(self, actor: Actor, tool: str, arguments: str) -> CallResult:
        self.num_calls[actor] += 1
        parsed = parse_arguments(arguments)
        if parsed is None:
            return CallResult(Outcome.INVALID_CALL, "Error: the arguments are no JSON object")
        requestor = "assistant" if actor == "agent" else "user"
        content, is_error = self._environment.call(requestor, tool, parsed)
        if not is_error:
            return CallResult(Outcome.OK, content)
        return CallResult(Outcome.REFUSED if tool in self._names[actor] else Outcome.INVALID_CALL, content)

    def scripted_person(self, seed: int) -> ReferencePerson:
        return ReferencePerson(self.task, self.num_calls)

    def role(self) -> Role:
        tools = user_tools(self._source)
        return Role(user_instructions(self.task, bool(tools)), None, STOP_TOKENS, tools, keeps_last=True)

    def reference_agent(self) -> ReferenceAgent:
        return ReferenceAgent(self.task, self.num_calls)

    def judge(self, messages: Sequence[Message], stop_reason: StopReason) -> End:
        changed = changed_by(self._environment)
        found = score(self._world, self.task, self._environment, said_in(messages), stop_reason.value)
        diff, lines = diff_of(changed), []
        if found.db_match is False:
            lines = explain(diff_of(changed_by(reference_end(self._world, self.task))), diff)
        keys = tuple(f"{table}/{key}" for table, key in sorted(changed))
        return End(verdict_of(found, self.task, lines), canonical_json(diff), keys)

    def close(self) -> None:
        pass


def changed_by(environment: Tau2Environment) -> dict[tuple[str, str], tuple[Any, Any]]:
    """Records that are no longer as loaded, before and after: by database and collection (`agent.reservations`) and key."""
    return {
        (f"{whose}.{field}", key): (orjson.loads(environment.before((whose, field, key)) or "null"), orjson.loads(text))
        for (whose, field, key), text in environment.changes().items()
    }


def verdict_of(found: Score, task: Any, lines: Sequence[str] = ()) -> Verdict:
    """Reward 1 is accepted. What needs a judge model is void: no check of ours says whether it is right."""
    if found.reward is None:
        return Verdict(VerdictOutcome.VOID, reasons=(f"NL_ASSERTION {found.note}",))
    if found.reward == 1.0:
        return Verdict(VerdictOutcome.ACCEPTED)
    if not found.breakdown:
        return Verdict(VerdictOutcome.REJECTED, Stage.VALIDITY, (found.note,))
    criteria, failed = task.evaluation_criteria, {kind for kind, value in found.breakdown.items() if not value}
    reasons = ["the database is not where the reference leads"] if "DB" in failed else []
    if "ENV_ASSERTION" in failed:
        met = zip(criteria.env_assertions, found.met["env_assertions"], strict=True)
        reasons += [
            f"does not hold: {one.func_name} {canonical_json(one.arguments)}" for one, holds in met if not holds
        ]
    if "COMMUNICATE" in failed:
        told = zip(criteria.communicate_info, found.met["communicate"], strict=True)
        reasons += [f"did not tell: {text}" for text, is_told in told if not is_told]
    if "ACTION" in failed:
        done = zip(criteria.actions, found.met["actions"], strict=True)
        reasons += [f"never called: {one.name} {canonical_json(one.arguments)}" for one, is_done in done if not is_done]
    stage = Stage.STATE_MATCH if failed & {"DB", "ENV_ASSERTION"} else Stage.CALL_MATCH
    state_diff = tuple(lines[:MAX_REASONS]) if "DB" in failed else ()
    return Verdict(VerdictOutcome.REJECTED, stage, tuple(reasons[:MAX_REASONS]), state_diff)


def said_in(messages: Sequence[Message]) -> Said:
    """What the agent said, and all calls of both; calls whose arguments are no JSON object were never made."""
    words = [message.content for message in messages if message.role == "assistant"]
    calls = [(call.name, parse_arguments(call.arguments)) for message in messages for call in message.tool_calls]
    return Said(words, [(name, arguments) for name, arguments in calls if arguments is not None])


def parse_task(task: BenchmarkTask) -> Any:
    from tau2.data_model.tasks import Task

    return Task.model_validate(task.data)


def parse_arguments(text: str) -> dict[str, Any] | None:
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _history(task: Any) -> tuple[Message, ...]:
    history = task.initial_state.message_history if task.initial_state is not None else None
    return tuple(_message(one) for one in history or ())


def _message(one: Any) -> Message:
    """A message of the package's as one of ours."""
    if one.role == "tool":
        outcome = Outcome.REFUSED if one.error else Outcome.OK
        return Message("tool", one.content or "", tool_call_id=one.id, outcome=outcome)
    calls = tuple(
        ToolCall(call.id, call.name, orjson.dumps(call.arguments).decode())
        for call in getattr(one, "tool_calls", None) or ()
    )
    return Message(one.role, one.content or "", tool_calls=calls)


@cache
def user_tools(source: str) -> tuple[dict[str, Any], ...]:
    """Of the person: in telecom, what it can do with its phone."""
    environment = live_world(source).domain.environment()
    return tuple(tool.openai_schema for tool in environment.get_user_tools()) if environment.user_tools else ()


_told_by_domain: dict[str, tuple[Toolbox, str]] = {}


def _told(domain: BenchmarkDomain) -> tuple[Toolbox, str]:
    if domain.fingerprint not in _told_by_domain:
        toolbox = Toolbox(domain.fingerprint, domain.tools)
        _told_by_domain[domain.fingerprint] = toolbox, canonical_json(list(domain.tools))
    return _told_by_domain[domain.fingerprint]
