from __future__ import annotations

import orjson
import pytest

from agentscaler.adapters.acebench.call_text import write_calls
from agentscaler.adapters.acebench.load import answers_of, load
from agentscaler.adapters.acebench.scene import AnswerScene, open_scene
from agentscaler.adapters.acebench.scores import SPECIAL, count_dialogues, scores
from agentscaler.messages import Message, Outcome, ToolCall
from agentscaler.rollout.converse import converse
from agentscaler.rollout.limits import Limits, StopReason
from agentscaler.teachers.chat import Agent
from agentscaler.teachers.reference import NoopTeacher, RandomCallTeacher
from agentscaler.verify.verdict import Stage, Verdict, VerdictOutcome


class Says:
    """An agent with one message."""

    def __init__(self, message: Message):
        self._message = message

    async def reply(self, messages) -> Message:
        return self._message

    def close(self) -> None:
        pass


async def play(scene, agent: Agent) -> tuple[Verdict, StopReason, list[Message]]:
    talk = await converse(scene, agent, scene.scripted_person(0), Limits())
    assert talk.stop_reason is not None
    return scene.judge(talk.messages, talk.stop_reason).verdict, talk.stop_reason, talk.messages


@pytest.fixture
def scenes(data_folder):
    """Fresh ones, by the name of the task."""
    loaded = load((), str(data_folder), None)
    domains = {domain.name: domain for domain in loaded.domains}

    def by_name(name: str) -> AnswerScene:
        task = next(task for task in loaded.tasks if task.name == name)
        scene = open_scene(task, domains[task.domain])
        assert isinstance(scene, AnswerScene)
        return scene

    by_name.names = [task.name for task in loaded.tasks]  # type: ignore[attr-defined]
    return by_name


def calls(*made: tuple[str, dict]) -> Message:
    return Message(
        "assistant",
        tool_calls=tuple(
            ToolCall(f"c{n}", name, orjson.dumps(arguments).decode()) for n, (name, arguments) in enumerate(made)
        ),
    )


@pytest.mark.asyncio
async def test_own_answers_are_accepted_and_silence_is_not(scenes):
    for name in scenes.names:
        scene = scenes(name)
        verdict, stop, _ = await play(scene, scene.reference_agent())
        assert verdict == Verdict(VerdictOutcome.ACCEPTED), name
        assert stop is (StopReason.USER_STOP if name.startswith("special") else StopReason.ENVIRONMENT_STOP)
        scene = scenes(name)
        verdict, stop, _ = await play(scene, NoopTeacher().start(scene, 0, "x"))
        assert (verdict.outcome, verdict.stage) == (VerdictOutcome.REJECTED, Stage.VALIDITY), name


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "message",
    [
        calls(("trail_find", {"place": "Thun"})),
        calls(("trail_find", {"length_km": 5})),
        calls(("trail_find", {"place": "Bern"}), ("trail_find", {"place": "Bern"})),
        calls(("Boat_rent", {"code": "x"})),
        calls(("no_such_tool", {"place": "Bern"})),
        Message("assistant", tool_calls=(ToolCall("c", "trail_find", '{"place": "Bern"'),)),
        Message("assistant", "Which trail?"),
        Message("assistant", "I call [trail_find(place='Bern')]"),
        Message("assistant", "[trail_find(place='Thun')]"),
    ],
)
async def test_wrong_answers_to_a_normal_task_are_rejected(scenes, message):
    verdict, _, _ = await play(scenes("normal_similar_api_0"), Says(message))
    assert (verdict.outcome, verdict.stage) == (VerdictOutcome.REJECTED, Stage.CALL_MATCH)
    assert verdict.reasons


@pytest.mark.asyncio
async def test_calls_written_as_text_count(scenes):
    verdict, stop, _ = await play(
        scenes("normal_similar_api_0"), Says(Message("assistant", "[trail_find(place='Bern', length_km=5)]"))
    )
    assert (verdict.outcome, stop) == (VerdictOutcome.ACCEPTED, StopReason.USER_STOP)


@pytest.mark.asyncio
async def test_what_the_benchmark_does_not_compare_is_named(scenes):
    verdict, _, _ = await play(
        scenes("normal_similar_api_0"), Says(calls(("trail_find", {"place": "Bern", "length_km": 7})))
    )
    assert verdict.outcome is VerdictOutcome.ACCEPTED
    assert "length_km is 7, not 5" in verdict.reasons[0]


@pytest.mark.asyncio
async def test_a_second_of_several_answers(scenes):
    verdict, _, _ = await play(scenes("normal_atom_bool_0"), Says(calls(("trail_find", {"place": "Berne"}))))
    assert verdict.outcome is VerdictOutcome.ACCEPTED


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", SPECIAL)
async def test_a_call_is_no_answer_to_a_special_task_whatever_is_said_beside_it(scenes, kind):
    right = scenes(f"{kind}_0").reference()
    called = Message("assistant", right.content, tool_calls=calls(("trail_find", {"place": "Bern"})).tool_calls)
    for message in (called, Message("assistant", "Gladly!"), Message("assistant", "[trail_find(place='Bern')]")):
        verdict, _, _ = await play(scenes(f"{kind}_0"), Says(message))
        assert (verdict.outcome, verdict.stage) == (VerdictOutcome.REJECTED, Stage.CALL_MATCH)


