"""From a wish or question and one of its cases to a request in words, with the proof that the words determine it.

Invariant: among all that this speaker could want by this wish, only cases with the same arguments agree with what the words tell
(`is_determined`). So nothing that matters is left to guess, unless it is left out on purpose, and then more than one end fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import orjson

from agentscaler.tasks.draft import Dropped
from agentscaler.tasks.setting import Named, Row, Setting
from agentscaler.tasks.speech import Question, Wish
from agentscaler.tasks.task import Call
from agentscaler.tasks.words import fill, slots_of, tidy


@dataclass(frozen=True, slots=True)
class Request:
    """`told` are the values that the words hold; `slots` the columns and things that they speak of."""

    words: str
    told: tuple[Any, ...]
    slots: frozenset[str]
    things: Mapping[str, Named]


def call_of(entry: Wish | Question, case: Row, speaker: Row, setting: Setting) -> Call:
    return Call(call=entry.call, arguments=fill_arguments(entry.arguments, {**speaker, **case}, setting, entry.call))


def fill_arguments(
    template: Mapping[str, Any], values: Mapping[str, Any], setting: Setting, tool: str
) -> dict[str, Any]:
    """Columns put in place of their names; a NULL is left out. JSON text becomes a list or object where the parameter is one."""
    found: dict[str, Any] = {}
    for name, place in template.items():
        value = _filled(place, values)
        if value is None:
            continue
        compiled = setting.world.program.tools[tool]
        if isinstance(value, str) and name in compiled.list_parameters:
            value = orjson.loads(value)
        elif compiled.tool.parameters["properties"].get(name, {}).get("type") == "boolean" and value in (0, 1):
            value = bool(value)  # SQLite has no other
        found[name] = value
    return found


def _filled(place: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(place, str):
        return values[place]
    if isinstance(place, dict):
        return {key: value for key, one in place.items() if (value := _filled(one, values)) is not None}
    return [_filled(one, values) for one in place]


def name_things(
    entry: Wish | Question, case: Row, setting: Setting, random: Random, avoid: Sequence[str] = ()
) -> dict[str, Named]:
    """A name for every thing of the case, proven to fit it alone."""
    found = {}
    for slot, thing in entry.things.items():
        row = setting.row_of(thing, case)
        named = None if row is None else setting.name(thing, row, random, avoid=avoid)
        if named is None:
            raise Dropped("a thing has no name of its own")
        found[slot] = named
    return found


def word(
    entry: Wish | Question,
    case: Row,
    templates: Sequence[str],
    setting: Setting,
    random: Random,
    things: Mapping[str, Named],
    first: Row | None = None,
    first_things: Mapping[str, Named] | None = None,
    in_full: bool = True,
) -> Request:
    """The request in one of these ways; `in_full`: none that leaves a clause of the case out. Dropped where none fits."""
    values: dict[str, Any] = {**setting.speaker, **case}
    values |= {slot: named.words for slot, named in things.items()}
    if first is not None:
        values |= {f"first.{name}": value for name, value in first.items()}
        values |= {f"first.{slot}": named.words for slot, named in (first_things or things).items()}
    clause_slots: set[str] = set()
    for slot, clause in entry.clauses.items():
        values[slot] = ""
        if case.get(clause.when) is not None:
            chosen = random.choice(clause.words)
            clause_slots |= slots_of(chosen) | {clause.when}
            values[slot] = fill(chosen, values, random)
    fitting = [one for one in templates if all(values.get(slot) is not None for slot in slots_of(one))]
    fitting = [one for one in fitting if not in_full or _tells_clauses(one, entry, case)]
    if not fitting:
        raise Dropped("no words fit the case")
    template = random.choice(fitting)
    slots = slots_of(template)
    if slots & set(entry.clauses):
        slots |= clause_slots
    named = [things.get(slot) for slot in slots]
    if first is not None:
        named += [
            (first_things or things).get(slot.removeprefix("first.")) for slot in slots if slot.startswith("first.")
        ]
    said = [slot for slot in slots if slot.removeprefix("first.") not in {**entry.things, **entry.clauses}]
    told = [values[slot] for slot in said] + [value for one in named if one is not None for value in one.told]
    return Request(tidy(fill(template, values, random)), tuple(told), frozenset(slots), dict(things))


def _tells_clauses(template: str, entry: Wish | Question, case: Row) -> bool:
    """A case with something that only a clause says needs words with that clause."""
    slots = slots_of(template)
    return all(
        slot in slots or clause.when in slots or case.get(clause.when) is None for slot, clause in entry.clauses.items()
    )


def is_determined(entry: Wish | Question, case: Row, slots: frozenset[str], setting: Setting) -> bool:
    """Whether all cases that agree with what the words tell come to the same call."""

    def arguments_of(row: Row) -> dict[str, Any]:
        return fill_arguments(entry.arguments, {**setting.speaker, **row}, setting, entry.call)

    wanted = arguments_of(case)
    told = [column for column in columns_told(entry, slots, setting) if column in case]
    for other in setting.cases(entry.name, entry.cases):
        if all(other[one] == case[one] for one in told) and arguments_of(other) != wanted:
            return False
    return True


def columns_told(entry: Wish | Question, slots: frozenset[str], setting: Setting) -> set[str]:
    """The case's columns that words with these slots settle: said themselves, or the key of a thing that is named, or NULL where a
    clause could have said something."""
    told = {slot for slot in slots if slot not in entry.things and slot not in entry.clauses}
    told |= {
        column for slot, thing in entry.things.items() if slot in slots for column in setting.speech.things[thing].key
    }
    return told | {clause.when for slot, clause in entry.clauses.items() if slot in slots}
