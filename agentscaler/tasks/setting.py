"""One world as its people see it: who may speak, what is theirs, what they could want. Read from the world as seeded; changes nothing.

Rows are read when they are first asked for and kept for the speaker in hand. Whoever tries a call in `environment` rewinds it to
`untouched` afterwards: one copy of the world in use is half as slow as several. A name for a thing is given only where the rows prove it
to fit that thing alone (`name`), or, for what shall be ambiguous, several (`blur`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from agentscaler.tasks.speech import Naming, Speech
from agentscaler.tasks.words import fill, slots_of
from agentscaler.world.drawing import texts_of
from agentscaler.world.program import SPEAKER
from agentscaler.world.world import World

Row = dict[str, Any]
_Groups = dict[str, dict[tuple[str, ...], dict[tuple[Any, ...], list[Row]]]]
"""Thing -> columns -> their values -> rows."""

MAX_CASES = 400
NOBODY: list[Row] = [{SPEAKER: None}]  # one and the same, so that what was read for it is kept


@dataclass(frozen=True, slots=True)
class Named:
    """Words for a thing, and the values that they tell."""

    words: str
    told: tuple[Any, ...]
    by: tuple[str, ...]


@dataclass
class Setting:
    world: World
    speech: Speech
    _kept: dict[str, list[Row]] = field(default_factory=dict)
    _of_all: dict[str, list[Row]] = field(default_factory=dict)  # what queries that know no speaker give
    _groups: _Groups = field(default_factory=dict)
    _groups_of_all: _Groups = field(default_factory=dict)
    _speaker: Row | None = None

    def __post_init__(self) -> None:
        self.environment = self.world.open()
        self.untouched = self.environment.mark()

    @property
    def people(self) -> list[Row]:
        """Everybody who may speak; one nameless person where the world has no persons."""
        if self.speech.person is None:
            return NOBODY
        if not hasattr(self, "_people"):
            self._people = self._ask(self.speech.person.rows, None)
        return self._people

    def turn_to(self, speaker: Row) -> None:
        if speaker is not self._speaker:
            self._speaker = speaker
            self._kept.clear()
            self._groups.clear()

    @property
    def speaker(self) -> Row:
        assert self._speaker is not None
        return self._speaker

    def cases(self, name: str, sql: str) -> list[Row]:
        """Of a wish or question, for the speaker."""
        key = f"cases {name}"
        if key not in self._kept:
            self._kept[key] = self._ask(sql, self.speaker[SPEAKER])[:MAX_CASES]
        return self._kept[key]

    def rows(self, thing: str) -> list[Row]:
        if thing not in self._kept:
            self._kept[thing] = self._ask(self.speech.things[thing].rows, self.speaker[SPEAKER])
        return self._kept[thing]

    def row_of(self, thing: str, case: Mapping[str, Any]) -> Row | None:
        """The thing's row that a case's key columns name."""
        key = self.speech.things[thing].key
        return next(iter(self._grouped(thing, key).get(tuple(_folded(case[one]) for one in key), ())), None)

    def name(
        self, thing: str, row: Row, random: Random, short: bool = False, avoid: Sequence[str] = ()
    ) -> Named | None:
        """A name that fits this row alone; None where there is none. `avoid` are columns that must not be said."""
        one = self.speech.things[thing]
        fitting = [
            naming
            for naming in (one.short if short else one.names)
            if not set(naming.by) & set(avoid) and _is_said(naming, row) and len(self.alike(thing, naming, row)) == 1
        ]
        return self._say(fitting, row, random)

    def blur(self, thing: str, row: Row, random: Random) -> tuple[Named, list[Row]] | None:
        """A name that fits this row and others, and all rows that it fits."""
        one = self.speech.things[thing]
        fitting = [
            naming
            for naming in one.names
            if naming.by and _is_said(naming, row) and len(self.alike(thing, naming, row)) > 1
        ]
        if not fitting:
            return None
        naming = random.choice(fitting)
        named = self._say([naming], row, random)
        return None if named is None else (named, self.alike(thing, naming, row))

    def can_be_blurred(self, thing: str, row: Row) -> bool:
        """Whether it could be named so that others are meant as well, and then told apart."""
        one = self.speech.things[thing]
        return any(len(self.alike(thing, n, row)) > 1 for n in one.names if n.by and _is_said(n, row)) and any(
            len(self.alike(thing, n, row)) == 1 for n in one.short if _is_said(n, row)
        )

    def alike(self, thing: str, naming: Naming, row: Row) -> list[Row]:
        return self._grouped(thing, naming.by).get(tuple(_folded(row[one]) for one in naming.by), [])

    def _grouped(self, thing: str, by: Sequence[str]) -> dict[tuple[Any, ...], list[Row]]:
        """Rows by the values of these columns. Kept, for all speakers where the rows are the same for all."""
        is_for_all = f":{SPEAKER}" not in self.speech.things[thing].rows
        kept = (self._groups_of_all if is_for_all else self._groups).setdefault(thing, {})
        if (found := kept.get(tuple(by))) is None:
            found = kept[tuple(by)] = {}
            for row in self.rows(thing):
                found.setdefault(tuple(_folded(row.get(one)) for one in by), []).append(row)
        return found

    def is_near(self, thing: str, row: Row) -> bool:
        """Whether another of the speaker's things shares something with it that people name things by."""
        columns = {column for naming in self.speech.things[thing].names for column in naming.by} - set(
            self.speech.things[thing].key
        )
        told = (column for column in sorted(columns) if row.get(column) is not None)
        return any(len(self._grouped(thing, (column,))[(_folded(row[column]),)]) > 1 for column in told)

    def texts(self) -> list[str]:
        return texts_of(self.world)

    def close(self) -> None:
        self.environment.close()

    def _say(self, namings: Sequence[Naming], row: Row, random: Random) -> Named | None:
        if not namings:
            return None
        naming = random.choices(namings, [one.weight for one in namings])[0]
        words = fill(random.choice(_sayable(naming, row)), {**self.speaker, **row}, random)
        return Named(words, tuple(row[one] for one in naming.by), naming.by)

    def _ask(self, sql: str, speaker: Any) -> list[Row]:
        if f":{SPEAKER}" in sql:
            return self.environment.look(sql, {SPEAKER: speaker})
        if sql not in self._of_all:
            self._of_all[sql] = self.environment.look(sql, {})
        return self._of_all[sql]


def _folded(value: Any) -> Any:
    return value.casefold() if isinstance(value, str) else value


def _is_said(naming: Naming, row: Row) -> bool:
    return all(row.get(one) is not None for one in naming.by) and bool(_sayable(naming, row))


def _sayable(naming: Naming, row: Row) -> list[str]:
    """The words that hold no column of this row that is NULL."""
    return [words for words in naming.words if all(row.get(one, "") is not None for one in slots_of(words))]
