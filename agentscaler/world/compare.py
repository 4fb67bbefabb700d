"""Compare two canonical diffs, and say row by row where they part.

Equal diffs are the same end. `explain` never decides anything: it words a difference that `same` has found.
"""

from __future__ import annotations

from typing import Any

from agentscaler.canonical import canonical_json
from agentscaler.world.changeset import Diff

Rows = list[dict[str, Any]]


def same(one: Diff, other: Diff) -> bool:
    """A table without changes is as good as one that is not named."""
    return canonical_json({t: r for t, r in one.items() if r}) == canonical_json({t: r for t, r in other.items() if r})


def explain(expected: Diff, actual: Diff) -> list[str]:
    """Lines `table: missing | unexpected | different …`; empty exactly when the diffs are the same."""
    lines: list[str] = []
    for table in sorted({*expected, *actual}):
        missing, unexpected = _apart(expected.get(table, []), actual.get(table, []))
        for row in list(missing):
            partner = _partner(row, unexpected)
            if partner is not None:
                missing.remove(row)
                unexpected.remove(partner)
                lines += _differences(table, row, partner)
        lines += [f"{table}: missing {_words(row)}" for row in missing]
        lines += [f"{table}: unexpected {_words(row)}" for row in unexpected]
    return lines


def _apart(expected: Rows, actual: Rows) -> tuple[Rows, Rows]:
    """Rows of the one that the other lacks, both ways."""
    want = {canonical_json(row): row for row in expected}
    got = {canonical_json(row): row for row in actual}  # keys and labels are unique in a diff, so no text stands twice
    return [row for text, row in want.items() if text not in got], [
        row for text, row in got.items() if text not in want
    ]


def _partner(row: dict[str, Any], others: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The other diff's row that is most likely the same one: same operation, then same key or most equal columns."""
    same_op = [other for other in others if other["op"] == row["op"]]
    for other in same_op:
        if _key(other) == _key(row):
            return other
    if row["op"] != "insert":
        return None

    def equal_columns(other: dict[str, Any]) -> int:
        return sum(other["columns"].get(name) == value for name, value in row["columns"].items())

    best = max(same_op, key=equal_columns, default=None)
    return best if best is not None and 2 * equal_columns(best) >= max(1, len(row["columns"])) else None


def _differences(table: str, want: dict[str, Any], got: dict[str, Any]) -> list[str]:
    where = f"{table} {_key(want)}"
    lines = []
    if _key(want) != _key(got):
        lines.append(f"{where}: different key {_key(got)}")
    for column in sorted({*want["columns"], *got["columns"]}):
        expected, actual = _shown(want["columns"], column), _shown(got["columns"], column)
        if expected != actual:
            lines.append(f"{where}: different {column}: expected {expected}, got {actual}")
    return lines


def _shown(columns: dict[str, Any], name: str) -> str:
    return canonical_json(columns[name]) if name in columns else "(unchanged)"


def _key(row: dict[str, Any]) -> str:
    return canonical_json(row["key"])


def _words(row: dict[str, Any]) -> str:
    return f"{row['op']} {_key(row)} {canonical_json(row['columns']) if row['columns'] else ''}".strip()
