"""Soundness of a task: the verifier is run on mutants of its reference before the task is kept.

Must pass: the reference; adjacent independent calls in the other order; extra reads. Must fail: doing nothing; each write left out;
a stray write; each written argument changed, unless the whole tables end up equal or differ in exempt columns alone; for refusal
tasks, the forbidden call, which must be one that the database allows.

The mutants here decide whether a task is kept. They prove nothing about the verifier's error rates: those are measured with
held-out operators in `rates`.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import orjson

from agentscaler.domain.domain import Domain
from agentscaler.errors import TaskError
from agentscaler.messages import Outcome
from agentscaler.tasks.arguments import resolve
from agentscaler.tasks.task import Call, Task
from agentscaler.verify.soundness.ground import ground_of
from agentscaler.verify.soundness.judge import Judge, Played
from agentscaler.verify.verdict import VerdictOutcome
from agentscaler.world.compare import same
from agentscaler.world.drawing import draw_arguments, other_values, texts_of
from agentscaler.world.environment import CallResult, Environment
from agentscaler.world.world import World

STRAY_TRIES = 400


def check_soundness(domain: Domain, task: Task) -> list[str]:
    """What is wrong with the task, in words; empty when it is sound."""
    world = World.of(domain, task.world_seed)
    calls = task.written.calls
    writes = world.program.write_tools
    random = Random(int(task.task_digest[:8], 16))
    texts = texts_of(world)
    judge = Judge(world, task)
    problems = []

    reference = judge.play(calls)
    results = reference.results
    verdict = judge.verdict(reference)
    if verdict.outcome is not VerdictOutcome.ACCEPTED:
        problems.append(f"the reference itself is {verdict.stage}: {'; '.join(verdict.reasons)}")
        return problems
    if verdict.detour:
        problems.append("the reference takes a detour: it changes rows and changes them back")
    for index in range(len(calls) - 1):
        swapped = [*calls[:index], calls[index + 1], calls[index], *calls[index + 2 :]]
        if _independent(calls, index, results) and not _accepts(judge, judge.play(swapped)):
            problems.append(f"calls {index + 1} and {index + 2} in the other order are rejected")
    for extra in (tool for tool in domain.tools_for("agent") if tool.name not in writes):
        read = Call(call=extra.name, arguments=draw_arguments(extra.parameters, texts, random))
        if not _accepts(judge, judge.play([*calls, read])):
            problems.append(f"an extra read ({extra.name}) is rejected")

    if any(_accepts(judge, judge.play([], closing=words)) for words in ("", "Done.")):
        problems.append("doing nothing is accepted")
    for index, call in enumerate(calls):
        if call.call in writes and results[index].outcome is Outcome.OK:
            if _accepts(judge, judge.play([*calls[:index], *calls[index + 1 :]])):
                problems.append(f"leaving out call {index + 1} ({call.call}) is accepted")
            problems += _changed_arguments(domain, judge, calls, index, texts, random)
    problems += _stray_write(domain, judge, calls, writes, texts, random)
    if task.written.forbidden is not None:
        played = judge.play([*calls, task.written.forbidden])
        if len(played.results) != len(calls) + 1:
            problems.append("the forbidden call cannot be resolved")
        elif played.results[-1].outcome is not Outcome.OK:
            problems.append(
                f"the forbidden call is {played.results[-1].outcome.value} by the database: the rule is not text_only"
            )
        if _accepts(judge, played):
            problems.append("the forbidden call is accepted")
    return problems


def _accepts(judge: Judge, played: Played) -> bool:
    return judge.verdict(played).outcome is VerdictOutcome.ACCEPTED


def _independent(calls: Sequence[Call], index: int, results: Sequence[CallResult]) -> bool:
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
    domain: Domain, judge: Judge, calls: Sequence[Call], index: int, texts: list[str], random: Random
) -> list[str]:
    call = calls[index]
    properties = next(tool for tool in domain.tools if tool.name == call.call).parameters["properties"]
    problems = []
    for name, value in call.arguments.items():
        if isinstance(value, dict) and "$result" in value:
            continue
        for other in other_values(properties.get(name, {}), value, texts, random):
            mutant = Call(call=call.call, arguments={**call.arguments, name: other})
            played = judge.play([*calls[:index], mutant, *calls[index + 1 :]])
            if _accepts(judge, played) and not same(played.diff, judge.task.expected_diff):
                problems.append(f"call {index + 1} with {name}={other!r} is accepted")
    return problems


def _stray_write(
    domain: Domain, judge: Judge, calls: Sequence[Call], writes: frozenset[str], texts: list[str], random: Random
) -> list[str]:
    """Tried where the reference ended: a call that is refused leaves that place as it was, so one environment serves many tries."""
    tools = [tool for tool in domain.tools_for("agent") if tool.name in writes]
    environment = _after(judge.world, calls)
    try:
        for number in range(STRAY_TRIES if tools else 0):
            tool = random.choice(tools)
            if number % 2:  # in a large world texts from anywhere hardly ever go together
                stray = ground_of(judge.world).draw(tool, random)
            else:
                stray = Call(call=tool.name, arguments=draw_arguments(tool.parameters, texts, random))
            if environment.call("agent", stray.call, stray.arguments).outcome is not Outcome.OK:
                continue
            played = judge.play([*calls, stray])
            if not same(played.diff, judge.task.expected_diff):
                return [f"a stray write ({tool.name}) is accepted"] if _accepts(judge, played) else []
            environment.close()
            environment = _after(judge.world, calls)
    finally:
        environment.close()
    return [] if not tools else ["no stray write could be found to try"]


def _after(world: World, calls: Sequence[Call]) -> Environment:
    environment = world.open()
    results: list[CallResult] = []
    for call in calls:
        try:
            results.append(environment.call("agent", call.call, resolve(call.arguments, results)))
        except TaskError:
            break
    return environment
