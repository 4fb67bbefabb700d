"""What a program says about its columns: which of them name rows, which stand for a choice, which an agent gets to see, what sort of
value each holds.

Facts come from the tool graph, the schema's CHECK clauses and the parameters' JSON Schema; what they leave open (is this text a date, a
title, a person's name?) is read off the words of a column's name. A wrong guess makes plain words, never a wrong task: that is proven
later, by the world itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

from agentscaler.tasks.plain.english import MINOR_UNITS, noun_of, words_of
from agentscaler.tasks.plain.vocabulary import CODES, LONG, PEOPLE, TITLES
from agentscaler.tasks.walk.graph import ToolGraph
from agentscaler.tasks.walk.prepared import Column
from agentscaler.tasks.walk.provenance import is_choice, schema_at
from agentscaler.tasks.walk.value import Path
from agentscaler.world import guard
from agentscaler.world.program import Program, Table


class Sort(Enum):
    """How a value is said."""

    CHOICE = "choice"
    YES_NO = "yes or no"
    MONEY = "money"  # minor units
    NUMBER = "number"
    DATE = "date"
    MOMENT = "moment"  # date and time
    TIME = "time"
    PERSON = "person"
    TITLE = "title"  # short, in quotes
    TEXT = "text"  # long, in quotes
    CODE = "code"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class Home:
    """A column of which one value tells a row; people speak of these rows."""

    table: str
    column: str


@dataclass(frozen=True)
class Facts:
    program: Program
    graph: ToolGraph

    def table(self, name: str) -> Table:
        return self.program.tables[name]

    def noun(self, table: str) -> str:
        return noun_of(table)

    def is_person(self, table: str) -> bool:
        """Its rows are people."""
        if words_of(noun_of(table))[-1:] and words_of(noun_of(table))[-1] in PEOPLE:
            return True
        return {"first_name", "last_name"} <= set(self.table(table).columns)

    def homes_of(self, tool: str, path: Path) -> list[Home]:
        """The rows that an argument names: those of which it holds the key or a unique name, its own class first."""
        facts = self.graph.provenance[tool]
        if path in facts.fresh or is_choice(self.schema(tool, path)):
            return []
        found: dict[Home, None] = {}
        for column in sorted(facts.meets(path), key=lambda one: (one not in facts.matched.get(path, ()), one)):
            for home in self.graph.classes.homes.get(self.graph.classes.of(column), ()):
                found.setdefault(Home(*home))
        return list(found)

    def schema(self, tool: str, path: Path) -> Mapping[str, Any]:
        return schema_at(self.program.tools[tool].tool.parameters, path)

    def is_surrogate(self, column: Column) -> bool:
        """A key that nobody would know by heart."""
        table = self.table(column[0])
        if table.surrogate == column[1] or column[1] in table.names:
            return True
        words = words_of(column[1])
        return words[-1] in ("id", "uuid", "guid") or (table.key == (column[1],) and table.types[column[1]] != "TEXT")

    @cached_property
    def reads(self) -> list[str]:
        tools = self.program.tools.values()
        return [one.tool.name for one in tools if not one.is_write and one.tool.actor == "agent"]

    @cached_property
    def writes(self) -> list[str]:
        tools = self.program.tools.values()
        return [one.tool.name for one in tools if one.is_write and one.tool.actor == "agent"]

    @cached_property
    def shown(self) -> frozenset[Column]:
        """What some read shows, as it stands or as a part of something, or finds rows by."""
        found: set[Column] = set()
        for name in self.reads:
            facts = self.graph.provenance[name]
            for some in (facts.results, facts.computed, facts.matched):
                found = found.union(*some.values())
        return frozenset(found)

    def name_columns(self, table: str, home: str = "") -> tuple[str, ...]:
        """The columns that rows of a table go by, as an agent sees them: first and last name, a title, a code; none where they have none.
        `home` is the column that the rows are looked up in."""
        one = self.table(table)
        refers = {column for key in one.foreign_keys for column in key.columns}
        seen = [
            c
            for c in one.columns
            if ((table, c) in self.shown or c == home) and c not in one.exempt | one.json_columns | refers
        ]
        for whole in (("first_name", "last_name"), ("given_name", "family_name")):
            if set(whole) <= set(seen):
                return whole
        sorts = {column: self.sort_of_column((table, column)) for column in seen}
        called = [c for c in seen if sorts[c] in (Sort.TITLE, Sort.PERSON)]
        order = ("name", "title", "full_name", "display_name", "label", "subject")
        is_home = self.graph.classes.is_home
        called.sort(key=lambda c: (order.index(c) if c in order else len(order), not is_home((table, c))))
        if not called:
            codes = [
                c for c in seen if is_home((table, c)) and not self.is_surrogate((table, c)) and one.types[c] == "TEXT"
            ]
            called = [
                c for c in codes if sorts[c] in (Sort.CODE, Sort.PLAIN) and (c in one.key or c == home or not home)
            ]
        return tuple(called[:1])

    @cached_property
    def schemas(self) -> Mapping[Column, Mapping[str, Any]]:
        """Of a parameter that a column's values are written or looked up by; one that says something about their form is preferred."""
        found: dict[Column, Mapping[str, Any]] = {}
        for name, facts in self.graph.provenance.items():
            for path in facts.parameters:
                schema = self.schema(name, path)
                for column in facts.meets(path):
                    if column not in found or {"format", "enum", "pattern"} & set(schema):
                        found[column] = schema
        return found

    @cached_property
    def choices(self) -> Mapping[Column, tuple[str | int, ...]]:
        """Columns that may hold only some values, by a CHECK clause: `status IN ('open', 'done')`."""
        found: dict[Column, tuple[str | int, ...]] = {}
        text = guard.without_comments(self.program.domain.schema_sql)
        for head in re.finditer(r"\bcreate\s+table\s+(?:if\s+not\s+exists\s+)?[\"'`\[]?(\w+)", text, re.IGNORECASE):
            table = self.program.tables.get(head.group(1))
            body = re.split(
                r"\bcreate\s+(?:table|view|trigger|index|unique)\b", text[head.end() :], flags=re.IGNORECASE
            )[0]
            for match in re.finditer(r"\bcheck\s*\(\s*\"?(\w+)\"?\s+in\s*\(([^()]*)\)\s*\)", body, re.IGNORECASE):
                if table is not None and match.group(1) in table.columns:
                    texts = tuple(one.replace("''", "'") for one in re.findall(r"'((?:[^']|'')*)'", match.group(2)))
                    numbers = tuple(int(one) for one in re.findall(r"(?<![\w'])\d+(?![\w'])", match.group(2)))
                    found[(table.name, match.group(1))] = texts or numbers
        return found

    def sort(self, name: str, columns: frozenset[Column], schema: Mapping[str, Any]) -> Sort:
        """Of a parameter's or column's value. `columns` are those that it is written into or looked up in."""
        column = min(columns, default=None)
        words = words_of(name)
        more = words_of(column[1]) if column is not None else []
        kind = schema.get("type") or (
            "string" if column is None else _json_type(self.table(column[0]).types[column[1]])
        )
        kind = next((one for one in kind if one != "null"), "string") if isinstance(kind, list) else kind
        choices = next((self.choices[one] for one in sorted(columns) if one in self.choices), ())
        if kind == "boolean" or set(choices) == {0, 1}:
            return Sort.YES_NO
        if "enum" in schema or choices:
            return Sort.CHOICE
        if kind in ("integer", "number"):
            said = f"{name} {schema.get('description', '')} {column[1] if column is not None else ''}"
            if kind == "integer" and MINOR_UNITS & set(words_of(said)):
                return Sort.MONEY
            return Sort.NUMBER
        is_person = column is not None and self.is_person(column[0])
        return _sort_of_text(words, more, str(schema.get("format", "")), f"{schema.get('description', '')}", is_person)

    def sort_of_column(self, column: Column) -> Sort:
        return self.sort(column[1], frozenset([column]), self.schemas.get(column, {}))


