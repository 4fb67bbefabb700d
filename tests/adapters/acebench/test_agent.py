from __future__ import annotations

import sys

import orjson
import pytest

from agentscaler.adapters.acebench.agent import AgentWorld, check_end, process_accuracy, same_end
from agentscaler.adapters.acebench.agent_scene import GREETING, NO_QUESTIONS, AgentScene
from agentscaler.adapters.acebench.checkout import find_checkout, load_checkout
from agentscaler.adapters.acebench.load import load
from agentscaler.adapters.acebench.prompts import FINISHED, for_native_calls
from agentscaler.adapters.acebench.scene import open_scene
from agentscaler.errors import ConfigError
from agentscaler.messages import Message, Outcome, ToolCall
from agentscaler.rollout.converse import converse
from agentscaler.rollout.limits import Limits, StopReason
from agentscaler.verify.verdict import Stage, VerdictOutcome


class Phone:
    def __init__(self):
        self.inbox = {1: "hi"}
        self.on = False

    def _load_scenario(self, scenario, long_context=False):
        self.on = scenario.get("on", self.on)

    def turn_on(self):
        self.on = True
        return {"phone": self.on}

    def write(self, text, to="Ann"):
        self.inbox[len(self.inbox) + 1] = text
        return f"{to}: {text}"


class Watch(Phone):
    def turn_on(self):
        super().turn_on()
        return {"watch": self.on}


def open_world(**start) -> AgentWorld:
    return AgentWorld({"MessageApi": Phone, "Watch": Watch}, ["MessageApi", "Watch"], start)


def test_a_call_reaches_every_instance_and_the_last_ones_answer_counts():
    world = open_world()
    assert world.call("turn_on", {}) == ('{"watch": true}', False)
    assert world.call("write", {"text": "yo"}) == ('"Ann: yo"', False)
    assert world.state() == [{"MessageApi": {"inbox": {"1": "hi", "2": "yo"}}}, {"Watch": {}}]
    assert world.num_calls == 2


def test_what_a_tool_raises_is_its_answer_and_private_methods_are_none():
    world = open_world(BaseApi={"on": True})
    content, is_error = world.call("write", {"txt": "yo"})
    assert is_error and "unexpected keyword" in content
    assert not world.has("_load_scenario") and not world.has("inbox") and not world.has("nothing")
    assert world.has("write")


def test_worlds_share_nothing():
    one, other = open_world(), open_world()
    one.call("write", {"text": "yo"})
    assert other.state()[0] == {"MessageApi": {"inbox": {"1": "hi"}}}


STATE = [
    {"BaseApi": {"wifi": True}},
    {"MessageApi": {"inbox": {"1": {"to": "Ann"}, "9": {}}}},
    {"FoodPlatform": {"orders": [1]}},
]


@pytest.mark.parametrize(
    ("truth", "right"),
    [
        (STATE, True),
        ([STATE[2], STATE[0], STATE[1]], True),
        (
            [STATE[0], {"MessageApi": {"inbox": {"1": {"to": "Ann"}}}}, STATE[2]],
            True,
        ),  # more than asked for, inside an object
        ([STATE[0], {"MessageApi": {"inbox": {"1": {"to": "Bo"}}}}, STATE[2]], False),
        ([STATE[0], {"MessageApi": {"inbox": {"2": {"to": "Ann"}}}}, STATE[2]], False),
        ([STATE[0], STATE[1], {"FoodPlatform": {"orders": [1, 2]}}], False),
        ([STATE[0], STATE[1], {"FoodPlatform": {}}], False),
        ([{"BaseApi": {"wifi": False}}, *STATE[1:]], False),
        ([{"BaseAPI": {"wifi": False}}, *STATE[1:]], True),  # as published: a name that is misspelt is not compared
        (STATE[:2], False),
    ],
)
def test_ends(truth, right):
    assert (check_end(STATE, truth) == []) is right
    assert same_end(STATE, truth) is (truth in (STATE, [STATE[2], STATE[0], STATE[1]]))


