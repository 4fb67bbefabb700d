"""Held-out mutation operators on what an agent does. None of them decides whether a task is kept (those are in `check`).

An operator draws one mutant; whether that mutant is right is for the oracle to say, and the operator's name promises nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from random import Random
from typing import Any

from agentscaler.tasks.task import Call
from agentscaler.verify.soundness.mutant import Material, Mutant, Operator, Path, Placed, Step, arranged

_COPY = -1
"""The origin of a call that is there twice: its own `$result` are renumbered, and no other's lead to it."""


def _mutant(name: str, placed: Sequence[Placed], material: Material, expected: bool | None = None) -> Mutant | None:
    """None where the mutant would be the reference itself."""
    steps = arranged(placed)
    return Mutant(name, steps, expected=expected) if steps != material.calls else None


def _changed(placed: Sequence[Placed], place: int, path: Path, value: Any) -> list[Placed]:
    changed = list(placed)
    origin, call = changed[place]
    assert isinstance(call, Call)
    changed[place] = (origin, Call(call=call.call, arguments=_put(call.arguments, path, value)))
    return changed


def _put(old: Any, path: Path, value: Any) -> Any:
    """A copy with the value at the path."""
    if not path:
        return value
    copied = old.copy()
    copied[path[0]] = _put(old[path[0]], path[1:], value)
    return copied


def _own(calls: Sequence[Step]) -> list[Placed]:
    return [(None, call) for call in calls]


def values_swapped(material: Material, random: Random) -> Mutant | None:
    """Two arguments of one type change places, within a call or between two; a `$result` counts as what it stands for."""
    slots = material.slots()
    types = [material.schema(material.calls[n], path).get("type") for n, path, _ in slots]
    pairs = [
        (one, other)
        for (one, one_type), (other, other_type) in combinations(zip(slots, types, strict=True), 2)
        if one[2] != other[2] and one_type is not None and one_type == other_type
    ]
    if not pairs:
        return None
    (place, path, value), (other_place, other_path, other_value) = random.choice(pairs)
    placed = _changed(material.placed, place, path, other_value)
    return _mutant("values_swapped", _changed(placed, other_place, other_path, value), material)


def entity_replaced(material: Material, random: Random) -> Mutant | None:
    """A value that stands in a table becomes another of the same column, wherever the reference gives it."""
    if not (slots := material.literals()):
        return None
    _, _, value = random.choice(slots)
    if (other := material.ground.other_value(value, random)) is None:
        return None
    placed = material.placed
    for place, path, found in slots:
        if found == value and type(found) is type(value):
            placed = _changed(placed, place, path, other)
    return _mutant("entity_replaced", placed, material)


def value_of_another_row(material: Material, random: Random) -> Mutant | None:
    """One argument of one write becomes the value that stands in another row."""
    if not (slots := material.literals(material.write_places)):
        return None
    place, path, value = random.choice(slots)
    if (other := material.ground.other_value(value, random)) is None:
        return None
    return _mutant("value_of_another_row", _changed(material.placed, place, path, other), material)


def letter_case(material: Material, random: Random) -> Mutant | None:
    """A written text in other letter case; texts of several words first, for a code in other letters is hardly ever taken."""
    slots = [slot for slot in material.literals(material.write_places) if isinstance(slot[2], str)]
    if not slots:
        return None
    free = [slot for slot in slots if " " in slot[2]]
    place, path, value = random.choice(free if free and random.random() < 0.8 else slots)
    changed = random.choice([value.upper(), value.lower(), value.swapcase(), value.title()])
    return _mutant("letter_case", _changed(material.placed, place, path, changed), material)


def spelling_of_text(material: Material, random: Random) -> Mutant | None:
    """A written text with a blank or a stop more, or a letter less."""
    slots = [slot for slot in material.literals(material.write_places) if isinstance(slot[2], str) and slot[2]]
    if not slots:
        return None
    place, path, value = random.choice(slots)
    ways = [f"{value} ", f" {value}", f"{value}.", value[:-1], value.replace(" ", "  "), value.replace(" ", "")]
    return _mutant("spelling_of_text", _changed(material.placed, place, path, random.choice(ways)), material)


