"""Parquet files on disk: written whole or not at all, read with their schema checked.

Invariant: a file under its final name is complete. It is written under a temporary name, flushed to disk, renamed, and the folder is
flushed too; what is left of a killed writer is a `*.tmp` file, which `sweep` removes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from agentscaler.errors import ShardError
from agentscaler.rollout.record import Rollout
from agentscaler.shards import schema
from agentscaler.tasks.task import Task


def write_parquet(path: Path, rows: Sequence[dict[str, Any]], arrow_schema: pa.Schema) -> None:
    """zstd-1: 255 MB/s on chat rollouts, and within a fifth of zstd-3's size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(list(rows), arrow_schema)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as sink:
        pq.write_table(table, sink, compression="zstd", compression_level=1, write_page_checksum=True)
        sink.flush()
        os.fsync(sink.fileno())
    os.rename(temporary, path)
    flush_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """A small file, replaced whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with open(temporary, "w") as sink:
        sink.write(text)
        sink.flush()
        os.fsync(sink.fileno())
    os.replace(temporary, path)
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: Path) -> None:
    """Remove what a killed writer left."""
    for path in folder.rglob("*.tmp"):
        path.unlink(missing_ok=True)


def open_parquet(path: Path, wanted: pa.Schema) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise ShardError(f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}") from None
    schema.check_schema(file.schema_arrow, wanted, str(path))
    return file


def read_table(path: Path, wanted: pa.Schema, columns: list[str] | None = None) -> pa.Table:
    with readable(path):
        return open_parquet(path, wanted).read(columns=columns)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Damage that shows only while pages are read is a ShardError too."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise ShardError(f"{path}: cannot be read to its end: {str(error).splitlines()[0]}") from None


def shard_paths(output: Path) -> list[Path]:
    """The shards of a rollout output (a folder with `shards/`), of a folder of shards, or one shard."""
    if output.is_file():
        return [output]
    is_output = (output / "config.yaml").exists() or (output / "shards").is_dir()
    folder = output / "shards" if is_output else output
    return sorted(folder.glob("*.parquet"))


def committed(output: Path) -> dict[str, str]:
    """rollout id -> verdict outcome of everything committed; reads two columns. A rollout in two shards is an error."""
    found: dict[str, str] = {}
    for path in shard_paths(output):
        table = read_table(path, schema.ROLLOUTS, ["rollout_id", "verdict"])
        for name, verdict in zip(table["rollout_id"].to_pylist(), table["verdict"].to_pylist(), strict=True):
            if name in found:
                raise ShardError(f"{path}: rollout {name} is in another shard too")
            found[name] = verdict["outcome"]
    return found


def read_rollouts(output: Path, batch_rows: int = 256) -> Iterator[Rollout]:
    for path in shard_paths(output):
        file = open_parquet(path, schema.ROLLOUTS)
        with readable(path):
            for batch in file.iter_batches(batch_size=batch_rows):
                for row in batch.to_pylist():
                    yield schema.from_row(row)


def write_tasks(path: Path, tasks: Sequence[Task]) -> None:
    write_parquet(path, [schema.task_row(task) for task in tasks], schema.TASKS)


def read_tasks(path: Path) -> list[Task]:
    if not path.is_file():
        raise ShardError(f"{path}: no such tasks file")
    rows = read_table(path, schema.TASKS).to_pylist()
    return [schema.task_from_row(row, str(path)) for row in rows]