@pytest.mark.parametrize(
    ("made", "milestones", "share"),
    [
        ("ab", ["[a()]", "[b(x='1')]"], 1.0),
        ("aab", ["[a()]", "[b(x='1')]"], 1.0),
        ("ba", ["[a()]", "[b(x='1')]"], 0.5),
        ("b", ["[a()]", "[b(x='1')]"], 0.0),  # the first, missed, uses up the rest
        ("", ["[a()]"], 0.0),
        ("", [], 1.0),
        ("b", [["[a()]"], ["[b( x = '1' )] "]], 1.0),  # the better of two, in another spelling
        ("b", ["no call"], 0.0),
    ],
)
def test_process_accuracy(made, milestones, share):
    calls = {"a": ("a", {}), "b": ("b", {"x": "1"})}
    assert process_accuracy([[calls[name]] for name in made], milestones) == share


def test_process_accuracy_takes_calls_of_one_message_together():
    assert process_accuracy([[("a", {}), ("a", {})]], ["[a(), a()]"]) == 1.0
    assert process_accuracy([[("a", {})], [("a", {})]], ["[a(), a()]"]) == 0.0


def test_rules_lose_what_they_say_of_calls_as_text():
    policy = """Be kind.

Function Calls:
Write [ApiName(key1='value1')] or [ApiName()]!
Book both, in the format [ApiName(a=1), ApiName(b=2)]. End."""
    assert for_native_calls(policy) == "Be kind.\n\nBook both. End."


def test_the_classes_come_from_the_checkout_and_leave_no_trace(checkout):
    before = dict(sys.modules)
    kept = sys.modules["model_inference"] = type(sys)("model_inference")
    try:
        found = load_checkout(checkout)
        assert sys.modules.pop("model_inference") is kept
    finally:
        sys.modules.pop("model_inference", None)
    assert set(found.classes["agent_multi_step"]) == {"BaseApi", "MessageApi", "ReminderApi", "FoodPlatform", "Travel"}
    assert found.classes["agent_multi_step"]["Travel"] is not found.classes["agent_multi_turn"]["Travel"]
    added = set(sys.modules) - set(before)
    assert added and all(name.startswith("_acebench_") for name in added)
    assert str(checkout) not in sys.path
    assert not list(checkout.rglob("__pycache__"))
    assert found.policy(["BaseApi"]).startswith("It is noon.")
    assert found.user_instructions(["Travel"], "Go {there}.") == "You travel. Instruction: Go {there}."
    assert find_checkout(checkout / "data_all" / "data_en") == checkout
    assert find_checkout(checkout / "data_all" / "data_en" / "possible_answer") is None


@pytest.mark.parametrize(
    ("file", "source", "words"),
    [
        (
            "multi_step/scenariosen/travel.py",
            "raise SystemError('no\\nway')",
            "travel.py cannot be imported (SystemError: no way)",
        ),
        ("multi_step/scenariosen/travel.py", "import openapi_that_is_not_there", "ModuleNotFoundError"),
        ("multi_turn/scenariosen/travel.py", "class Journey: pass", "has no class Travel"),
        ("prompt_en.py", "BASE_PROMPT_EN = 'x'", "no TRAVEL_PROMPT_EN"),
        ("prompt_en.py", "BASE_PROMPT_EN = (", "no BASE_PROMPT_EN"),
    ],
)
def test_a_checkout_that_is_not_whole_is_one_line(checkout, file, source, words):
    (checkout / "model_inference" / file).write_text(source)
    with pytest.raises(ConfigError) as error:
        load((), str(checkout), None)
    assert words in str(error.value) and "\n" not in str(error.value) and "benchmark.path=" in str(error.value)
    assert "model_inference" not in sys.modules


