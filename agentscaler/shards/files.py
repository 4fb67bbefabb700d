"""Parquet files of an output: written whole or not at all, read with their schema checked, found through the manifest.

Invariants: a file under its final name is complete (`storage.py`); of an output only what its manifest names is read. Readers take one
shard at a time, so memory does not grow with an output; only `committed` and `read_tasks` hold all of something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from agentscaler.benchmark import AnyTask
from agentscaler.errors import ShardError
from agentscaler.rollout.record import Rollout
from agentscaler.shards import schema
from agentscaler.shards.manifest import MANIFEST, SHARDS, EntryKind, Manifest, folder_of
from agentscaler.shards.storage import (
    AnyPath,
    input_file,
    is_local,
    list_files,
    replacing,
    words_of,
    write_bytes_atomic,
)

CONFIG_FILE = "config.yaml"
TASK_ROWS = 1000
# zstd-1: 255 MB/s on chat rollouts, and within a fifth of zstd-3's size.
PARQUET = {"compression": "zstd", "compression_level": 1, "write_page_checksum": True}


def encode_parquet(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **PARQUET)
    return sink.getvalue()


def write_parquet(path: AnyPath, rows: Sequence[dict[str, Any]], arrow_schema: pa.Schema) -> None:
    write_bytes_atomic(path, encode_parquet(pa.Table.from_pylist(list(rows), arrow_schema)))


@contextmanager
def open_parquet(path: AnyPath, wanted: pa.Schema) -> Iterator[pq.ParquetFile]:
    """The file, its schema checked. Damage that shows only while pages are read, inside the block, is a ShardError too."""
    try:
        with input_file(path) as source:
            try:  # ranges that lie together are read at once where each one is a request
                file = pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=not is_local(path))
            except (OSError, pa.ArrowException) as error:
                raise ShardError(f"{path}: not a readable Parquet file: {_line(error)}") from None
            schema.check_schema(file.schema_arrow, wanted, str(path))
            try:
                yield file
            except (OSError, pa.ArrowException) as error:
                raise ShardError(f"{path}: cannot be read to its end: {_line(error)}") from None
    except OSError as error:
        raise ShardError(f"{path}: not a readable Parquet file: {words_of(error)}") from None


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def read_table(path: AnyPath, wanted: pa.Schema, columns: list[str] | None = None) -> pa.Table:
    """`verdict.outcome` names a part of a column."""
    with open_parquet(path, wanted) as file:
        return file.read(columns=columns)


def shard_paths(output: AnyPath) -> list[AnyPath]:
    """The committed shards of a rollout output, in the order of their commits; all shards of an output without a manifest (an old
    one, or another job's) or of a folder of shards; or one shard."""
    return _paths(output, EntryKind.SHARD)


def attempt_paths(output: AnyPath) -> list[AnyPath]:
    """The same for the failed attempts."""
    return _paths(output, EntryKind.ATTEMPTS)


def _paths(output: AnyPath, kind: EntryKind) -> list[AnyPath]:
    if output.is_file():
        return [output] if kind is EntryKind.SHARD else []
    if output.name == SHARDS and list_files(output.parent / MANIFEST):
        output = output.parent  # the shards of an output are those that count, however they are asked for
    manifest = Manifest(output)
    manifest.entries()
    if manifest.exists:
        return [output / one.file for one in manifest.named(kind)]
    place = output / folder_of(kind)
    if kind is EntryKind.SHARD and not ((output / CONFIG_FILE).exists() or place.is_dir()):
        place = output
    if isinstance(place, Path):  # a folder of such a name is broken, and said so
        return sorted(place.glob("*.parquet"))
    return [place / name for name in list_files(place) if name.endswith(".parquet")]


def committed_batches(output: AnyPath, columns: list[str]) -> Iterator[pa.Table]:
    """These columns of everything committed, a shard at a time."""
    for path in shard_paths(output):
        yield read_table(path, schema.ROLLOUTS, columns)


def committed(output: AnyPath) -> dict[str, str]:
    """rollout id -> verdict outcome of everything committed, held at once. A rollout in two shards is an error."""
    found: dict[str, str] = {}
    for path in shard_paths(output):
        table = read_table(path, schema.ROLLOUTS, ["rollout_id", "verdict.outcome"])
        for name, verdict in zip(table["rollout_id"].to_pylist(), table["verdict"].to_pylist(), strict=True):
            if name in found:
                raise ShardError(f"{path}: rollout {name} is in another shard too")
            found[name] = verdict["outcome"]
    return found


def read_rollouts(output: AnyPath, batch_rows: int = 256) -> Iterator[Rollout]:
    for path in shard_paths(output):
        with open_parquet(path, schema.ROLLOUTS) as file:
            for batch in file.iter_batches(batch_size=batch_rows):
                for row in batch.to_pylist():
                    yield schema.from_row(row)


def read_chosen(output: AnyPath, chosen: Callable[[str], bool]) -> Iterator[Rollout]:
    """The rollouts whose id is chosen; other rows are not decoded, and shards without any not read."""
    for path in shard_paths(output):
        with open_parquet(path, schema.ROLLOUTS) as file:
            names = file.read(columns=["rollout_id"])["rollout_id"].to_pylist()
            if not any(mask := [chosen(name) for name in names]):
                continue
            rows = file.read().filter(pa.array(mask)).to_pylist()
        yield from map(schema.from_row, rows)


def write_tasks(path: AnyPath, tasks: Iterable[AnyTask]) -> None:
    """As they come: neither writing nor reading holds all of them."""
    remaining = iter(tasks)
    batches = iter(lambda: [schema.task_row(task) for task in islice(remaining, TASK_ROWS)], [])
    write_task_rows(path, (pa.Table.from_pylist(batch, schema.TASKS) for batch in batches))


def write_task_rows(path: AnyPath, tables: Iterable[pa.Table]) -> None:
    """Rows of other task files, in row groups of 1,000, however many rows each table has."""
    with replacing(path) as sink, pq.ParquetWriter(sink, schema.TASKS, **PARQUET) as writer:
        waiting = schema.TASKS.empty_table()
        for table in tables:
            waiting = pa.concat_tables([waiting, table.replace_schema_metadata(schema.TASKS.metadata)])
            while waiting.num_rows >= TASK_ROWS:
                writer.write_table(waiting.slice(0, TASK_ROWS))
                waiting = waiting.slice(TASK_ROWS)
        if waiting.num_rows:
            writer.write_table(waiting)


def task_batches(path: AnyPath, batch_rows: int = TASK_ROWS) -> Iterator[list[AnyTask]]:
    with _tasks_file(path) as file:
        for batch in file.iter_batches(batch_size=batch_rows):
            yield [schema.task_from_row(row, str(path)) for row in batch.to_pylist()]


def num_tasks(path: AnyPath) -> int:
    with _tasks_file(path) as file:
        return file.metadata.num_rows


def read_tasks(path: AnyPath) -> list[AnyTask]:
    return [task for batch in task_batches(path) for task in batch]


@contextmanager
def _tasks_file(path: AnyPath) -> Iterator[pq.ParquetFile]:
    if not path.is_file():
        raise ShardError(f"{path}: no such tasks file")
    with open_parquet(path, schema.TASKS) as file:
        yield file
