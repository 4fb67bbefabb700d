"""Promises: a task that the verifier cannot judge rightly on mutants of its reference is unsound, with the reason in words."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from agentscaler.domain.domain import Domain
from agentscaler.domain.store import load_domain
from agentscaler.errors import TaskError
from agentscaler.tasks.compile import compile_shipped, compile_task
from agentscaler.tasks.task import Call, Task, WrittenTask
from agentscaler.verify.soundness.check import check_soundness
from agentscaler.world import changeset
from agentscaler.world.outline import Outliner
from tests.world.tiny_domain import tiny, tool

NOTES = load_domain("notes")


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"call": name, "arguments": arguments}


def move(title: str, folder: str) -> dict[str, Any]:
    return call("move_note", note=title, folder=folder)


def unsound(*reference: dict[str, Any], kind: str = "write", domain: Domain = NOTES, **more: Any) -> str:
    written = WrittenTask.model_validate({"id": "bad", "kind": kind, "intent": "x", "reference": reference, **more})
    with pytest.raises(TaskError) as caught:
        compile_task(domain, written)
    return str(caught.value)


def edited(**changes: Any) -> Domain:
    return Domain.model_validate({**NOTES.to_json(), **changes})


def test_every_shipped_task_is_sound() -> None:
    tasks = compile_shipped("notes")
    assert [check_soundness(NOTES, task) for task in tasks] == [[]] * len(tasks)


def test_a_call_without_which_the_end_is_the_same() -> None:
    words = unsound(move("Garden plan", "Work"), move("Garden plan", "Archive"))
    assert "leaving out call 1 (move_note) is accepted" in words


def test_a_write_of_exempt_columns_alone() -> None:
    """What an edit changes is exempt here: with it or without it, the end is the same."""
    exempt = edited(columns={"exempt": ["note_history.*", "notes.updated_at", "notes.body"]})
    edit = call("change_text", note="Repair log", text="Boiler fixed")
    assert "the reference changes nothing" in unsound(edit, domain=exempt)
    assert "leaving out call 2 (change_text) is accepted" in unsound(move("Train times", "Home"), edit, domain=exempt)


def test_an_argument_that_only_exempt_columns_hold_is_no_fault() -> None:
    exempt = edited(columns={"exempt": ["note_history.*", "notes.updated_at", "notes.body"]})
    note = call("create_note", title="Dentist", text="Call on Monday", folder="Home")
    written = WrittenTask.model_validate({"id": "fine", "kind": "write", "intent": "x", "reference": [note]})
    assert check_soundness(exempt, compile_task(exempt, written)) == []


def test_writes_that_cancel_out() -> None:
    words = unsound(call("add_tag", note="Garden plan", tag="new"), call("remove_tag", note="Garden plan", tag="new"))
    assert "the reference changes nothing" in words


def test_a_detour_beside_a_real_write() -> None:
    words = unsound(
        call("add_tag", note="Garden plan", tag="new"),
        call("remove_tag", note="Garden plan", tag="new"),
        move("Train times", "Archive"),
    )
    assert "the reference takes a detour" in words


def test_a_task_that_doing_nothing_solves() -> None:
    """No compiled task is like this; one read from a damaged file could be."""
    reading = Call(call="list_folders")
    written = WrittenTask.model_validate({"id": "bad", "kind": "write", "intent": "x", "reference": [reading]})
    task = Task(
        written=written,
        domain="notes",
        domain_fingerprint=NOTES.fingerprint,
        expected_diff={},
        expected_calls=(reading,),
    )
    assert check_soundness(NOTES, task) == ["doing nothing is accepted"]


def test_an_expected_end_that_is_not_the_references() -> None:
    task = next(task for task in compile_shipped("notes") if task.written.id == "move_garden_plan")
    other = next(task for task in compile_shipped("notes") if task.written.id == "tag_novel_outline")
    problems = check_soundness(NOTES, task.model_copy(update={"expected_diff": other.expected_diff}))
    assert len(problems) == 1
    assert "the reference itself is state_match" in problems[0]


REFUSE: dict[str, Any] = {"kind": "refusal"}


@pytest.mark.parametrize(
    "forbidden",
    [
        call("delete_note", note="Wifi codes"),  # locked
        call("delete_note", note="Meeting minutes"),  # shared
        call("delete_note", note="No such note"),
        call("delete_note"),
        call("burn_note"),
    ],
)
def test_a_forbidden_call_that_the_database_would_not_allow(forbidden: dict[str, Any]) -> None:
    words = unsound(call("list_folders"), forbidden=forbidden, **REFUSE)
    assert "the rule is not text_only" in words


def test_a_forbidden_call_that_only_reads() -> None:
    words = unsound(call("list_folders"), forbidden=call("find_notes"), **REFUSE)
    assert "the forbidden call is accepted" in words


def test_an_answer_and_its_own_distractor() -> None:
    words = unsound(
        call("list_folders"), kind="read_only", must_tell=[{"type": "count", "value": 4, "distractors": [4]}]
    )
    assert "told the wrong count 4" in words


def test_a_call_left_out_leaves_the_others_their_answers() -> None:
    """Call 3 uses what call 2 answers, also where call 1 is left out."""
    found = call("read_note", note="Garden plan")
    again = call("move_note", note={"$result": [2, "title"]}, folder="Archive")
    assert "leaving out call 1 (move_note) is accepted" in unsound(move("Garden plan", "Work"), found, again)


def test_a_world_in_which_nothing_more_can_be_written() -> None:
    once = tool("sort_out", do=["UPDATE books SET pages = 7 WHERE pages > 7"])
    domain = tiny(once)
    domain = domain.model_copy(update={"tools": (domain.tools[0], domain.tools[-1])})
    assert "no stray write could be found to try" in unsound(call("sort_out"), domain=domain)


def test_ends_that_the_diff_takes_for_equal_are_compared_by_their_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = changeset.canonical_diff

    def keys_alone(*changes: Any) -> changeset.Diff:
        return {table: [{**row, "columns": {}} for row in rows] for table, rows in whole(*changes).items()}

    monkeypatch.setattr(changeset, "canonical_diff", keys_alone)
    monkeypatch.setattr(Outliner, "outline", lambda *_: Counter())
    assert "call 1 with title=" in unsound(call("create_note", title="Dentist", text="Monday", folder="Home"))


def test_checking_is_deterministic() -> None:
    written = WrittenTask.model_validate(
        {
            "id": "bad",
            "kind": "write",
            "intent": "x",
            "reference": [move("Garden plan", "Work"), move("Garden plan", "Ideas")],
        }
    )
    words = set()
    for _ in range(3):
        with pytest.raises(TaskError) as caught:
            compile_task(NOTES, written)
        words.add(str(caught.value))
    assert len(words) == 1