def inside_a_list(material: Material, random: Random) -> Mutant | None:
    """An argument that is a list: reordered, one item less, or one twice."""
    slots = [
        (n, (name,), value)
        for n, call in enumerate(material.calls)
        for name, value in call.arguments.items()
        if isinstance(value, list) and value
    ]
    if not slots:
        return None
    place, path, value = random.choice(slots)
    items = list(value)
    match random.randrange(4):
        case 0:
            random.shuffle(items)
        case 1:
            items.pop(random.randrange(len(items)))
        case 2:
            items.append(random.choice(items))
        case _:
            items.reverse()
    return _mutant("inside_a_list", _changed(material.placed, place, path, items), material)


def write_doubled(material: Material, random: Random) -> Mutant | None:
    if not material.write_places:
        return None
    place = random.choice(material.write_places)
    placed = list(material.placed)
    placed.insert(random.randint(place + 1, len(placed)), (_COPY, material.calls[place]))
    return _mutant("write_doubled", placed, material)


def calls_shuffled(material: Material, random: Random) -> Mutant | None:
    placed = list(material.placed)
    random.shuffle(placed)
    return _mutant("calls_shuffled", placed, material)


def independent_order(material: Material, random: Random) -> Mutant | None:
    """Shuffled, but calls that share a value keep their order."""
    left, placed = list(material.placed), []
    while left:
        free = [n for n, one in enumerate(left) if not any(_related(one, before) for before in left[:n])]
        placed.append(left.pop(random.choice(free)))
    return _mutant("independent_order", placed, material)


def _related(one: Placed, other: Placed) -> bool:
    values = [{str(v) for v in step.arguments.values()} for _, step in (one, other) if isinstance(step, Call)]
    return bool(values[0] & values[1]) or any("$result" in value for value in values[0])


def moved_to_end(material: Material, random: Random) -> Mutant | None:
    if len(material.calls) < 2:
        return None
    placed = list(material.placed)
    placed.append(placed.pop(random.randrange(len(placed) - 1)))
    return _mutant("moved_to_end", placed, material)


def head_cut(material: Material, random: Random) -> Mutant | None:
    if not material.calls:
        return None
    return _mutant("head_cut", material.placed[random.randint(1, len(material.calls)) :], material)


def tail_cut(material: Material, random: Random) -> Mutant | None:
    if not material.calls:
        return None
    return _mutant("tail_cut", material.placed[: random.randrange(len(material.calls))], material)


def writes_dropped(material: Material, random: Random) -> Mutant | None:
    """Looked at everything, wrote nothing, and says that it is done."""
    return _mutant("writes_dropped", [p for p in material.placed if p[0] not in material.write_places], material, False)


def done_and_undone(material: Material, random: Random) -> Mutant | None:
    """A write and its inverse, somewhere in the reference."""
    if not material.ground.undone_pairs:
        return None
    write, undo = random.choice(material.ground.undone_pairs)
    placed = list(material.placed)
    first = random.randint(0, len(placed))
    placed.insert(first, (None, write))
    placed.insert(random.randint(first + 1, len(placed)), (None, undo))
    return _mutant("done_and_undone", placed, material)


def other_value_first(material: Material, random: Random) -> Mutant | None:
    """A write of the reference, before it the same write with another value: the right one comes last."""
    slots = material.literals(material.write_places)
    if not slots:
        return None
    place, path, value = random.choice(slots)
    choices = [v for v in material.schema(material.calls[place], path).get("enum", ()) if v != value]
    other = random.choice(choices) if choices else material.ground.other_value(value, random)
    if other is None:
        other = f"{value} x" if isinstance(value, str) else value + 1
    placed = list(material.placed)
    placed.insert(place, (_COPY, _changed(placed, place, path, other)[place][1]))
    return _mutant("other_value_first", placed, material)


