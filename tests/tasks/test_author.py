"""A model's text stands only where it says the same."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from agentscaler.domain.store import load_domain
from agentscaler.errors import FaultClass, RolloutFault
from agentscaler.tasks.anchors import Anchors, invented, lost
from agentscaler.tasks.author import MODEL_FAULT, Author, AuthorConfig, check_text
from agentscaler.tasks.compile import compile_shipped
from agentscaler.tasks.task import Kind

NOTES = load_domain("notes")
SAID = (
    "I'm Ann Lee, ann.lee@example.org. Move my trip to Oslo on May 20 to the 22nd of May, two bags, 35 euros, at 14:05."
)


def test_anchors_do_not_depend_on_spelling():
    other = "ann.lee@example.org (Ann Lee). Could the Oslo trip of 20 May go to May 22, 2 bags for thirty-five euros, at 2:05 p.m.?"
    assert lost(SAID, other) == []
    assert Anchors.of(SAID).dates == Anchors.of(other).dates == {(5, 20), (5, 22)}


@pytest.mark.parametrize(
    ("old", "new", "missing"),
    [
        ("Oslo", "Rome", "Oslo"),
        ("May 20", "May 21", "5/20"),
        ("two bags", "some bags", "2"),
        ("ann.lee@", "bob@", "ann.lee@example.org"),
        ("14:05", "noon", "14:05"),
    ],
)
def test_what_is_left_out_is_found(old: str, new: str, missing: str):
    assert missing in lost(SAID, SAID.replace(old, new))


def test_what_is_added_is_found():
    assert invented(SAID, SAID + " Booking JB-12345, please.") == ["jb-12345"]
    assert invented(SAID, SAID + " And again on May 30 at 9:15 a.m. for 4.") == ["5/30", "09:15", "4"]
    assert invented(SAID, SAID) == []


class Endpoint:
    """Stands for a served model: answers come from a list."""

    def __init__(self, *answers: str | RolloutFault):
        self.answers, self.asked = list(answers), []

    async def complete(self, session: str, payload: bytes) -> dict[str, Any]:
        self.asked.append(orjson.loads(payload)["messages"][0]["content"])
        answer = self.answers.pop(0)
        if isinstance(answer, RolloutFault):
            raise answer
        return {"choices": [{"message": {"content": answer}}]}

    def end(self, session: str) -> None:
        pass


def task_named(name: str):
    return next(task for task in compile_shipped("notes") if task.written.id == name)


def write(task, *answers: str | RolloutFault, **config: Any):
    endpoint: Any = Endpoint(*answers)
    author = Author(AuthorConfig(model="m", **config), endpoint)
    return asyncio.run(author.write(task, NOTES)), endpoint


def test_a_text_that_says_the_same_stands_and_the_reader_sees_no_reference():
    task = next(
        one for one in compile_shipped("notes") if one.reference_tools & {"move_note"} and one.kind.value == "write"
    )
    text = f"Hey, {task.intent[0].lower()}{task.intent[1:]}"
    authored, endpoint = write(task, f'"{text}"' if '"' not in text else text, "move_note")
    assert authored.intent == text
    assert task.intent in endpoint.asked[0] and text in endpoint.asked[1]


def test_a_reader_who_comes_to_another_tool_or_a_text_that_changes_something_leaves_the_grammars():
    task = next(
        one for one in compile_shipped("notes") if one.reference_tools & {"move_note"} and one.kind.value == "write"
    )
    authored, _ = write(task, task.intent, "delete_note", "Move something somewhere.")
    assert authored.intent is None and authored.reason.startswith("leaves out")
    authored, _ = write(task, task.intent, "delete_note", task.intent, "move_note, share_note")
    assert authored.reason == "a blind reader comes to other tools"


def test_a_model_that_fails_leaves_the_grammars_text():
    task = compile_shipped("notes")[0]
    fault = RolloutFault(FaultClass.USER_FAULT, "down")
    authored, _ = write(task, fault, fault)
    assert authored.intent is None and authored.reason.startswith(MODEL_FAULT)


def test_the_reader_sees_all_that_the_person_says() -> None:
    task = next(one for one in compile_shipped("notes") if one.written.then)
    _, endpoint = write(task, task.intent, "none", tries=1)
    assert all(words in endpoint.asked[1] for words in (task.intent, *task.written.then))


def test_what_is_to_be_asked_for_must_not_be_told():
    task = next(one for one in compile_shipped("notes") if one.written.facts)
    told = next(iter(task.written.facts.values())).says
    assert check_text(task, NOTES, f"{task.intent} {told}") is not None


def test_a_question_and_what_no_tool_can_do_are_read_too():
    question = next(one for one in compile_shipped("notes") if one.kind is Kind.READ_ONLY)
    tool = question.expected_calls[-1].call
    assert write(question, question.intent, tool)[0].intent == question.intent
    assert write(question, question.intent, f"{tool}, delete_note", tries=1)[0].intent is None
    beside = next(one for one in compile_shipped("notes") if one.kind is Kind.IRRELEVANT)
    assert write(beside, beside.intent, "None.")[0].intent == beside.intent
    assert write(beside, beside.intent, "move_note", tries=1)[0].intent is None
