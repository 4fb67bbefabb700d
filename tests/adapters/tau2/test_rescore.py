"""What is read, what is refused, and what is summed up.

1. A file of another shape is one line of ConfigError.
2. A file damaged anywhere is re-scored or refused, and never ends the job otherwise.
3. Counts add up; there are at most 20 examples of a cause.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentscaler.adapters.tau2.rescore import rescore
from agentscaler.errors import ConfigError

ACTION = {"action_id": "1", "name": "create_task", "arguments": {"user_id": "user_1", "title": "Tea"}}
CREATED = {"task_id": "task_2", "title": "Tea", "description": None, "status": "pending"}
MESSAGES = [
    {"role": "user", "content": "Tea, please.", "tool_calls": None},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "1", **ACTION, "requestor": "assistant"}]},
    {"role": "tool", "id": "1", "content": json.dumps(CREATED), "error": False, "requestor": "assistant"},
]
GRADED = {
    "reward": 1.0,
    "db_check": {"db_match": True, "db_reward": 1.0},
    "env_assertions": [],
    "action_checks": [{"action": ACTION, "action_match": True, "action_reward": 1.0}],
    "communicate_checks": [{"info": "tea", "met": False, "justification": ""}],
    "nl_assertions": [{"nl_assertion": "It is kind.", "met": True, "justification": ""}],
    "reward_basis": ["DB"],
    "reward_breakdown": {"DB": 1.0},
}
TASK = {
    "id": "create_task_1",
    "initial_state": None,
    "evaluation_criteria": {"actions": [ACTION], "reward_basis": ["DB"]},
}
RESULTS: dict[str, Any] = {
    "info": {"environment_info": {"domain_name": "mock"}, "agent_info": {"implementation": "llm_agent"}},
    "tasks": [TASK],
    "simulations": [{"id": "a", "task_id": "create_task_1", "trial": 0, "reward_info": GRADED, "messages": MESSAGES}],
}
CANCEL = {"name": "cancel_reservation", "kwargs": {"reservation_id": "60RX9E"}}
FUNCTION = {"name": "cancel_reservation", "arguments": json.dumps(CANCEL["kwargs"])}
TRAJECTORIES = [
    {
        "task_id": 1,
        "reward": 1.0,
        "trial": 0,
        "info": {
            "task": {"user_id": "u", "actions": [CANCEL], "instruction": "", "outputs": ["507"]},
            "reward_info": {"reward": 1.0, "info": {"r_outputs": 1.0, "outputs": {"507": True}}, "actions": [CANCEL]},
        },
        "traj": [
            {"role": "system", "content": "# Airline Agent Policy"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "1", "type": "function", "function": FUNCTION}],
            },
            {"role": "tool", "tool_call_id": "1", "content": "{}"},
            {"role": "assistant", "content": "You get $507 back."},
        ],
    }
]
JUNK = [None, 0, -1.5, "", "x", True, [], {}, [None], [[]], [{}], {"a": 1}, "{", "[1]"]


def written(folder: Path, content: Any) -> Path:
    file = folder / "results.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, one in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*at, key)
        yield from places(one, (*at, key))


def damaged(content: Any, place: tuple[Any, ...], junk: Any) -> Any:
    changed = deepcopy(content)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    if junk == "gone":
        del inner[place[-1]]
    else:
        inner[place[-1]] = junk
    return changed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.mark.parametrize("content", [RESULTS, TRAJECTORIES])
def test_undamaged(content: Any, folder: Path) -> None:
    given_ = rescore(written(folder, content)).summary()
    assert (given_["simulations"], given_["agree"], given_["reward"]["ours_mean"]) == (1, 1, 1.0)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_file_damaged_anywhere_is_rescored_or_refused(folder: Path, data: st.DataObject) -> None:
    content = data.draw(st.sampled_from([RESULTS, TRAJECTORIES]))
    place = data.draw(st.sampled_from(list(places(content))))
    file = written(folder, damaged(content, place, data.draw(st.sampled_from([*JUNK, "gone"]))))
    try:
        summary = rescore(file).summary()
    except ConfigError as error:
        assert "\n" not in str(error)
        return
    json.dumps(summary)
    assert summary["agree"] + summary["disagree"] == summary["simulations"] == 1 - summary["not_comparable"]
    assert sum(summary["by_cause"].values()) == summary["disagree"] == len(summary["examples"])


def test_at_most_twenty_examples_of_a_cause(folder: Path) -> None:
    wrong = damaged(TRAJECTORIES[0], ("info", "reward_info", "reward"), 0.0)
    summary = rescore(written(folder, [wrong] * 25)).summary()
    assert summary["by_cause"] == {"grading": 25} and len(summary["examples"]) == 20


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is no JSON"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        ([], "holds neither"),
        ([{"score": 1}], "holds neither"),
        ({"rows": []}, "holds neither"),
        ({"info": {}, "simulations": {"0": {}}}, "holds neither"),
        ({"info": {}, "tasks": [], "simulations": []}, "holds no simulations"),
        ({"info": {}, "simulations": [{"task_id": "1"}, {"id": "x"}]}, r"simulations\[1\] has no task_id"),
        ({"info": None, "simulations": [{"task_id": "1"}]}, "domain_name is missing"),
        (
            {"info": {"environment_info": {"domain_name": "banking"}}, "simulations": [{"task_id": "1"}]},
            "domain banking",
        ),
        (
            {"info": {"environment_info": {"domain_name": "tests/x"}}, "simulations": [{"task_id": "1"}]},
            "does not have",
        ),
        ({"info": {"environment_info": {"domain_name": "..run"}}, "simulations": [{"task_id": "1"}]}, "does not have"),
    ],
)
def test_other_files_are_refused_in_one_line(content: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        rescore(written(tmp_path, content))
    assert "\n" not in str(caught.value) and str(caught.value).startswith("results: ")


def test_a_missing_file(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.json", tmp_path):
        with pytest.raises(ConfigError, match="results: there is no file"):
            rescore(path)
