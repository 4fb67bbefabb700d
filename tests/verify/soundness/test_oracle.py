"""Promises of the independent oracle.

1. Two ends are equal exactly when all tables are, exempt columns and the names of new keys aside (beside a comparison that tries every
   renaming of keys).
2. It reads answers, refusals and the shape of conversations by its own rules.
3. It shares no code with what it measures.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import agentscaler.verify.soundness as package
from agentscaler.domain.store import load_domain
from agentscaler.messages import Message, Outcome
from agentscaler.rollout.limits import StopReason
from agentscaler.tasks.compile import compile_shipped
from agentscaler.tasks.task import Call, Say, Task
from agentscaler.verify.soundness.judge import Judge
from agentscaler.verify.soundness.oracle import Judgement, Oracle
from agentscaler.verify.soundness.replies import refuses, tells
from agentscaler.verify.soundness.tables import End, equal_ends
from agentscaler.verify.soundness.word_operators import FAULTS
from agentscaler.verify.soundness.wordings import CHATTER, NO_REFUSALS, REFUSALS
from agentscaler.world.environment import Environment
from agentscaler.world.world import World
from tests.world.graph_domain import DOMAIN, equal_tables, open_world

NOTES = load_domain("notes")
TABLES = World.of(DOMAIN, 1).program.tables
Do = Callable[[Environment], None]


def do(environment: Environment, tool: str, **arguments: Any) -> Any:
    result = environment.call("agent", tool, arguments)
    assert result.outcome is Outcome.OK, result.content
    return orjson.loads(result.content)


def box(environment: Environment, name: str = "n", **more: Any) -> str:
    return do(environment, "add_box", name=name, **more)["id"]


def equal(one: Do, other: Do) -> bool:
    ends = []
    for act in (one, other):
        environment = open_world()
        act(environment)
        ends.append(End.of(environment))
        environment.close()
    there, back = equal_ends(TABLES, *ends), equal_ends(TABLES, ends[1], ends[0])
    assert there == back
    return there


ROWS = st.lists(
    st.tuples(st.integers(0, 1), st.none() | st.integers(0, 3), st.none() | st.integers(0, 3)), min_size=1, max_size=4
)


@settings(deadline=None, max_examples=120)
@given(ROWS, st.randoms(use_true_random=False), st.booleans())
def test_new_rows_in_any_order_with_any_links(
    rows: list[tuple[int, int | None, int | None]], shuffle: Random, bend: bool
) -> None:
    """The same graph built in two orders; with `bend` one link is moved, and trying every renaming says whether that matters."""

    def build(order: list[int], rows: list[tuple[int, int | None, int | None]]) -> Environment:
        environment = open_world()
        ids = {index: box(environment, "ab"[rows[index][0]]) for index in order}
        for index in shuffle.sample(order, len(order)):
            to = [None if ref is None else ids[ref % len(rows)] for ref in rows[index][1:]]
            environment.call("agent", "link", {"box": ids[index], "parent": to[0], "friend": to[1]})
            if index % 2:
                do(environment, "add_slot", box=ids[index], tag="t")
        return environment

    order = list(range(len(rows)))
    other = list(rows)
    if bend:
        name, parent, friend = other[0]
        other[0] = (name, friend, 0 if parent is None else parent + 1)
    environments = build(order, rows), build(shuffle.sample(order, len(order)), other)
    wanted = equal_tables(*environments)
    ends = [End.of(environment) for environment in environments]
    for environment in environments:
        environment.close()
    assert equal_ends(TABLES, *ends) == wanted
    assert wanted or bend


def test_exempt_columns_and_tables_do_not_count_and_all_others_do() -> None:
    def put(note: str, name: str = "n") -> Do:
        return lambda environment: do(environment, "add_box", name=name, note=note)

    assert equal(put("one"), put("two"))
    assert not equal(put("one"), put("one", "m"))
    assert equal(lambda e: None, lambda e: None)
    assert not equal(lambda e: None, lambda e: do(e, "set_fixed", code="f1", value=1.5))


def test_the_same_bytes_may_name_another_row() -> None:
    """The slot's row is equal on both sides; the box that it names is not."""

    def build(first: str, second: str) -> Do:
        def act(environment: Environment) -> None:
            one = box(environment, first)
            box(environment, second)
            do(environment, "add_slot", box=one, tag="t")

        return act

    assert not equal(build("a", "b"), build("b", "a"))
    assert equal(build("a", "a"), build("a", "a"))


def test_keys_that_travel_over_several_tables() -> None:
    def build(order: str, marked: str) -> Do:
        def act(environment: Environment) -> None:
            ids = {name: box(environment, name) for name in order}
            for name in sorted(ids):
                do(environment, "add_slot", box=ids[name], tag="t")
            do(environment, "add_mark", box=ids[marked], tag="t", colour="red")

        return act

    assert equal(build("ab", "a"), build("ba", "a"))
    assert not equal(build("ab", "a"), build("ba", "b"))


@pytest.mark.parametrize(
    ("tool", "one", "other", "same"),
    [
        ("set_data", '{"a": 1, "b": [2]}', '{"b":[2],"a":1}', True),
        ("set_data", '{"a": 1}', '{"a": 1.0}', False),
        ("set_data", '{"a": 1}', '{"a": true}', False),
        ("set_data", "no json", "no  json", False),
        ("set_mood", "very  GLAD", "Very glad ", True),
        ("set_mood", "glad", "sad", False),
    ],
)
def test_json_and_semantic_columns_by_their_meaning(tool: str, one: str, other: str, same: bool) -> None:
    def put(value: str) -> Do:
        return lambda environment: do(environment, tool, box="b1", **{tool.removeprefix("set_"): value})

    assert equal(put(one), put(other)) is same


