"""Environments of one process do not know of each other, and answer as the package does."""

from __future__ import annotations

from decimal import getcontext
from random import Random
from typing import Any

import pytest
from bfcl_eval.eval_checker.multi_turn_eval.func_source_code import long_context
from hypothesis import given, settings
from hypothesis import strategies as st

from agentscaler.adapters.bfcl.calls import Call, parse_call
from agentscaler.adapters.bfcl.changes import plain
from agentscaler.adapters.bfcl.environment import Answer, BfclEnvironment, as_text, open_environment
from agentscaler.adapters.bfcl.score import reference_of
from agentscaler.messages import Outcome
from tests.adapters.bfcl.beside import TASKS, damaged, package_answers, sample, task_named

LONG = [task for task in TASKS if task.domain == "long_context"]


def made(environment: BfclEnvironment, calls: list[Call]) -> tuple[list[Answer], Any]:
    return [environment.call(call) for call in calls], plain(environment.state())


def some_calls(number: int) -> tuple[Any, list[Call]]:
    random = Random(number)
    task = random.choice(LONG if number % 2 else TASKS)
    return task, [call for turn in damaged(task, random) for step in turn for call in step]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6), st.booleans(), st.randoms(use_true_random=False))
def test_interleaved_environments_do_not_meet(one: int, other: int, same_task: bool, random: Any) -> None:
    (task, calls), (other_task, other_calls) = some_calls(one), some_calls(other)
    if same_task:
        other_task, other_calls = task, calls[::-1]
    alone = made(open_environment(task), calls)
    first, second = open_environment(task), open_environment(other_task)
    answers, left = [], list(other_calls)
    for call in calls:
        while left and random.random() < 0.5:
            second.call(left.pop())
        answers.append(first.call(call))
    assert (answers, plain(first.state())) == alone


def test_shared_data_of_long_contexts_stays_as_it_is() -> None:
    """In the package a booking on a card of the extension takes the money from every later conversation."""
    task = next(task for task in LONG if "TravelAPI" in task.data["involved_classes"])
    card = next(iter(long_context.CREDIT_CARD_EXTENSION))
    before = long_context.CREDIT_CARD_EXTENSION[card]["balance"]
    environment = open_environment(task)
    travel = environment.instances["TravelAPI"]
    travel.token_expires_in, travel.access_token, travel.budget_limit = 100, "token", None
    route = {"travel_date": "2026-11-15", "travel_from": "SFO", "travel_to": "LAX", "travel_class": "economy"}
    answer = environment.call(Call("book_flight", {"access_token": "token", "card_id": card, **route}))
    assert answer.outcome is Outcome.OK and travel.credit_card_list[card]["balance"] < before
    assert long_context.CREDIT_CARD_EXTENSION[card]["balance"] == before
    assert open_environment(task).instances["TravelAPI"].credit_card_list[card]["balance"] == before


def test_default_lists_are_nobodys() -> None:
    """In the package the mention would stand in every later tweet without mentions."""
    task = task_named("base_147")
    for _ in range(2):
        environment = open_environment(task)
        assert environment.call(Call("post_tweet", {"content": "Hello."})).text.endswith('"tags": [], "mentions": []}')
        environment.call(Call("mention", {"tweet_id": 1, "mentioned_usernames": ["@me"]}))
        assert environment.state()["TwitterAPI"]["tweets"][1]["mentions"] == ["@me"]


def test_arguments_stay_the_callers() -> None:
    environment, names = open_environment(task_named("base_147")), ["@a"]
    environment.call(Call("post_tweet", {"content": "Hello.", "mentions": names}))
    environment.call(Call("mention", {"tweet_id": 1, "mentioned_usernames": ["@b"]}))
    assert names == ["@a"]


@pytest.mark.parametrize(
    ("text", "outcome", "answer"),
    [
        ("mkdir(dir_name='new')", Outcome.OK, "None"),
        ("cd(folder='nowhere')", Outcome.REFUSED, '{"error": "cd: \'nowhere\': No such file or directory"}'),
        ("cd(folder=3)", Outcome.REFUSED, "Error during execution: 'int' object has no attribute 'rstrip'"),
        ("cd()", Outcome.INVALID_CALL, "Error during execution: GorillaFileSystem.cd() missing 1 required positional"),
        ("cd(path='x')", Outcome.INVALID_CALL, "Error during execution: GorillaFileSystem.cd() got an unexpected"),
        ("fly(to='x')", Outcome.INVALID_CALL, "Error during execution: name 'fly' is not defined"),
        ("print('x')", Outcome.INVALID_CALL, "Error during execution: name 'print' is not defined"),
        ("_load_scenario(scenario={})", Outcome.INVALID_CALL, "Error during execution: name '_load_scenario' is not"),
        ("kill(x=1)", Outcome.REFUSED, "Error during execution: Function call kill is not allowed."),
        ("remove('x')", Outcome.REFUSED, "Error during execution: Function call remove is not allowed."),
    ],
)
def test_outcomes(text: str, outcome: Outcome, answer: str) -> None:
    found = open_environment(task_named("base_0")).call(parse_call(text))
    assert found.outcome is outcome and found.text.startswith(answer)


def test_errors_inside_lists() -> None:
    task = next(t for t in TASKS if t.data["initial_config"].get("TradingBot", {}).get("authenticated") is False)
    environment = open_environment(task)
    assert environment.call(Call("get_watchlist")).outcome is Outcome.REFUSED
    assert environment.call(Call("get_order_history")).outcome is Outcome.REFUSED
    assert environment.call(Call("get_current_time")).outcome is Outcome.OK


def test_big_numbers_are_refused_at_once_and_precision_stays() -> None:
    task = next(task for task in TASKS if "MathAPI" in task.data["involved_classes"])
    environment, precision = open_environment(task), getcontext().prec
    assert "Exceeds the limit (4300 digits)" in environment.call(Call("power", {"base": 9, "exponent": 10**9})).text
    assert environment.call(Call("power", {"base": 2, "exponent": 100})).text == f'{{"result": {2**100}}}'
    refused = environment.call(Call("square_root", {"number": 2, "precision": 10**9}))
    assert refused.outcome is Outcome.REFUSED
    assert environment.call(Call("square_root", {"number": 2, "precision": 5})).outcome is Outcome.OK
    assert getcontext().prec == precision
    assert (
        environment.call(Call("add", {"a": 1, "b": 2}, fault="it cannot be")).text
        == "Error during execution: it cannot be"
    )


def test_sets_are_written_in_order() -> None:
    words = "Invalid travel class. Must be one of {'first', 'economy', 'business'}"
    assert as_text({"error": words}).endswith("{'business', 'economy', 'first'}\"}")
    assert as_text({"error": "Invalid fields for update: b, a"}) == '{"error": "Invalid fields for update: a, b"}'
    assert as_text({"file_content": "{'b', 'a'}"}) == "{\"file_content\": \"{'b', 'a'}\"}"


def test_answers_are_the_packages() -> None:
    for task in sample():
        calls = [call for turn in damaged(task, Random(task.name)) for step in turn for call in step]
        environment = open_environment(task)
        assert [environment.call(call).text for call in calls] == package_answers(task, calls)


def test_references_meet_no_error() -> None:
    for task in sample():
        environment = open_environment(task)
        assert {environment.call(call).outcome for turn in reference_of(task) for call in turn} == {Outcome.OK}
