"""A rollout in words. Promises:

1. Who, what and why stand at the top: ids, teacher, stop reason, verdict with stage and reasons, detour.
2. Every turn, call, argument and outcome is there, in order; long results are shortened and say so.
3. The world's rows stand beside the expected ones, and every line of the difference is there.
4. Without `colour` there is no escape sequence, and with it none that a recorded text brought along; any rollout can be shown.
"""

from __future__ import annotations

import re
from dataclasses import replace

import orjson
from hypothesis import given, settings

from agentscaler.messages import Message, Outcome, ToolCall, Usage
from agentscaler.rollout.record import Rollout
from agentscaler.shards.render import WIDTH, render_rollout
from agentscaler.tasks.task import Kind, Task
from agentscaler.verify.verdict import Stage, VerdictOutcome
from agentscaler.world.compare import explain
from tests.shards.made import ROLLOUTS, played

_STYLE = re.compile(r"\x1b\[[0-9;]*m")


def of(kind: Kind, outcome: VerdictOutcome) -> tuple[Task, Rollout]:
    return next((t, r) for t, r in played() if t.kind is kind and r.verdict.outcome is outcome)


def squeezed(text: str) -> str:
    return " ".join(text.split())


def test_an_accepted_rollout_reads_from_top_to_bottom() -> None:
    task, rollout = of(Kind.RECOVERY, VerdictOutcome.ACCEPTED)
    rollout = replace(rollout, verdict=replace(rollout.verdict, detour=True))
    text = render_rollout(rollout, task)
    top, dialogue, world, cost = re.split(r"^── .*$", text, flags=re.MULTILINE)
    for words in (
        rollout.rollout_id,
        task.task_id,
        "recovery",
        "reference",
        str(rollout.seed),
        "user_stop",
        "ACCEPTED",
        "detour",
    ):
        assert words in squeezed(top)
    place = 0
    flat = squeezed(dialogue)
    for message in rollout.messages:
        if message.role in ("user", "assistant") and message.content:
            place = flat.index(squeezed(message.content), place)
        for call in message.tool_calls:
            place = flat.index(f"call {call.name}(", place)
            for name, value in orjson.loads(call.arguments).items():
                assert f"{name}={orjson.dumps(value).decode()}" in flat[place:]
        if message.role == "tool":
            place = flat.index(
                {"ok": " ok ", "refused": " refused ", "invalid_call": " invalid "}[message.outcome or "ok"], place
            )
            assert all(key in flat[place:] for key in message.changed_keys)
    assert "refused" in flat
    num_rows = sum(len(rows) for rows in task.expected_diff.values())
    assert world.count("  = ") == num_rows > 0 and " - expect" not in world and "difference" not in world
    assert "teacher" in cost and "environment" in cost
    assert max(len(line) for line in text.splitlines()) <= WIDTH


def test_a_wrong_end_stands_beside_the_expected_one() -> None:
    task, rollout = of(Kind.WRITE, VerdictOutcome.REJECTED)
    stray = {"op": "update", "key": {"note_id": "note_001"}, "columns": {"title": "Wrong"}}
    actual = {"notes": [stray]}
    lines = explain(task.expected_diff, actual)
    verdict = replace(rollout.verdict, reasons=tuple(lines), state_diff=tuple(lines))
    assert verdict.stage is Stage.STATE_MATCH
    rollout = replace(rollout, state_changes=orjson.dumps(actual).decode(), verdict=verdict)
    text = squeezed(render_rollout(rollout, task))
    assert "REJECTED at state_match" in text and "not as expected" in text
    assert '+ got update notes(note_id="note_001") title: "Wrong"' in text
    assert text.count("- expect ") == sum(len(rows) for rows in task.expected_diff.values())
    assert all(squeezed(line) in text for line in lines)
    alone = squeezed(render_rollout(rollout, None))
    assert 'update notes(note_id="note_001") title: "Wrong"' in alone and "- expect" not in alone
    assert all(squeezed(line) in alone for line in lines)


def test_what_a_model_did_is_shown_as_it_was() -> None:
    task, rollout = of(Kind.WRITE, VerdictOutcome.ACCEPTED)
    long = orjson.dumps([{"title": f"Note {n}", "body": "word " * 9} for n in range(40)]).decode()
    messages = (
        Message("system", "Rules."),
        Message("user", "Do it."),
        Message(
            "assistant",
            reasoning="I must look first.",
            tool_calls=(
                ToolCall("1", "list_notes", "{}"),
                ToolCall("2", "move_note", '{"title": '),
                ToolCall("3", "late", "[1]"),
            ),
            usage=Usage(1200, 800, 40),
            latency_s=1.25,
            prefix_break=True,
        ),
        Message("tool", long, tool_call_id="1", outcome=Outcome.OK),
        Message("tool", "arguments are no JSON", tool_call_id="2", outcome=Outcome.INVALID_CALL),
    )
    text = render_rollout(replace(rollout, messages=messages, unmatched_questions=2), task)
    flat = squeezed(text)
    assert "(thinks) I must look first." in flat
    assert "[1.25 s; 1200 tokens in (800 cached), 40 out; prefix break]" in flat
    assert "call list_notes() ok" in flat and re.search(r"… \d+ more lines", flat) and "Note 39" not in flat
    assert """call move_note '{"title": ' invalid arguments are no JSON""" in flat
    assert "call late [1] never the conversation had ended" in flat
    assert "no answer for: 2" in flat and "1,200 in (800 cached), 40 out" in flat


def test_recorded_escape_sequences_do_not_reach_the_terminal() -> None:
    task, rollout = of(Kind.WRITE, VerdictOutcome.ACCEPTED)
    nasty = "\x1b[2J\x1b]0;owned\x07 clear\r\u202e reversed \x9b31m"
    messages = (
        Message("user", nasty),
        Message("assistant", nasty, reasoning=nasty, tool_calls=(ToolCall("1", nasty, '{"' + "\\u001b" + '": 1}'),)),
        Message("tool", nasty, tool_call_id="1", outcome=Outcome.OK, changed_keys=(nasty,)),
    )
    rollout = replace(rollout, messages=messages)
    plain = render_rollout(rollout, task)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", plain) and r"\x1b[2J" in plain
    coloured = render_rollout(rollout, task, colour=True)
    assert "\x1b[" in coloured
    assert _STYLE.sub("", coloured) == plain


@given(ROLLOUTS)
@settings(max_examples=60)
def test_any_rollout_can_be_shown(rollout: Rollout) -> None:
    rollout = replace(rollout, state_changes="{}")
    plain = render_rollout(rollout, played()[0][0])
    assert "\x1b" not in plain and rollout.rollout_id in plain
    assert _STYLE.sub("", render_rollout(rollout, None, colour=True)) == render_rollout(rollout, None)
