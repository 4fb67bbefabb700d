"""Promises: answers are compared by type, must be grounded in a tool result and told after it; a distractor is never told; where
nothing may be written no write is even attempted; `exact` wants the reference's calls and no others."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agentscaler.messages import Message, Outcome, ToolCall, calls_with_results
from agentscaler.tasks.task import Answer, Call, Task, WrittenTask
from agentscaler.verify.call_match import check_calls, is_told, spell

WRITES = frozenset({"move_note"})


def task(kind: str = "read_only", *answers: Answer, calls: tuple[Call, ...] = (), **more: object) -> Task:
    written = WrittenTask.model_validate(
        {"id": "t", "kind": kind, "intent": "x", "must_tell": answers, "reference": calls, **more}
    )
    return Task(written=written, domain="notes", domain_fingerprint="", expected_diff={}, expected_calls=calls)


def talk(*turns: str | tuple[str, str, str, Outcome]) -> list[Message]:
    """A string is what the agent says; a tuple a call: name, arguments, result, outcome."""
    messages = [Message("system", "s"), Message("user", "u")]
    for number, turn in enumerate(turns):
        if isinstance(turn, str):
            messages.append(Message("assistant", turn))
        else:
            name, arguments, result, outcome = turn
            messages.append(Message("assistant", tool_calls=(ToolCall(f"c{number}", name, arguments),)))
            messages.append(Message("tool", result, tool_call_id=f"c{number}", outcome=outcome))
    return messages


def read(result: str, outcome: Outcome = Outcome.OK) -> tuple[str, str, str, Outcome]:
    return ("list_folders", "{}", result, outcome)


FOUR = Answer(type="count", value=4, distractors=(5, 25))


def judge(*turns: str | tuple[str, str, str, Outcome], answer: Answer = FOUR) -> list[str]:
    return check_calls(task("read_only", answer), talk(*turns), WRITES, exact=False)


def test_a_grounded_answer_told_is_right() -> None:
    assert judge(read('[{"folder":"Travel","notes":4}]'), "There are 4 notes in Travel.") == []
    assert judge(read('[{"notes":4}]'), "You have four.") == []


def test_a_count_may_be_the_length_of_a_list() -> None:
    assert judge(read('[{"t":"a"},{"t":"b"},{"t":"c"},{"t":"d"}]'), "Four notes.") == []


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        (("There are 4.",), "never appeared"),
        (("There are 4.", read('[{"notes":4}]'), "Done."), "did not tell count 4"),
        ((read('{"error":"4"}', Outcome.REFUSED), "There are 4."), "never appeared"),
        ((read('{"notes":"4"}'), "There are 4."), "never appeared"),
        ((read('{"locked":true}'), "There are 4."), "never appeared"),
        ((read("no json: 4"), "There are 4."), "never appeared"),
        ((read('[{"notes":4}]'), "There are 40 or 14."), "did not tell"),
        ((read('[{"notes":4}]'), "It is the 4th."), "did not tell"),
        ((read('[{"notes":4}]'), "There are 4 or 5."), "told the wrong count 5"),
        ((read('[{"notes":4}]'), "There are five. No, four."), "told the wrong count 5"),
    ],
)
def test_wrong_answers_have_their_reason(turns: tuple, reason: str) -> None:
    assert any(reason in one for one in judge(*turns))


def test_what_was_said_before_the_result_is_no_answer_and_no_distractor() -> None:
    assert judge("I guess 5, let me look.", read('[{"notes":4}]'), "It is 4.") == []


@pytest.mark.parametrize(
    ("type_", "value", "words", "told"),
    [
        ("money", 1999, "It costs $19.99.", True),
        ("money", 1999, "It costs 119.99.", False),
        ("money", 150000, "You pay €1,500", True),
        ("money", 150000, "You pay $1500.00 in all", True),
        ("money", 50000, "You pay $1,500.00", False),
        ("money", 16850, "It is $168.5 in all.", True),
        ("money", 16855, "It is $168.5 in all.", False),
        ("money", 123450, "It is $1,234.5.", True),
        ("date", "2026-03-02", "on 2026-03-02", True),
        ("date", "2026-03-02", "on March 2nd, 2026", True),
        ("date", "2026-03-02", "on the 2nd of March", True),
        ("date", "2026-03-02", "on March 2, 2025", False),
        ("date", "2026-03-02", "on March 21", False),
        ("date", "2026-03-02", "on 12 March", False),
        ("id", "note_004", "It is note_004.", True),
        ("id", "note_00", "It is note_004.", False),
        ("name", "Farah Aziz", "Only farah aziz's account", True),
        ("name", "Ana", "Banana", False),
        ("name", "Archive", 'in "Archive".', True),
        ("count", 0, "There are no notes.", True),
        ("count", 0, "There are none.", True),
        ("count", 0, "No problem, there are 5.", False),
        ("count", 2, "There are twenty-two.", False),
        ("count", 22, "There are twenty-two.", True),
        ("count", 20, "There are twenty-two.", False),
        ("count", 17, "There are seventeen of them.", True),
        ("count", 7, "There are seventeen of them.", False),
        ("count", 40, "There are Forty.", True),
        ("count", 1500, "There are 1,500.", True),
        ("count", 4, "version 4.5 or 1.4", False),
    ],
)
def test_spellings(type_: str, value: str | int, words: str, told: bool) -> None:
    assert is_told(type_, value, words) is told


VALUES = st.one_of(
    st.tuples(st.just("count"), st.integers(0, 5000)),
    st.tuples(st.just("money"), st.integers(0, 10_000_000)),
    st.tuples(st.just("date"), st.dates(date(2000, 1, 1), date(2100, 1, 1)).map(date.isoformat)),
)


@given(VALUES)
def test_the_plainest_spelling_is_told(pair: tuple[str, str | int]) -> None:
    assert is_told(*pair, f"The answer is {spell(*pair)}.")


@given(VALUES, VALUES)
def test_another_value_of_the_type_is_not_told(one: tuple[str, str | int], other: tuple[str, str | int]) -> None:
    assume(one[0] == other[0] and one[1] != other[1])
    assert not is_told(*one, f"The answer is {spell(*other)}.")


@pytest.mark.parametrize("outcome", list(Outcome))
def test_an_attempted_write_counts_whatever_became_of_it(outcome: Outcome) -> None:
    move = ("move_note", "{}", '{"error":"no"}', outcome)
    reasons = check_calls(task("read_only", FOUR), talk(move, read('[{"n":4}]'), "It is 4."), WRITES, exact=False)
    assert reasons == [f"attempted the write move_note ({outcome.value})"]


def test_writes_are_free_where_the_state_is_compared() -> None:
    move = ("move_note", "{}", "{}", Outcome.OK)
    assert check_calls(task("write"), talk(move, "Done."), WRITES, exact=False) == []


def test_a_refusal_must_be_said_by_the_agent() -> None:
    refusal = task("refusal", forbidden={"call": "move_note"})
    assert check_calls(refusal, talk("I am sorry, I can't do that."), WRITES, exact=False) == []
    assert check_calls(refusal, talk("Okay."), WRITES, exact=False) == ["did not say that it cannot be done"]
    said_by_user = [*talk("Okay."), Message("user", "So you can't do it."), Message("assistant", "Bye.")]
    assert check_calls(refusal, said_by_user, WRITES, exact=False)


def test_giving_up_after_calls_in_vain_is_no_refusal() -> None:
    """Seen of SmolLM2: in airline two look-ups of nothing, then "they don't have any available options"; in retail a search that came
    back empty, then "I'm unable to edit or modify existing text"."""
    refusal = task("refusal", forbidden={"call": "move_note"})
    nothing = ("read_note", '{"note": "x"}', '{"error": "There is no note."}', Outcome.REFUSED)
    empty = ("list_folders", "{}", "[]", Outcome.OK)
    found = ("list_folders", "{}", '[{"folder":"Work"}]', Outcome.OK)
    words = "I am sorry, I can't do that."
    assert check_calls(refusal, talk(nothing, nothing, words), WRITES, exact=False)
    assert check_calls(refusal, talk(nothing, empty, words), WRITES, exact=False)
    assert check_calls(refusal, talk(nothing, found, words), WRITES, exact=False) == []


REFERENCE = (Call(call="list_folders"), Call(call="move_note", arguments={"title": "A", "folder": "B"}))
MOVE = ("move_note", '{"folder": "B", "title":"A"}', "{}", Outcome.OK)


@pytest.mark.parametrize(
    ("turns", "same"),
    [
        ((read("[]"), MOVE, "Done."), True),  # key order and spaces do not matter
        ((read("{}", Outcome.REFUSED), read("[]"), MOVE, "Done."), True),  # refused calls are not calls made
        ((MOVE, "Done."), False),
        ((MOVE, read("[]"), "Done."), False),
        ((read("[]"), read("[]"), MOVE, "Done."), False),
        ((read("[]"), ("move_note", '{"title":"A","folder":"C"}', "{}", Outcome.OK), "Done."), False),
        ((read("[]"), ("move_note", "not json", "{}", Outcome.OK), "Done."), False),
    ],
)
def test_exact_mode(turns: tuple, same: bool) -> None:
    exact = task("write", calls=REFERENCE)
    assert (check_calls(exact, talk(*turns), WRITES, exact=True) == []) is same
    assert check_calls(exact, talk(*turns), WRITES, exact=False) == []


def test_exact_mode_leaves_out_calls_expected_to_be_refused() -> None:
    recovery = task("recovery", calls=(REFERENCE[1], *REFERENCE), expected_refused=(1,))
    assert check_calls(recovery, talk(read("[]"), MOVE, "Done."), WRITES, exact=True) == []


def test_a_server_may_number_its_calls_anew_each_turn() -> None:
    """Each result belongs to the call of its own turn, whatever ids later ones have."""
    messages = [
        one
        for content in ('[{"id": 1}]', "[]")
        for one in (
            Message("assistant", tool_calls=(ToolCall("call_0", "list_folders", "{}"),)),
            Message("tool", content, tool_call_id="call_0", outcome=Outcome.OK),
        )
    ]
    assert [result and result.content for _, _, result in calls_with_results(messages)] == ['[{"id": 1}]', "[]"]
    told = [
        Message("system", "s"),
        Message("user", "u"),
        *messages,
        Message("assistant", "I'm sorry, I can't do that."),
    ]
    assert check_calls(task("refusal", forbidden=Call(call="move_note", arguments={})), told, WRITES, exact=False) == []
    stopped = [*told[:4], Message("assistant", tool_calls=(ToolCall("call_0", "list_folders", "{}"),))]
    assert [result is None for _, _, result in calls_with_results(stopped)] == [False, True]
