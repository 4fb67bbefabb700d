"""Values that somebody could wish for, by what a parameter's name, its JSON Schema and its column say.

`Supply` is where values come from: a list of ours, or what stands in the column already. Invariant: every value of a list is valid by the
parameter's JSON Schema. Dates lie around the domain's clock. No seed plays a part: which value a case takes is settled in its query.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import jsonschema_rs
import orjson

from agentscaler.tasks.plain import pools
from agentscaler.tasks.plain.english import unit_of, words_of
from agentscaler.tasks.plain.facts import Facts, Sort
from agentscaler.tasks.walk.prepared import Column

SAID = {
    Sort.CHOICE: "{@:spoken}",
    Sort.YES_NO: "{@}",
    Sort.MONEY: "{@:money $}",
    Sort.NUMBER: "{@:number}",
    Sort.DATE: "{@:birthday}",
    Sort.TIME: "{@:time}",
    Sort.PERSON: "{@}",
    Sort.TITLE: '"{@}"',
    Sort.TEXT: '"{@}"',
    Sort.CODE: "{@}",
    Sort.PLAIN: "{@}",
}
"""Patterns for `words.fill`; `@` is the slot. A moment has its time of day beside it (`Supply.said`)."""


def said_as(sort: Sort, name: str) -> str:
    """A pattern; numbers with what they count."""
    unit = unit_of(name) if sort is Sort.NUMBER else ""
    if not unit:
        return SAID.get(sort, "{@}")
    return f"{{@:count {unit}}}" if unit.islower() and len(unit) > 2 and unit != "percent" else f"{{@}} {unit}"


_TIMES = ("09:00", "10:30", "14:00", "16:15", "11:45", "08:30")


@dataclass(frozen=True, slots=True)
class Supply:
    """`values`, or `rows`: a query with one column `v`. `said` is how one of them is said."""

    said: str
    values: tuple[Any, ...] = ()
    rows: str = ""

    def at(self, place: str) -> str:
        """An SQL expression: the value at a place, the list taken round and round."""
        texts = orjson.dumps(self.values).decode().replace("'", "''")
        return f"('{texts}' ->> (({place}) % {len(self.values)}))"


def choices_of(schema: Mapping[str, Any], facts: Facts, columns: frozenset[Column]) -> tuple[Any, ...]:
    """The values that a parameter may take, where these are few and known."""
    if "const" in schema:
        return (schema["const"],)
    if "enum" in schema:
        return tuple(one for one in schema["enum"] if one is not None)
    known = next((facts.choices[one] for one in sorted(columns) if one in facts.choices), ())
    return _valid(known, schema)


def supply(name: str, schema: Mapping[str, Any], facts: Facts, columns: frozenset[Column]) -> Supply | None:
    """New values for a parameter; None where none is known that would be valid."""
    sort = facts.sort(name, columns, schema)
    said = said_as(sort, name)
    today = date.fromisoformat(facts.program.domain.clock[:10])
    words = [*words_of(name), *(word for _, column in sorted(columns) for word in words_of(column))]
    if sort is Sort.YES_NO:
        return Supply(said, (0, 1))
    if sort is Sort.CHOICE:
        return _listed(said, choices_of(schema, facts, columns), schema)
    if sort in (Sort.MONEY, Sort.NUMBER):
        return _numbers(said, sort, schema, facts, columns)
    if sort is Sort.DATE:
        return _listed(said, [one.isoformat() for one in _days(words, today)], schema)
    if sort is Sort.MOMENT:
        return _moments(words, today, schema)
    if sort is Sort.TIME:
        return _listed(said, _TIMES, schema) or _listed(said, [f"{one}:00" for one in _TIMES], schema)
    pool = pools.pool_for(words, sort, any(facts.is_person(table) for table, _ in columns))
    if pool is None and columns:
        return Supply(said, rows=standing(facts, min(columns), schema))
    return _listed(said, pool or pools.TITLES, schema)


def standing(facts: Facts, column: Column, schema: Mapping[str, Any]) -> str:
    """A query of what stands in a column; where nothing does, one value of ours."""
    table, name = column
    tests = [f'"{name}" IS NOT NULL']
    if facts.table(table).types[name] == "TEXT":
        tests.append(f'length("{name}") BETWEEN {schema.get("minLength", 1)} AND {schema.get("maxLength", 200)}')
    where = " AND ".join(tests)
    query = f'SELECT DISTINCT "{name}" AS v FROM "{table}" WHERE {where}'
    spare = _valid(("standard", "A1", "basic", 1), schema)
    if not spare:
        return query
    literal = f"'{spare[0]}'" if isinstance(spare[0], str) else str(spare[0])
    return f"{query} UNION SELECT {literal} WHERE NOT EXISTS ({query})"


def _listed(said: str, values: Iterable[Any], schema: Mapping[str, Any]) -> Supply | None:
    valid = _valid(values, schema)
    return Supply(said, valid) if valid else None


def _valid(values: Iterable[Any], schema: Mapping[str, Any]) -> tuple[Any, ...]:
    validator = jsonschema_rs.validator_for(dict(schema))
    return tuple(one for one in dict.fromkeys(values) if validator.is_valid(one))


def _numbers(
    said: str, sort: Sort, schema: Mapping[str, Any], facts: Facts, columns: frozenset[Column]
) -> Supply | None:
    """Near what stands there: those numbers and the next ones; else some of usual size."""
    low, high = _bounds(schema)
    amounts = (500, 1200, 1950, 2500, 4000, 4990, 7500, 10000, 12000, 24900)
    counts = (2, 3, 1, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 60, 90)
    spare = _valid([one for one in (amounts if sort is Sort.MONEY else counts) if low <= one <= high], schema)
    if len(spare) < 4 and high - low < 10**6:
        step = int(schema.get("multipleOf", 1)) or 1
        some = range(-(-int(low) // step) * step, int(high) + 1, step)
        spare = _valid([*spare, *some[:: max(1, len(some) // 8)]], schema)
    column = min(columns, default=None)
    if column is None or (sort is Sort.NUMBER and high - low <= 100):
        return Supply(said, spare) if spare else None
    table, name = column
    more = 500 if sort is Sort.MONEY else 1
    near = f'SELECT "{name}" AS v FROM "{table}" UNION SELECT "{name}" + {more} FROM "{table}"'
    query = f"SELECT v FROM ({near}) WHERE v BETWEEN {max(low, 0)} AND {high}"
    if "multipleOf" in schema:
        return Supply(said, spare) if spare else None
    others = f" UNION SELECT {spare[0]} WHERE NOT EXISTS ({query})" if spare else ""
    return Supply(said, rows=query + others)


def _bounds(schema: Mapping[str, Any]) -> tuple[float, float]:
    low, high = schema.get("minimum", 0), schema.get("maximum", 10**12)
    low = max(low, schema.get("exclusiveMinimum", low - 1) + 1)
    return low, min(high, schema.get("exclusiveMaximum", high + 1) - 1)


def _days(words: Sequence[str], today: date) -> list[date]:
    every = set(words)
    if every & {"birth", "birthday", "born", "dob"}:
        return [date(1948 + number * 7 % 56, 1 + number * 5 % 12, 1 + number * 11 % 28) for number in range(24)]
    if every & {
        "paid",
        "sent",
        "received",
        "completed",
        "performed",
        "incurred",
        "visited",
        "past",
        "purchased",
        "measured",
    }:
        return [today - timedelta(number) for number in range(1, 21)]
    if every & {"end", "ends", "until", "to", "expires", "expiry", "expiration", "checkout", "return", "finish"}:
        return [today + timedelta(number) for number in range(25, 61, 2)]
    if every & {"start", "starts", "begin", "begins", "from", "checkin"}:
        return [today + timedelta(number) for number in range(2, 22)]
    return [today + timedelta(number) for number in range(3, 40)]


def _moments(words: Sequence[str], today: date, schema: Mapping[str, Any]) -> Supply | None:
    """All at one time of day, which stands in the words: a pattern says the day of a value, not its time."""
    clock = _TIMES[sum(map(len, words)) % len(_TIMES)]
    for form in (f"T{clock}:00Z", f" {clock}:00", f"T{clock}:00", f"T{clock}", f" {clock}"):
        found = _listed(
            f"{{@:birthday}} at {clock}", [f"{one.isoformat()}{form}" for one in _days(words, today)], schema
        )
        if found is not None:
            return found
    return None
