"""Files of rollouts. Promises:

1. What is written is read back equal, whatever the rollout holds.
2. A file that is corrupt, truncated, foreign, of another kind or of another schema version is one line that names it.
3. A file under its final name is complete; of an output, only what its manifest names is read.
4. What is committed is known by id; a rollout in two shards is an error.
5. Tasks are written and read as a stream; files made before the column `split` are read as well.
6. All of it on a store too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
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
    attempt_paths,
    committed,
    committed_batches,
    num_tasks,
    read_chosen,
    read_rollouts,
    read_tasks,
    shard_paths,
    task_batches,
    write_parquet,
    write_task_rows,
    write_tasks,
)
from agentscaler.shards.manifest import EntryKind, Manifest
from agentscaler.shards.storage import AnyPath, folder
from agentscaler.tasks.task import Task
from tests.shards.made import ROLLOUTS, played
from tests.shards.stores import s3_bucket


def write(path: AnyPath, rollouts: list[Rollout]) -> AnyPath:
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
    path = tmp_path / "spoiled.parquet"
    write(path, [rollout for _, rollout in played()])
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


def test_only_what_the_manifest_names_is_read(tmp_path: Path) -> None:
    rollouts = [rollout for _, rollout in played()[:3]]
    manifest = Manifest(tmp_path)
    epoch = manifest.claim()
    for number, rollout in enumerate(rollouts):
        write(tmp_path / "shards" / f"shard-0001-0000{number}.parquet", [rollout])
    (tmp_path / "shards" / "shard-0001-00009.parquet.123.tmp").write_bytes(b"half")
    assert shard_paths(tmp_path) == []
    for number in (2, 0):
        manifest.append(epoch, EntryKind.SHARD, f"shards/shard-0001-0000{number}.parquet", 1, 1, "d")
    manifest.append(epoch, EntryKind.ATTEMPTS, "attempts/attempts-0001-00001.parquet", 1, 1, "d")
    for place in (tmp_path, tmp_path / "shards"):
        assert list(read_rollouts(place)) == [rollouts[2], rollouts[0]]
    assert attempt_paths(tmp_path) == [tmp_path / "attempts" / "attempts-0001-00001.parquet"]


def test_all_files_of_an_output_without_a_manifest_are_read(tmp_path: Path) -> None:
    write(tmp_path / "shards" / "a.parquet", [played()[0][1]])
    write_parquet(tmp_path / "attempts" / "b.parquet", [], schema.ATTEMPTS)
    assert shard_paths(tmp_path) == [tmp_path / "shards" / "a.parquet"] == shard_paths(tmp_path / "shards")
    assert attempt_paths(tmp_path) == [tmp_path / "attempts" / "b.parquet"]
    assert shard_paths(tmp_path / "shards" / "a.parquet") == [tmp_path / "shards" / "a.parquet"]


def test_chosen_rollouts_and_columns(tmp_path: Path) -> None:
    rollouts = [rollout for _, rollout in played()[:6]]
    write(tmp_path / "a.parquet", rollouts[:3])
    write(tmp_path / "b.parquet", rollouts[3:])
    wanted = {rollouts[4].rollout_id, rollouts[1].rollout_id}
    assert list(read_chosen(tmp_path, wanted.__contains__)) == [rollouts[1], rollouts[4]]
    tables = list(committed_batches(tmp_path, ["rollout_id", "verdict.outcome"]))
    assert [table.num_rows for table in tables] == [3, 3]
    assert tables[1].to_pylist()[0] == {"rollout_id": rollouts[3].rollout_id, "verdict": {"outcome": "accepted"}}


def test_tasks_stream(tmp_path: Path) -> None:
    path, task = tmp_path / "tasks.parquet", played()[0][0]
    drawn = 0

    def draw() -> Iterator[Task]:
        nonlocal drawn
        for number in range(2500):
            drawn += 1
            yield task.model_copy(update={"world_seed": number})

    write_tasks(path, draw())
    file = pq.ParquetFile(path)
    assert [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)] == [1000, 1000, 500]
    batches = task_batches(path, batch_rows=800)
    assert drawn == num_tasks(path) == 2500 and len(next(batches)) == 800

    def break_off() -> Iterator[Task]:
        yield task
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_tasks(path, break_off())
    assert num_tasks(path) == 2500 and list(tmp_path.iterdir()) == [path]


def test_rows_of_other_task_files(tmp_path: Path) -> None:
    tasks = [task for task, _ in played()][:45]
    rows = [schema.task_row(task, "held_out") for task in tasks]
    foreign = schema.TASKS.with_metadata({**(schema.TASKS.metadata or {}), b"unit": b"7"})
    write_task_rows(tmp_path / "a.parquet", (pa.Table.from_pylist(rows, foreign) for _ in range(50)))
    file = pq.ParquetFile(tmp_path / "a.parquet")
    assert [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)] == [1000, 1000, 250]
    assert file.schema_arrow.equals(schema.TASKS, check_metadata=True)
    assert read_tasks(tmp_path / "a.parquet") == tasks * 50
    assert set(file.read(["split"])["split"].to_pylist()) == {"held_out"}
    write_task_rows(tmp_path / "none.parquet", iter(()))
    assert read_tasks(tmp_path / "none.parquet") == []


def test_a_tasks_file_from_before_the_split(tmp_path: Path) -> None:
    tasks = [task for task, _ in played()][:3]
    old = schema.TASKS.remove(schema.TASKS.get_field_index("split"))
    rows = [{name: schema.task_row(task)[name] for name in old.names} for task in tasks]
    write_parquet(tmp_path / "old.parquet", rows, old)
    assert read_tasks(tmp_path / "old.parquet") == tasks
    write_parquet(tmp_path / "less.parquet", [], old.remove(0))
    with pytest.raises(ShardError, match=r"less\.parquet: columns differ: task_id"):
        read_tasks(tmp_path / "less.parquet")


def test_on_a_store_too() -> None:
    tasks, rollouts = [task for task, _ in played()], [rollout for _, rollout in played()]
    with s3_bucket() as bucket:
        output = folder(f"{bucket}/run")
        write(output / "shards" / "a.parquet", rollouts[:40])
        write(output / "shards" / "b.parquet", rollouts[40:])
        write_tasks(output / "tasks.parquet", tasks)
        assert list(read_rollouts(output)) == rollouts and read_tasks(output / "tasks.parquet") == tasks
        assert committed(output) == {rollout.rollout_id: rollout.verdict.outcome for rollout in rollouts}
        data = bytearray((output / "shards" / "a.parquet").read_bytes())
        data[200:4000] = os.urandom(3800)
        (output / "shards" / "a.parquet").write_bytes(bytes(data))
        with pytest.raises(ShardError, match=r"s3://bucket-.*/run/shards/a\.parquet: cannot be read to its end"):
            list(read_rollouts(output))
        with pytest.raises(ShardError, match=r"s3://bucket-.*/run/none\.parquet: no such tasks file"):
            num_tasks(output / "none.parquet")


def test_a_failing_write_leaves_no_file_under_the_final_name(tmp_path: Path) -> None:
    row = {**schema.to_row(played()[0][1]), "attempt": "three"}
    with pytest.raises(pa.ArrowInvalid):
        write_parquet(tmp_path / "a.parquet", [row], schema.ROLLOUTS)
    assert not (tmp_path / "a.parquet").exists()
