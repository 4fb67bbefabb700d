"""A rollout in words, for a person at a terminal.

`render_rollout` is pure. Invariants: without `colour` the text holds no escape sequence, and in no case one that came out of a
recorded message: control characters of the content are shown as `\\x1b` and the like, so that a record cannot write on the reader's
terminal. Every message, call and changed row stands in it; long results are shortened and say by how much.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from agentscaler.canonical import canonical_json
from agentscaler.messages import Message, Outcome, ToolCall
from agentscaler.rollout.record import Rollout
from agentscaler.tasks.task import Task
from agentscaler.verify.verdict import VerdictOutcome
from agentscaler.world.changeset import Diff
from agentscaler.world.compare import explain

WIDTH = 110
INDENT = 11
MAX_RESULT_LINES = 12
MAX_PROMPT_LINES = 6
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_STYLES = {
    "bold": "1",
    "faint": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}
_OUTCOME_STYLE = {
    VerdictOutcome.ACCEPTED: "green",
    VerdictOutcome.REJECTED: "red",
    VerdictOutcome.VOID: "yellow",
}


def render_rollout(rollout: Rollout, task: Task | None, colour: bool = False) -> str:
    """`task` adds what was expected; without it only what happened is shown."""
    page = _Page(colour)
    parts = [_header(rollout, page), _dialogue(rollout, page), _world(rollout, task, page), _costs(rollout, page)]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


@dataclass(frozen=True, slots=True)
class _Page:
    colour: bool

    def paint(self, text: str, *styles: str) -> str:
        if not self.colour or not text:
            return text
        codes = ";".join(_STYLES[style] for style in styles)
        return f"\x1b[{codes}m{text}\x1b[0m"

    def title(self, words: str) -> str:
        return self.paint(f"── {words} " + "─" * max(3, WIDTH - len(words) - 4), "faint")

    def field(self, label: str, text: str, *styles: str) -> list[str]:
        """A label in its column and the text beside it, folded."""
        lines = _fold(text, WIDTH - INDENT) or [""]
        head = f"{label:<{INDENT - 1}} "
        return [
            (self.paint(head, "bold") if number == 0 else " " * INDENT)
            + (self.paint(line, *styles) if styles else line)
            for number, line in enumerate(lines)
        ]


def _header(rollout: Rollout, page: _Page) -> Iterator[str]:
    verdict = rollout.verdict
    yield from page.field("rollout", rollout.rollout_id)
    yield from page.field(
        "task", f"{rollout.task_id} ({rollout.kind}), attempt {rollout.attempt}, digest {rollout.task_digest}"
    )
    world = f"{rollout.domain}, seed {rollout.world_seed}, fingerprint {rollout.domain_fingerprint}"
    yield from page.field("world", world)
    teacher, user = rollout.teacher, rollout.user
    yield from page.field(
        "teacher", f"{teacher.model}, revision {teacher.revision}, sampling {teacher.sampling}, seed {rollout.seed}"
    )
    yield from page.field("user", user.kind + (f" ({user.model})" if user.model else ""))
    if rollout.unmatched_questions:
        questions = f"questions the user had no answer for: {rollout.unmatched_questions}"
        yield from page.field("", questions, "yellow")
    if rollout.benchmark:
        yield from page.field("", "of a benchmark: never exported", "yellow")
    yield from page.field("ended", f"{rollout.stop_reason.value}, {rollout.created_at}")
    stage = f" at {verdict.stage.value}" if verdict.stage else ""
    yield from page.field("verdict", f"{verdict.outcome.value.upper()}{stage}", "bold", _OUTCOME_STYLE[verdict.outcome])
    for reason in verdict.reasons:
        yield from page.field("", f"- {reason}")
    if verdict.detour:
        yield from page.field(
            "", "detour: some row was changed and changed back, so export leaves it out by default", "yellow"
        )


def _dialogue(rollout: Rollout, page: _Page) -> Iterator[str]:
    yield page.title("dialogue")
    calls = {call.id: call for message in rollout.messages for call in message.tool_calls}
    answered = {message.tool_call_id for message in rollout.messages if message.role == "tool"}
    for message in rollout.messages:
        if message.role == "system":
            yield from _shorten(page.field("system", message.content, "faint"), MAX_PROMPT_LINES)
        elif message.role == "user":
            yield from page.field("user", message.content, "cyan")
        elif message.role == "assistant":
            yield from _turn(message, page)
            for call in message.tool_calls:
                if call.id not in answered:
                    yield from page.field("  call", _signature(call), "magenta")
                    yield from page.field("    never", "the conversation had ended", "yellow")
        else:
            yield from _result(message, calls.get(message.tool_call_id or ""), page)


def _turn(message: Message, page: _Page) -> Iterator[str]:
    label = "agent"
    for text, styles in ((message.reasoning or "", ("faint",)), (message.content, ())):
        if text.strip():
            words = f"(thinks) {text}" if styles else text
            yield from page.field(label, words, *styles)
            label = ""
    marks = []
    if message.latency_s is not None:
        marks.append(f"{message.latency_s:.2f} s")
    if message.usage:
        usage = message.usage
        marks.append(f"{usage.prompt_tokens} tokens in ({usage.cached_tokens} cached), {usage.completion_tokens} out")
    if message.prefix_break:
        marks.append("prefix break")
    if marks or label:
        yield from page.field(label, f"[{'; '.join(marks)}]" if marks else "(no words)", "faint")


def _result(message: Message, call: ToolCall | None, page: _Page) -> Iterator[str]:
    yield from page.field("  call", _signature(call) if call else f"(unknown call {message.tool_call_id})", "magenta")
    outcome = message.outcome or Outcome.OK
    style = {Outcome.OK: "green", Outcome.REFUSED: "yellow", Outcome.INVALID_CALL: "red"}[outcome]
    label = {Outcome.OK: "    ok", Outcome.REFUSED: "    refused", Outcome.INVALID_CALL: "    invalid"}[outcome]
    lines = page.field(label, _compact(message.content), *(() if outcome is Outcome.OK else (style,)))
    yield from _shorten(lines, MAX_RESULT_LINES)
    if message.changed_keys:
        yield from page.field("    changed", ", ".join(message.changed_keys), "blue")


def _signature(call: ToolCall) -> str:
    """name(a="x", b=2) where the arguments are an object; the raw text otherwise."""
    try:
        arguments = orjson.loads(call.arguments)
    except orjson.JSONDecodeError:
        return f"{call.name} {call.arguments!r}"
    if not isinstance(arguments, dict):
        return f"{call.name} {call.arguments}"
    return f"{call.name}({', '.join(f'{name}={_value(value)}' for name, value in arguments.items())})"


def _world(rollout: Rollout, task: Task | None, page: _Page) -> Iterator[str]:
    """Changed rows: `=` as expected, `-` expected and not there, `+` there and not expected; then the difference in words."""
    actual: Diff = orjson.loads(rollout.state_changes)
    if task is None:
        yield page.title(f"world: {_count(actual)} changed")
        for table, row in _rows(actual):
            yield from page.field("", _change(table, row))
        if rollout.verdict.state_diff:
            yield from page.field("difference", "\n".join(rollout.verdict.state_diff), "red")
        return
    expected = task.expected_diff
    differences = explain(expected, actual)
    verdict = "as expected" if not differences else "not as expected"
    yield page.title(f"world: {_count(actual)} changed, {_count(expected)} expected, {verdict}")
    for table in sorted({*expected, *actual}):
        want = {canonical_json(row): row for row in expected.get(table, [])}
        got = {canonical_json(row): row for row in actual.get(table, [])}
        for text in sorted(
            {*want, *got}, key=lambda text: (canonical_json((want.get(text) or got[text])["key"]), text in got)
        ):
            if text in want and text in got:
                yield from page.field("  =", _change(table, got[text]), "green")
            elif text in want:
                yield from page.field("  - expect", _change(table, want[text]), "red")
            else:
                yield from page.field("  + got", _change(table, got[text]), "yellow")
    for number, line in enumerate(differences):
        yield from page.field("" if number else "difference", line, "red")


def _costs(rollout: Rollout, page: _Page) -> Iterator[str]:
    timings = rollout.timings
    usages = [message.usage for message in rollout.messages if message.usage]
    yield page.title("cost")
    yield from page.field(
        "time",
        f"{_seconds(timings.total_s)}: teacher {_seconds(timings.teacher_s)}, user {_seconds(timings.user_s)}, "
        f"environment {_seconds(timings.environment_s)}",
    )
    if usages:
        tokens_in, cached = sum(u.prompt_tokens for u in usages), sum(u.cached_tokens for u in usages)
        tokens_out = sum(u.completion_tokens for u in usages)
        yield from page.field(
            "tokens", f"{tokens_in:,} in ({cached:,} cached), {tokens_out:,} out, in {len(usages)} replies"
        )
    num_turns = sum(message.role == "assistant" for message in rollout.messages)
    num_calls = sum(message.role == "tool" for message in rollout.messages)
    yield from page.field("length", f"turns of the agent: {num_turns}, calls: {num_calls}")


def _rows(diff: Diff) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((table, row) for table, rows in diff.items() for row in rows)


def _count(diff: Diff) -> str:
    number = sum(len(rows) for rows in diff.values())
    return f"{number} row" if number == 1 else f"{number} rows"


def _change(table: str, row: dict[str, Any]) -> str:
    key = ", ".join(f"{name}={_value(value)}" for name, value in row["key"].items())
    columns = "; ".join(f"{name}: {_value(value)}" for name, value in row["columns"].items())
    return f"{row['op']} {table}({key}){' ' + columns if columns else ''}"


def _value(value: Any) -> str:
    """JSON, but for the labels of new rows, which read as `new notes#1`."""
    if isinstance(value, dict) and len(value) == 1 and "$new" in value:
        return f"new {value['$new']}"
    return canonical_json(value)


def _compact(content: str) -> str:
    """JSON on one line with spaces to fold at; other text as it is."""
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return content
    if isinstance(value, list) and len(value) > 1:
        return "\n".join(_spaced(item) for item in value)
    return _spaced(value)


def _spaced(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_spaced(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_spaced(item) for item in value) + "]"
    return orjson.dumps(value).decode()


def _fold(text: str, width: int) -> list[str]:
    lines = []
    for line in _printable(text).split("\n"):
        lines += textwrap.wrap(line, width, replace_whitespace=False, drop_whitespace=True, break_on_hyphens=False) or [
            ""
        ]
    return lines


def _printable(text: str) -> str:
    return _CONTROL.sub(lambda match: repr(match[0])[1:-1], text.replace("\r\n", "\n").expandtabs(4))


def _shorten(lines: list[str], most: int) -> list[str]:
    if len(lines) <= most + 1:
        return lines
    return [*lines[:most], " " * INDENT + f"… {len(lines) - most} more lines"]


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 0.095 else f"{value * 1000:.2f} ms"
