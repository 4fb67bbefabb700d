"""Promises: a task comes out only when its reference ran clean, its facts can be asked for and it is sound; anything else is a
TaskError of one line that names file, task and reason. The shipped tasks all compile, and cover every kind."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from agentscaler.domain.store import domain_folder, load_domain
from agentscaler.errors import ConfigError, TaskError
from agentscaler.tasks.compile import compile_shipped, compile_task, load_written
from agentscaler.tasks.task import Kind, Say, Task
from agentscaler.users.scripted import asked_facts

MOVE = "{call: move_note, arguments: {note: Garden plan, folder: Archive}}"
MISSING = "kind: missing_parameter, intent: Move my garden plan"
FOLDER = 'folder: {asked: ["which folder"], question: "Which folder?", says: Archive}'
COLOUR = 'colour: {asked: ["which"], question: "Which colour?", says: Red}'
BROKEN = {
    # how it is written
    "intent": (f"kind: write, reference: [{MOVE}]", "intent: Field required"),
    "kind": (f"kind: wish, intent: x, reference: [{MOVE}]", "kind: Input should be"),
    "unknown key": (f"kind: write, intent: x, hint: y, reference: [{MOVE}]", "hint: Extra inputs"),
    "step": ("kind: write, intent: x, reference: [{calls: move_note}]", "reference.0"),
    "pattern": (
        f'{MISSING}, facts: {{folder: {{asked: ["("], question: x, says: y}}}}, reference: [{MOVE}]',
        "facts.folder: Value error, pattern",
    ),
    "no pattern": (
        f"{MISSING}, facts: {{folder: {{asked: [], question: x, says: y}}}}, reference: [{MOVE}]",
        "needs asked or about",
    ),
    # what its kind asks for
    "no facts": (f"{MISSING}, reference: [{MOVE}]", "needs facts"),
    "no then": (f"kind: changed_mind, intent: x, reference: [{MOVE}]", "needs then"),
    "no must_tell": ("kind: read_only, intent: x, reference: [{call: list_folders}]", "needs must_tell"),
    "no forbidden": ("kind: refusal, intent: x, reference: [{call: list_folders}]", "names the forbidden call"),
    "forbidden": (f"kind: write, intent: x, forbidden: {MOVE}, reference: [{MOVE}]", "names the forbidden call"),
    "no refused": (f"kind: recovery, intent: x, reference: [{MOVE}]", "needs expected_refused"),
    "refused": (f"kind: recovery, intent: x, expected_refused: [2], reference: [{MOVE}]", "a call that is not there"),
    "ask": (f"kind: write, intent: x, reference: [{{ask: folder}}, {MOVE}]", "folder, which is no fact"),
    # what becomes of its reference
    "tool": ("kind: write, intent: x, reference: [{call: burn_note}]", "is invalid_call, not ok"),
    "argument": (
        "kind: write, intent: x, reference: [{call: move_note, arguments: {note: Garden plan}}]",
        "call 1 (move_note) is invalid_call",
    ),
    "refusal": (
        "kind: write, intent: x, reference: [{call: delete_note, arguments: {note: Wifi codes}}]",
        "call 1 (delete_note) is refused, not ok",
    ),
    "no refusal": (f"kind: recovery, intent: x, expected_refused: [1], reference: [{MOVE}]", "is ok, not refused"),
    "later result": (
        "kind: write, intent: x, reference: [{call: move_note, arguments: {note: {$result: [2, title]}, folder: Home}}]",
        "$result names call 2, which has not run",
    ),
    "result's field": (
        "kind: write, intent: x, reference: [{call: list_folders},"
        " {call: delete_note, arguments: {note: {$result: [1, 0, name]}}}]",
        "call 1 returned no name",
    ),
    "nothing": ("kind: write, intent: x, reference: [{call: list_folders}]", "the reference changes nothing"),
    "write": (
        f"kind: read_only, intent: x, must_tell: [{{type: count, value: 4}}], reference: [{MOVE}]",
        "must not write, but the reference changes ['notes']",
    ),
    "ungrounded": (
        "kind: read_only, intent: x, must_tell: [{type: count, value: 77}], reference: [{call: list_folders}]",
        "the answer 77 never appeared",
    ),
    # whether its facts can be asked for
    "deaf": (
        f'{MISSING}, facts: {{folder: {{asked: ["dossier"], question: "Which folder?", says: x}}}}, reference: [{MOVE}]',
        "fact folder: its question asks for nothing",
    ),
    "two at once": (
        f"{MISSING}, facts: {{{FOLDER}, {COLOUR}}}, reference: [{MOVE}]",
        "fact folder: its question asks for ['folder', 'colour']",
    ),
    "twice": (
        f"{MISSING}, facts: {{{FOLDER}}}, reference: [{{ask: folder}}, {{ask: folder}}, {MOVE}]",
        "asks for a fact twice",
    ),
    "never": (
        f"{MISSING}, facts: {{{FOLDER}, {COLOUR.replace('which', 'which colour')}}}, reference: [{{ask: folder}}, {MOVE}]",
        "never asks for colour",
    ),
    # whether it is sound
    "unsound": (
        f"kind: write, intent: x, reference: [{MOVE.replace('Archive', 'Work')}, {MOVE}]",
        "unsound: leaving out",
    ),
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with a copy of the domain `notes`, whose tasks the test writes."""
    shutil.copytree(domain_folder("notes"), tmp_path / "notes")
    return tmp_path