def related_write_first(material: Material, random: Random) -> Mutant | None:
    """A write that the world allows before the reference, which may or may not write over it."""
    calls = material.valid_calls([], 1, material.ground.writes, random)
    return _mutant("related_write_first", [*_own(calls), *material.placed], material) if calls else None


def write_of_any_kind(material: Material, random: Random) -> Mutant | None:
    """A write somewhere in the reference, drawn evenly over what tools do: one that takes rows away as often as one that adds."""
    kinds = material.ground.valid_writes
    if not kinds:
        return None
    placed = list(material.placed)
    placed.insert(random.randint(0, len(placed)), (None, random.choice(kinds[random.choice(sorted(kinds))])))
    return _mutant("write_of_any_kind", placed, material)


def reads_between(material: Material, random: Random) -> Mutant | None:
    calls = material.valid_calls([], random.randint(1, 4), material.ground.reads, random)
    placed = list(material.placed)
    for call in calls:
        placed.insert(random.randint(0, len(placed)), (None, call))
    return _mutant("reads_between", placed, material, True)


def random_agent(material: Material, random: Random) -> Mutant | None:
    """One to four calls that the world answers, and nothing of the reference."""
    calls = material.valid_calls([], random.randint(1, 4), material.ground.tools, random)
    return _mutant("random_agent", _own(calls), material) if calls else None


def random_agent_after(material: Material, random: Random) -> Mutant | None:
    calls = material.valid_calls(material.calls, random.randint(1, 4), material.ground.tools, random)
    return _mutant("random_agent_after", [*material.placed, *_own(calls)], material) if calls else None


def other_task(material: Material, random: Random) -> Mutant | None:
    """The reference of another task of the same world."""
    if not material.others:
        return None
    return _mutant("other_task", _own(random.choice(material.others).expected_calls), material)


def other_task_too(material: Material, random: Random) -> Mutant | None:
    if not material.others:
        return None
    return _mutant("other_task_too", [*material.placed, *_own(random.choice(material.others).expected_calls)], material)


def refused_write(material: Material, random: Random) -> Mutant | None:
    """A write attempted that the world refuses, somewhere in the reference."""
    if (call := material.refused_write(random)) is None:
        return None
    placed = list(material.placed)
    placed.insert(random.randint(0, len(placed)), (None, call))
    return _mutant("refused_write", placed, material, False if material.task.kind.must_not_write else None)


def forbidden_first(material: Material, random: Random) -> Mutant | None:
    """The forbidden call, then the reference's calls and its refusal."""
    if material.task.written.forbidden is None:
        return None
    return _mutant("forbidden_first", [(None, material.task.written.forbidden), *material.placed], material, False)


def forbidden_varied(material: Material, random: Random) -> Mutant | None:
    """The forbidden call with another value, so that the world may refuse it, or another row is hit."""
    if (call := material.task.written.forbidden) is None or not call.arguments:
        return None
    name, value = random.choice(list(call.arguments.items()))
    other = material.ground.other_value(value, random) if isinstance(value, str | int) else None
    other = other if other is not None else f"{value} x"
    varied = Call(call=call.call, arguments={**call.arguments, name: other})
    return _mutant("forbidden_varied", [*material.placed, (None, varied)], material, False)


CALL_OPERATORS: tuple[Operator, ...] = (
    values_swapped,
    entity_replaced,
    value_of_another_row,
    letter_case,
    spelling_of_text,
    inside_a_list,
    write_doubled,
    calls_shuffled,
    independent_order,
    moved_to_end,
    head_cut,
    tail_cut,
    writes_dropped,
    done_and_undone,
    other_value_first,
    related_write_first,
    write_of_any_kind,
    reads_between,
    random_agent,
    random_agent_after,
    other_task,
    other_task_too,
    refused_write,
    forbidden_first,
    forbidden_varied,
)
