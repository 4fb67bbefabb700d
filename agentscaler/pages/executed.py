"""A varied handful of calls, really executed: what a domain's page shows as proof that its world runs.

Candidates come from the references of written tasks (of the page's seed), every call after the calls before it; where those give too
few, from arguments drawn at random until a call is ok. Deterministic: the same domain, tasks and seed give the same calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from random import Random
from typing import Any

from agentscaler.errors import RolloutFault
from agentscaler.messages import Outcome
from agentscaler.tasks.arguments import resolve
from agentscaler.tasks.task import WrittenTask
from agentscaler.world.changeset import Diff
from agentscaler.world.drawing import draw_call, records_of, texts_of
from agentscaler.world.environment import CallResult
from agentscaler.world.world import World

MAX_TRIES = 60  # random draws a tool
SHAPES = ("read", "update", "insert", "delete", "refused")


@dataclass(frozen=True, slots=True)
class Executed:
    """One call and its result. `before` are the tools called before it in the same environment; `diff` is the net change of the
    environment after it, `earlier_writes` says whether some of that is theirs. `task` is empty for a drawn call."""

    tool: str
    arguments: dict[str, Any]
    result: CallResult
    diff: Diff
    before: tuple[str, ...] = ()
    earlier_writes: bool = False
    task: str = ""

    @property
    def shape(self) -> str:
        """What the call shows: a refusal, a read, or the first kind of row change."""
        if self.result.outcome is not Outcome.OK:
            return "refused"
        ops = {row["op"] for rows in self.diff.values() for row in rows}
        return (
            next((op for op in ("delete", "insert", "update") if op in ops), "read")
            if self.result.changed_keys
            else "read"
        )


def execute_varied(world: World, tasks: Sequence[WrittenTask], number: int = 5) -> tuple[Executed, ...]:
    """Different tools and different shapes where there are, reads first; no more than `number` calls."""
    chosen = _choose([one for task in tasks if task.seed == world.seed for one in _play(world, task)], [], number)
    if len(chosen) < number:
        chosen = _choose(list(_drawn(world)), chosen, number)
    return tuple(sorted(chosen, key=lambda one: SHAPES.index(one.shape)))


def _choose(candidates: list[Executed], chosen: list[Executed], number: int) -> list[Executed]:
    """One of every shape, then more, each time of the tool least shown. Calls that found something, and without many calls before
    them, go first."""

    def trouble(one: Executed) -> tuple[bool, bool, int]:
        return one.earlier_writes, one.result.content in ("[]", "null"), len(one.before)

    candidates = sorted(candidates, key=trouble)  # stable: else in the order of the tasks
    chosen = list(chosen)
    for shape in [*SHAPES, *[None] * number]:
        fitting = [one for one in candidates if shape in (None, one.shape)]
        if len(chosen) == number or not fitting or (shape and any(one.shape == shape for one in chosen)):
            continue
        tools = [one.tool for one in chosen]
        best = min(fitting, key=lambda one: (tools.count(one.tool), [c.shape for c in chosen].count(one.shape)))
        candidates.remove(best)
        chosen.append(best)
    return chosen


def _play(world: World, task: WrittenTask) -> Iterator[Executed]:
    """The task's reference, call by call; it ends where a call is invalid or runs away."""
    environment = world.open()
    results: list[CallResult] = []
    try:
        for call in task.calls:
            arguments = resolve(call.arguments, results)
            result = environment.call("agent", call.call, arguments)
            if result.outcome is Outcome.INVALID_CALL:
                return
            before = tuple(earlier.call for earlier in task.calls[: len(results)])
            wrote = any(one.changed_keys for one in results)
            yield Executed(call.call, arguments, result, environment.diff(), before, wrote, task.id)
            results.append(result)
    except RolloutFault:
        return
    finally:
        environment.close()


def _drawn(world: World) -> Iterator[Executed]:
    """For every tool the first of its random calls that is ok."""
    texts, random = texts_of(world), Random(world.seed)
    with closing(world.open()) as environment:
        records = records_of(environment.connection, world.program.tables, random)
    for name, compiled in world.program.tools.items():
        for _ in range(MAX_TRIES):
            arguments = draw_call(compiled.tool, records, texts, random)
            environment = world.open()
            try:
                result = environment.call(compiled.tool.actor, name, arguments)
                if result.outcome is Outcome.OK and (found := Executed(name, arguments, result, environment.diff())):
                    yield found
                    break
            except RolloutFault:
                break
            finally:
                environment.close()