def test_minus_nought_is_nought() -> None:
    def put(value: float) -> Do:
        return lambda environment: do(environment, "set_size", box="b1", size=value)

    assert equal(put(0.0), put(-0.0))


TASKS = {task.written.id: task for task in compile_shipped("notes")}


def judged(task: Task, *steps: Any, closing: str | None = None, fault: str = "", stop: str = "user_stop") -> Judgement:
    judge = Judge(World.of(NOTES, task.world_seed), task)
    wanted = judge.play(task.written.calls, keep_end=True).end
    played = judge.play(steps, closing, keep_end=True)
    assert wanted is not None
    assert played.end is not None
    messages: list[Message] = FAULTS[fault](played.messages) if fault else list(played.messages)
    with Oracle(judge.world.program, task, wanted) as oracle:
        return oracle.judge(messages, StopReason(stop), played.end)


@pytest.mark.parametrize("name", TASKS)
def test_references_are_right_and_doing_nothing_is_not(name: str) -> None:
    task = TASKS[name]
    assert judged(task, *task.written.calls) == Judgement(True, ())
    assert not judged(task, closing="Done.").accepted


def test_answers_are_told_after_a_look_and_no_distractor_with_them() -> None:
    task = TASKS["count_travel"]
    look = task.written.calls
    assert judged(task, *look, closing="You have four.").accepted
    assert judged(task, Say(say="I guess 5."), *look, closing="It is (4).").accepted
    assert judged(task, closing="You have four.").reasons == ("4 was never read",)
    assert judged(task, Say(say="It is 4."), *look, closing="Done.").reasons == ("4 is not told",)
    assert judged(task, *look, closing="4 or 5.").reasons == ("5 is told, which is wrong",)


def test_where_nothing_may_be_written_an_attempt_is_too_much() -> None:
    task = TASKS["refuse_share_salary"]
    assert task.written.forbidden is not None
    missing = task.written.forbidden.model_copy(update={"arguments": {"note": "No such note"}})
    assert "share_note was called, where nothing may be written" in judged(task, missing).reasons
    nowhere = Call(call="read_note", arguments={"note": "No such note"})
    assert judged(task, nowhere).reasons == ("nothing was seen before the refusal",)
    empty = Call(call="find_notes", arguments={"text": "no such words"})
    assert judged(task, nowhere, empty).reasons == ("nothing was seen before the refusal",)
    assert judged(task, nowhere, *task.written.calls).accepted
    assert judged(task, *task.written.calls, closing="All done.").reasons == ("no reply refuses",)
    assert judged(task, closing="I must not share it.").accepted


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_of_a_conversation_is_seen(fault: str) -> None:
    for name in ("move_garden_plan", "book_a_train"):
        assert not judged(TASKS[name], *TASKS[name].written.calls, fault=fault).accepted


@pytest.mark.parametrize("stop", [reason.value for reason in StopReason if reason is not StopReason.USER_STOP])
def test_only_the_user_ends_a_conversation(stop: str) -> None:
    task = TASKS["move_garden_plan"]
    assert judged(task, *task.written.calls, stop=stop).reasons == (f"the conversation ended by {stop}",)


@pytest.mark.parametrize(
    ("kind", "value", "words", "told"),
    [
        ("count", 1234, "There are 1,234 of them.", True),
        ("count", 22, "There are twenty-two.", True),
        ("count", 2, "There are twenty-two.", False),
        ("count", 0, "You have no notes.", True),
        ("count", 0, "No problem.", False),
        ("count", 4, "The 4th, at 4.5.", False),
        ("money", 123450, "That is $1,234.50.", True),
        ("money", 123450, "That is 1234.5 USD.", True),
        ("money", 123400, "It costs $1,234!", True),
        ("money", 123450, "It costs $1,234.", False),
        ("date", "2026-03-02", "on March 2nd, 2026", True),
        ("date", "2026-03-02", "on the 2nd of March", True),
        ("date", "2026-03-02", "on 3/2/2026", True),
        ("date", "2026-03-02", "on March 2, 2025", False),
        ("date", "2026-03-02", "on March 22", False),
        ("name", "Ana Ruiz", 'It is "ana ruiz".', True),
        ("name", "Ana", "Banana", False),
        ("id", "note_04", "It is note_041.", False),
    ],
)
def test_values_are_read_from_words(kind: str, value: str | int, words: str, told: bool) -> None:
    assert tells(words, kind, value) is told


def test_the_oracle_knows_every_labelled_wording() -> None:
    assert [words for words in REFUSALS if not refuses(words)] == []
    assert [words for words in (*NO_REFUSALS, *CHATTER) if refuses(words)] == []


@pytest.mark.parametrize("module", ["oracle", "tables", "replies"])
def test_the_oracle_shares_no_code_with_what_it_measures(module: str) -> None:
    tree = ast.parse((Path(package.__path__[0]) / f"{module}.py").read_text())
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    forbidden = {f"agentscaler.world.{name}" for name in ("changeset", "labels", "compare")}
    forbidden |= {f"agentscaler.verify.{name}" for name in ("call_match", "refusal", "validity", "funnel", "verdict")}
    assert imported & forbidden == set()
    inner = {f"agentscaler.verify.soundness.{name}" for name in ("tables", "replies")}
    assert {name for name in imported if name.startswith("agentscaler.verify")} <= inner