@pytest.mark.asyncio
async def test_the_conversation_is_over_with_the_first_calls(scenes):
    scene = scenes("normal_similar_api_0")
    assert not scene.is_over
    _, _, messages = await play(scene, Says(calls(("trail_find", {"place": "Bern"}), ("no_such_tool", {}))))
    assert [message.role for message in messages] == ["system", "user", "assistant", "tool", "tool"]
    assert [message.outcome for message in messages[3:]] == [Outcome.OK, Outcome.INVALID_CALL]
    assert scene.is_over and scene.role() is None


@pytest.mark.asyncio
async def test_history_comes_before_the_request_and_its_calls_are_not_judged(scenes):
    scene = scenes("normal_multi_turn_user_adjust_0_1")
    assert [message.role for message in scene.opening] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    verdict, _, messages = await play(scene, Says(calls(("trail_find", {"place": "Bern"}))))
    assert messages[len(scene.opening)] == Message("user", "Another,\nin Chur")
    assert verdict.outcome is VerdictOutcome.REJECTED


def test_agents_are_told_what_the_benchmark_tells_them(scenes):
    assert "{'home': 'Bern'}" in scenes("normal_preference_0").opening[0].content
    assert scenes("normal_similar_api_0").opening[0].content.endswith("Today is Monday.")
    special = scenes("special_incomplete_0").opening[0].content
    for sentence in (
        "There is incorrect value (value) for the parameters (key) in the conversation history.",
        "Missing necessary parameters (key1, key2, ...) for the api (ApiName)",
        "Due to the limitations of the function, I cannot solve this problem.",
    ):
        assert sentence in special
        assert sentence not in scenes("normal_similar_api_0").opening[0].content


@pytest.mark.asyncio
async def test_a_missing_parameter_of_a_tool_that_is_offered_by_another_name(scenes):
    scene = scenes("special_incomplete_0")
    scene.task.data["ground_truth"] = {"Boat.rent": ["code"]}
    verdict, _, _ = await play(scene, scene.reference_agent())
    assert verdict.outcome is VerdictOutcome.ACCEPTED and "(Boat_rent)" in scene.reference().content


@pytest.mark.asyncio
async def test_the_benchmarks_own_answers_score_100_percent(real_data):
    loaded = load(("normal", "special"), real_data, None)
    domains = {domain.name: domain for domain in loaded.domains}
    native, as_text = [], []
    for task in loaded.tasks:
        scene = open_scene(task, domains[task.domain])
        verdict, _, messages = await play(scene, scene.reference_agent())
        native.append((task.kind, task.name, 1, verdict.outcome is VerdictOutcome.ACCEPTED))
        if task.domain != "normal":
            continue
        assert isinstance(scene, AnswerScene)
        for number in range(len(answers_of(task.data))):
            answer = scene.reference(number)
            made = [(call.name, orjson.loads(call.arguments)) for call in answer.tool_calls]
            if not any(mark in call.arguments for call in answer.tool_calls for mark in ("'", "\\", ":nan")):
                message = Message("assistant", write_calls(made))
                verdict = scene.judge([*messages[: len(scene.opening) + 1], message], StopReason.USER_STOP).verdict
                as_text.append(verdict.outcome is VerdictOutcome.ACCEPTED)
    figures = scores(count_dialogues(native))
    assert figures["groups"] == dict.fromkeys(("atom", "single_turn", "multi_turn", "normal", "special"), 1.0) | {
        "agent": None
    }
    assert figures["by_category"]["normal_multi_turn_user_adjust"]["finished"] == 50
    assert len(as_text) > 600 and all(as_text)


@pytest.mark.asyncio
async def test_chance_hardly_ever_solves_a_task_of_the_benchmark(real_data):
    loaded = load(("normal", "special"), real_data, None)
    domains = {domain.name: domain for domain in loaded.domains}
    accepted = 0
    for task in loaded.tasks:
        scene = open_scene(task, domains[task.domain])
        verdict, _, _ = await play(scene, RandomCallTeacher().start(scene, 1, "x"))
        accepted += verdict.outcome is VerdictOutcome.ACCEPTED
    assert accepted <= 10


def test_broken_answers_of_the_benchmark_are_rejected(real_data):
    """An answer without its first call, with that call twice, with a required parameter of it left out, with one too many."""
    loaded = load(("normal",), real_data, None)
    tried = 0
    for task in loaded.tasks:
        scene = open_scene(task, loaded.domains[0])
        assert isinstance(scene, AnswerScene)
        first, *others = scene.reference().tool_calls
        functions = {schema["function"]["name"]: schema["function"] for schema in scene.toolbox.schemas}
        arguments, required = orjson.loads(first.arguments), functions[first.name]["parameters"]["required"]
        broken = [others, [first, first, *others]]
        if first.name not in [call.name for call in others]:  # else, as published, another call may stand for it
            for wrong in (
                arguments | {"one_too_many": 1},
                {key: value for key, value in arguments.items() if key not in required[:1]} if required else {},
            ):
                broken.append([ToolCall("c", first.name, orjson.dumps(wrong).decode()), *others])
        for made in broken:
            answer = Message("assistant", "" if made else "nothing", tool_calls=tuple(made))
            end = scene.judge([*scene.opening, Message("user", "x"), answer], StopReason.ENVIRONMENT_STOP)
            assert end.verdict.outcome is VerdictOutcome.REJECTED, (task.name, made)
            tried += 1
    assert tried > 3000
