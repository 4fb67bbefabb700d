"""Soundness of a task: the verifier is run on mutants of its reference before the task is kept.

Must pass: the reference; adjacent independent calls in the other order; extra reads. Must fail: doing nothing; each write left out;
a stray write; each written argument changed, unless the whole tables end up equal or differ in exempt columns alone; for refusal
tasks, the forbidden call, which must be one that the database allows.

The mutants here decide whether a task is kept. They prove nothing about the verifier's error rates: those are measured with
held-out operators elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import orjson

from agentscaler.domain.domain import Domain
from agentscaler.errors import TaskError
from agentscaler.messages import Message, Outcome, ToolCall
from agentscaler.rollout.limits import StopReason
from agentscaler.tasks.arguments import draw_arguments, other_values, resolve, texts_of
from agentscaler.tasks.task import Call, Task
from agentscaler.teachers.reference import closing_words
from agentscaler.verify.funnel import verify
from agentscaler.verify.verdict import Verdict, VerdictOutcome
from agentscaler.world.changeset import Diff
from agentscaler.world.compare import same
from agentscaler.world.environment import CallResult
from agentscaler.world.world import World

STRAY_TRIES = 60


def check_soundness(domain: Domain, task: Task) -> list[str]:
    """What is wrong with the task, in words; empty when it is sound."""
    world = World.of(domain, task.world_seed)
    calls = task.written.calls
    writes = world.program.write_tools
    random = Random(int(task.task_digest[:8], 16))
    texts = texts_of(world)
    judge = _Judge(world, task, writes)
    problems = []

    verdict, results, _ = judge.run(calls)
    if verdict.outcome is not VerdictOutcome.ACCEPTED:
        problems.append(f"the reference itself is {verdict.stage}: {'; '.join(verdict.reasons)}")
        return problems
    if verdict.detour:
        problems.append("the reference takes a detour: it changes rows and changes them back")
    for index in range(len(calls) - 1):
        swapped = [*calls[:index], calls[index + 1], calls[index], *calls[index + 2 :]]
        if _independent(calls, index, results) and judge.run(swapped)[0].outcome is not VerdictOutcome.ACCEPTED:
            problems.append(f"calls {index + 1} and {index + 2} in the other order are rejected")
    for extra in (tool for tool in domain.tools_for("agent") if tool.name not in writes):
        read = Call(call=extra.name, arguments=draw_arguments(extra.parameters, texts, random))
        if judge.run([*calls, read])[0].outcome is not VerdictOutcome.ACCEPTED:
            problems.append(f"an extra read ({extra.name}) is rejected")

    if (
        judge.run([], closing="")[0].outcome is VerdictOutcome.ACCEPTED
        or judge.run([], closing="Done.")[0].outcome is VerdictOutcome.ACCEPTED
    ):
        problems.append("doing nothing is accepted")
    for index, call in enumerate(calls):
        if call.call in writes and results[index].outcome is Outcome.OK:
            if judge.accepts([*calls[:index], *calls[index + 1 :]]):
                problems.append(f"leaving out call {index + 1} ({call.call}) is accepted")
            problems += _changed_arguments(domain, judge, calls, index, texts, random)
    problems += _stray_write(domain, judge, calls, writes, texts, random)
    if task.written.forbidden is not None:
        verdict, made, _ = judge.run([*calls, task.written.forbidden])
        if len(made) != len(calls) + 1:
            problems.append("the forbidden call cannot be resolved")
        elif made[-1].outcome is not Outcome.OK:
            problems.append(
                f"the forbidden call is {made[-1].outcome.value} by the database: the rule is not text_only"
            )
        if verdict.outcome is VerdictOutcome.ACCEPTED:
            problems.append("the forbidden call is accepted")
    return problems


class _Judge:
    def __init__(self, world: World, task: Task, writes: frozenset[str]):
        self._world, self.task, self._writes = world, task, writes

    def run(self, calls: Sequence[Call], closing: str | None = None) -> tuple[Verdict, list[CallResult], Diff]:
        """Execute the calls as one conversation and judge it. A call that can no longer be resolved is left out."""
        environment = self._world.open()
        results: list[CallResult] = []
        messages = [Message("system", ""), Message("user", self.task.written.intent)]
        for number, call in enumerate(calls, 1):
            try:
                arguments = resolve(call.arguments, results)
            except TaskError:
                continue
            result = environment.call("agent", call.call, arguments)
            results.append(result)
            name = f"call_{number}"
            messages.append(
                Message("assistant", tool_calls=(ToolCall(name, call.call, orjson.dumps(arguments).decode()),))
            )
            messages.append(
                Message(
                    "tool", result.content, tool_call_id=name, outcome=result.outcome, changed_keys=result.changed_keys
                )
            )
        messages.append(Message("assistant", closing_words(self.task) if closing is None else closing))
        keys = environment.net_keys()
        diff = environment.close()
        return verify(self.task, messages, StopReason.USER_STOP, diff, keys, self._writes), results, diff

    def accepts(self, calls: Sequence[Call]) -> bool:
        return self.run(calls)[0].outcome is VerdictOutcome.ACCEPTED


def _independent(calls: Sequence[Call], index: int, results: list[CallResult]) -> bool:
    """Neither refers to the other, both ran, and they changed different rows."""
    one, two = results[index], results[index + 1]
    if one.outcome is not Outcome.OK or two.outcome is not Outcome.OK or set(one.changed_keys) & set(two.changed_keys):
        return False
    if not one.changed_keys or not two.changed_keys:
        return False  # a read may tell what the write needs
    later = orjson.dumps([call.arguments for call in calls[index + 1 :]]).decode()
    return '"$result"' not in later and not _shares_a_new_name(calls[index], calls[index + 1])


def _shares_a_new_name(one: Call, two: Call) -> bool:
    """The second speaks of something that the first was given a name for: creating, then using it."""
    names = {value for value in one.arguments.values() if isinstance(value, str)}
    return any(value in names for value in two.arguments.values() if isinstance(value, str))


def _changed_arguments(
    domain: Domain, judge: _Judge, calls: Sequence[Call], index: int, texts: list[str], random: Random
) -> list[str]:
    call = calls[index]
    properties = next(tool for tool in domain.tools if tool.name == call.call).parameters["properties"]
    problems = []
    for name, value in call.arguments.items():
        if isinstance(value, dict) and "$result" in value:
            continue
        for other in other_values(properties.get(name, {}), value, texts, random):
            mutant = Call(call=call.call, arguments={**call.arguments, name: other})
            verdict, _, diff = judge.run([*calls[:index], mutant, *calls[index + 1 :]])
            if verdict.outcome is VerdictOutcome.ACCEPTED and not same(diff, judge.task.expected_diff):
                problems.append(f"call {index + 1} with {name}={other!r} is accepted")
    return problems


def _stray_write(
    domain: Domain, judge: _Judge, calls: Sequence[Call], writes: frozenset[str], texts: list[str], random: Random
) -> list[str]:
    tools = [tool for tool in domain.tools_for("agent") if tool.name in writes]
    for _ in range(STRAY_TRIES if tools else 0):
        tool = random.choice(tools)
        stray = Call(call=tool.name, arguments=draw_arguments(tool.parameters, texts, random))
        verdict, results, diff = judge.run([*calls, stray])
        if results and results[-1].outcome is Outcome.OK and not same(diff, judge.task.expected_diff):
            return [f"a stray write ({tool.name}) is accepted"] if verdict.outcome is VerdictOutcome.ACCEPTED else []
    return [] if not tools else ["no stray write could be found to try"]
