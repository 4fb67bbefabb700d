"""Soundness of a task: the verifier is run on mutants of its reference before the task is kept.

Must pass: the reference; adjacent independent calls in the other order; extra reads. Must fail: doing nothing; each write left out;
a stray write; each written argument changed, unless the whole tables end up equal or differ in exempt columns alone (the changed write
stands last, where the write itself could as well be made last); for refusal tasks, the forbidden call, which must be one that the
database allows. And there must be one good end, whatever the order in which things are done that the person asks for in one breath
(`orders`).

The mutants here decide whether a task is kept. They prove nothing about the verifier's error rates: those are measured with
held-out operators in `rates`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from random import Random

import orjson

from agentscaler.domain.domain import Domain
from agentscaler.messages import Outcome
from agentscaler.tasks.task import Call, Task
from agentscaler.verify.call_match import NOTHING_FOUND
from agentscaler.verify.soundness.ground import ground_of
from agentscaler.verify.soundness.mutant import arranged
from agentscaler.verify.soundness.orders import other_end, swaps
from agentscaler.verify.soundness.rehearsal import Numbered, Rehearsal
from agentscaler.verify.soundness.tables import equal_ends
from agentscaler.verify.verdict import VerdictOutcome
from agentscaler.world.compare import same
from agentscaler.world.drawing import draw_arguments, other_values
from agentscaler.world.world import World

STRAY_TRIES = 400

# What must fail is looked at by its end alone. Where that differs from the reference's, which is the expected one, the verifier's state
# match rejects (`funnel`), whatever was said; so only where the ends are equal is the conversation made, and the verifier asked.
# tests/verify/soundness/test_rehearsal.py plays both ways.


def check_soundness(domain: Domain, task: Task) -> list[str]:
    """What is wrong with the task, in words; empty when it is sound."""
    world = World.of(domain, task.world_seed)
    random = Random(int(task.task_digest[:8], 16))
    with Rehearsal(world, task) as rehearsal:
        verdict = rehearsal.judge.verdict(rehearsal.reference)
        if verdict.outcome is not VerdictOutcome.ACCEPTED:
            return [f"the reference itself is {verdict.stage}: {'; '.join(verdict.reasons)}"]
        problems = _extra_reads(rehearsal, random)
        if verdict.detour:
            problems.append("the reference takes a detour: it changes rows and changes them back")
        problems += _stray_write(rehearsal, random) + _forbidden_call(rehearsal)
        for number in reversed(range(len(rehearsal.calls))):  # going back is cheap, going forward is not
            problems += _other_order(rehearsal, number)
            if number in rehearsal.writes:
                problems += _left_out(rehearsal, number) + _changed_arguments(rehearsal, number, random)
        for one, two in swaps(rehearsal):
            problems += other_end(rehearsal, one, two)
        return problems + _nothing_done(rehearsal)


def _extra_reads(rehearsal: Rehearsal, random: Random) -> list[str]:
    """All in one conversation first: a read adds its result and nothing else, so where all are accepted together each is. Not where a
    reference that must decline has found nothing: there a read that finds something would speak for one that does not."""
    ground = ground_of(rehearsal.world)
    reads = [
        Call(call=tool.name, arguments=draw_arguments(tool.parameters, ground.texts, random)) for tool in ground.reads
    ]
    end = len(rehearsal.calls)
    looked = any(result.outcome is Outcome.OK and result.content not in NOTHING_FOUND for result in rehearsal.results)
    one_speaks_for_another = rehearsal.task.kind.must_decline and not looked
    if not one_speaks_for_another and rehearsal.judge.accepts(rehearsal.play(end, [(None, read) for read in reads])):
        return []
    return [
        f"an extra read ({read.call}) is rejected"
        for read in reads
        if not rehearsal.judge.accepts(rehearsal.play(end, [(None, read)]))
    ]


def _nothing_done(rehearsal: Rehearsal) -> list[str]:
    if not same(rehearsal.task.expected_diff, {}):
        return []
    return ["doing nothing is accepted"] if rehearsal.judge.accepts(rehearsal.play(0, [], closing="Done.")) else []


def _other_order(rehearsal: Rehearsal, number: int) -> list[str]:
    """This call and the next."""
    calls = rehearsal.calls
    if number + 1 == len(calls) or not _independent(rehearsal, number):
        return []
    swapped = [(number + 1, calls[number + 1]), (number, calls[number]), *rehearsal.rest(number + 2)]
    if rehearsal.judge.accepts(rehearsal.play(number, swapped)):
        return []
    return [f"calls {number + 1} and {number + 2} in the other order are rejected"]


def _independent(rehearsal: Rehearsal, number: int) -> bool:
    """Neither refers to the other, both ran, and they changed different rows."""
    if not rehearsal.is_ok(number) or not rehearsal.is_ok(number + 1):
        return False
    one, two = (set(rehearsal.results[n].changed_keys) for n in (number, number + 1))
    if one & two or not one or not two:
        return False  # a read may tell what the write needs
    later = orjson.dumps([call.arguments for call in rehearsal.calls[number + 1 :]]).decode()
    return '"$result"' not in later and not _shares_a_new_name(*rehearsal.calls[number : number + 2])


def _shares_a_new_name(one: Call, two: Call) -> bool:
    """The second speaks of something that the first was given a name for: creating, then using it."""
    names = {value for value in one.arguments.values() if isinstance(value, str)}
    return any(value in names for value in two.arguments.values() if isinstance(value, str))


def _left_out(rehearsal: Rehearsal, number: int) -> list[str]:
    if not rehearsal.ends_alike_without(number):
        return []
    if not rehearsal.judge.accepts(rehearsal.play(number, rehearsal.rest(number + 1))):
        return []
    return [f"leaving out call {number + 1} ({rehearsal.calls[number].call}) is accepted"]


def _changed_arguments(rehearsal: Rehearsal, number: int, random: Random) -> list[str]:
    call = rehearsal.calls[number]
    properties = rehearsal.world.program.tools[call.call].tool.parameters["properties"]
    texts = ground_of(rehearsal.world).texts
    problems = []
    for name, value in call.arguments.items():
        if isinstance(value, dict) and "$result" in value:
            continue
        for other in other_values(properties.get(name, {}), value, texts, random):
            mutant = call.model_copy(update={"arguments": {**call.arguments, name: other}})
            if not rehearsal.ends_alike_instead(number, mutant):
                continue
            steps = rehearsal.instead(number, mutant)
            accepted = rehearsal.judge.accepts(rehearsal.play(number, steps))
            if accepted and not _same_tables(rehearsal, number, steps, f"{call.call}.{name}"):
                problems.append(f"call {number + 1} with {name}={other!r} is accepted")
            break  # one value shows whether the argument stands in an exempt column
    return problems


def _same_tables(rehearsal: Rehearsal, number: int, steps: Sequence[Numbered], argument: str) -> bool:
    """By the tables themselves, in an environment of its own: the diff has been asked already. That takes 8 ms, so where a world has
    shown it twice for an argument, equal rows among those that were changed are enough."""
    compared = ground_of(rehearsal.world).compared
    compared[argument] += 1
    if compared[argument] > 2 and rehearsal.changes_the_same_rows():
        return True
    end = rehearsal.judge.play(arranged([*rehearsal.rest(0)[:number], *steps]), keep_end=True).end
    assert rehearsal.end is not None and end is not None
    return equal_ends(rehearsal.world.program.tables, rehearsal.end, end)


def _stray_write(rehearsal: Rehearsal, random: Random) -> list[str]:
    """One that succeeds where the reference ended and comes to another end. First the world's known ones; then drawn anew."""
    ground = ground_of(rehearsal.world)
    if not ground.writes:
        return []
    known = random.sample(ground.strays, len(ground.strays))
    anew = (ground.draw_write(random) for _ in range(STRAY_TRIES))
    if any(rehearsal.ends_alike_after(stray) is False for stray in chain(known, anew)):
        return []
    return ["no stray write could be found to try"]


def _forbidden_call(rehearsal: Rehearsal) -> list[str]:
    forbidden = rehearsal.task.written.forbidden
    if forbidden is None:
        return []
    played = rehearsal.play(len(rehearsal.calls), [(None, forbidden)])
    problems = []
    if len(played.results) != len(rehearsal.calls) + 1:
        problems.append("the forbidden call cannot be resolved")
    elif (outcome := played.results[-1].outcome) is not Outcome.OK:
        problems.append(f"the forbidden call is {outcome.value} by the database: the rule is not text_only")
    if rehearsal.judge.accepts(played):
        problems.append("the forbidden call is accepted")
    return problems
