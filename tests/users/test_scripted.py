"""Promises: the scripted person opens with the intent, tells a fact only when it is asked for, answers other questions with a fixed
reply and counts them, goes on with the agenda after a statement, and then ends."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentscaler.domain.store import domain_folder
from agentscaler.messages import Message
from agentscaler.tasks.compile import load_written
from agentscaler.tasks.task import Fact, WrittenTask
from agentscaler.users.scripted import (
    CONFIRMING_REPLIES,
    MAX_CONFIRMED,
    MAX_UNMATCHED,
    UNMATCHED_REPLY,
    ScriptedUser,
    asked_facts,
)

TASK = WrittenTask.model_validate(
    {
        "id": "t",
        "kind": "missing_parameter",
        "intent": "Share my note.",
        "facts": {
            "person": {"asked": [r"\bwho\b"], "question": "Who is it for?", "says": "Emil."},
            "access": {"asked": [r"\baccess\b[^.]*\?"], "question": "What access?", "says": "Editing."},
        },
        "then": ["And now delete it.", "Thanks."],
    }
)
SHIPPED = {task.id: task for task in load_written(domain_folder("notes") / "tasks.yaml")}


def test_opening_is_the_intent() -> None:
    assert asyncio.run(ScriptedUser(TASK).opening(())) == Message("user", "Share my note.")


def test_facts_are_told_when_asked_for_and_not_before() -> None:
    user = ScriptedUser(TASK)
    assert user.answer("Who should get it?") == "Emil."
    assert user.answer("And what access should he have?") == "Editing."
    assert user.unmatched_questions == 0


def test_two_facts_in_one_question_are_told_together_in_the_tasks_order() -> None:
    assert ScriptedUser(TASK).answer("What access, and for who?") == "Emil. Editing."


def test_only_fresh_facts_are_told_but_a_repeated_question_is_answered_again() -> None:
    user = ScriptedUser(TASK)
    user.answer("Who?")
    assert user.answer("Who, and what access?") == "Editing."
    assert user.answer("Who was it again?") == "Emil."


def test_a_request_without_question_mark_is_a_question() -> None:
    assert ScriptedUser(TASK).answer("Please tell me who it is for.") == "Emil."


def test_statements_advance_the_agenda_then_the_person_ends() -> None:
    user = ScriptedUser(TASK)
    assert [user.answer("Done.") for _ in range(4)] == ["And now delete it.", "Thanks.", None, None]


def test_unmatched_questions_get_a_fixed_reply_are_counted_and_bounded() -> None:
    user = ScriptedUser(TASK)
    replies = [user.answer("What colour is the cover?") for _ in range(MAX_UNMATCHED + 1)]
    assert replies == [UNMATCHED_REPLY] * MAX_UNMATCHED + [None]
    assert user.unmatched_questions == MAX_UNMATCHED + 1


@pytest.mark.parametrize(
    "courtesy",
    [
        "Is there anything else I can help you with?",
        "What else can I do for you?",
        "How may I assist you further?",
        "Do you need anything else?",
        "How else can I help?",
        "Let me know if you need something else, okay?",
        "What would you like to do next?",
        "Is that all?",
    ],
)
def test_a_courtesy_is_no_question(courtesy: str) -> None:
    assert ScriptedUser(TASK).answer(f"I shared it. {courtesy}") == "And now delete it."


@pytest.mark.parametrize(
    "question",
    [
        "I can help you with that! Are you sure you want it deleted?",
        "I'll delete it. Would you like me to do that?",
        "Let me know. Shall I go on?",
        "Is that all right?",
        "The refund is $120.50 to your card. Please confirm, shall I cancel it?",
        "It costs $80 more. Do you want to proceed or not?",
        "That is final. OK?",
    ],
)
def test_who_wants_a_yes_gets_one_that_is_bound_to_what_was_asked_for(question: str) -> None:
    assert ScriptedUser(TASK).answer(question) in CONFIRMING_REPLIES


@pytest.mark.parametrize(
    "question",
    [
        "Shall I put it into Home or into Work?",
        "Which title shall I give it?",
        "Let me know. Where is it?",
        "Shall I go on? And what is your e-mail address?",
        "And what is your e-mail address? Shall I go on?",
        "Would you like the card or the voucher (balance 130.00 euros), and shall I book it?",
    ],
)
def test_what_no_yes_answers_gets_none(question: str) -> None:
    assert ScriptedUser(TASK).answer(question) == UNMATCHED_REPLY


def test_confirmations_are_bounded() -> None:
    user = ScriptedUser(TASK)
    replies = [user.answer("Shall I go ahead?") for _ in range(MAX_CONFIRMED + MAX_UNMATCHED + 1)]
    assert set(replies[:MAX_CONFIRMED]) == set(CONFIRMING_REPLIES)
    assert replies[MAX_CONFIRMED:] == [UNMATCHED_REPLY] * MAX_UNMATCHED + [None]


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ("Which card shall I charge?", True),
        ("How would you like to pay?", True),
        ("Please tell me the payment method.", True),
        ("Would you like to pay by Visa or with the voucher (balance 130.00 euros)?", True),
        ("What for a price of 12.50, ann@example.org: which card?", True),
        ("I need to know which card to use.", True),
        ("Your card was charged $20.", False),
        ("The payment went through. Is there anything else?", False),
        ("It is discarded?", False),
    ],
)
def test_a_fact_is_asked_for_by_the_words_it_goes_by(words: str, asked: bool) -> None:
    fact = Fact(about=("cards?", r"pay\w*"), question="Which card?", says="The Visa.")
    assert fact.is_asked(words) is asked


def test_a_fact_needs_a_way_to_be_asked_for() -> None:
    with pytest.raises(ValueError, match="needs asked or about"):
        Fact(question="Which?", says="This.")
    with pytest.raises(ValueError, match="pattern"):
        Fact(about=("(",), question="Which?", says="This.")


def test_reply_answers_the_last_message() -> None:
    messages = [Message("user", "Share my note."), Message("assistant", "Who?")]
    assert asyncio.run(ScriptedUser(TASK).reply(messages)) == Message("user", "Emil.")


@given(st.lists(st.text(max_size=40), min_size=20, max_size=20))
def test_words_of_no_fact_end_the_conversation(words: list[str]) -> None:
    user = ScriptedUser(WrittenTask(id="t", kind=TASK.kind.WRITE, intent="x", then=("y", "z")))
    assert None in [user.answer(one) for one in words]


ASKING = {
    ("share_with_a_colleague", "person"): [
        "Who should I share it with?",
        "With whom would you like to share the note?",
        "What is the name of the colleague?",
        "Please provide your colleague's name.",
        "I need the name of your colleague before I can go on.",
        "What's your colleague's name?",
        "Can you give me their name?",
    ],
    ("share_with_a_colleague", "access"): [
        "Should they be able to view it or edit it?",
        "What level of access would you like to give?",
        "View or edit?",
        "I need to know the access level.",
        "May the person change it, or only look?",
        "Do you want it read-only?",
    ],
    ("plumber_note_without_text", "text"): [
        "What should the note say?",
        "What text should I put in it?",
        "What would you like me to write?",
        "Please provide the content of the note.",
        "What is the body of the note?",
        "Please tell me what the note should say.",
        "And the text?",
    ],
    ("which_list", "list"): [
        "Which list do you mean?",
        'Do you mean "Shopping list" or "Packing list"?',
        "I found three lists. Which one should I move?",
        "There are two: Shopping list and Packing list. Please tell me which one.",
        "What is the name of the list?",
        "Could you clarify which note you mean?",
        "Please specify the title of the note.",
    ],
    ("dora_sees_too_much", "note"): [
        "Which note should I stop sharing?",
        'Dora Lind has access to "Meeting minutes" and "Old recipes". Which one?',
        'Is it "Meeting minutes" or "Old recipes"?',
        "What's the note called?",
        "Please tell me the title of the note.",
        "Should I stop sharing both notes?",
    ],
}
REPORTS = {
    "share_with_a_colleague": 'I shared "Interview questions" with Ben Okafor, who can view it. Is there anything else?',
    "plumber_note_without_text": 'The note "Plumber" with an empty text is now in your folder Home.',
    "which_list": 'I moved "Packing list", which was in Travel, to Archive. Anything else?',
    "dora_sees_too_much": 'I stopped sharing the note "Meeting minutes", which she could view.',
}


@pytest.mark.parametrize(("name", "fact"), list(ASKING))
def test_shipped_facts_are_told_however_they_are_asked_for(name: str, fact: str) -> None:
    missed = [words for words in ASKING[name, fact] if asked_facts(SHIPPED[name], words) != [fact]]
    assert missed == []


@pytest.mark.parametrize(("name", "words"), list(REPORTS.items()))
def test_shipped_facts_are_not_told_to_a_report(name: str, words: str) -> None:
    assert asked_facts(SHIPPED[name], words) == []


def test_every_shipped_task_with_facts_is_tried_above() -> None:
    assert {(task.id, fact) for task in SHIPPED.values() for fact in task.facts} == set(ASKING)
