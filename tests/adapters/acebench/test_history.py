from __future__ import annotations

from agentscaler.adapters.acebench.history import read_history
from agentscaler.messages import Message, Outcome, ToolCall


def test_one_request_has_no_history():
    assert read_history("user: A trail\nin Bern, please.\n", {}) == ([], "A trail\nin Bern, please.")
    assert read_history("A trail in Bern", {}) == ([], "A trail in Bern")


def test_turns_and_calls_become_messages():
    question = (
        "user: A trail.\nsystem: Where?\nuser: In Bern:\nthe user: me\n"
        "system: [Trail.find(place='Bern', km=5), rest()]\nsystem: Found one.\nuser: Thanks. Another.\n"
    )
    history, last = read_history(question, {"Trail.find": "Trail_find"})
    assert last == "Thanks. Another."
    assert history == [
        Message("user", "A trail."),
        Message("assistant", "Where?"),
        Message("user", "In Bern:\nthe user: me"),
        Message(
            "assistant",
            tool_calls=(
                ToolCall("past_3_1", "Trail_find", '{"place":"Bern","km":5}'),
                ToolCall("past_3_2", "rest", "{}"),
            ),
        ),
        Message("tool", '"Found one."', tool_call_id="past_3_1", outcome=Outcome.OK),
        Message("tool", '"Found one."', tool_call_id="past_3_2", outcome=Outcome.OK),
        Message("assistant", "Found one."),
    ]


def test_calls_of_which_nothing_is_told_and_words_in_brackets():
    history, _ = read_history("user: a\nsystem: [find(x=1)]\nuser: b\nsystem: [not a call\nuser: c", {})
    assert [message.role for message in history] == ["user", "assistant", "tool", "user", "assistant"]
    assert history[2].content == "null"
    assert history[4].content == "[not a call"


def test_a_history_that_ends_with_the_agent_leaves_nothing_to_ask():
    history, last = read_history("user: a\nsystem: b", {})
    assert [message.content for message in history] == ["a", "b"]
    assert last == ""
