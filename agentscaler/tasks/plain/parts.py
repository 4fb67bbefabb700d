"""A writing tool's arguments one by one: which name a thing, which choose, which take something new, and how each is said."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from agentscaler.tasks.plain.english import label_of, noun_of, words_of
from agentscaler.tasks.plain.facts import Facts, Home, Sort
from agentscaler.tasks.plain.things import key_name, thing_name
from agentscaler.tasks.plain.values import SAID, Supply, choices_of, said_as, standing, supply
from agentscaler.tasks.walk.prepared import Column
from agentscaler.tasks.walk.value import ANY, Path

MAX_OPTIONAL = 8


class Role(Enum):
    THING = "thing"  # names a row that is there
    STANDING = "standing"  # a value that has to stand in some column already
    FREE = "free"  # a choice, or a value of one's own


@dataclass(frozen=True, slots=True)
class Part:
    """One argument. `column` is the case's column, for a thing that of its key; `thing` and `slot` are the thing's name in the speech
    and its slot in the words. `said` is how it stands in words. `without` is a column that no name of the thing may tell. `stands_in`:
    the column in which a STANDING value stands."""

    path: Path
    column: str
    label: str
    role: Role
    sort: Sort
    required: bool
    said: str
    supply: Supply | None = None
    home: Home | None = None
    thing: str = ""
    slot: str = ""
    without: str = ""
    stands_in: Column | None = None
    is_fresh: bool = False

    @property
    def said_first(self) -> str:
        """Of the case before, in a change of mind."""
        return self.said.replace("{", "{first.")

    @property
    def is_choice(self) -> bool:
        return self.sort in (Sort.CHOICE, Sort.YES_NO)


def parts_of(facts: Facts, tool: str) -> list[Part] | None:
    """Required ones first, then optional ones that can be told; None where a required one cannot."""
    parameters = facts.program.tools[tool].tool.parameters
    needed = needed_by(facts, tool)
    found: list[Part] = []
    taken: set[str] = set()
    num_optional = 0
    for path, schema, required in sorted(_leaves(parameters, (), needed), key=lambda leaf: not leaf[2]):
        part = _part(facts, tool, path, schema, required)
        if part is None:
            if required:
                return None
            continue
        if not required:
            num_optional += 1
            if num_optional > MAX_OPTIONAL:
                continue
        if part.column in taken:
            part = _apart(part, taken)
        taken.update((part.column, part.slot))
        found.append(part)
    return [_unspoiled(facts, tool, part, found) for part in found]


def _unspoiled(facts: Facts, tool: str, part: Part, parts: list[Part]) -> Part:
    """Nobody says "the task whose status is open" when it is the status that is to be set."""
    if part.home is None:
        return part
    stored = facts.graph.provenance[tool].stored
    own = [
        column
        for one in parts
        if one.sort is Sort.CHOICE
        for table, column in stored.get(one.path, ())
        if table == part.home.table
    ]
    return replace(part, thing=f"{part.thing}_without_{own[0]}", without=own[0]) if len(own) == 1 else part


def needed_by(facts: Facts, tool: str) -> frozenset[str]:
    """What every call has to name. Where that is not enough (`needs_more`), one or more of the others besides."""
    return frozenset.intersection(*facts.graph.provenance[tool].needs)


def needs_more(facts: Facts, tool: str) -> bool:
    return needed_by(facts, tool) not in facts.graph.provenance[tool].needs


def template_of(facts: Facts, tool: str, parts: list[Part]) -> dict[str, Any]:
    """The arguments with columns in the place of values."""
    found: dict[str, Any] = {}
    for part in parts:
        place: Any = found
        for key, below in zip(part.path, (*part.path[1:], None), strict=True):
            fresh: Any = part.column if below is None else [] if below == ANY else {}
            if isinstance(place, list):
                if not place:
                    place.append(fresh)
                place = place[0]
            else:
                place = place.setdefault(key, fresh)
    return found


def _leaves(
    schema: Mapping[str, Any], path: Path, needed: frozenset[str]
) -> Iterator[tuple[Path, Mapping[str, Any], bool]]:
    """Scalars inside; of lists one item, of optional lists and objects none: they would be there half."""
    for name, one in schema.get("properties", {}).items():
        required = name in needed
        kind = one.get("type")
        if kind == "object" and required:
            yield from _leaves(one, (*path, name), frozenset(one.get("required", ())))
        elif kind == "array" and required and one.get("minItems", 0) <= 1:
            item = one.get("items", {})
            if item.get("type") == "object":
                yield from _leaves(item, (*path, name, ANY), frozenset(item.get("required", ())))
            else:
                yield (*path, name, ANY), item, True
        elif kind in ("object", "array"):
            if required:
                yield (*path, name), {"type": "null"}, True  # nothing to tell it by
        elif not path or required:
            yield (*path, name), one, required


def _part(facts: Facts, tool: str, path: Path, schema: Mapping[str, Any], required: bool) -> Part | None:
    seen = facts.graph.provenance[tool]
    name = next((key for key in reversed(path) if key != ANY), path[0])
    column = "_".join(re.sub(r"\W+", "_", key) for key in path if key != ANY)
    columns = seen.stored.get(path, frozenset()) or seen.matched.get(path, frozenset())
    sort = facts.sort(name, columns, schema)
    label = _label(name, path)
    part = Part(path, column, label, Role.FREE, sort, required, "", is_fresh=path in seen.fresh)
    if found := facts.homes_of(tool, path):
        home = found[0]
        key = key_name(facts, home)
        label = label if label not in ("ID", "key", "value") else facts.noun(home.table)
        slot = f"the_{key}"
        return replace(
            part,
            column=key,
            label=label,
            role=Role.THING,
            said=f"{{{slot}}}",
            home=home,
            thing=thing_name(facts, home),
            slot=slot,
        )
    known = Supply(SAID[sort], choices_of(schema, facts, columns)) if sort is Sort.CHOICE else None
    if known is None and path in seen.matched and path not in seen.stored:
        place = _standing_in(facts, seen.matched[path])
        rows = standing(facts, place, schema)
        return replace(
            part,
            role=Role.STANDING,
            said=_said("{@}" if sort is Sort.NUMBER else said_as(sort, name), column),
            supply=Supply("", rows=rows),
            stands_in=place,
        )
    known = known or (None if schema.get("type") == "null" else supply(name, schema, facts, columns))
    if known is None or not (known.values or known.rows):
        return None
    return replace(part, said=_said(known.said, column), supply=known)


def _standing_in(facts: Facts, columns: frozenset[Column]) -> Column:
    """The column that others refer to, where one does."""
    return facts.graph.classes.of(min(columns))


def _said(pattern: str, column: str) -> str:
    return pattern.replace("@", column)


def _label(name: str, path: Path) -> str:
    above = [key for key in path[:-1] if key not in (ANY, name)]
    words = words_of(name)
    if above and words in (["name"], ["id"], ["code"], ["type"], ["value"], ["number"], ["date"]):
        return label_of("_".join([noun_of(above[-1]), *words]))
    return label_of(name)


def _apart(part: Part, taken: set[str]) -> Part:
    """A second thing of the same sort in one call: its key goes by the parameter's own name."""
    column = "_".join(re.sub(r"\W+", "_", key) for key in part.path if key != ANY)
    while column in taken:
        column = f"{column}_too"
    if part.role is not Role.THING:
        return replace(part, column=column, said=part.said.replace(part.column, column))
    slot = f"the_{column}"
    return replace(part, column=column, slot=slot, said=f"{{{slot}}}", thing=f"{part.thing}_as_{column}")
