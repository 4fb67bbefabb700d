"""The only writer of an output's shards and attempts, for as long as its epoch is the highest.

Invariants: a rollout is in exactly one shard or in none, however often it is handed in; a shard counts once the manifest names it, so what
is buffered or unnamed when the process dies is played again. Memory is bounded: the rows of one shard (`shard_rollouts`, or
`MAX_BUFFERED_BYTES`), one encoded shard, and a flag for each index.

A shard takes two steps: `write_files`, then `name_files`; each may fail and be tried again, with nothing lost and nothing twice. Rows of
failed attempts are handed in at least once: a row that comes twice is equal in every column.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from agentscaler.shards import schema
from agentscaler.shards.files import encode_parquet
from agentscaler.shards.manifest import EntryKind, Manifest, digest_of, file_name
from agentscaler.shards.storage import folder, words_of, write_bytes_atomic

MAX_BUFFERED_BYTES = 256 * 2**20


class OutputError(Exception):
    """The output cannot be written: one line that names it and the reason. Nothing is lost: what is buffered goes out later."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a worker hands in: `rollouts`, an Arrow IPC stream of `schema.ROLLOUTS` with a row for each of `indices`; `failures`, one of
    `schema.ATTEMPTS`."""

    indices: list[int]
    rollouts: bytes
    failures: bytes | None = None


@dataclass(frozen=True, slots=True)
class CommitStats:
    """Of this committer. `buffered`: rollouts that no entry names yet; `oldest_s`: since the oldest of them was handed in. `doubles`:
    rows that were known already."""

    committed: int = 0
    buffered: int = 0
    oldest_s: float = 0.0
    shards: int = 0
    bytes_written: int = 0
    doubles: int = 0


@dataclass(slots=True)
class _Sealed:
    """A file on its way: encoded once, so that trying again writes the same bytes."""

    kind: EntryKind
    file: str
    rows: int
    data: pa.Buffer
    digest: str
    oldest: float  # monotonic seconds at which the first of its rows was handed in
    written: bool = False


class Committer:
    def __init__(self, output: str, epoch: int, done: np.ndarray, shard_rollouts: int, max_age_s: float):
        """`done`: bool, one for each index, of what is committed. Read it after the claim of `epoch`, not before. It is copied."""
        self._output = folder(output)
        self._epoch = epoch
        self._known = np.array(done, bool)
        self._shard_rollouts = shard_rollouts
        self._max_age_s = max_age_s
        self._manifest = Manifest(self._output)
        self._manifest.check(epoch)
        self._rollouts: list[pa.Table] = []
        self._failures: list[pa.Table] = []
        self._num_rollouts = self._num_failures = self._buffered_bytes = 0
        self._oldest = 0.0
        self._sealed: list[_Sealed] = []
        ours = [entry.kind for entry in self._manifest.named() if entry.epoch == epoch]
        self._numbers = {kind: ours.count(kind) for kind in (EntryKind.SHARD, EntryKind.ATTEMPTS)}
        self._fenced_workers: set[str] = set()
        self._committed = self._shards = self._bytes_written = self._doubles = 0

    def fence(self, worker: str) -> None:
        """What this worker hands in from now on is ignored: its work has been given to others."""
        self._fenced_workers.add(worker)

    def add(self, worker: str, batch: Batch) -> bool:
        """Take results in; writes a shard once enough, or old enough, are at hand. False, and nothing is taken, from a fenced worker.

        OutputError where a shard cannot be written. Then the batch may have been taken in or not: hand it in again.
        """
        if worker in self._fenced_workers:
            return False
        if self._sealed:  # no room before this is out
            self.flush()
        rollouts = self._fresh(batch)
        if rollouts.num_rows:
            self._rollouts.append(rollouts)
            self._num_rollouts += rollouts.num_rows
            self._buffered_bytes += len(batch.rollouts)
        if batch.failures is not None:
            failures = schema.from_ipc(batch.failures, schema.ATTEMPTS)
            self._failures.append(failures)
            self._num_failures += failures.num_rows
            self._buffered_bytes += len(batch.failures)
        if not self._oldest and (self._rollouts or self._failures):
            self._oldest = time.monotonic()
        if (
            max(self._num_rollouts, self._num_failures) >= self._shard_rollouts
            or self._buffered_bytes >= MAX_BUFFERED_BYTES
            or self._is_old()
        ):
            self.flush()
        return True

    def tick(self) -> CommitStats:
        """About once a second: flushes what is old, or what could not be written before. May raise as `flush` does."""
        if self._sealed or self._is_old():
            self.flush()
        return self.stats()

    def stats(self) -> CommitStats:
        oldest = self._sealed[0].oldest if self._sealed else self._oldest
        return CommitStats(
            committed=self._committed,
            buffered=self._num_rollouts + sum(one.rows for one in self._sealed if one.kind is EntryKind.SHARD),
            oldest_s=time.monotonic() - oldest if oldest else 0.0,
            shards=self._shards,
            bytes_written=self._bytes_written,
            doubles=self._doubles,
        )

    def flush(self) -> None:
        """All that was taken in is committed when this returns. OutputError: try again later; Fenced: never again."""
        while self._sealed or self._rollouts or self._failures:
            self.write_files()
            self.name_files()

    def write_files(self) -> None:
        """Step one: files complete under their final names. They do not count yet. The buffer waits for earlier files."""
        if not self._sealed:
            self._seal()
        for one in self._sealed:
            if not one.written:
                try:
                    write_bytes_atomic(self._output / one.file, one.data)
                except OSError as error:
                    raise self._cannot(error) from error
                one.written = True

    def name_files(self) -> None:
        """Step two: the manifest names what is written."""
        while self._sealed and self._sealed[0].written:
            one = self._sealed[0]
            try:
                self._manifest.append(self._epoch, one.kind, one.file, one.rows, one.data.size, one.digest)
            except OSError as error:
                raise self._cannot(error) from error
            self._sealed.pop(0)
            self._bytes_written += one.data.size
            if one.kind is EntryKind.SHARD:
                self._committed += one.rows
                self._shards += 1

    def _fresh(self, batch: Batch) -> pa.Table:
        """The rows that are not known yet, which are known from here on."""
        table = schema.from_ipc(batch.rollouts, schema.ROLLOUTS)
        indices = np.array(batch.indices, np.int64)
        if len(indices) != table.num_rows:
            raise ValueError(f"{len(indices)} indices came with {table.num_rows} rollouts")
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(self._known):
            raise ValueError(
                f"an index of {indices.min()} to {indices.max()} is none of the {len(self._known)} planned"
            )
        keep = ~self._known[indices]
        first = np.zeros(len(indices), bool)
        first[np.unique(indices, return_index=True)[1]] = True  # one index twice in a batch
        keep &= first
        self._known[indices] = True
        if keep.all():
            return table
        self._doubles += int(len(indices) - keep.sum())
        return table.filter(pa.array(keep))

    def _seal(self) -> None:
        for kind, tables in ((EntryKind.SHARD, self._rollouts), (EntryKind.ATTEMPTS, self._failures)):
            if tables:
                self._numbers[kind] += 1
                table = pa.concat_tables(tables)
                data = encode_parquet(table)
                file = file_name(kind, self._epoch, self._numbers[kind])
                self._sealed.append(_Sealed(kind, file, table.num_rows, data, digest_of(data), self._oldest))
        self._rollouts, self._failures = [], []
        self._num_rollouts = self._num_failures = self._buffered_bytes = 0
        self._oldest = 0.0

    def _is_old(self) -> bool:
        return bool(self._oldest) and time.monotonic() - self._oldest >= self._max_age_s

    def _cannot(self, error: OSError) -> OutputError:
        return OutputError(f"output={self._output}: cannot be written: {words_of(error)}")
