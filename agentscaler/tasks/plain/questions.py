"""Questions that one reading tool answers: a value of a thing that the tool shows by the thing's key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from agentscaler.tasks.plain.english import is_plural, label_of, words_of
from agentscaler.tasks.plain.facts import Facts, Home, Sort
from agentscaler.tasks.plain.parts import parts_of, template_of
from agentscaler.tasks.plain.things import make_thing, thing_name
from agentscaler.tasks.speech import Question, Tells, Thing
from agentscaler.tasks.walk.prepared import Column

MAX_OF_A_TOOL = 6
MAX_ROWS = 400  # setting.MAX_CASES
_TYPES: dict[Sort, Literal["money", "date", "id", "count", "name"]] = {
    Sort.MONEY: "money", Sort.NUMBER: "count", Sort.DATE: "date", Sort.CODE: "id", Sort.PERSON: "name", Sort.TITLE: "name",
    Sort.PLAIN: "name", Sort.CHOICE: "name",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and the thing that it is about: one with no name that tells the answer."""

    question: Question
    name: str
    thing: Thing


def questions_of(facts: Facts, tool: str) -> Iterator[Asked]:
    parts = [part for part in parts_of(facts, tool) or () if part.required]
    if len(parts) != 1 or parts[0].home is None or not facts.program.tools[tool].tool.one:
        return
    home = parts[0].home
    for number, (key, (table, column), join) in enumerate(_told(facts, tool, home)):
        if number == MAX_OF_A_TOOL:
            return
        told = column if table == home.table else join[1]
        label = label_of(key) if table == home.table else label_of(told)
        sort = facts.sort_of_column((table, column))
        thing = f"{thing_name(facts, home)}_without_{told}"
        spoken = "" if sort in (Sort.MONEY, Sort.NUMBER) else "AND NOT contains(answer, '_') "  # said "in progress"
        answer = f'p."{column}"' if join[0] else f't."{column}"'
        who = "Who" if sort is Sort.PERSON else "What"
        words = (
            f"{who} is the {label} of {{the_thing}}?",
            f"Can you tell me the {label} of {{the_thing}}?",
            f"I need to know the {label} of {{the_thing}}.",
            f"Please look up the {label} of {{the_thing}}.",
        )
        if sort is Sort.NUMBER and (is_plural(label) or label.startswith("number of ")):
            many = label.removeprefix("number of ")
            words = (
                f"How many {many} does {{the_thing}} have?",
                f"Can you tell me how many {many} {{the_thing}} has?",
                *words[2:],
            )
        question = Question(
            name="_".join(words_of(f"{tool[:15]}_{key}"))[:31].rstrip("_"),
            call=tool,
            cases=(
                f'SELECT t."{home.column}" AS "{parts[0].column}", {answer} AS answer FROM "{home.table}" t{join[0]} '
                f'WHERE {answer} IS NOT NULL AND t."{home.column}" IS NOT NULL {spoken}ORDER BY t."{home.column}" LIMIT {MAX_ROWS}'
            ),
            arguments=template_of(facts, tool, parts),
            things={"the_thing": thing},
            words=words,
            tells=(Tells(type=_TYPES[sort], value="answer"),),
        )
        yield Asked(question, thing, make_thing(facts, home, parts[0].column, without=told))


def _told(facts: Facts, tool: str, home: Home) -> Iterator[tuple[str, Column, tuple[str, str]]]:
    """What the tool shows of the thing or its owners as it stands there: the result's key, the column, and for an owner's the join and
    the column that refers to it."""
    table = facts.table(home.table)
    names = facts.name_columns(home.table, home.column)
    for path, columns in facts.graph.provenance[tool].results.items():
        column = min(columns)
        if len(path) != 1 or len(columns) != 1 or facts.sort_of_column(column) not in _TYPES:
            continue
        join = ("", "")
        if column[0] == home.table:
            key = next((key for key in table.foreign_keys if column[1] in key.columns), None)
            if key is not None and (len(key.columns) > 1 or facts.is_surrogate((key.parent, key.parent_columns[0]))):
                continue
            if column[1] in {*names, *table.key, home.column} or column[1] in table.exempt | table.json_columns:
                continue
        else:
            keys = [key for key in table.foreign_keys if key.parent == column[0] and len(key.columns) == 1]
            if len(keys) != 1 or facts.name_columns(column[0]) != (column[1],):
                continue
            join = (
                f' JOIN "{column[0]}" p ON p."{keys[0].parent_columns[0]}" = t."{keys[0].columns[0]}"',
                keys[0].columns[0],
            )
        if facts.table(column[0]).types[column[1]] != "REAL":
            yield path[0], column, join