def error_of(store: Path, text: str) -> str:
    (store / "notes" / "tasks.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        compile_shipped("notes", str(store))
    return str(caught.value)


@pytest.mark.parametrize("case", list(BROKEN))
def test_a_broken_task_is_one_line_naming_file_task_and_reason(store: Path, case: str) -> None:
    text, reason = BROKEN[case]
    words = error_of(store, f"tasks:\n  - {{id: broken, {text}}}\n")
    assert words.startswith(str(store / "notes" / "tasks.yaml"))
    assert "task broken" in words
    assert reason in words
    assert "\n" not in words


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "needs a list under the key tasks"),
        ("tasks: {a: b}", "needs a list under the key tasks"),
        ("- a", "needs a list under the key tasks"),
        ("tasks: [7]", "task number 1"),
        ("tasks:\n  - {kind: write}", "task number 1: id: Field required"),
        ("tasks:\n  - {id: Not an id, kind: write, intent: x}", "task Not an id: id"),
        ("tasks: [", "not valid YAML"),
        (
            f"tasks:\n  - &t {{id: same, kind: write, intent: x, reference: [{MOVE}]}}\n  - *t",
            "task id same occurs twice",
        ),
    ],
)
def test_a_broken_file_is_named(store: Path, text: str, reason: str) -> None:
    words = error_of(store, text)
    assert words.startswith(str(store / "notes" / "tasks.yaml"))
    assert reason in words
    assert "\n" not in words


def test_a_missing_task_file_is_named(store: Path) -> None:
    (store / "notes" / "tasks.yaml").unlink()
    with pytest.raises(TaskError, match=r"tasks=written: .*tasks\.yaml does not exist"):
        compile_shipped("notes", str(store))


@pytest.fixture(scope="module")
def shipped() -> list[Task]:
    return compile_shipped("notes")


def test_shipped_tasks_compile_and_cover_every_kind(shipped: list[Task]) -> None:
    kinds = Counter(task.kind for task in shipped)
    assert len(shipped) == 45
    assert set(kinds) == set(Kind)
    assert min(kinds.values()) >= 2
    assert sum(not task.kind.must_not_write for task in shipped) >= 30
    assert {len(task.written.calls) for task in shipped} <= {1, 2, 3, 4, 5}
    assert {task.world_seed for task in shipped} == {1, 2}


def test_every_tool_that_writes_is_asked_for_in_a_single_call(shipped: list[Task]) -> None:
    single = {
        task.written.calls[0].call for task in shipped if task.kind is Kind.WRITE and len(task.written.calls) == 1
    }
    assert single == {
        *("create_folder", "create_note", "change_text", "move_note", "add_tag"),
        *("remove_tag", "share_note", "stop_sharing", "delete_note"),
    }


def test_single_call_tasks_say_every_argument(shipped: list[Task]) -> None:
    for task in shipped:
        if task.kind is Kind.WRITE:
            values = task.written.calls[0].arguments.values()
            missing = [value for value in values if str(value) not in task.written.intent.replace("View", "view")]
            assert missing == [], task.task_id


def test_only_the_kinds_that_write_expect_a_change(shipped: list[Task]) -> None:
    assert all(bool(task.expected_diff) is not task.kind.must_not_write for task in shipped)


def test_no_opening_or_further_wish_gives_a_withheld_fact_away(shipped: list[Task]) -> None:
    for task in shipped:
        told = [task.written.intent, *task.written.then]
        assert all(fact.says not in words for fact in task.written.facts.values() for words in told)


def test_results_are_put_into_arguments(shipped: list[Task]) -> None:
    task = next(task for task in shipped if task.written.id == "copy_gifts_and_share")
    assert task.expected_calls[1].arguments["text"] == "Three options so far; compare prices next week."


def test_compiling_again_gives_the_same_tasks(shipped: list[Task]) -> None:
    assert [task.task_digest for task in compile_shipped("notes")] == [task.task_digest for task in shipped]


def test_tasks_survive_json(shipped: list[Task]) -> None:
    for task in shipped:
        assert Task.model_validate_json(task.model_dump_json()) == task


def test_the_references_statements_ask_nothing(shipped: list[Task]) -> None:
    for task in shipped:
        says = [step.say for step in task.written.reference if isinstance(step, Say)]
        assert all(not asked_facts(task.written, words) and "?" not in words for words in says)


def test_compile_task_names_the_domain_where_there_is_no_file() -> None:
    domain = load_domain("notes")
    written = load_written(domain_folder("notes") / "tasks.yaml")[0].model_copy(update={"seed": 1, "reference": ()})
    with pytest.raises(TaskError, match=r"^notes: task create_folder_recipes: "):
        compile_task(domain, written)
