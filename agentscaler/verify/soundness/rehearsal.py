"""A task's reference played once in one environment, with a mark before each of its calls: a mutant is played from where it parts.

Invariants: what comes before that place is not played again; where the end alone is asked for, only calls that bear on it are made.
Going back drops the marks of later calls, and going forward again makes those calls anew: so go from the last call to the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

from agentscaler.errors import TaskError
from agentscaler.messages import Outcome
from agentscaler.tasks.arguments import resolve
from agentscaler.tasks.task import Call, Task
from agentscaler.verify.soundness.ground import call_in, ground_of
from agentscaler.verify.soundness.judge import NOT_RUN, Judge, Made, Played
from agentscaler.verify.soundness.tables import End
from agentscaler.world.compare import same
from agentscaler.world.environment import CallResult, Mark
from agentscaler.world.outline import Outline
from agentscaler.world.world import World

Numbered = tuple[int | None, Call]
"""A call, and that call of the reference (from 0) in whose place it stands, so that `$result` finds what came of it."""


class Rehearsal:
    """`results` are those of the reference's calls, `NOT_RUN` for one that could not be resolved; `writes` the numbers of those that
    write and were not refused. Close it after use."""

    def __init__(self, world: World, task: Task):
        self.world, self.task, self.judge = world, task, Judge(world, task)
        self.calls = task.written.calls
        self.results: list[CallResult] = []
        self._environment = world.open()
        self._marks = [self._environment.mark()]
        self._made: list[Made | None] = []
        for call in self.calls:
            made = self._make(call, self.results)
            self._made.append(made)
            self.results.append(made.result if made else NOT_RUN)
            self._marks.append(self._environment.mark())
        self.reference = self._played(self._made)
        self._changed = self._rows_changed()
        self._outliner = ground_of(world).outliner
        self._outline = self._outline_now()
        self.writes = [n for n, call in enumerate(self.calls) if self._is_write(call) and self.is_ok(n)]
        self._used = [{n for n in _numbers_in(call.arguments) if n < len(self.calls)} for call in self.calls]
        self._bearing = self._used_by(n for n, call in enumerate(self.calls) if self._is_write(call))
        self._stand: tuple[int, Mark, list[CallResult]] | None = None
        self._can_be_last: dict[int, bool] = {}
        self._alike_without: dict[int, bool] = {}

    def __enter__(self) -> Rehearsal:
        return self

    def __exit__(self, *_: object) -> None:
        self._environment.close()

    @cached_property
    def end(self) -> End | None:
        """The reference's end as whole tables, of an environment of its own."""
        return self.judge.play(self.calls, keep_end=True).end

    def is_ok(self, number: int) -> bool:
        return self.results[number].outcome is Outcome.OK

    def rest(self, number: int) -> list[Numbered]:
        """The reference's calls from this one on."""
        return [(n, self.calls[n]) for n in range(number, len(self.calls))]

    def bears(self, number: int) -> bool:
        """Whether the end depends on this call: it writes, or a writing call uses what it answers."""
        return number in self._bearing

    def needed_by(self, numbers: Iterable[int]) -> set[int]:
        """Calls of which these use the answers, directly or over others."""
        numbers = set(numbers)
        return self._used_by(numbers) - numbers

    def play(self, first: int, steps: Sequence[Numbered], closing: str | None = None) -> Played:
        """The whole conversation in which the reference is followed up to call `first`, and then these are made."""
        results = self._go_to(first)
        made = [*self._made[:first], *(self._step(numbered, results) for numbered in steps)]
        if first == len(self.calls) and not any(self._is_write(call) for _, call in steps):
            # Only writing calls are noted as changes, so the diff cannot be another one: made anew it took a quarter of an extra read.
            return self._played(made, closing, self.reference)
        return self._played(made, closing)

    def is_forbidden(self, first: int, steps: Sequence[Numbered]) -> bool:
        """Whether a text_only rule forbids one of these, whoever speaks, where it is made. They are answered as in the reference."""
        results = self._go_to(first)
        for number, call in steps:
            arguments = resolve(call.arguments, results)
            is_asked = number is None or self.is_ok(number)
            if is_asked and self._environment.forbidding(call.call, arguments, None, whoever=True):
                return True
            self._step((number, call), results)
        return False

    def ends_alike(self, first: int, steps: Sequence[Numbered]) -> bool:
        """Whether the reference up to call `first`, and then these, come to the reference's end."""
        self._run(steps, self._go_to(first))
        return self._is_as_reference()

    def ends_alike_without(self, number: int) -> bool:
        self._stand_at(number)
        return self._alike_without[number]

    def instead(self, number: int, other: Call) -> list[Numbered]:
        """The calls from this one on with another in its place, which is the last one where the call itself could be made there."""
        self._stand_at(number)
        later = self.rest(number + 1)
        return [*later, (number, other)] if self._can_be_last[number] else [(number, other), *later]

    def ends_alike_instead(self, number: int, other: Call) -> bool:
        """As `ends_alike` of `instead`; with many later calls and many others to try each of these costs one call."""
        results = self._stand_at(number)
        self._step((number, other), results)
        later = [] if self._can_be_last[number] else [n for n in range(number + 1, len(self.calls)) if self.bears(n)]
        if results[number].outcome is not Outcome.OK and not any(number in self._used[n] for n in later):
            return self._alike_without[number]  # it changed nothing, and nobody asks what it answered
        self._run([(n, self.calls[n]) for n in later], results)
        return self._is_as_reference()

    def ends_alike_after(self, call: Call) -> bool | None:
        """Whether the end is still the same where this call follows the reference; None where it is not answered ok."""
        made = self._make(call, self._go_to(len(self.calls)))
        if made is None or made.result.outcome is not Outcome.OK:
            return None
        return self._is_as_reference()

    def changes_the_same_rows(self) -> bool:
        """Whether the conversation played last left every row as the reference left it, exempt columns aside."""
        return self._rows_changed() == self._changed

    def _rows_changed(self) -> dict[Any, Any]:
        """(table, key) -> the row without its exempt columns; None where it is gone."""
        found = {}
        for (name, key), (_, new) in self._environment.changes.items():
            table = self.world.program.tables[name]
            if not table.wholly_exempt:
                found[name, key] = new and tuple(
                    None if column in table.exempt else value for column, value in zip(table.columns, new, strict=True)
                )
        return found

    def _is_as_reference(self) -> bool:
        """Most ends differ in their outlines already, which are made five times as quickly as a diff."""
        return self._outline_now() == self._outline and same(self._environment.diff(), self.reference.diff)

    def _outline_now(self) -> Outline:
        return self._outliner.outline(self._environment.changes, self._environment.issued)

    def _stand_at(self, number: int) -> list[CallResult]:
        """Where another call is made instead of this one: after the last, if with this one made there the end is the same."""
        if self._stand is None or self._stand[0] != number:
            results, later = self._go_to(number), self.rest(number + 1)
            if self._can_be_last.get(number, True):
                self._run(later, results)
            mark = self._environment.mark()
            if number not in self._can_be_last:
                self._alike_without[number] = self._is_as_reference()
                self._step((number, self.calls[number]), list(results))
                self._can_be_last[number] = self._is_as_reference()
                if not self._can_be_last[number]:
                    return self._stand_at(number)
            self._stand = (number, mark, results)
        _, mark, results = self._stand
        self._environment.rewind(mark)
        return list(results)

    def _go_to(self, number: int) -> list[CallResult]:
        """Just before this call; after the last where it is their count. The results so far, and places for those to come."""
        self._stand = None
        del self._marks[number + 1 :]
        self._environment.rewind(self._marks[-1])
        while len(self._marks) <= number:
            self._make(self.calls[len(self._marks) - 1], self.results)
            self._marks.append(self._environment.mark())
        return [*self.results[:number], *[NOT_RUN] * (len(self.calls) - number)]

    def _run(self, steps: Iterable[Numbered], results: list[CallResult]) -> None:
        """Those that bear on the end."""
        for number, call in steps:
            if number is None or self.bears(number):
                self._step((number, call), results)

    def _step(self, numbered: Numbered, results: list[CallResult]) -> Made | None:
        number, call = numbered
        made = self._make(call, results)
        if number is not None and made is not None:
            results[number] = made.result
        return made

    def _make(self, call: Call, results: list[CallResult]) -> Made | None:
        """None where an earlier result that it uses is not there."""
        try:
            arguments = resolve(call.arguments, results)
        except TaskError:
            return None
        return Made(call.call, arguments, call_in(self._environment, Call(call=call.call, arguments=arguments)))

    def _played(
        self, made: Iterable[Made | None], closing: str | None = None, ended_as: Played | None = None
    ) -> Played:
        diff = ended_as.diff if ended_as else self._environment.diff()
        net_keys = ended_as.net_keys if ended_as else self._environment.net_keys()
        return self.judge.played([one for one in made if one is not None], diff, net_keys, closing)

    def _is_write(self, call: Call) -> bool:
        return call.call in self.world.program.write_tools

    def _used_by(self, numbers: Iterable[int]) -> set[int]:
        """These calls, and those of which they use the answers, directly or over others."""
        ahead = list(numbers)
        found = set(ahead)
        while ahead:
            fresh = self._used[ahead.pop()] - found
            found |= fresh
            ahead += fresh
        return found


def _numbers_in(value: Any) -> Iterator[int]:
    """Of the calls (from 0) that a `$result` in it names."""
    if isinstance(value, list):
        for item in value:
            yield from _numbers_in(item)
    elif isinstance(value, dict):
        match value:
            case {"$result": [int(number), *_]} if number > 0 and len(value) == 1:
                yield number - 1
            case _:
                for item in value.values():
                    yield from _numbers_in(item)
