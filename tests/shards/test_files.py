"""Files of rollouts. Promises:

1. What is written is read back equal, whatever the rollout holds.
2. A file that is corrupt, truncated, foreign, of another kind or of another schema version is one line that names it.
3. A file under its final name is complete; what a killed writer left is swept, and nothing else.
4. What is committed is known by id; a rollout in two shards is an error.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentscaler.errors import FaultClass, ShardError
from agentscaler.rollout.record import FailedAttempt, Rollout
from agentscaler.shards import schema
from agentscaler.shards.files import (
    committed,
    read_rollouts,
    read_tasks,
    sweep,
    write_parquet,
    write_tasks,
    write_text,
)
from tests.shards.made import ROLLOUTS, played


def write(path: Path, rollouts: list[Rollout]) -> Path:
    write_parquet(path, [schema.to_row(rollout) for rollout in rollouts], schema.ROLLOUTS)
    return path


@given(ROLLOUTS)
@settings(max_examples=60)
def test_a_row_holds_the_whole_rollout(rollout: Rollout) -> None:
    table = pa.Table.from_pylist([schema.to_row(rollout)], schema.ROLLOUTS)
    (row,) = table.to_pylist()
    assert schema.from_row(row) == rollout


@given(st.lists(ROLLOUTS, max_size=4))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_holds_them_too(tmp_path: Path, rollouts: list[Rollout]) -> None:
    path = write(tmp_path / "one.parquet", rollouts)
    assert list(read_rollouts(path, batch_rows=2)) == rollouts


def test_real_rollouts_and_tasks_come_back(tmp_path: Path) -> None:
    tasks, rollouts = [task for task, _ in played()], [rollout for _, rollout in played()]
    half = len(rollouts) // 2
    write(tmp_path / "shards" / "b.parquet", rollouts[half:])
    write(tmp_path / "shards" / "a.parquet", rollouts[:half])
    write_tasks(tmp_path / "tasks.parquet", tasks[:half])
    assert list(read_rollouts(tmp_path)) == rollouts
    assert read_tasks(tmp_path / "tasks.parquet") == tasks[:half]
    assert committed(tmp_path) == {rollout.rollout_id: rollout.verdict.outcome for rollout in rollouts}
    assert committed(tmp_path / "nothing") == {}


def test_a_rollout_in_two_shards_is_an_error(tmp_path: Path) -> None:
    (_, one), (_, two) = played()[:2]
    write(tmp_path / "a.parquet", [one, two])
    write(tmp_path / "b.parquet", [replace(two, rollout_id="other"), one])
    with pytest.raises(ShardError, match=rf"b\.parquet: rollout {one.rollout_id} is in another shard too"):
        committed(tmp_path)


def _corrupt(path: Path) -> None:
    path.write_bytes(os.urandom(4096))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _truncate(path: Path) -> None:
    write(path, [rollout for _, rollout in played()[:3]])
    path.write_bytes(path.read_bytes()[:-200])


def _is_a_folder(path: Path) -> None:
    path.mkdir()


def _rewritten(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    write(path, [played()[0][1]])
    pq.write_table(change(pq.read_table(path)), path)


def _foreign(path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), path)


def _another_kind(path: Path) -> None:
    failure = FailedAttempt("r", "t", 0, 1, FaultClass.TIMEOUT, "slow", False, "2026-03-02T09:00:00Z")
    write_parquet(path, [schema.attempt_row(failure)], schema.ATTEMPTS)


def _newer(path: Path) -> None:
    _rewritten(path, lambda table: table.replace_schema_metadata({"agentscaler": "rollouts", "schema_version": "2"}))


def _less_columns(path: Path) -> None:
    _rewritten(path, lambda table: table.drop_columns(["net_keys"]))


def _more_columns(path: Path) -> None:
    _rewritten(path, lambda table: table.append_column("extra", pa.array([1])))


def _another_type(path: Path) -> None:
    _rewritten(path, lambda table: table.set_column(6, "world_seed", table["world_seed"].cast(pa.int32())))


BROKEN = [
    (_corrupt, "not a readable Parquet file"),
    (_empty, "not a readable Parquet file"),
    (_truncate, "not a readable Parquet file"),
    (_is_a_folder, "not a readable Parquet file"),
    (_foreign, "not a file of AgentScaler rollouts"),
    (_another_kind, "not a file of AgentScaler rollouts"),
    (_newer, "schema version 2, this program reads 1"),
    (_less_columns, "columns differ: net_keys"),
    (_more_columns, "columns differ: extra"),
    (_another_type, "columns differ: types"),
]


@pytest.mark.parametrize(("spoil", "words"), BROKEN, ids=[spoil.__name__ for spoil, _ in BROKEN])
def test_a_broken_file_is_one_line_that_names_it(tmp_path: Path, spoil: Callable[[Path], None], words: str) -> None:
    path = tmp_path / "broken.parquet"
    spoil(path)
    for use in (lambda: list(read_rollouts(tmp_path)), lambda: committed(tmp_path)):
        with pytest.raises(ShardError) as caught:
            use()
        text = str(caught.value)
        assert text.startswith(str(path)) and words in text and "\n" not in text


@pytest.fixture
def spoiled(tmp_path: Path) -> Path:
    """The footer is whole, so opening succeeds; the damage shows while reading."""
    path = write(tmp_path / "spoiled.parquet", [rollout for _, rollout in played()])
    data = bytearray(path.read_bytes())
    data[200:4000] = os.urandom(3800)
    path.write_bytes(data)
    return path


def test_a_page_spoiled_inside_is_said_too(spoiled: Path) -> None:
    with pytest.raises(ShardError, match=r"spoiled\.parquet: cannot be read to its end"):
        list(read_rollouts(spoiled))


def test_a_page_spoiled_inside_is_said_by_committed_too(spoiled: Path) -> None:
    with pytest.raises(ShardError, match=r"spoiled\.parquet"):
        committed(spoiled)


@pytest.mark.parametrize("change", [{"task": "{}"}, {"task": "no JSON"}, {"task_digest": "0" * 32}])
def test_a_spoiled_task_is_named(tmp_path: Path, change: dict[str, str]) -> None:
    path = tmp_path / "tasks.parquet"
    write_parquet(path, [{**schema.task_row(played()[0][0]), **change}], schema.TASKS)
    with pytest.raises(ShardError) as caught:
        read_tasks(path)
    assert str(caught.value).startswith(f"{path}: task notes/") and "\n" not in str(caught.value)
    with pytest.raises(ShardError, match="no such tasks file"):
        read_tasks(tmp_path / "none.parquet")


def test_sweep_removes_what_a_killed_writer_left(tmp_path: Path) -> None:
    kept = write(tmp_path / "shards" / "a.parquet", [played()[0][1]])
    write_text(tmp_path / "summary.json", "{}")
    for name in ("shards/b.parquet.123.tmp", "summary.json.9.tmp"):
        (tmp_path / name).write_bytes(b"half")
    assert list(read_rollouts(tmp_path)) == [played()[0][1]]  # a temporary file is never read
    sweep(tmp_path)
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == [kept, tmp_path / "summary.json"]


def test_a_failing_write_leaves_no_file_under_the_final_name(tmp_path: Path) -> None:
    row = {**schema.to_row(played()[0][1]), "attempt": "three"}
    with pytest.raises(pa.ArrowInvalid):
        write_parquet(tmp_path / "a.parquet", [row], schema.ROLLOUTS)
    assert not (tmp_path / "a.parquet").exists()