@pytest.fixture
def open_agent(checkout):
    loaded = load(("agent",), str(checkout), None)

    def by_name(name: str) -> AgentScene:
        scene = open_scene(next(task for task in loaded.tasks if task.name == name), loaded.domains[0])
        assert isinstance(scene, AgentScene)
        return scene

    return by_name


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["agent_multi_step", "agent_multi_turn"])
@pytest.mark.parametrize(("number", "right"), [(0, True), (1, True), (2, False), (3, True)])
async def test_references_end_where_the_loader_said(open_agent, kind, number, right):
    scene = open_agent(f"{kind}_{number}")
    talk = await converse(scene, scene.reference_agent(), scene.scripted_person(0), Limits())
    assert talk.stop_reason is StopReason.USER_STOP
    end = scene.judge(talk.messages, talk.stop_reason)
    assert (end.verdict.outcome is VerdictOutcome.ACCEPTED) is right
    if number == 1:
        changed = orjson.loads(end.state_changes)
        assert changed == {
            "BaseApi": [{"op": "update", "key": {"key": "wifi"}, "columns": {"value": True}}],
            "MessageApi": [{"op": "insert", "key": {"key": "inbox/2"}, "columns": {"to": "Bo", "text": "At Domino's"}}],
        }
        assert set(end.net_keys) == {"BaseApi/wifi", "MessageApi/inbox/2"}
    if not right:
        assert end.verdict.stage is Stage.STATE_MATCH
        assert "process accuracy 1.000" in end.verdict.reasons and end.verdict.state_diff
    scene.close()


def test_calls_of_an_agent(open_agent):
    scene = open_agent("agent_multi_turn_0")
    assert (
        scene.call("agent", "send_message", '{"to": "Bo", "text": "x"}').content
        == '{"status": false, "message": "no wifi"}'
    )
    assert scene.call("agent", "turn_on_wifi", "{}").outcome is Outcome.OK
    broken = scene.call("agent", "break_down", "{}")
    assert (broken.outcome, broken.content) == (Outcome.REFUSED, '"Error during execution: it broke"')
    for tool, arguments in (("fly", "{}"), ("_hidden", "{}"), ("turn_on_wifi", "[1]"), ("reserve", '{"seat": 1}')):
        assert scene.call("agent", tool, arguments).outcome is Outcome.INVALID_CALL


def test_no_call_is_never_right(open_agent):
    scene = open_agent("agent_multi_step_3")
    scene.task.data["ground_truth"] = scene._world.state()
    verdict = scene.judge(
        [*scene.opening, Message("user", "x"), Message("assistant", "Done.")], StopReason.AGENT_STOP
    ).verdict
    assert verdict.reasons == ("no call was made", "process accuracy 0.000")


@pytest.mark.asyncio
async def test_nobody_answers_in_multi_step(open_agent):
    scene = open_agent("agent_multi_step_0")
    assert scene.role() is None
    person = scene.scripted_person(0)
    assert (await person.opening(scene.opening)).content == "Tell Bo that you are at Domino's."
    assert (await person.reply([Message("assistant", "Which Bo?")])).content == NO_QUESTIONS
    assert await person.reply([Message("assistant", f"Well, {FINISHED}.")]) is None
    assert person.unmatched_questions == 1


def test_a_model_plays_the_user_of_multi_turn(open_agent):
    scene = open_agent("agent_multi_turn_0")
    role = scene.role()
    assert role is not None and role.stop_tokens == (FINISHED,) and role.opening is None
    assert "Instruction: Tell Bo that you are at Domino's." in role.instructions
    assert scene.opening[-1] == Message("assistant", GREETING)
    told = scene.opening[0].content
    assert "It is noon." in told and "Be kind." in told and "[ApiName(" not in told


def test_wrong_arguments_are_not_counted_as_made(open_agent):
    scene = open_agent("agent_multi_turn_2")
    scene.call("agent", "turn_on_wifi", "{}")
    made = (ToolCall("1", "send_message", "{"), ToolCall("2", "turn_on_wifi", "{}"))
    verdict = scene.judge([*scene.opening, Message("assistant", tool_calls=made)], StopReason.MAX_TURNS).verdict
    assert "process accuracy 0.000" in verdict.reasons


def test_the_benchmarks_own_references(real_data):
    """With a checkout: 20 of 50 do not reach their ground truth as they are written, 9 do not however they are read."""
    try:
        loaded = load(("agent",), real_data, None)
    except ConfigError:
        pytest.skip("AGENTSCALER_ACEBENCH is the data alone: the agent category needs a checkout of the repository")
    assert len(loaded.tasks) == 50
    assert loaded.notes[0].startswith("ACEBench agent: 20 of 50 references do not reach their own ground truth: ")
    assert sum(not task.data["reference_reaches"] for task in loaded.tasks) == 9
