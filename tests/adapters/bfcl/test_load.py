"""The package's 800 tasks, and folders in its shape that are not as they must be."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agentscaler.adapters.bfcl.load import DOMAINS, load
from agentscaler.errors import ConfigError

TASK: dict[str, Any] = {
    "id": "multi_turn_base_0",
    "question": [[{"role": "user", "content": "Add one and two."}], [{"role": "user", "content": "And three."}]],
    "initial_config": {},
    "involved_classes": ["MathAPI"],
}
ANSWER: dict[str, Any] = {"id": "multi_turn_base_0", "ground_truth": [["add(a=1, b=2)"], ["add(3, b=3)"]]}


def folder_with(tmp_path: Path, task: dict[str, Any], answer: dict[str, Any]) -> str:
    (tmp_path / "possible_answer").mkdir()
    (tmp_path / "BFCL_v4_multi_turn_base.json").write_text(json.dumps(task) + "\n")
    (tmp_path / "possible_answer" / "BFCL_v4_multi_turn_base.json").write_text(json.dumps(answer) + "\n")
    return str(tmp_path)


def test_all_of_them() -> None:
    loaded = load()
    assert Counter(task.kind for task in loaded.tasks) == {f"multi_turn_{name}": 200 for name in DOMAINS}
    assert [domain.name for domain in loaded.domains] == list(DOMAINS) and loaded.broken == []
    assert len({task.task_id for task in loaded.tasks}) == len({task.task_digest for task in loaded.tasks}) == 800
    assert all(task.intent and task.num_calls for task in loaded.tasks)
    assert [task.name for task in load(("miss_func",)).tasks] == [f"multi_turn_miss_func_{n}" for n in range(200)]


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    [task] = load(("base",), folder_with(tmp_path, TASK, ANSWER)).tasks
    assert (task.name, task.kind, task.num_calls, task.intent) == (
        "multi_turn_base_0",
        "multi_turn_base",
        2,
        "Add one and two.",
    )


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"id": 7}, "a row without id"),
        ({"id": "multi_turn_miss_func_0"}, "has no answer"),
        ({"question": []}, "question must be a list of turns"),
        ({"question": [[], [{"role": "user", "content": "x"}]]}, "turn 0 has 0 messages"),
        ({"question": [[{"role": "system", "content": "x"}]] * 2}, "turn 0 is not the user's"),
        ({"question": [[{"role": "user", "content": "x"}]]}, "ground_truth must be a list of 1 turns"),
        ({"involved_classes": ["WebSearchAPI"]}, "involved_classes must be"),
        ({"initial_config": []}, "initial_config must be"),
        ({"missed_function": {"1": ["cd"]}}, "missed_function names"),
        ({"missed_function": {"5": ["add"]}}, "missed_function must be"),
        ({"missed_function": {"1": ["add"]}}, "turn 1 has 1 messages"),
    ],
)
def test_a_row_that_is_no_task(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        load(("base",), folder_with(tmp_path, {**TASK, **changed}, ANSWER))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("calls", "words"),
    [
        ("add(a=one)", "no literal"),
        ("__import__('os').remove('x')", "no call of a function by its name"),
        ("cd(folder='x')", "no involved class has cd"),
        ("add(a=1)", "missing a required argument"),
        ("add(1, 2, 3)", "too many"),
    ],
)
def test_a_reference_that_cannot_be_made_is_reported(tmp_path: Path, calls: str, words: str) -> None:
    answer = {**ANSWER, "ground_truth": [["add(a=1, b=2)"], [calls]]}
    loaded = load(("base",), folder_with(tmp_path, TASK, answer))
    assert loaded.tasks == [] and len(loaded.broken) == 1
    assert loaded.broken[0].startswith("bfcl/base/multi_turn_base_0: ") and words in loaded.broken[0]


def test_a_world_that_cannot_begin_is_reported(tmp_path: Path) -> None:
    task = {
        **TASK,
        "involved_classes": ["MathAPI", "TwitterAPI"],
        "initial_config": {"TwitterAPI": {"tweets": {"x": {}}}},
    }
    loaded = load(("base",), folder_with(tmp_path, task, ANSWER))
    assert loaded.tasks == [] and "its beginning: ValueError" in loaded.broken[0]


def test_bad_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="domains: bfcl has no airline; it has base, miss_func"):
        load(("airline",))
    with pytest.raises(ConfigError, match="split: bfcl has no splits"):
        load(split="test")
    with pytest.raises(ConfigError, match="is no folder"):
        load(path=str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="cannot be read"):
        load(path=str(tmp_path))
    folder = folder_with(tmp_path, TASK, ANSWER)
    (tmp_path / "BFCL_v4_multi_turn_base.json").write_text('{"id": \n')
    with pytest.raises(ConfigError, match="line 1 is no JSON"):
        load(("base",), folder)
    (tmp_path / "BFCL_v4_multi_turn_base.json").write_text("[1]\n")
    with pytest.raises(ConfigError, match="line 1 is no JSON object"):
        load(("base",), folder)
