"""A mutant, and what operators make mutants from: the ground of the world, the task's reference, other tasks of the same world."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any

from agentscaler.canonical import canonical_json
from agentscaler.domain.domain import Tool
from agentscaler.errors import TaskError
from agentscaler.messages import Outcome
from agentscaler.rollout.limits import StopReason
from agentscaler.tasks.arguments import resolve
from agentscaler.tasks.task import Call, Say, Task
from agentscaler.verify.soundness.ground import Ground, call_in, scratch
from agentscaler.world.environment import CallResult, Environment

TOOLS_TRIED, TRIES_A_TOOL = 4, 10

Step = Call | Say
Placed = tuple[int | None, Step]
"""A step, and which call of the reference it was (from 0), so that `$result` can follow it."""

Path = tuple[str | int, ...]
Slot = tuple[int, Path, Any]
"""A value in the reference: number of the call (from 0), path in its arguments, the value."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """`closing` None: the reference's closing words. `fault` names a fault of the conversation (`word_operators.FAULTS`).
    `expected` is what the mutant is by its making, where that is known: the oracle is held to it."""

    operator: str
    steps: tuple[Step, ...]
    closing: str | None = None
    fault: str = ""
    stop_reason: StopReason = StopReason.USER_STOP
    expected: bool | None = None

    @property
    def content(self) -> str:
        """Equal for mutants that are the same conversation, whichever operator made them."""
        steps = [step.model_dump(mode="json") for step in self.steps]
        return canonical_json([steps, self.closing, self.fault, self.stop_reason.value])


@dataclass(frozen=True)
class Material:
    """What the operators of one task work on."""

    task: Task
    ground: Ground
    others: Sequence[Task] = ()

    @cached_property
    def calls(self) -> tuple[Call, ...]:
        return self.task.written.calls

    @cached_property
    def results(self) -> list[CallResult]:
        with scratch(self.ground.world) as environment:
            return _play(environment, self.calls)

    @cached_property
    def placed(self) -> list[Placed]:
        return list(enumerate(self.calls))

    @cached_property
    def write_places(self) -> list[int]:
        """Numbers of the reference's calls that write, and were not refused."""
        writing = self.ground.world.program.write_tools
        return [
            n
            for n, call in enumerate(self.calls)
            if call.call in writing and n < len(self.results) and self.results[n].outcome is Outcome.OK
        ]

    def schema(self, call: Call, path: Path) -> dict[str, Any]:
        """Of the place in a call's arguments; empty where its tool does not say."""
        tool = self.ground.world.program.tools.get(call.call)
        found: dict[str, Any] = tool.tool.parameters if tool else {}
        for part in path:
            found = found.get("items", {}) if isinstance(part, int) else found.get("properties", {}).get(part, {})
        return found

    def slots(self, places: Sequence[int] | None = None) -> list[Slot]:
        """Every text, number and `$result` that the reference gives, inside lists and objects too."""
        chosen = range(len(self.calls)) if places is None else places
        return [(n, path, value) for n in chosen for path, value in _leaves(self.calls[n].arguments, ())]

    def literals(self, places: Sequence[int] | None = None) -> list[Slot]:
        """Texts and numbers as they stand."""
        return [slot for slot in self.slots(places) if not isinstance(slot[2], dict)]

    def valid_calls(self, before: Sequence[Step], number: int, tools: Sequence[Tool], random: Random) -> list[Call]:
        """Up to `number` drawn calls that the world answers ok, one after the other, once `before` has been played. Now and then
        an argument is one of the reference's own."""
        own: dict[str, list[Any]] = {}
        for _, path, value in self.literals():
            own.setdefault(str(path[0]) if len(path) == 1 else "", []).append(value)
        found: list[Call] = []
        kinds = [kind for kind in ([t for t in tools if t.do], [t for t in tools if not t.do]) if kind]
        with scratch(self.ground.world) as environment:
            _play(environment, before)
            for _ in range(TOOLS_TRIED * number if kinds else 0):
                tool = random.choice(random.choice(kinds))
                # With a new tool for each try, those that hardly ever refuse would crowd out the others.
                for _ in range(TRIES_A_TOOL):
                    call = self.ground.draw(tool, random)
                    mine = {n: random.choice(own[n]) for n in call.arguments if n in own and random.random() < 0.3}
                    call = call.model_copy(update={"arguments": {**call.arguments, **mine}})
                    if tool.do and random.random() < 0.3:
                        known = [
                            c
                            for (name, _), calls in self.ground.valid_writes.items()
                            if name == tool.name
                            for c in calls
                        ]
                        call = random.choice(known or [call])
                    if call_in(environment, call).outcome is Outcome.OK:
                        found.append(call)
                        break
                if len(found) == number:
                    break
        return found

    def refused_write(self, random: Random) -> Call | None:
        return self._in_vain(self.ground.writes, random)

    def vain_read(self, random: Random) -> Call | None:
        """A look-up that fails, or finds nothing."""
        return self._in_vain(self.ground.reads, random)

    def _in_vain(self, tools: Sequence[Tool], random: Random) -> Call | None:
        with scratch(self.ground.world) as environment:
            for _ in range(10 if tools else 0):
                tool = random.choice(tools)
                call = self.ground.draw(tool, random)
                result = call_in(environment, call)
                if result.outcome is not Outcome.OK or (not tool.do and result.content == "[]"):
                    return call
        return None


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict) and set(value) != {"$result"}:
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    elif isinstance(value, str | int | dict) and not isinstance(value, bool):
        yield path, value


def arranged(placed: Sequence[Placed]) -> tuple[Step, ...]:
    """The steps in this order, `$result` following the calls of the reference to where they now stand. One that no longer stands
    before is pointed at a call that never runs."""
    steps: list[Step] = []
    where: dict[int, int] = {}
    number = 0
    for origin, step in placed:
        if isinstance(step, Call):
            number += 1
            if origin is not None:
                step = Call(call=step.call, arguments=_renumbered(step.arguments, where))
                where[origin] = number
        steps.append(step)
    return tuple(steps)


def _renumbered(value: Any, where: dict[int, int]) -> Any:
    if isinstance(value, dict):
        if set(value) == {"$result"} and isinstance(value["$result"], list):
            first, *rest = value["$result"]
            return {"$result": [where.get(first - 1, 1_000_000), *rest]}
        return {key: _renumbered(item, where) for key, item in value.items()}
    return [_renumbered(item, where) for item in value] if isinstance(value, list) else value


def _play(environment: Environment, steps: Sequence[Step]) -> list[CallResult]:
    results: list[CallResult] = []
    for step in steps:
        if isinstance(step, Call):
            try:
                arguments = resolve(step.arguments, results)
            except TaskError:
                results.append(CallResult(Outcome.INVALID_CALL, "null"))
                continue
            results.append(call_in(environment, Call(call=step.call, arguments=arguments)))
    return results


Operator = Callable[[Material, Random], "Mutant | None"]
"""Draws one mutant; None where the operator does not fit the task, or this draw found nothing."""
