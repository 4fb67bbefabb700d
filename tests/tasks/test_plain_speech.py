"""Speech derived from facts: sound on every world, with words that a person can act on."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentscaler.domain.domain import Domain
from agentscaler.domain.store import load_domain
from agentscaler.tasks.dials import Dials
from agentscaler.tasks.generate import Made, generate
from agentscaler.tasks.plain_speech import derive_speech
from agentscaler.tasks.setting import MAX_CASES, Setting
from agentscaler.tasks.speech import Speech, check_speech
from agentscaler.tasks.task import Ask, Kind
from agentscaler.world.conformance import check_domain
from agentscaler.world.program import SPEAKER, compile_domain
from agentscaler.world.world import World

WORLDS = Path(__file__).parent / "plain_worlds"
OWN = ("tracker", "clinic")
ALL = (*OWN, "notes", "airline", "retail")
NUMBER = {"tracker": 60, "clinic": 12, "notes": 60}  # of tasks; more of clinic take long, for few of them can be had


@cache
def domain_of(name: str) -> Domain:
    return load_domain(name, str(WORLDS) if name in OWN else None)


@cache
def speech_of(name: str) -> Speech:
    return derive_speech(compile_domain(domain_of(name)))


@cache
def tasks_of(name: str) -> Made:
    return generate(domain_of(name), speech_of(name), 1, NUMBER[name], Dials(), 5)


def setting_of(name: str, seed: int = 1) -> Setting:
    setting = Setting(World.of(domain_of(name), seed), speech_of(name))
    setting.turn_to({SPEAKER: None})
    return setting


@pytest.mark.parametrize("name", OWN)
def test_the_worlds_of_these_tests_conform(name: str) -> None:
    assert check_domain(domain_of(name)) == []


@pytest.mark.parametrize("name", ALL)
def test_it_passes_the_checks_and_is_the_same_each_time(name: str) -> None:
    speech = speech_of(name)
    check_speech(domain_of(name), speech, name)
    assert derive_speech(compile_domain(domain_of(name))) == speech
    assert speech.person is None, "one nameless person speaks"
    assert len(speech.off_topic) >= 15


@pytest.mark.parametrize("name", ALL)
def test_every_writing_tool_is_wished_for(name: str) -> None:
    program = compile_domain(domain_of(name))
    assert {wish.call for wish in speech_of(name).wishes} == program.write_tools


@pytest.mark.parametrize("name", ALL)
def test_wishes_have_cases_that_differ_in_one_thing(name: str) -> None:
    setting = setting_of(name)
    for wish in speech_of(name).wishes:
        cases = setting.cases(wish.name, wish.cases)
        assert 2 <= len(cases) < MAX_CASES, wish.name
        for change in (*wish.changes, *wish.instead):
            rest = Counter(tuple(v for k, v in case.items() if k not in change.differ) for case in cases)
            assert max(rest.values()) > 1, f"{wish.name}: nothing differs in {change.differ} alone"
    setting.close()


def test_other_worlds_have_other_cases() -> None:
    one, other = setting_of("tracker", 1), setting_of("tracker", 2)
    wish = next(wish for wish in speech_of("tracker").wishes if wish.call == "add_comment")
    same = one.cases(wish.name, wish.cases) == other.cases(wish.name, wish.cases)
    assert not same


@pytest.mark.parametrize("name", ALL)
def test_every_thing_has_a_name_and_ids_are_the_last_resort(name: str) -> None:
    setting, random = setting_of(name), Random(1)
    for thing, entry in speech_of(name).things.items():
        rows = setting.rows(thing)[:60]
        named = [setting.name(thing, row, random) for row in rows]
        assert None not in named, thing
        if name in OWN and "_without_" not in thing:
            ids = sum(one is not None and " ID " in one.words for one in named)
            assert ids <= 0.25 * len(rows), thing
        assert all(naming.by for naming in entry.names)


def test_names_tell_what_an_agent_gets_to_see() -> None:
    things = speech_of("clinic").things
    told = {column for naming in things["appointment"].names for column in naming.by}
    assert "appointment_patient_id_last_name" in told, "appointments are listed by patient"
    for naming in things["appointment"].names:  # no read lists all appointments of all patients
        assert naming.by == ("appointment_id",) or any("patient_id" in column for column in naming.by), naming
    assert not any("reminders" in column for column in told)


def test_a_request_reads_like_the_tools_description() -> None:
    words = {wish.name: wish.words for wish in speech_of("tracker").wishes}
    assert 'Please create a new task called "{title}" in {the_project_id}.' in {
        one.split(" {with_")[0] for one in words["create_task"]
    }
    assert "Please set the status of {the_task_id} to {status:spoken}." in words["set_task_status"]
    assert 'Please remove the label "{label}" from {the_task_id}.' in words["remove_task_label"]
    assert "Please move {the_task_id} to {the_project_id}." in words["move_task"]
    assert any("Would you update {the_task_id}?" in one for one in words["update_task"])


def test_rows_that_belong_together_are_wished_for_together() -> None:
    setting = setting_of("tracker")
    wish = next(wish for wish in speech_of("tracker").wishes if wish.call == "remove_task_label")
    environment = World.of(domain_of("tracker"), 1).open()
    there = set(environment.connection.execute("SELECT task_id, label FROM task_labels"))
    environment.close()
    cases = setting.cases(wish.name, wish.cases)
    assert cases and {(case["task_id"], case["label"]) for case in cases} <= there


def test_yes_and_no_are_said_in_words() -> None:
    wish = next(wish for wish in speech_of("clinic").wishes if wish.call == "patients_update")
    assert wish.clauses["reminders_is_yes"].words[0] == "reminders: yes."
    case = next(case for case in setting_of("clinic").cases(wish.name, wish.cases) if case["reminders"] is not None)
    assert (case["reminders_yes"], case["reminders_no"]) == ((1, None) if case["reminders"] else (None, 1))


def test_questions_are_asked_of_things_that_do_not_tell_the_answer() -> None:
    speech = speech_of("tracker")
    for question in speech.questions:
        thing = speech.things[question.things["the_thing"]]
        column = question.things["the_thing"].split("_without_")[1]
        assert not any(column in one for naming in thing.names for one in naming.by), question.name
    assert {question.tells[0].type for question in speech.questions} >= {"date", "name", "count"}
    assert "money" in {question.tells[0].type for question in speech_of("clinic").questions}


def test_off_topic_shares_no_word_with_the_world() -> None:
    domain = domain_of("notes").model_copy(update={"description": "Weather forecasts and taxis."})
    said = " ".join(word for one in derive_speech(compile_domain(domain)).off_topic for word in one.words)
    assert "weather" not in said and "taxi" not in said
    assert "weather" in " ".join(word for one in speech_of("notes").off_topic for word in one.words)


@pytest.mark.parametrize("name", ("tracker", "clinic", "notes"))
def test_tasks_come_of_it(name: str) -> None:
    made = tasks_of(name)
    kinds = {task.kind for task in made.tasks}
    assert len(made.tasks) == NUMBER[name]
    assert kinds >= {Kind.WRITE, Kind.MULTI_GOAL, Kind.READ_ONLY, Kind.MISSING_PARAMETER, Kind.AMBIGUOUS}
    if name != "clinic":
        assert kinds >= {Kind.CHANGED_MIND, Kind.RECOVERY, Kind.REFUSAL}


@pytest.mark.parametrize("name", ("tracker", "clinic", "notes"))
def test_nobody_says_the_name_of_a_tool_or_column(name: str) -> None:
    for task in tasks_of(name).tasks:
        asked = [task.written.facts[step.ask] for step in task.written.reference if isinstance(step, Ask)]
        said = " ".join([task.intent, *task.written.then, *(fact.question + fact.says for fact in asked)])
        said = re.sub(r"\bthe ID \w+", "the ID", said)
        assert "_" not in said and "{" not in said and "  " not in said, said


# Worlds at random: a few tables with CRUD tools, as a specification might have them.

COLUMNS = {
    "name": "TEXT NOT NULL",
    "title": "TEXT",
    "email": "TEXT UNIQUE",
    "due_on": "TEXT",
    "starts_at": "TEXT",
    "price_cents": "INTEGER",
    "stock": "INTEGER",
    "weight_kg": "REAL",
    "status": "TEXT NOT NULL DEFAULT 'new' CHECK (status IN ('new', 'in_use', 'gone'))",
    "is_open": "INTEGER CHECK (is_open IN (0, 1))",
    "notes": "TEXT",
    "sku": "TEXT UNIQUE",
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "due_on": {"type": "string", "format": "date"},
    "starts_at": {"type": "string", "format": "date-time"},
    "price_cents": {"type": "integer", "minimum": 0},
    "stock": {"type": "integer", "minimum": 0, "maximum": 50},
    "weight_kg": {"type": "number", "minimum": 0, "maximum": 90},
    "status": {"type": "string", "enum": ["new", "in_use", "gone"]},
    "is_open": {"type": "boolean"},
    "email": {"type": "string", "format": "email"},
}


@st.composite
def crud_domains(draw: st.DrawFn) -> Domain:
    tables = draw(
        st.lists(
            st.sampled_from(["boxes", "people", "order_lines", "Companies", "news"]),
            min_size=1,
            max_size=3,
            unique=True,
        )
    )
    schema, tools = [], []
    for number, table in enumerate(tables):
        columns = draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=6, unique=True))
        parent = tables[number - 1] if number and draw(st.booleans()) else None
        own = [f"{column} {COLUMNS[column]}" for column in columns]
        own += [f"parent_id TEXT REFERENCES {parent}(id)"] if parent else []
        schema.append(f"CREATE TABLE {table} (id TEXT PRIMARY KEY, {', '.join(own)}) STRICT;")
        columns = [*columns, *(["parent_id"] if parent else [])]
        properties = {column: SCHEMAS.get(column, {"type": "string"}) for column in columns}
        key = {"id": {"type": "string"}}
        values, sets = ", ".join(f":{c}" for c in columns), ", ".join(f"{c} = coalesce(:{c}, {c})" for c in columns)
        low = table.lower()
        tools += [
            {"name": f"list_{low}", "description": "All.", "returns": f"SELECT id, {', '.join(columns)} FROM {table} ORDER BY id"},
            {
                "name": f"get_{low}", "description": "One.", "parameters": {"properties": key, "required": ["id"]}, "one": True,
                "returns": f"SELECT * FROM {table} WHERE id = :id",
            },
            {
                "name": f"create_{low}", "description": draw(st.sampled_from(["Create one.", "Creates an entry; see docs.", "POST"])),
                "parameters": {"properties": properties, "required": draw(st.lists(st.sampled_from(columns), unique=True))},
                "do": [f"INSERT INTO {table} (id, {', '.join(columns)}) VALUES (new_id('{table}'), {values})"],
            },
            {
                "name": f"update_{low}", "description": "Update it.",
                "parameters": {"properties": {**key, **properties}, "required": ["id"]},
                "do": [f"UPDATE {table} SET {sets} WHERE id = :id"],
            },
            {
                "name": f"delete_{low}", "description": "Delete it by id.", "parameters": {"properties": key, "required": ["id"]},
                "do": [f"DELETE FROM {table} WHERE id = :id"],
            },
        ]  # fmt: skip
    return Domain.model_validate(
        {
            "name": "crud", "description": "Anything.", "clock": "2026-03-02T09:00:00Z", "instructions": "Do it.",
            "schema_sql": "\n".join(schema), "ids": {table: f"{table[:2].lower()}_" for table in tables}, "tools": tools,
        }
    )  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(crud_domains())
def test_any_crud_world_gets_a_speech(domain: Domain) -> None:
    speech = derive_speech(compile_domain(domain))
    check_speech(domain, speech, "crud")
    assert {wish.call for wish in speech.wishes} == compile_domain(domain).write_tools
    setting = Setting(World.of(domain, 1), speech)  # an empty world: nothing is there to be named, and nothing fails
    setting.turn_to({SPEAKER: None})
    for wish in speech.wishes:
        assert setting.cases(wish.name, wish.cases) or wish.things, "what needs nothing that is there can be wished for"
    for thing in speech.things:
        assert setting.rows(thing) == []
    setting.close()
