"""What is committed in an output: an append-only log of numbered files, `manifest/00000001.json` and on.

Each file is created exclusively, so that a number is given away once, whoever asks. An entry is either a *claim* (a driver takes the
output over, under the next epoch) or the *name* of a file of rollouts or of failed attempts. Invariants:

1. A file counts once an entry names it, and for good.
2. An entry follows all entries that were there before it: whoever appends has read every one of them. So nothing of an epoch can be
   named after a higher one has claimed: the older driver finds that claim in its way and is `Fenced`.
3. What is committed is known only after a claim; what was read before it is a preview.

Files that no entry names are losers: written by a driver that died or was fenced before it could name them. `sweep` removes those of
older epochs. An output from before there were manifests has no claim; its first claim takes in all files that it finds.

It does not look into the files (but for taking in old ones), and it holds no lock: a claim always succeeds.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator
from enum import StrEnum
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from agentscaler.errors import ShardError
from agentscaler.shards.storage import AnyPath, create_exclusive, list_files, read_bytes, read_many, remove, words_of

MANIFEST, SHARDS, ATTEMPTS = "manifest", "shards", "attempts"
_ENTRY = re.compile(r"(\d{8})\.json")
_OURS = re.compile(r"(?:shard|attempts)-(\d{4,})-\d{5,}\.parquet")


class Fenced(Exception):
    """Another driver has taken the output over; nothing more can be committed by this one."""


class EntryKind(StrEnum):
    CLAIM = "claim"
    SHARD = "shard"
    ATTEMPTS = "attempts"


class Entry(BaseModel):
    """`owner` tells two claims of one epoch apart; `adopted` is in a first claim alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: int = Field(ge=0)
    kind: EntryKind
    owner: str = ""
    adopted: tuple[Entry, ...] = ()
    file: str = ""
    rows: int = Field(default=0, ge=0)
    size_bytes: int = Field(default=0, ge=0)
    digest: str = ""

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        if self.kind is EntryKind.CLAIM:
            if not self.owner or self.file or any(one.kind is EntryKind.CLAIM for one in self.adopted):
                raise ValueError("a claim has an owner and names no file of its own")
        elif self.owner or self.adopted or not self.digest or not self.file.startswith(f"{folder_of(self.kind)}/"):
            raise ValueError(f"an entry of kind {self.kind.value} names a file in {folder_of(self.kind)}/")
        elif self.file.count("/") != 1:
            raise ValueError("file: lies directly in its folder")
        return self


def folder_of(kind: EntryKind) -> str:
    return SHARDS if kind is EntryKind.SHARD else ATTEMPTS


def file_name(kind: EntryKind, epoch: int, number: int) -> str:
    """Relative to the output. The epoch is in the name, so that no two drivers ever write one file."""
    return f"{folder_of(kind)}/{kind.value}-{epoch:04d}-{number:05d}.parquet"


def digest_of(data: bytes | pa.Buffer) -> str:
    return hashlib.sha256(data).hexdigest()


