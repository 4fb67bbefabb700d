"""Promises of τ² scenes: references pass through our own loop, each side sees its own, the package's bounds hold, what nobody could judge
is void, and a task that nobody could solve is reported."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agentscaler.adapters.tau2.load import load
from agentscaler.adapters.tau2.scene import Tau2Scene, open_scene
from agentscaler.benchmark import BenchmarkDomain, BenchmarkTask
from agentscaler.errors import ConfigError
from agentscaler.messages import Message, Outcome, ToolCall
from agentscaler.rollout.converse import Conversation, converse
from agentscaler.rollout.limits import Limits, StopReason
from agentscaler.rollout.scene import End
from agentscaler.users.simulated import SimulatedUser, SimulatedUserConfig
from agentscaler.verify.verdict import Stage, VerdictOutcome
from tests.teachers.served import asking, said, served

CRATES = str(Path(__file__).parent / "crates")
UNBOUND = {"max_turns": 1000, "max_calls": 1000, "max_invalid_calls": 1000, "max_repeats": 1000}
LIMITS = Limits(max_steps=100, max_errors=10, **UNBOUND)


class Says:
    """An agent that says these, the last one again and again."""

    def __init__(self, *messages: Message):
        self._messages = list(messages)
        self.shown: list[Message] = []

    async def reply(self, messages: Sequence[Message]) -> Message:
        self.shown = list(messages)
        return self._messages.pop(0) if len(self._messages) > 1 else self._messages[0]

    def close(self) -> None:
        pass


def play(scene: Tau2Scene, agent: Any, limits: Limits = LIMITS) -> tuple[Conversation, End]:
    talk = asyncio.run(converse(scene, agent, scene.scripted_person(0), limits))
    assert talk.stop_reason is not None
    return talk, scene.judge(talk.messages, talk.stop_reason)


def one(domain: str, number: int = 0) -> tuple[BenchmarkTask, BenchmarkDomain]:
    loaded = load([domain], None, "base")
    return loaded.tasks[number], loaded.domains[0]


@pytest.mark.parametrize(
    ("domain", "num_tasks", "not_rewarded"),
    [
        ("airline", 50, []),
        ("retail", 114, []),
        ("telecom", 114, []),
        # It asks for an end and has no reference that would lead there.
        ("mock", 9, ["update_task_with_history_and_env_assertions"]),
    ],
)
def test_references_pass(domain: str, num_tasks: int, not_rewarded: list[str]) -> None:
    loaded = load([domain], None, "base")
    assert (len(loaded.tasks), loaded.broken) == (num_tasks, [])
    failed = []
    for task in loaded.tasks:
        scene = open_scene(task, loaded.domains[0])
        _, end = play(scene, scene.reference_agent())
        if end.verdict.outcome is not VerdictOutcome.ACCEPTED:
            failed.append(task.name)
    assert failed == not_rewarded


def test_an_agent_that_does_nothing_passes_what_asks_for_nothing() -> None:
    loaded = load(["airline"], None, "base")
    ends = Counter[VerdictOutcome]()
    for task in loaded.tasks:
        scene = open_scene(task, loaded.domains[0])
        ends[scene.judge(scene.opening, StopReason.AGENT_STOP).verdict.outcome] += 1
    # The package's own evaluator says the same of 26.3's tasks.
    assert ends == {VerdictOutcome.ACCEPTED: 19, VerdictOutcome.REJECTED: 31}


def test_each_side_sees_its_own() -> None:
    task, domain = next(
        (task, loaded.domains[0])
        for loaded in [load(["telecom"], None, "base")]
        for task in loaded.tasks
        if {action["requestor"] for action in task.data["evaluation_criteria"]["actions"]} == {"assistant", "user"}
    )
    scene = open_scene(task, domain)
    talk, end = play(scene, scene.reference_agent())
    own = {call.id for message in talk.messages if message.role == "user" for call in message.tool_calls}
    assert own and end.verdict.outcome is VerdictOutcome.ACCEPTED
    assert all(not (m.role == "user" and m.tool_calls) and m.tool_call_id not in own for m in talk.shown)
    assert {m.tool_call_id for m in talk.messages} >= own
    rows = [(table, row["key"]["key"]) for table, rows in json.loads(end.state_changes).items() for row in rows]
    assert rows and sorted(end.net_keys) == sorted(f"{table}/{key}" for table, key in rows)


def test_what_stands_before_the_conversation() -> None:
    task, domain = one("airline")
    scene = open_scene(task, domain)
    system, greeting = scene.opening
    assert "<policy>" in system.content and "Airline Agent Policy" in system.content
    assert greeting == Message("assistant", "Hi! How can I help you today?")
    told = scene.role().instructions
    assert "<scenario>" in told and "EHGLP3" in told and "###STOP###" in told
    assert scene.role().tools == ()
    phone = open_scene(*one("telecom")).role()
    assert {"toggle_airplane_mode", "run_speed_test"} <= {tool["function"]["name"] for tool in phone.tools}


def test_a_history_comes_first_and_counts() -> None:
    loaded = load(["mock"], None, "base")
    task = next(task for task in loaded.tasks if task.name == "update_task_with_message_history")
    assert "timestamp" not in json.dumps(task.data["initial_state"])  # made anew at each loading
    scene = open_scene(task, loaded.domains[0])
    assert [message.role for message in scene.opening] == ["system", "user", "assistant", "tool", "assistant"]
    talk, end = play(scene, scene.reference_agent())
    assert talk.messages[5].role == "user" and end.verdict.outcome is VerdictOutcome.ACCEPTED


def test_its_bounds_on_steps_and_errors() -> None:
    scene = open_scene(*one("airline"))
    wrong = Message("assistant", tool_calls=(ToolCall("c", "get_user_details", '{"user_id": "nobody"}'),))
    talk, end = play(scene, Says(wrong))
    assert (talk.stop_reason, talk.errors) == (StopReason.MAX_ERRORS, 10)
    assert (end.verdict.stage, end.verdict.reasons) == (Stage.VALIDITY, ("ended by max_errors",))
    right = Message("assistant", tool_calls=(ToolCall("c", "list_all_airports", "{}"),))
    talk, end = play(open_scene(*one("airline")), Says(right))
    assert (talk.stop_reason, talk.steps) == (StopReason.MAX_STEPS, 101)  # never between a call and its result
    assert end.verdict.outcome is VerdictOutcome.REJECTED


def test_calls_that_cannot_be_made_change_nothing() -> None:
    scene = open_scene(*one("airline"))
    assert scene.call("agent", "list_all_airports", "[").outcome is Outcome.INVALID_CALL
    assert scene.call("agent", "no_such_tool", "{}").outcome is Outcome.INVALID_CALL
    refused = scene.call("agent", "cancel_reservation", '{"reservation_id": "NOBODY"}')
    assert (refused.outcome, refused.content) == (Outcome.REFUSED, "Error: Reservation NOBODY not found")
    assert scene.call("agent", "list_all_airports", "{}").outcome is Outcome.OK
    assert scene.judge(scene.opening, StopReason.AGENT_STOP).state_changes == "{}"


def test_a_wrong_end_is_explained_by_records() -> None:
    scene = open_scene(*one("airline", 0))  # a refusal: nothing may change
    scene.call("agent", "cancel_reservation", '{"reservation_id": "EHGLP3"}')
    end = scene.judge(scene.opening, StopReason.AGENT_STOP)
    assert end.verdict.stage is Stage.STATE_MATCH
    assert end.verdict.state_diff[0].startswith('agent.reservations: unexpected update {"key":"EHGLP3"} ')
    assert end.net_keys == ("agent.reservations/EHGLP3",)
    (row,) = json.loads(end.state_changes)["agent.reservations"]
    assert row["columns"]["status"] == "cancelled" and "flights" not in row["columns"]


def criteria(**changed: Any) -> dict[str, Any]:
    """The crates' own task, with other criteria."""
    data = load([CRATES], None, None).tasks[0].data
    return data | {"evaluation_criteria": data["evaluation_criteria"] | changed}


