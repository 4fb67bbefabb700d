"""The package's rules of reward, on a small domain; beside the package itself in `tests/jobs/test_bench_tau2.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentscaler.adapters.tau2.live import LiveWorld, Tau2Environment
from agentscaler.adapters.tau2.package import load_domain
from agentscaler.adapters.tau2.score import Said, Score, begin, score

CRATES = load_domain(str(Path(__file__).parent / "crates"))
WORLD = LiveWorld(CRATES)
COUNT = ("count", {"key": "c1", "number": 7})


def task_with(**criteria: Any) -> Any:
    task = CRATES.tasks()[0]
    changed = task.evaluation_criteria.model_dump() | criteria
    return type(task).model_validate(task.model_dump() | {"evaluation_criteria": changed})


def played(
    task: Any, *calls: tuple[str, dict[str, Any]], said: str = "That makes 1,000.", stop: str = "user_stop"
) -> Score:
    environment: Tau2Environment = WORLD.open()
    begin(environment, task)
    for tool, arguments in calls:
        environment.call("assistant", tool, arguments)
    return score(WORLD, task, environment, Said([said], calls), stop)


def test_the_reference_is_rewarded() -> None:
    given = played(task_with(), COUNT)
    assert given == Score(
        1.0,
        True,
        {"DB": 1.0, "ENV_ASSERTION": 1.0, "COMMUNICATE": 1.0},
        {"env_assertions": (True,), "communicate": (True,), "actions": (True,)},
    )


def test_each_part_of_the_basis_can_fail_alone() -> None:
    assert played(task_with()).breakdown == {"DB": 0.0, "ENV_ASSERTION": 1.0, "COMMUNICATE": 1.0}
    assert played(task_with(), COUNT, said="Done.").breakdown == {"DB": 1.0, "ENV_ASSERTION": 1.0, "COMMUNICATE": 0.0}
    closed = played(task_with(), COUNT, ("close_all", {"closed": True}))
    assert closed.breakdown == {"DB": 0.0, "ENV_ASSERTION": 0.0, "COMMUNICATE": 1.0} and closed.reward == 0.0


def test_only_what_the_basis_names_counts() -> None:
    assert played(task_with(reward_basis=["COMMUNICATE"])).reward == 1.0
    assert played(task_with(reward_basis=["ACTION"]), COUNT, said="").reward == 1.0
    assert played(task_with(reward_basis=["ACTION"]), ("count", {"key": "c1", "number": 8})).reward == 0.0


def test_without_a_judge_there_is_no_reward_and_never_a_passed_one() -> None:
    asked = task_with(reward_basis=["DB", "NL_ASSERTION"], nl_assertions=["The agent is kind."])
    assert played(asked, COUNT).reward is None
    assert played(asked).reward == 0.0


@pytest.mark.parametrize("stop", ["max_steps", "too_many_errors", "agent_error"])
def test_a_conversation_that_nobody_ended_is_not_graded(stop: str) -> None:
    assert played(task_with(), COUNT, stop=stop).reward == 0.0


def test_an_assertion_that_cannot_be_asked_does_not_hold() -> None:
    gone = [{"env_type": "assistant", "func_name": "is_closed", "arguments": {"key": "nowhere"}, "assert_value": False}]
    assert played(task_with(env_assertions=gone, reward_basis=["ENV_ASSERTION"]), COUNT).reward == 0.0


def test_errors_of_the_reference_are_swallowed_and_what_they_wrote_stays() -> None:
    actions = [{"action_id": "1", "name": "halfway", "arguments": {"key": "c1", "number": 7}}]
    assert played(task_with(actions=actions), ("halfway", {"key": "c1", "number": 7})).reward == 1.0
    assert played(task_with(actions=actions)).reward == 0.0


@pytest.mark.parametrize("name", ["mock", "airline"])
def test_reference_agents_of_shipped_domains(name: str) -> None:
    domain = load_domain(name)
    world = LiveWorld(domain)
    for task in domain.tasks("base")[:20]:
        criteria = task.evaluation_criteria
        if (
            criteria.actions is None
        ):  # mock's update_task_with_history_and_env_assertions asserts an end and has no reference
            continue
        environment = world.open()
        begin(environment, task)
        for action in criteria.actions:
            environment.call(action.requestor, action.name, action.arguments)
        calls = [(action.name, action.arguments) for action in criteria.actions or ()]
        assert score(world, task, environment, Said(criteria.communicate_info or [], calls), "user_stop").reward == 1.0
