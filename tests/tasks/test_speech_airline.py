"""How people speak of the airline: every query runs on seeded worlds, every name and wish comes to something, what is asked is answered."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import orjson
import pytest

from agentscaler.domain.store import load_domain
from agentscaler.messages import Outcome
from agentscaler.tasks.draft import leaves
from agentscaler.tasks.setting import Row, Setting
from agentscaler.tasks.speech import SPEECH_FILE, Question, Speech, Wish, check_speech, load_speech
from agentscaler.tasks.task import Fact
from agentscaler.tasks.wording import call_of
from agentscaler.tasks.words import slots_of
from agentscaler.world.program import SPEAKER
from agentscaler.world.world import World

DOMAIN = load_domain("airline")
RARE = {"disrupted_flight", "cancel_disrupted", "goodwill"}  # few flights are late or called off


def _speech() -> Speech:
    speech = load_speech("airline")
    assert speech is not None
    return speech


SPEECH = _speech()
WISHES = {wish.name: wish for wish in SPEECH.wishes}
QUESTIONS = {question.name: question for question in SPEECH.questions}


@pytest.fixture(scope="module")
def setting() -> Iterator[Setting]:
    one = Setting(World.of(DOMAIN, 1), SPEECH)
    yield one
    one.close()


def cases_of(setting: Setting, entry: Wish | Question, every: int) -> Iterator[tuple[Row, list[Row]]]:
    for person in setting.people[::every]:
        setting.turn_to(person)
        yield person, setting.cases(entry.name, entry.cases)


def test_it_fits_the_domain() -> None:
    check_speech(DOMAIN, SPEECH, SPEECH_FILE)


def test_it_covers_the_domain() -> None:
    writing = World.of(DOMAIN, 1).program.write_tools
    assert {wish.call for wish in SPEECH.wishes} == writing
    assert len(SPEECH.questions) >= 12 and len(SPEECH.off_topic) >= 25
    assert {tells.type for one in SPEECH.questions for tells in one.tells} == {"money", "date", "id", "count", "name"}
    pleaded = {rule for wish in SPEECH.wishes for rule in wish.pleas}
    assert pleaded == {rule.name for rule in DOMAIN.policy if rule.forbids}


def test_words_name_no_tool_and_no_column() -> None:
    texts = [text for text in _strings(SPEECH.model_dump(exclude={"person": {"rows"}})) if "SELECT" not in text]
    bare = [re.sub(r"\{[^{}]*\}", "", text) for text in texts if " " in text]
    assert not [text for text in bare if re.search(r"[a-z]_[a-z]", text)]
    assert not [text for text in bare if re.search(r"\b(saver|flex)_|\bNULL\b", text)]


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _strings(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _strings(one)


@pytest.mark.parametrize("name", WISHES)
def test_many_speakers_have_cases_of_a_wish(setting: Setting, name: str) -> None:
    found = [cases for _, cases in cases_of(setting, WISHES[name], every=9)]
    share = sum(bool(cases) for cases in found) / len(found)
    assert share >= (0.03 if name in RARE else 0.3)
    assert max(len(cases) for cases in found) <= 200


@pytest.mark.parametrize("name", WISHES)
def test_a_wish_is_done_or_forbidden_by_a_rule_that_people_plead_against(setting: Setting, name: str) -> None:
    """Some case is done by the database; each rule that forbids one has a plea, and each plea a case."""
    wish = WISHES[name]
    outcomes: Counter[str] = Counter()
    for person, cases in cases_of(setting, wish, every=1 if name in RARE else 3 if wish.pleas else 11):
        for case in cases[:: 1 + len(cases) // 8]:
            call = call_of(wish, case, person, setting)
            environment = setting.world.open()
            rules = environment.forbidding(call.call, call.arguments, person[SPEAKER])
            if environment.call("agent", call.call, call.arguments).outcome is Outcome.OK:
                outcomes.update(rules[:1] or ["done"])
            environment.close()
    assert set(outcomes) - {"done"} == set(wish.pleas)
    assert outcomes["done"] or all(rule in ("identity", "goodwill") for rule in wish.pleas)


@pytest.mark.parametrize("name", SPEECH.things)
def test_every_name_fits_something_alone(setting: Setting, name: str) -> None:
    thing = SPEECH.things[name]
    left = {(naming.by, naming.words) for naming in (*thing.names, *thing.short)}
    for person in setting.people[::2]:
        setting.turn_to(person)
        for naming in (*thing.names, *thing.short):
            if (naming.by, naming.words) in left and any(
                all(row.get(one) is not None for one in naming.by) and len(setting.alike(name, naming, row)) == 1
                for row in setting.rows(name)
            ):
                left.discard((naming.by, naming.words))
        if not left:
            return
    assert left == set()


@pytest.mark.parametrize("name", [*WISHES, *QUESTIONS])
def test_all_words_fit_some_case(setting: Setting, name: str) -> None:
    entry = WISHES.get(name) or QUESTIONS[name]
    left = set(entry.words)
    for person, cases in cases_of(setting, entry, every=2):
        for case in cases:
            known = {**person, **case}
            left -= {one for one in left if all(known.get(slot, "") is not None for slot in slots_of(one))}
        if not left:
            return
    assert left == set()


@pytest.mark.parametrize("name", QUESTIONS)
def test_what_is_asked_stands_in_the_result(setting: Setting, name: str) -> None:
    question = QUESTIONS[name]
    num_asked = 0
    for person, cases in cases_of(setting, question, every=23):
        for case in cases[:6]:
            call = call_of(question, case, person, setting)
            environment = setting.world.open()
            result = environment.call("agent", call.call, call.arguments)
            environment.close()
            assert result.outcome is Outcome.OK, result.content
            found = orjson.loads(result.content)
            values = [value for _, value in leaves(found)] + [len(found)]
            for tells in question.tells:
                assert case[tells.value] in values
                wrong = orjson.loads(case[tells.distractors]) if tells.distractors else []
                assert case[tells.value] not in wrong
            num_asked += 1
    assert num_asked >= 5


CONFIRMING = (
    "It costs 56.00 euros. Shall I go ahead and book it?",
    "I can put booking JB-27U63 into business for 80.00 euros. Shall I do that?",
    "The flight JN101 leaves at 10:20 on May 20. Shall I change your flight and charge your Visa?",
    "You would get 120.00 euros back to your card. Do you want me to cancel the booking?",
    "I would change the name to Amie and leave the birth date. Is that correct?",
    "There is one more bag to pay. May I add it to your trip?",
)


def test_questions_ask_for_what_is_missing_and_a_wish_for_a_yes_does_not() -> None:
    """Else a person would answer "Shall I go ahead?" with what was asked before."""
    asked: list[tuple[Fact, tuple[str, ...]]] = []
    for wish in SPEECH.wishes:
        asked += [
            (Fact(about=one.about, asked=one.asked, question="?", says="-"), one.question)
            for one in wish.leave_out.values()
        ]
    asked += [(Fact(about=one.about, question="?", says="-"), one.which) for one in SPEECH.things.values() if one.short]
    assert SPEECH.person is not None
    asked.append((Fact(about=SPEECH.person.about, question="?", says="-"), SPEECH.person.question))
    for fact, questions in asked:
        for question in questions:
            assert fact.is_asked(re.sub(r"\{[^{}]*\}", "Ida", question)), (fact.about, question)
        for words in CONFIRMING:
            assert not fact.is_asked(words), (fact.about, words)
