"""The check after every turn: the package's rules, and the package beside it."""

from __future__ import annotations

from random import Random

import pytest

from agentscaler.adapters.bfcl.calls import Call, parse_call
from agentscaler.adapters.bfcl.score import reference_of, score, turns_of
from agentscaler.benchmark import BenchmarkTask
from agentscaler.messages import Message, ToolCall
from agentscaler.verify.verdict import Stage
from tests.adapters.bfcl.beside import (
    TASKS,
    all_in_one_step,
    damaged,
    package_accepts,
    sample,
    task_named,
    without_last_call,
)

TASK = task_named("base_0")  # cd, mkdir, mv | cd, grep | sort | cd, mv, cd, diff
EMPTY_LAST = task_named("base_167")


def test_the_reference_passes_and_says_what_it_changed() -> None:
    found = score(TASK, all_in_one_step(reference_of(TASK)))
    assert found.passed and found.turn == 0
    assert set(found.changed) == {
        "GorillaFileSystem.root.document.final_report.pdf",
        "GorillaFileSystem.root.document.previous_report.pdf",
        "GorillaFileSystem.root.document.temp",
    }


def test_each_rule_rejects_alone() -> None:
    silent = all_in_one_step(reference_of(TASK))
    silent[1] = []
    assert (score(TASK, silent).turn, score(TASK, silent).stage) == (2, Stage.CALL_MATCH)
    unlike = all_in_one_step(reference_of(TASK))
    unlike[2][0].append(parse_call("touch(file_name='more.txt')"))
    found = score(TASK, unlike)
    assert (found.turn, found.stage) == (3, Stage.STATE_MATCH)
    assert found.state_diff == ('GorillaFileSystem.root.document.temp.more.txt: expected nothing, is ""',)
    unread = all_in_one_step(reference_of(TASK))
    unread[1] = [[parse_call("cd(folder='temp')")]]
    found = score(TASK, unread)
    assert (found.turn, found.stage) == (2, Stage.CALL_MATCH) and "matching_lines" in found.reason


def task_like(name: str, reference: list[list[str]]) -> BenchmarkTask:
    """With another reference, and as many user turns."""
    record = task_named(name).model_dump()
    question = [[{"role": "user", "content": "Go on."}]] * len(reference)
    record["data"] |= {"ground_truth": reference, "question": question}
    return BenchmarkTask(**record)


def test_results_are_needed_as_often_as_the_reference_has_them() -> None:
    task = task_like("base_0", [["pwd()", "pwd()"]])
    once, twice = [[[Call("pwd")]]], [[[Call("pwd")], [Call("pwd")]]]
    assert score(task, twice).passed and package_accepts(task, twice)
    assert score(task, once).stage is Stage.CALL_MATCH and not package_accepts(task, once)


def test_a_reference_with_a_directory_inside_itself_matches_nothing() -> None:
    """Python cannot compare two such directories; the package's checker ends with an error."""
    task = task_like("base_0", [["mkdir(dir_name='loop')", "cp(source='loop', destination='loop')"]])
    assert score(task, all_in_one_step(reference_of(task))).stage is Stage.STATE_MATCH


def test_a_result_of_an_earlier_turn_counts_but_only_once_each() -> None:
    early = all_in_one_step(reference_of(TASK))
    early[0][0] += [
        parse_call("cd(folder='temp')"),
        parse_call("sort('final_report.pdf')"),
        parse_call("cd(folder='..')"),
    ]
    early[2] = [[parse_call("pwd()")]]
    assert score(TASK, early).passed and package_accepts(TASK, early)
    early[2] = []
    assert not score(TASK, early).passed and not package_accepts(TASK, early)


def test_a_turn_without_reference_is_free_but_its_effects_stay() -> None:
    turns = all_in_one_step(reference_of(EMPTY_LAST))
    assert turns[-1] == []
    turns[-1] = [[Call("no_such_thing")]]
    assert score(EMPTY_LAST, turns).passed and package_accepts(EMPTY_LAST, turns)
    task = task_named("miss_param_0")
    turns = all_in_one_step(reference_of(task))
    assert turns[3] == []
    turns[3] = [[parse_call("touch(file_name='x.txt')")]]
    assert score(task, turns).turn == 5 and not package_accepts(task, turns)


def test_twenty_messages_with_calls_and_no_more() -> None:
    turns = all_in_one_step(reference_of(TASK))
    turns[2] = [[call] for call in [parse_call("sort('final_report.pdf')")] * 20]
    assert score(TASK, turns).passed
    turns[2] *= 2
    assert score(TASK, turns).stage is Stage.VALIDITY


def test_turns_that_never_came() -> None:
    found = score(TASK, all_in_one_step(reference_of(TASK))[:3])
    assert not found.passed and found.turn == 4 and found.stage is Stage.VALIDITY


def test_a_directory_inside_itself_ends_nothing() -> None:
    turns = all_in_one_step(reference_of(TASK))
    loop = [Call("mkdir", {"dir_name": "loop"}), Call("cp", {"source": "loop", "destination": "loop"})]
    turns[0][0] += [*loop, Call("find", {"path": "."}), Call("du")]
    assert score(TASK, turns).stage is Stage.STATE_MATCH


def test_turns_are_read_from_messages() -> None:
    def call(number: int, arguments: str) -> ToolCall:
        return ToolCall(str(number), "cd", arguments)

    messages = [
        Message("user", "One."),
        Message("assistant", tool_calls=(call(1, '{"folder": "a"}'), call(2, "not JSON"))),
        Message("tool", "{}", tool_call_id="1"),
        Message("assistant", tool_calls=(call(3, "[]"),)),
        Message("assistant", "Done."),
        Message("user", "Two."),
        Message("assistant", "No."),
    ]
    assert turns_of(messages) == [[[Call("cd", {"folder": "a"})]], []]


def test_verdicts_are_the_packages() -> None:
    accepted = 0
    for task in sample():
        turns = damaged(task, Random(task.name))
        found = score(task, turns)
        assert found.passed == package_accepts(task, turns), (task.name, turns, found.reason)
        accepted += found.passed
    assert 10 < accepted < len(sample()) - 10


@pytest.mark.slow
def test_all_references_and_all_without_their_last_call_beside_the_package() -> None:
    for task in TASKS:
        whole, short = all_in_one_step(reference_of(task)), all_in_one_step(without_last_call(reference_of(task)))
        assert score(task, whole).passed and package_accepts(task, whole), task.name
        assert not score(task, short).passed and not package_accepts(task, short), task.name
