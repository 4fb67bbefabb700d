"""Deliberately broken verifiers: the real funnel behind one defect each. A measurement that catches none of them measures nothing.

A defect is a change to what the funnel is given (a table left out, an answer's distractors forgotten), never a patched function. It is
caught when, on some mutant, the broken verifier and the oracle part. One that cannot show on the tasks at hand (`applies`) counts on
neither side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from agentscaler.canonical import canonical_json
from agentscaler.messages import Message, Outcome, ToolCall
from agentscaler.rollout.limits import StopReason
from agentscaler.tasks.task import Kind, Task
from agentscaler.verify.funnel import verify
from agentscaler.verify.verdict import Verdict, VerdictOutcome
from agentscaler.world.changeset import Diff

Change = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """What a verifier is given."""

    task: Task
    messages: tuple[Message, ...]
    stop_reason: StopReason
    diff: Diff
    net_keys: tuple[str, ...]
    write_tools: frozenset[str]

    def verdict(self) -> Verdict:
        return verify(self.task, self.messages, self.stop_reason, self.diff, self.net_keys, self.write_tools)

    def accepted(self) -> bool:
        return self.verdict().outcome is VerdictOutcome.ACCEPTED


@dataclass(frozen=True, slots=True)
class Broken:
    """`applies`: whether a task is one on which the defect could show. With one such task, all mutants are looked at."""

    name: str
    applies: Callable[[Task], bool]
    accepts: Callable[[Case], bool]


@dataclass(frozen=True, slots=True)
class MostChanged:
    """The table and the column whose omission ought to be plainest: that which the most references change and nothing else, so that
    without it they come to nothing. Where each changes several, the one changed most often by values out of the arguments (a seat
    that goes with every booking never differs alone). Empty where there is none."""

    table: str
    column: tuple[str, str]

    @classmethod
    def of(cls, tasks: Iterable[Task]) -> MostChanged:
        alone: tuple[Counter[Any], Counter[Any]] = (Counter(), Counter())
        often: tuple[Counter[Any], Counter[Any]] = (Counter(), Counter())
        for task in tasks:
            given = _given(task)
            tables = {table for table, _ in _changes(task)}
            columns = {(table, column) for table, change in _changes(task) for column in change["columns"]}
            only_updates = all(change["op"] == "update" for _, change in _changes(task))
            alone[0].update(tables if len(tables) == 1 else ())
            alone[1].update(columns if len(columns) == 1 and only_updates else ())
            for table, change in _changes(task):
                decided = [(table, column) for column, value in change["columns"].items() if _json(value) in given]
                often[0].update([table] if decided else [])
                often[1].update(decided)
        return cls(_first(alone[0] or often[0]) or "", _first(alone[1] or often[1]) or ("", ""))


def _given(task: Task) -> set[str]:
    """Every text, and every number above one, among the arguments of the reference."""
    found: set[str] = set()
    ahead: list[Any] = [call.arguments for call in task.expected_calls]
    while ahead:
        value = ahead.pop()
        if isinstance(value, dict | list):
            ahead += value.values() if isinstance(value, dict) else value
        elif isinstance(value, str) or (isinstance(value, int) and value > 1):
            found.add(_json(value))
    return found


def _json(value: Any) -> str:
    return canonical_json(value)


def _first(counts: Counter[Any]) -> Any:
    """The most frequent; of equals the first by name, so that the order of tasks does not matter."""
    return min(counts, key=lambda name: (-counts[name], name), default=None)


def broken_verifiers(most: MostChanged) -> tuple[Broken, ...]:
    return (
        _on_diffs(
            "skips a table", lambda diff: {t: rows for t, rows in diff.items() if t != most.table}, _changes_table(most)
        ),
        _on_diffs("skips a column", lambda diff: _without_column(diff, *most.column), _changes_column(most)),
        _on_diffs("counts changes only", _counted, _writes),
        _on_diffs("ignores deletes", lambda diff: _filtered(diff, lambda c: c["op"] != "delete"), _has("delete")),
        _on_diffs("ignores updates", lambda diff: _filtered(diff, lambda c: c["op"] != "update"), _has("update")),
        _on_diffs("ignores the values of updates", _without_update_values, _has("update")),
        _on_diffs("ignores links of new rows", lambda diff: _texts(diff, _collapsed), _has_links),
        _on_diffs("ignores letter case", lambda diff: _texts(diff, str.casefold), _has_text),
        Broken("ignores unexpected tables", _writes, _ignore_unexpected_tables),
        Broken("ignores the end", _writes, lambda case: replace(case, diff=case.task.expected_diff).accepted()),
        Broken(
            "does not look for attempted writes",
            lambda task: task.kind.must_not_write,
            lambda case: replace(case, write_tools=frozenset()).accepted(),
        ),
        Broken("takes answers that were not looked up", _tells, _ground_all),
        Broken("does not look for answers", _tells, lambda case: _retold(case, ()).accepted()),
        Broken("ignores distractors", _has_distractors, _without_distractors),
        Broken("does not ask for the refusal", lambda task: task.kind.must_decline, _without_refusal),
        Broken(
            "takes every stop reason",
            lambda task: True,
            lambda case: replace(case, stop_reason=StopReason.USER_STOP).accepted(),
        ),
        Broken(
            "rejects detours",
            _writes,
            lambda case: (v := case.verdict()).outcome is VerdictOutcome.ACCEPTED and not v.detour,
        ),
    )


def _on_diffs(name: str, change: Callable[[Diff], Diff], applies: Callable[[Task], bool]) -> Broken:
    def accepts(case: Case) -> bool:
        expected = case.task.model_copy(update={"expected_diff": _sorted(change(case.task.expected_diff))})
        return replace(case, task=expected, diff=_sorted(change(case.diff))).accepted()

    return Broken(name, applies, accepts)


def _sorted(diff: Diff) -> Diff:
    """In an order that the change has not left behind."""
    return {table: sorted(changes, key=canonical_json) for table, changes in diff.items()}


def _filtered(diff: Diff, keep: Callable[[Change], bool]) -> Diff:
    return {table: [change for change in changes if keep(change)] for table, changes in diff.items()}


def _mapped(diff: Diff, change: Callable[[Change], Change]) -> Diff:
    return {table: [change(one) for one in changes] for table, changes in diff.items()}


def _without_column(diff: Diff, table: str, column: str) -> Diff:
    """An update of nothing else is no change any more."""
    bare = _mapped(
        {table: diff.get(table, [])},
        lambda c: {**c, "columns": {name: value for name, value in c["columns"].items() if name != column}},
    )
    return {**diff, **_filtered(bare, lambda c: c["op"] != "update" or bool(c["columns"]))}


def _counted(diff: Diff) -> Diff:
    return {t: [{"op": "change", "key": {"n": n}, "columns": {}} for n in range(len(rows))] for t, rows in diff.items()}


def _without_update_values(diff: Diff) -> Diff:
    return _mapped(diff, lambda c: {**c, "columns": dict.fromkeys(c["columns"], 0)} if c["op"] == "update" else c)


def _texts(value: Any, change: Callable[[str], str]) -> Any:
    """All texts of the values changed; the names of tables and columns stay."""
    if isinstance(value, dict):
        return {key: _texts(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_texts(item, change) for item in value]
    return change(value) if isinstance(value, str) else value


def _collapsed(text: str) -> str:
    """`notes#2` becomes `notes#`."""
    table, mark, number = text.rpartition("#")
    return f"{table}#" if mark and number.isdigit() else text


def _ignore_unexpected_tables(case: Case) -> bool:
    return replace(case, diff={t: rows for t, rows in case.diff.items() if t in case.task.expected_diff}).accepted()


def _ground_all(case: Case) -> bool:
    """As if all answers had been read before anything was said."""
    content = orjson.dumps([answer.value for answer in case.task.written.must_tell]).decode()
    call = Message("assistant", tool_calls=(ToolCall("given", "given", "{}"),))
    given = (call, Message("tool", content, tool_call_id="given", outcome=Outcome.OK))
    return replace(case, messages=(*case.messages[:2], *given, *case.messages[2:])).accepted()


def _retold(case: Case, answers: Sequence[Any]) -> Case:
    written = case.task.written.model_copy(update={"must_tell": tuple(answers)})
    return replace(case, task=case.task.model_copy(update={"written": written}))


def _without_distractors(case: Case) -> bool:
    return _retold(case, [a.model_copy(update={"distractors": ()}) for a in case.task.written.must_tell]).accepted()


def _without_refusal(case: Case) -> bool:
    """Judged as a question without an answer: nothing may be written, nothing need be said."""
    if not case.task.kind.must_decline:
        return case.accepted()
    written = case.task.written.model_copy(update={"kind": Kind.READ_ONLY})
    return replace(case, task=case.task.model_copy(update={"written": written})).accepted()


def _writes(task: Task) -> bool:
    return any(task.expected_diff.values())


def _changes(task: Task) -> Iterable[tuple[str, Change]]:
    return ((table, change) for table, changes in task.expected_diff.items() for change in changes)


def _has(op: str) -> Callable[[Task], bool]:
    return lambda task: any(change["op"] == op for _, change in _changes(task))


def _changes_table(most: MostChanged) -> Callable[[Task], bool]:
    return lambda task: bool(task.expected_diff.get(most.table))


def _changes_column(most: MostChanged) -> Callable[[Task], bool]:
    return lambda task: any((table, column) == most.column for table, c in _changes(task) for column in c["columns"])


def _has_links(task: Task) -> bool:
    """Two new rows of one table, and a row that names one of them: only there can a link go wrong and all else be right."""
    new: Counter[str] = Counter()
    links = 0
    for table, change in _changes(task):
        own = [v for v in change["key"].values() if isinstance(v, dict) and "$new" in v]
        named = [v for v in change["columns"].values() if isinstance(v, dict) and "$new" in v]
        is_new = change["op"] == "insert" and any(str(v["$new"]).startswith(f"{table}#") for v in own)
        new[table] += is_new
        links += len(named) + (0 if is_new else len(own))
    return links > 0 and max(new.values(), default=0) > 1


def _has_text(task: Task) -> bool:
    """A text of several words out of the arguments is written as it stands; a name or a code in other letters is hardly ever taken."""
    given = _given(task)
    return any(
        isinstance(v, str) and " " in v and v.lower() != v.upper() and _json(v) in given
        for _, change in _changes(task)
        for v in change["columns"].values()
    )


def _tells(task: Task) -> bool:
    return bool(task.written.must_tell)


def _has_distractors(task: Task) -> bool:
    return any(answer.distractors for answer in task.written.must_tell)
