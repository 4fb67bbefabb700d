"""Shards open unchanged with `datasets`, `polars` and DuckDB: row count, nested messages, verdict. No network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pytest

from agentscaler.rollout.record import Rollout
from agentscaler.shards import schema
from agentscaler.shards.files import write_parquet
from tests.shards.made import played


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Rollout]]:
    """Two shards, as a job leaves them."""
    folder = tmp_path_factory.mktemp("readers") / "shards"
    rollouts = [rollout for _, rollout in played()]
    for name, part in (("a", rollouts[::2]), ("b", rollouts[1::2])):
        write_parquet(folder / f"{name}.parquet", [schema.to_row(rollout) for rollout in part], schema.ROLLOUTS)
    return folder, rollouts


def test_polars(written: tuple[Path, list[Rollout]]) -> None:
    folder, rollouts = written
    frame = pl.scan_parquet(folder / "*.parquet")
    assert frame.select(pl.len()).collect().item() == len(rollouts)
    outcomes = frame.select("rollout_id", pl.col("verdict").struct.field("outcome")).collect()
    assert dict(outcomes.iter_rows()) == {r.rollout_id: r.verdict.outcome for r in rollouts}
    turns = (
        frame.select("rollout_id", "messages")
        .explode("messages")
        .select("rollout_id", pl.col("messages").struct.unnest())
        .filter(role="assistant")
        .collect()
    )
    one = rollouts[0]
    said = turns.filter(rollout_id=one.rollout_id)
    assert said["content"].to_list() == [m.content for m in one.messages if m.role == "assistant"]
    assert (
        said["tool_calls"].to_list()[0][0]["name"] == next(m for m in one.messages if m.tool_calls).tool_calls[0].name
    )


def test_duckdb(written: tuple[Path, list[Rollout]]) -> None:
    folder, rollouts = written
    files = f"'{folder}/*.parquet'"
    with duckdb.connect() as database:
        counts = database.sql(f"SELECT verdict.outcome, count(*) FROM {files} GROUP BY 1").fetchall()
        assert dict(counts)["accepted"] == sum(r.verdict.outcome == "accepted" for r in rollouts)
        assert sum(number for _, number in counts) == len(rollouts)
        calls = database.sql(
            f"SELECT r.rollout_id, c.name, c.arguments FROM {files} r, unnest(r.messages) m(m), unnest(m.tool_calls) c(c)"
        ).fetchall()
        expected = [(r.rollout_id, c.name, c.arguments) for r in rollouts for m in r.messages for c in m.tool_calls]
        assert sorted(calls) == sorted(expected)


def test_datasets(written: tuple[Path, list[Rollout]], tmp_path: Path) -> None:
    """In a process of its own: `datasets` reads its offline switches and cache folder when it is imported."""
    folder, rollouts = written
    one = rollouts[0]
    code = f"""
import datasets, sys
found = datasets.load_dataset("parquet", data_files={str(folder / "*.parquet")!r}, split="train")
assert found.num_rows == {len(rollouts)}, found
row = found.filter(lambda row: row["rollout_id"] == {one.rollout_id!r})[0]
assert row["verdict"]["outcome"] == {one.verdict.outcome.value!r}, row["verdict"]
assert [m["content"] for m in row["messages"]] == {[m.content for m in one.messages]!r}
calls = [(c["name"], c["arguments"]) for m in row["messages"] for c in m["tool_calls"]]
assert calls == {[(c.name, c.arguments) for m in one.messages for c in m.tool_calls]!r}
"""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path),
        "HF_DATASETS_CACHE": str(tmp_path / "c"),
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
