"""What must hold of a rollout output once its job is complete, read from the files alone.

It shares no code with the parts that write: the manifest's entries are read as plain JSON, files by pyarrow, and what was planned is
the tasks of tasks.parquet times the attempts, told apart by the columns `task_digest` and `attempt`, not by rollout names.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


@dataclass(frozen=True, slots=True)
class Examined:
    """`lost`: planned, and neither committed nor given up with a reason. `duplicated`: rollout ids, or
    planned attempts, in more than one committed row.
    `torn`: entries and named files that cannot be read, or are not what their entry says, and *.tmp left anywhere. `named_twice`: files
    that two entries name. `losers`: files in shards/ and attempts/ that no entry names: no harm, and swept at the next start."""

    planned: int
    committed: int
    given_up: int
    lost: int
    duplicated: int
    torn: int
    named_twice: int
    losers: int
    shards: int
    epochs: int
    summary_agrees: bool


def examine(output: Path, attempts: int) -> Examined:
    torn = sum(1 for _ in output.rglob("*.tmp"))
    entries: list[dict[str, Any]] = []
    for path in sorted((output / "manifest").glob("*.json")):
        try:
            entries.append(json.loads(path.read_bytes()))
        except ValueError:
            torn += 1
    named = Counter(entry["file"] for entry in entries if "file" in entry)
    rollouts: Counter[str] = Counter()
    done: Counter[tuple[str, int]] = Counter()
    given_up: set[tuple[str, int]] = set()
    outcomes: Counter[str] = Counter()
    shards = 0
    for entry in entries:
        if entry["kind"] == "claim":
            continue
        table = _read(output, entry)
        if table is None:
            torn += 1
        elif entry["kind"] == "shard":
            shards += 1
            rollouts.update(table["rollout_id"].to_pylist())
            done.update(zip(table["task_digest"].to_pylist(), table["attempt"].to_pylist(), strict=True))
            outcomes.update(verdict["outcome"] for verdict in table["verdict"].to_pylist())
        else:
            rows = zip(
                table["task_id"].to_pylist(), table["attempt"].to_pylist(), table["retried"].to_pylist(), strict=True
            )
            given_up |= {(task, attempt) for task, attempt, retried in rows if not retried}
    tasks = pq.read_table(output / "tasks.parquet")
    names = dict(zip(tasks["task_digest"].to_pylist(), tasks["task_id"].to_pylist(), strict=True))
    missing = {(digest, attempt) for digest in names for attempt in range(attempts)} - done.keys()
    excused = {(digest, attempt) for digest, attempt in missing if (names[digest], attempt) in given_up}
    there = [f"{place}/{path.name}" for place in ("shards", "attempts") for path in (output / place).glob("*.parquet")]
    summary = json.loads((output / "summary.json").read_bytes())
    return Examined(
        planned=len(names) * attempts,
        committed=rollouts.total(),
        given_up=len(excused),
        lost=len(missing - excused),
        duplicated=max(sum(count > 1 for count in one.values()) for one in (rollouts, done)),
        torn=torn,
        named_twice=sum(count > 1 for count in named.values()),
        losers=len(set(there) - named.keys()),
        shards=shards,
        epochs=sum(entry["kind"] == "claim" for entry in entries),
        summary_agrees=(
            (summary["planned"], summary["accepted"], summary["rejected"], summary["void"] + summary["skipped"])
            == (len(names) * attempts, outcomes["accepted"], outcomes["rejected"], len(missing))
        ),
    )


def committed_rows(output: Path) -> int:
    """By the manifest, while the job runs."""
    rows = 0
    for path in (output / "manifest").glob("*.json"):
        entry = json.loads(path.read_bytes())
        rows += entry.get("rows", 0) if entry["kind"] == "shard" else 0
    return rows


def mlflow_status(database: Path, run_id: str) -> str | None:
    """Of that run, in MLflow's own store; None where there is no such run."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as store:
        found = store.execute("SELECT status FROM runs WHERE run_uuid = ?", (run_id,)).fetchone()
    return found[0] if found else None


def _read(output: Path, entry: dict[str, Any]) -> pa.Table | None:
    """The named file, if it is exactly what was committed."""
    try:
        data = (output / entry["file"]).read_bytes()
        table = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
    except (OSError, pa.ArrowException):
        return None
    is_whole = hashlib.sha256(data).hexdigest() == entry["digest"] and table.num_rows == entry.get("rows", 0)
    return table if is_whole else None