def written(tmp_path: Path, *rows: dict[str, Any]) -> str:
    file = tmp_path / "tasks.json"
    file.write_text(json.dumps(rows))
    return str(file)


def test_what_needs_a_judge_is_void(tmp_path: Path) -> None:
    file = written(tmp_path, criteria(reward_basis=["DB", "NL_ASSERTION"], nl_assertions=["The agent is kind."]))
    loaded = load([CRATES], file, None)
    scene = open_scene(loaded.tasks[0], loaded.domains[0])
    _, end = play(scene, scene.reference_agent())
    assert end.verdict.outcome is VerdictOutcome.VOID and "judge" in end.verdict.reasons[0]
    nothing = open_scene(loaded.tasks[0], loaded.domains[0])
    assert nothing.judge(nothing.opening, StopReason.AGENT_STOP).verdict.outcome is VerdictOutcome.REJECTED


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ({"action_id": "a", "name": "no_such", "arguments": {}}, "there is no tool no_such of the assistant"),
        ({"action_id": "a", "name": "count", "arguments": {"keys": 1}}, "count: missing a required argument"),
        ({"action_id": "a", "name": "count", "arguments": {}, "requestor": "user"}, "the user has no tools"),
    ],
)
def test_a_broken_reference_is_reported_and_not_played(tmp_path: Path, action: dict[str, Any], words: str) -> None:
    bad = criteria(actions=[{"requestor": "assistant"} | action]) | {"id": "bad"}
    loaded = load([CRATES], written(tmp_path, bad, criteria()), None)
    assert len(loaded.tasks) == 1
    (line,) = loaded.broken
    assert "reference action a: " in line and words in line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[1]", "holds no list of tasks"),
        (None, "No such file"),
        ([criteria(reward_basis=["DB", "KINDNESS"])], "unknown reward basis KINDNESS (known: ACTION, COMMUNICATE, DB"),
        ([{"id": "x"}], "task x: user_scenario"),
    ],
)
def test_bad_task_files(tmp_path: Path, text: Any, words: str) -> None:
    file = tmp_path / "tasks.json"
    if text is not None:
        file.write_text(text if isinstance(text, str) else json.dumps(text))
    with pytest.raises(ConfigError, match=r"benchmark\.path=") as caught:
        load([CRATES], str(file), None)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.asyncio