class Manifest:
    """One reader's or writer's view: entries never change, so those read once are kept."""

    def __init__(self, output: AnyPath):
        self._output = output
        self._folder = output / MANIFEST
        self._entries: list[Entry] = []
        self._epoch = 0

    def entries(self) -> list[Entry]:
        """All of them, in order. ShardError names one that is torn, foreign or missing."""
        numbers = [
            self._number(name) for name in list_files(self._folder) if not name.endswith(".tmp") and name[0] != "."
        ]
        # A listing made while others append may lack a file and show a later one: only reading shows that one is missing.
        names = [_name(number) for number in range(len(self._entries) + 1, max(numbers, default=0) + 1)]
        for name, data in zip(names, read_many(self._folder, names), strict=True):
            if data is None:
                raise ShardError(f"{self._folder / name}: is missing, though later entries are there")
            self._take(self._parse(name, data))
        return list(self._entries)

    @property
    def epoch(self) -> int:
        """The highest that has been seen."""
        return self._epoch

    @property
    def exists(self) -> bool:
        """Whether what has been seen holds a claim; without one, all files of an old output count."""
        return bool(self._entries)

    def named(self, kind: EntryKind | None = None) -> list[Entry]:
        """Of what has been seen, the entries that name a file, in the order of commits."""
        found = (one for entry in self._entries for one in (*entry.adopted, entry) if one.kind is not EntryKind.CLAIM)
        return [one for one in found if kind is None or one.kind is kind]

    def claim(self) -> int:
        """Take the output over: the new epoch. Every driver before is fenced from here on."""
        self.entries()
        owner = secrets.token_hex(8)
        while True:
            adopted = () if self.exists else tuple(self._old_files())
            epoch = 1 + max([self._epoch, *(one.epoch for one in adopted)])
            if self._put(Entry(epoch=epoch, kind=EntryKind.CLAIM, owner=owner, adopted=adopted)):
                return epoch

    def append(self, epoch: int, kind: EntryKind, file: str, rows: int, size_bytes: int, digest: str) -> None:
        """Name a complete file. Fenced where a higher epoch holds the output. After an OSError it may have happened; saying it again
        is right either way."""
        entry = Entry(epoch=epoch, kind=kind, file=file, rows=rows, size_bytes=size_bytes, digest=digest)
        self.check(epoch)
        while not self._put(entry):
            self.check(epoch)

    def check(self, epoch: int) -> None:
        """Fenced if what has been seen holds a higher epoch."""
        if not self._entries:
            self.entries()
        if self._epoch > epoch:
            raise Fenced(
                f"output={self._output}: another driver has taken it over (epoch {self._epoch}; this one has {epoch})"
            )
        if self._epoch < epoch:
            raise ValueError(f"epoch {epoch} was never claimed; the highest is {self._epoch}")

    def sweep(self, epoch: int) -> int:
        """Remove losers of older epochs and what killed writers left under temporary names; returns how many files. For the holder of
        the output: after its claim, before it commits anything, and once more at its end (an older driver may have been alive for a
        while). Fenced where another holds it; ShardError where a named file is missing or has another size. It removes no named file."""
        self.entries()
        self.check(epoch)
        named = {one.file: one.size_bytes for one in self.named()}
        there = {
            f"{place}/{name}": size
            for place in (SHARDS, ATTEMPTS)
            for name, size in list_files(self._output / place).items()
        }
        for file, size in named.items():
            if file not in there:
                raise ShardError(f"{self._output / file}: is missing, though the manifest names it")
            if there[file] != size:
                raise ShardError(f"{self._output / file}: has {there[file]} bytes, the manifest says {size}")
        lost = [file for file in there if file not in named and _is_older(file.partition("/")[2], epoch)]
        lost += [name for name in list_files(self._output) if name.endswith(".tmp")]
        lost += [f"{MANIFEST}/{name}" for name in list_files(self._folder) if name.endswith(".tmp")]
        for file in lost:
            remove(self._output / file)
        return len(lost)

    def _put(self, entry: Entry) -> bool:
        """Whether the entry stands at the next number. If another does, that one is read, and the next try goes after it."""
        name = _name(len(self._entries) + 1)
        data = entry.model_dump_json(exclude_defaults=True).encode()
        if not create_exclusive(self._folder / name, data):
            data = read_bytes(self._folder / name)
        there = self._parse(name, data)
        self._take(there)
        return there == entry  # ours too where a put was said to have failed, and had not

    def _take(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._epoch = max([self._epoch, entry.epoch, *(one.epoch for one in entry.adopted)])

    def _parse(self, name: str, data: bytes) -> Entry:
        try:
            entry = Entry.model_validate_json(data)
        except ValidationError as error:
            raise ShardError(f"{self._folder / name}: is no entry of a manifest: {error.errors()[0]['msg']}") from None
        if not self._entries and entry.kind is not EntryKind.CLAIM:
            raise ShardError(f"{self._folder / name}: a manifest begins with a claim")
        return entry

    def _number(self, name: str) -> int:
        if (match := _ENTRY.fullmatch(name)) is None or int(match[1]) < 1:
            raise ShardError(f"{self._folder / name}: is no entry of a manifest")
        return int(match[1])

    def _old_files(self) -> Iterator[Entry]:
        for kind in (EntryKind.SHARD, EntryKind.ATTEMPTS):
            for name in list_files(self._output / folder_of(kind)):
                if not name.endswith(".parquet"):
                    continue
                file = f"{folder_of(kind)}/{name}"
                match = _OURS.fullmatch(name)
                try:
                    data = read_bytes(self._output / file)
                    rows = pq.ParquetFile(pa.BufferReader(data)).metadata.num_rows
                except OSError as error:
                    raise ShardError(f"{self._output / file}: cannot be read: {words_of(error)}") from None
                except pa.ArrowException as error:
                    words = str(error).splitlines()[0]
                    raise ShardError(f"{self._output / file}: not a readable Parquet file: {words}") from None
                epoch = int(match[1]) if match else 0
                size = len(data)
                yield Entry(epoch=epoch, kind=kind, file=file, rows=rows, size_bytes=size, digest=digest_of(data))


def _is_older(name: str, epoch: int) -> bool:
    """A loser, or its temporary file. Files of other names are not ours: nobody reads them, and nobody removes them."""
    match = _OURS.match(name)
    return match is not None and int(match[1]) < epoch


def damaged(output: AnyPath) -> list[str]:
    """Named files whose bytes are not those that were committed (or that are gone). Reads all of them."""
    manifest = Manifest(output)
    manifest.entries()
    found = []
    for one in manifest.named():
        try:
            data = read_bytes(output / one.file)
        except FileNotFoundError:
            data = b""
        if digest_of(data) != one.digest:
            found.append(one.file)
    return found


def _name(number: int) -> str:
    return f"{number:08d}.json"
