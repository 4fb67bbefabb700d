"""Files in τ²-bench's own format, made with the package's models and graded by the package's evaluators.

1. Whatever was said and called, our outcome is the recorded one.
2. A record that is damaged where it matters disagrees, with a cause; one that is damaged elsewhere agrees.
3. The recorded reference goes before the file's tasks, and these before the package's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from agentscaler.adapters.tau2.live import isolated, tried
from agentscaler.adapters.tau2.package import load_domain
from agentscaler.adapters.tau2.rescore import rescore
from jobs.bench.tau2_sequences import Draw, Material, draws_of, play

CREATE, UPDATE = "create_task_1", "update_task_1"


@cache
def material(name: str) -> Material:
    domain = load_domain(name)
    return Material.of(domain.environment(), domain.tasks("base"))


def simulation(name: str, task: Any, draws: list[Draw | str], **grading: Any) -> dict[str, Any]:
    """Played and graded by the package alone."""
    from tau2.data_model.message import ToolCall
    from tau2.data_model.simulation import RewardInfo, SimulationRun
    from tau2.evaluator.evaluator_action import ActionEvaluator
    from tau2.evaluator.evaluator_communicate import CommunicateEvaluator
    from tau2.evaluator.evaluator_env import EnvironmentEvaluator

    domain = load_domain(name)
    played = isolated(domain.environment(**grading))
    state = task.initial_state
    parts = (
        (state.initialization_data, state.initialization_actions, state.message_history or [])
        if state
        else (None, None, [])
    )
    played.set_state(*parts)

    def call(draw: Draw) -> tuple[str, bool]:
        answer = played.get_response(
            ToolCall(id="1", name=draw.tool, arguments=draw.arguments, requestor=draw.requestor)
        )
        return answer.content or "", answer.error

    messages = play(task, draws, call)[1]
    env, error = tried(
        lambda new: EnvironmentEvaluator.calculate_reward(new, task, messages, **grading),
        lambda solo_mode=False: isolated(domain.environment(solo_mode=solo_mode)),
    )
    graded = None
    if error is None:
        acted, told = (
            ActionEvaluator.calculate_reward(task, messages),
            CommunicateEvaluator.calculate_reward(task, messages),
        )
        basis = task.evaluation_criteria.reward_basis if task.evaluation_criteria else []
        parts = {**(env.reward_breakdown or {}), **(acted.reward_breakdown or {}), **(told.reward_breakdown or {})}
        breakdown = {kind: value for kind, value in parts.items() if kind in basis}
        graded = RewardInfo(
            reward=float(all(breakdown.values())),
            db_check=env.db_check,
            env_assertions=env.env_assertions,
            action_checks=acted.action_checks,
            communicate_checks=told.communicate_checks,
            nl_assertions=None,
            info=None,
            reward_basis=basis,
            reward_breakdown=breakdown,
        )
    run = SimulationRun(
        id=f"run of {task.id}",
        task_id=task.id,
        start_time="",
        end_time="",
        duration=1.0,
        termination_reason=grading.get("stop", "user_stop"),
        reward_info=graded,
        messages=messages,
        trial=0,
    )
    return json.loads(run.model_dump_json())


def results(name: str, simulations: list[dict[str, Any]]) -> dict[str, Any]:
    tasks = [task.model_dump(mode="json") for task in material(name).tasks]
    named = {one["task_id"] for one in simulations}
    return {
        "timestamp": "2025-06-01",
        "info": {
            "agent_info": {"implementation": "llm_agent"},
            "environment_info": {"domain_name": name, "policy": ""},
        },
        "tasks": [task for task in tasks if task["id"] in named],
        "simulations": simulations,
    }


def task_of(name: str, id: str) -> Any:
    return next(task for task in material(name).tasks if task.id == id)


def by_reference(name: str, id: str) -> dict[str, Any]:
    task = task_of(name, id)
    draws: list[Draw | str] = [Draw(a.requestor, a.name, a.arguments) for a in task.evaluation_criteria.actions]
    return simulation(name, task, draws)


def summary(folder: Path, data: Any) -> dict[str, Any]:
    file = folder / "results.json"
    file.write_text(data if isinstance(data, str) else json.dumps(data))
    return rescore(file).summary()


def counts(given: dict[str, Any]) -> tuple[int, int, int]:
    return given["agree"], given["disagree"], given["not_comparable"]


@pytest.fixture(scope="module")
def played() -> dict[str, Any]:
    """Two runs of mock: one does what its reference does, one nothing."""
    return results("mock", [by_reference("mock", CREATE), simulation("mock", task_of("mock", UPDATE), ["Hello."])])


@pytest.fixture
def file(played: dict[str, Any]) -> dict[str, Any]:
    return deepcopy(played)


@pytest.mark.parametrize(("name", "number"), [("mock", 60), ("telecom", 25)])
def test_our_outcome_is_the_recorded_one(name: str, number: int, tmp_path: Path) -> None:
    simulations = [simulation(name, *draws_of(material(name), seed)) for seed in range(number)]
    graded = [one for one in simulations if (one["reward_info"] or {}).get("db_check")]
    progress: list[tuple[int, int]] = []
    file = tmp_path / "results.json"
    file.write_text(json.dumps(results(name, simulations)))
    given = rescore(file, lambda done, total: progress.append((done, total))).summary()
    assert counts(given) == (len(graded), 0, number - len(graded)) and len(graded) > 0.9 * number
    assert {one["reward_info"]["db_check"]["db_match"] for one in graded} == {True, False}
    assert given["reward"]["agree"] == given["reward"]["simulations"] == len(graded)
    assert progress == [(done, number) for done in range(1, number + 1)]
    assert given["by_domain"] == {
        name: {key: given[key] for key in ("simulations", "agree", "disagree", "not_comparable")}
    }


def test_summary_of_a_file(file: dict[str, Any], tmp_path: Path) -> None:
    given = summary(tmp_path, file)
    assert given["format"] == "tau2" and given["results"] == str(tmp_path / "results.json")
    assert counts(given) == (2, 0, 0) and given["simulations"] == 2 and given["by_cause"] == {}
    assert given["reward"] == {"simulations": 2, "recorded_mean": 0.5, "ours_mean": 0.5, "agree": 2}
    assert given["nl"] == {"simulations_with_nl": 0, "recorded_mean": None} and given["examples"] == []


def _flip_match(file: dict[str, Any]) -> None:
    file["simulations"][0]["reward_info"]["db_check"]["db_match"] = False


def _call(file: dict[str, Any]) -> dict[str, Any]:
    return next(call for message in file["simulations"][0]["messages"] for call in message.get("tool_calls") or ())


def _result(file: dict[str, Any]) -> dict[str, Any]:
    return next(message for message in file["simulations"][0]["messages"] if message["role"] == "tool")


def _change_argument(file: dict[str, Any]) -> None:
    _call(file)["arguments"]["title"] = "Another"


def _call_unknown_tool(file: dict[str, Any]) -> None:
    _call(file)["name"] = "make_task"


def _forget_the_reference(file: dict[str, Any]) -> None:
    del file["simulations"][1]["reward_info"]["action_checks"]
    del file["simulations"][0]
    file["simulations"][0]["reward_info"]["db_check"]["db_match"] = True


def _break_the_reference(file: dict[str, Any]) -> None:
    file["simulations"][0]["reward_info"]["action_checks"][0]["action"]["arguments"]["user_id"] = "nobody"


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (_flip_match, "grading"),
        (_change_argument, "other answers"),
        (_call_unknown_tool, "other database or tools"),
        (_forget_the_reference, "reference not recorded"),
        (_break_the_reference, "reference fails here"),
    ],
)
def test_damage_that_matters(
    damage: Callable[[dict[str, Any]], None], cause: str, file: dict[str, Any], tmp_path: Path
) -> None:
    damage(file)
    given = summary(tmp_path, file)
    assert given["disagree"] == 1 and given["by_cause"] == {cause: 1} and given["by_domain"]["mock"]["disagree"] == 1
    (example,) = given["examples"]
    assert example["cause"] == cause and example["trial"] == 0 and example["words"]
    assert example["recorded"]["db_match"] is not example["ours"]["db_match"]


def test_tool_texts_are_not_compared(file: dict[str, Any], tmp_path: Path) -> None:
    _result(file).update(content="Done as you wished.", error=True)
    assert counts(summary(tmp_path, file)) == (2, 0, 0)


def test_an_assertion_that_is_met_otherwise(tmp_path: Path) -> None:
    tasks = [task for task in material("telecom").tasks if task.evaluation_criteria.env_assertions]
    data = results("telecom", [by_reference("telecom", tasks[0].id)])
    assert counts(summary(tmp_path, data)) == (1, 0, 0)
    checks = data["simulations"][0]["reward_info"]["env_assertions"]
    checks[0]["met"] = not checks[0]["met"]
    given = summary(tmp_path, data)
    assert counts(given) == (0, 1, 0) and given["by_cause"] == {"grading": 1}
    assert given["examples"][0]["recorded"]["db_match"] is given["examples"][0]["ours"]["db_match"]


def test_the_recorded_reference_goes_before_the_files_tasks(file: dict[str, Any], tmp_path: Path) -> None:
    for task in file["tasks"]:
        task["evaluation_criteria"]["actions"] = [
            {"action_id": "x", "name": "create_task", "arguments": {"user_id": "user_1", "title": "Of another release"}}
        ]
    assert counts(summary(tmp_path, file)) == (2, 0, 0)
    nothing = file["simulations"][1]["reward_info"]
    nothing.update(action_checks=None, db_check={"db_match": True, "db_reward": 1.0})
    assert counts(summary(tmp_path, file)) == (2, 0, 0)  # others record theirs, not these tasks': it had none
    file["simulations"][0]["reward_info"]["action_checks"] = None
    assert counts(summary(tmp_path, file)) == (0, 2, 0)  # none records any: the tasks' are all there is


def test_files_without_tasks(file: dict[str, Any], tmp_path: Path) -> None:
    del file["tasks"]
    assert counts(summary(tmp_path, file)) == (2, 0, 0)
    file["simulations"][0]["task_id"] = "of another release"
    given = summary(tmp_path, file)
    assert counts(given) == (1, 0, 1) and given["not_comparable_by_cause"] == {"unknown task": 1}


def test_a_task_that_the_package_refuses(file: dict[str, Any], tmp_path: Path) -> None:
    action = {"env_type": "assistant", "func_name": "no_such_function", "arguments": {}}
    file["tasks"][0]["initial_state"] = {"initialization_actions": [action]}
    file["tasks"][1]["initial_state"] = {"initialization_actions": "all of them"}
    assert summary(tmp_path, file)["not_comparable_by_cause"] == {"task cannot begin here": 2}


@pytest.mark.parametrize(
    "graded", [None, {"reward": 0.0}, {"reward": 0.0, "db_check": None, "info": {"note": "max_steps"}}]
)
def test_what_was_not_checked_is_counted_apart(graded: Any, file: dict[str, Any], tmp_path: Path) -> None:
    file["simulations"][0]["reward_info"] = graded
    given = summary(tmp_path, file)
    assert (given["simulations"], *counts(given)) == (1, 1, 0, 1)
    assert given["not_comparable_by_cause"] == {"no check recorded": 1}


def test_assertions_in_words_are_reported_apart(file: dict[str, Any], tmp_path: Path) -> None:
    graded = file["simulations"][0]["reward_info"]
    graded["reward_basis"] = ["DB", "NL_ASSERTION"]
    graded["nl_assertions"] = [{"nl_assertion": "It is kind.", "met": False, "justification": ""}]
    graded.update(reward=0.0, reward_breakdown={"DB": 1.0, "NL_ASSERTION": 0.0})
    given = summary(tmp_path, file)
    assert given["nl"] == {"simulations_with_nl": 1, "recorded_mean": 0.0} and counts(given) == (2, 0, 0)
    assert given["reward"] == {"simulations": 2, "recorded_mean": 0.5, "ours_mean": 0.5, "agree": 2}
    del graded["reward_breakdown"]
    assert summary(tmp_path, file)["reward"]["simulations"] == 1  # the part in words cannot be taken out


def test_other_generations_of_the_format(file: dict[str, Any], tmp_path: Path) -> None:
    file["info"].update(retrieval_config=None, git_commit="x")
    file["simulation_index"] = []
    file["tasks"][0]["annotations"] = {"by": "hand"}
    file["tasks"][1]["user_scenario"] = "as text"
    for one in file["simulations"]:
        one.update(mode="half_duplex", agent_cost=float("nan"), task_id=one["task_id"], review={"errors": []})
        one["reward_info"]["reward_basis"] = ["DB", "FRIENDLINESS"]
        for message in one["messages"]:
            message["raw_data"] = {"thinking_blocks": [{"signature": "\ud83d"}]}
            for call in message.get("tool_calls") or ():
                call["arguments"] = json.dumps(call["arguments"])
                del call["requestor"]
            message.pop("error", None)
    assert counts(summary(tmp_path, file)) == (2, 0, 0)


def test_a_file_for_each_simulation_and_voice_runs(file: dict[str, Any], tmp_path: Path) -> None:
    call = next(m for m in file["simulations"][0]["messages"] if m.get("tool_calls"))
    tick = {"agent_tool_calls": call["tool_calls"], "agent_tool_results": [_result(file)], "user_tool_calls": None}
    file["simulations"][0].update(messages=None, ticks=[{"agent_chunk": None}, tick])
    del file["simulations"][1]["messages"]
    (tmp_path / "simulations").mkdir()
    for number, one in enumerate(file.pop("simulations")):
        (tmp_path / "simulations" / f"{number}.json").write_text(json.dumps(one))
    given = summary(tmp_path, file)
    assert counts(given) == (1, 0, 1) and given["not_comparable_by_cause"] == {"no messages": 1}
    assert rescore(tmp_path).summary()["agree"] == 1


def test_an_agent_alone_has_the_users_tools(tmp_path: Path) -> None:
    task = next(
        t for t in material("telecom").tasks if any(a.requestor == "user" for a in t.evaluation_criteria.actions)
    )
    draws: list[Draw | str] = [Draw("assistant", a.name, a.arguments) for a in task.evaluation_criteria.actions]
    data = results("telecom", [simulation("telecom", task, draws, solo_mode=True)])
    assert data["simulations"][0]["reward_info"]["db_check"]["db_match"] is True
    assert counts(summary(tmp_path, data)) == (0, 1, 0)
    data["info"]["agent_info"]["implementation"] = "llm_agent_solo"
    assert counts(summary(tmp_path, data)) == (1, 0, 0)


def test_a_policy_variant_is_the_same_world(tmp_path: Path) -> None:
    data = results("telecom", [by_reference("telecom", material("telecom").tasks[0].id)])
    data["info"]["environment_info"]["domain_name"] = "telecom-workflow"
    assert summary(tmp_path, data)["by_domain"]["telecom-workflow"]["agree"] == 1