async def test_a_model_plays_the_person_with_its_phone() -> None:
    """Its own calls are carried out and shown to it alone; its stop token ends the conversation and stays in it."""
    scene = open_scene(*one("telecom"))
    looks = said(None, [("check_status_bar", "{}")])
    answers = [said("My data is slow."), looks, said("No bars."), said("Bye. ###STOP###")]
    async with served(lambda n: answers[n - 1]) as server, asking(server.url) as endpoint:
        person = SimulatedUser(scene.role(), SimulatedUserConfig(model="u"), endpoint, 1, "r")
        agent = Says(Message("assistant", "Look at your status bar."), Message("assistant", "Then I am at a loss."))
        talk = await converse(scene, agent, person, LIMITS)
        person.close()
    roles = [(m.role, bool(m.tool_calls)) for m in talk.messages[2:]]
    assert roles == [
        ("user", False), ("assistant", False), ("user", True), ("tool", False), ("user", False), ("assistant", False),
        ("user", False),
    ]  # fmt: skip
    assert talk.stop_reason is StopReason.USER_STOP and talk.messages[-1].content == "Bye. ###STOP###"
    assert [m.role for m in agent.shown] == ["system", "assistant", "user", "assistant", "user"]
    last = server.bodies[-1]["messages"]
    assert [m["role"] for m in last] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]
    assert {tool["function"]["name"] for tool in server.bodies[0]["tools"]} >= {"check_status_bar"}
