"""A reference in the making: calls are made as they are added, and what they need is looked up first.

Invariant: an argument that names something is told by the person or stands in an earlier result, so the reference does nothing that an
agent could not. Which reads lead there is asked of the tool graph, weighted by chance; that they do is seen by making them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import orjson

from agentscaler.messages import Outcome
from agentscaler.tasks.dials import Dials
from agentscaler.tasks.setting import Row, Setting
from agentscaler.tasks.speech import Finding
from agentscaler.tasks.task import Ask, Call, Fact, Say, Step
from agentscaler.tasks.walk.graph import Feed, ToolGraph
from agentscaler.tasks.walk.provenance import values_at
from agentscaler.world.environment import CallResult, Environment

MAX_DEPTH = 3  # reads that lead to one argument, one after the other
MAX_WAYS = 4  # tried at each of them


class Dropped(Exception):
    """This draw makes no task. The words are the reason, counted in the yields."""


@dataclass(frozen=True, slots=True)
class Made:
    call: Call
    result: CallResult
    parsed: Any


@dataclass
class Draft:
    """`pool` are values by name that calls may be filled with; `told` those that the person has said."""

    setting: Setting
    graph: ToolGraph
    dials: Dials
    random: Random
    environment: Environment
    steps: list[Step] = field(default_factory=list)
    made: list[Made] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    facts: dict[str, Fact] = field(default_factory=dict)
    pool: Row = field(default_factory=dict)
    told: list[Any] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)
    _last_write: int = 0

    @property
    def num_calls(self) -> int:
        return len(self.made)

    def find(self, finding: Finding) -> None:
        """The call that finds what was told."""
        arguments = {
            name: self.pool[column] for name, column in finding.arguments.items() if self.pool.get(column) is not None
        }
        if self._look(finding.call, arguments) is None:
            raise Dropped("what was told is not found")

    def look_up(self, call: Call) -> None:
        """See to it that every argument which names something is known before the call."""
        for path, value in leaves(call.arguments):
            if not self._obtain(call.call, path, value, MAX_DEPTH):
                raise Dropped(f"no reads lead to {call.call}.{path[0]}")

    def look_around(self, call: Call) -> None:
        """Reads that a careful agent makes before a write: the thing in full, and what the write would cost or change."""
        for tool in self.graph.details(call.call):
            if self.random.random() < self.dials.extra_reads:
                self._try_read(tool, call.arguments)
        for tool in self.graph.previews(call.call):
            if self.random.random() < self.dials.extra_reads:
                self._try_read(tool, call.arguments)

    def look_at(self, column: str, value: Any) -> None:
        """Some read that shows a thing, or the list it stands in."""
        for name, compiled in self.graph.program.tools.items():
            required = self.graph.required(name)
            if not compiled.is_write and len(required) == 1 and column in self.graph.names_for(name, required[0]):
                self._try_read(name, {required[0]: value})

    def look_over(self) -> None:
        """A read that needs nothing and shows what there is: whoever declines has looked at something."""
        tools = [
            name
            for name in self.graph.program.tools
            if not self.graph.is_write(name) and not self.graph.parameters(name)
        ]
        if tools:
            self._try_read(self.random.choice(tools), {})

    def look_up_choices(self, call: Call, names: set[str]) -> None:
        """The lists in which the arguments of these names stand, so that an agent sees what there is to choose from."""
        for name in sorted(names & set(call.arguments)):
            if not self._obtain(call.call, (name,), call.arguments[name], MAX_DEPTH):
                raise Dropped(f"no reads lead to {call.call}.{name}")

    def do(self, call: Call, expected: Outcome = Outcome.OK) -> CallResult:
        """Make the call and keep it. Dropped where it ends otherwise than expected."""
        made = self._make(call)
        if made.result.outcome is not expected:
            raise Dropped(f"{call.call} is {made.result.outcome.value}")
        self._keep(made)
        if expected is Outcome.OK and made.result.changed_keys:
            self._last_write = len(self.made)
        if expected is not Outcome.OK:
            self.refused.append(len(self.made))
        return made.result

    def say(self, words: str) -> None:
        self.steps.append(Say(say=words))

    def ask(self, name: str, fact: Fact, tells: list[Any]) -> None:
        self.facts[name] = fact
        self.steps.append(Ask(ask=name))
        self.told += tells

    def _obtain(self, tool: str, path: tuple[str, ...], value: Any, depth: int) -> bool:
        ways = self.graph.producers(tool, path)
        if not ways or self._is_known(value, ways):
            return True
        if depth == 0:
            return False
        own = {way.producer for way in ways if self._shows_rows_of(way)}
        for finding in sorted(self.findings, key=lambda one: one.call not in own):
            if any(way.producer == finding.call for way in ways) and self._found_by(finding, ways, value, depth):
                return True
        chosen = self.random.sample(ways, len(ways))
        chosen.sort(key=lambda way: (self.graph.is_write(way.producer), way.producer not in own))
        for way in chosen[:MAX_WAYS]:
            if self.graph.is_write(way.producer):
                break
            arguments = self._arguments_of(way.producer, depth)
            if arguments is None:
                continue
            made = self._make(Call(call=way.producer, arguments=arguments))
            if made.result.outcome is Outcome.OK and any(
                _equal(leaf, value) for leaf in values_at(made.parsed, way.path)
            ):
                self._keep_read(made)
                return True
        return False

    def _shows_rows_of(self, way: Feed) -> bool:
        """Whether it is the key of the rows shown, not of others that they refer to."""
        columns = self.graph.provenance[way.producer].results.get(way.path, frozenset())
        return any(self.graph.classes.is_home(column) for column in columns)

    def _found_by(self, finding: Finding, ways: Sequence[Feed], value: Any, depth: int) -> bool:
        """By what is told, and by keys that can be found by what is told."""
        arguments = {name: self.pool.get(column) for name, column in finding.arguments.items()}
        for name, argument in arguments.items():
            if argument is None:
                return False
            can_be_found = bool(self.graph.producers(finding.call, (name,)))
            if not self._is_known(argument, ()) and not (
                can_be_found and self._obtain(finding.call, (name,), argument, depth - 1)
            ):
                return False  # it was not told
        made = self._make(Call(call=finding.call, arguments=arguments))
        if made.result.outcome is not Outcome.OK:
            return False
        paths = [way.path for way in ways if way.producer == finding.call]
        if any(_equal(leaf, value) for path in paths for leaf in values_at(made.parsed, path)):
            self._keep_read(made)
            return True
        return False

    def _arguments_of(self, tool: str, depth: int) -> dict[str, Any] | None:
        """For a read on the way: its required parameters out of the pool, each of them known."""
        arguments: dict[str, Any] = {}
        required = self.graph.required(tool)
        if not required:
            return None if self.graph.parameters(tool) else {}
        for name in required:
            value = next(
                (self.pool[one] for one in self.graph.names_for(tool, name) if self.pool.get(one) is not None), None
            )
            if value is None or not self._obtain(tool, (name,), value, depth - 1):
                return None
            arguments[name] = value
        return arguments

    def _try_read(self, tool: str, values: Mapping[str, Any]) -> None:
        arguments = {}
        for name in self.graph.parameters(tool):
            value = values.get(name)
            if value is None:
                value = next(
                    (self.pool[one] for one in self.graph.names_for(tool, name) if self.pool.get(one) is not None), None
                )
            if value is None and name in self.graph.required(tool):
                return
            if value is not None and (name in self.graph.required(tool) or name in values):
                arguments[name] = value
        call = Call(call=tool, arguments=arguments)
        for path, value in leaves(arguments):
            ways = self.graph.producers(tool, path)
            if ways and not self._is_known(value, ways):
                return
        made = self._make(call)
        if made.result.outcome is Outcome.OK:
            self._keep_read(made)

    def _look(self, tool: str, arguments: dict[str, Any]) -> Any:
        made = self._make(Call(call=tool, arguments=arguments))
        if made.result.outcome is not Outcome.OK:
            return None
        self._keep_read(made)
        return made.parsed

    def _is_known(self, value: Any, ways: Sequence[Feed]) -> bool:
        if any(_equal(value, one) for one in self.told):
            return True
        if isinstance(value, str):
            return value in self._seen
        return any(
            made.call.call == way.producer and any(_equal(leaf, value) for leaf in values_at(made.parsed, way.path))
            for made in self.made
            for way in ways
        )

    def _make(self, call: Call) -> Made:
        result = self.environment.call("agent", call.call, call.arguments)
        parsed = orjson.loads(result.content) if result.outcome is Outcome.OK else None
        return Made(call, result, parsed)

    def _keep_read(self, made: Made) -> None:
        """Once; again where something was written since."""
        if all(one.call != made.call for one in self.made[self._last_write :]):
            self._keep(made)

    def _keep(self, made: Made) -> None:
        self.made.append(made)
        self.steps.append(made.call)
        self._seen.update(leaf for leaf in values_in(made.parsed) if isinstance(leaf, str))


def leaves(arguments: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Values of arguments with their paths; `*` for any item of a list."""
    if isinstance(arguments, dict):
        for key, value in arguments.items():
            yield from leaves(value, (*path, key))
    elif isinstance(arguments, list):
        for value in arguments:
            yield from leaves(value, (*path, "*"))
    else:
        yield path, arguments


def values_in(parsed: Any) -> Iterator[Any]:
    return (value for _, value in leaves(parsed))


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        return one.casefold() == other.casefold()
    return one == other and isinstance(one, bool) is isinstance(other, bool)