def _sort_of_text(words: list[str], more: list[str], form: str, description: str, is_person: bool) -> Sort:
    every = {*words, *more}
    last = words[-1:] or [""]
    if form == "date" or re.search(r"\bYYYY-MM-DD\b(?!.?[T ])", description):
        return Sort.DATE
    if form == "date-time" or re.search(r"\bYYYY-MM-DD.?[T ]", description):
        return Sort.MOMENT
    if form == "time" or "HH:MM" in description:
        return Sort.TIME
    if form in ("email", "uri", "url", "uuid", "ipv4", "hostname"):
        return Sort.PLAIN
    if every & {"email", "mail", "phone", "url", "website", "username", "login", "domain"}:
        return Sort.PLAIN
    ends = {last[0], *more[-1:]}
    if ends & {"date", "day", "birthday", "dob", "deadline"} or (len(words) > 1 and "on" in ends):
        return Sort.DATE
    if "at" in ends or ends & {"datetime", "timestamp"}:
        return Sort.MOMENT
    if last[0] in LONG:
        return Sort.TEXT
    if last[0] in TITLES or (more[-1:] and more[-1] in TITLES):
        if is_person or {"first", "last", "full"} & every or every & PEOPLE:
            return Sort.PERSON
        return Sort.TITLE
    if last[0] in PEOPLE:
        return Sort.PERSON
    if ends & LONG:
        return Sort.TEXT
    return Sort.CODE if last[0] in CODES else Sort.PLAIN


def _json_type(declared: str) -> str:
    return {"INTEGER": "integer", "INT": "integer", "REAL": "number"}.get(declared, "string")
