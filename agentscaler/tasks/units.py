"""A unit: the tasks of one world, made in one go and kept as one file, with all that they depend on written beside them.

Units are independent of each other and depend on their order and world seed alone, so they may be made anywhere, in any order, and again.
A unit file that was made for something else (a changed domain, other dials) is never read as if it were this one.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from agentscaler.canonical import digest
from agentscaler.domain.domain import Domain
from agentscaler.errors import ConfigError, DomainError, ShardError
from agentscaler.shards import schema
from agentscaler.shards.files import encode_parquet, open_parquet
from agentscaler.shards.storage import AnyPath
from agentscaler.tasks.dials import Dials
from agentscaler.tasks.generate import Made, generate
from agentscaler.tasks.selection import Sketch, Split, sketch_of
from agentscaler.tasks.speech import Speech
from agentscaler.tasks.task import Task
from agentscaler.verify.soundness.ground import forget_ground
from agentscaler.world.world import World

RECORD_KEY = b"unit"
BROKEN_WORLD = "world"  # in the place of a kind, where a world could not be made


@dataclass(frozen=True)
class UnitOrder:
    """What all units of a domain have in common. `number` of tasks is asked of each world."""

    domain: Domain
    speech: Speech
    dials: Dials
    seed: int
    number: int
    split: Split


class UnitRecord(BaseModel):
    """What a unit was made for, and how that went. `dropped`: kind and reason -> draws; `seconds` by stage; `processor_s` of the whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    domain: str
    domain_fingerprint: str
    speech_digest: str
    dials_digest: str
    seed: int
    number: int
    split: str
    world_seed: int
    world_digest: str
    dropped: dict[str, int]
    seconds: dict[str, float]
    processor_s: float

    @property
    def broken(self) -> str | None:
        """Why there is no such world."""
        return next((key.partition(": ")[2] for key in self.dropped if key.startswith(f"{BROKEN_WORLD}: ")), None)


@dataclass(frozen=True)
class Unit:
    """`sketches` in the order of the rows. `data` is the file, where it has just been made."""

    record: UnitRecord
    sketches: list[Sketch]
    data: pa.Buffer | None = None


def unit_file(domain: str, world_seed: int) -> str:
    return f"{domain}-{world_seed}.parquet"


def make_unit(order: UnitOrder, world_seed: int) -> Unit:
    """Of a seed that the domain's recipe fails with, an empty one that says so: the other worlds are none the worse."""
    begun = time.process_time()
    try:
        World.of(order.domain, world_seed)
    except DomainError as error:
        failed = Made(dropped=Counter({f"{BROKEN_WORLD}: {error}": 1}))
        return pack_unit(order, world_seed, "", failed, time.process_time() - begun)
    made = generate(order.domain, order.speech, world_seed, order.number, order.dials, order.seed)
    processor_s = time.process_time() - begun
    world = World.of(order.domain, world_seed)
    # Worlds of one recipe that hold the same rows have the same bytes: a domain may draw nothing by the seed.
    world_digest = hashlib.sha256(world.image).hexdigest()[:32]
    forget_ground(world)
    World.forget(order.domain, world_seed)
    return pack_unit(order, world_seed, world_digest, made, processor_s)


def pack_unit(order: UnitOrder, world_seed: int, world_digest: str, made: Made, processor_s: float) -> Unit:
    record = UnitRecord(
        **_made_for(order),
        world_seed=world_seed,
        world_digest=world_digest,
        dropped=dict(made.dropped),
        seconds=made.seconds,
        processor_s=processor_s,
    )
    table = pa.Table.from_pylist([schema.task_row(task, order.split) for task in made.tasks], schema.TASKS)
    table = table.replace_schema_metadata({**schema.TASKS.metadata, RECORD_KEY: record.model_dump_json().encode()})
    return Unit(record, [sketch_of(task, world_digest) for task in made.tasks], encode_parquet(table))


def read_unit(path: AnyPath, order: UnitOrder, world_seed: int) -> Unit:
    """ConfigError where the file was made for something else."""
    with open_parquet(path, schema.TASKS) as file:
        text = (file.schema_arrow.metadata or {}).get(RECORD_KEY, b"")
        try:
            record = UnitRecord.model_validate_json(text)
        except ValidationError:
            raise ShardError(f"{path}: is no unit of the job build_tasks") from None
        _check(record, order, world_seed, path)
        rows = file.read().to_pylist()
    tasks = [schema.task_from_row(row, str(path)) for row in rows]
    return Unit(record, [sketch_of(task, record.world_digest) for task in tasks if isinstance(task, Task)])


def _made_for(order: UnitOrder) -> dict[str, Any]:
    return {
        "domain": order.domain.name,
        "domain_fingerprint": order.domain.fingerprint,
        "speech_digest": digest(order.speech.model_dump(mode="json")),
        "dials_digest": order.dials.dials_digest,
        "seed": order.seed,
        "number": order.number,
        "split": order.split,
    }


_WORDS = {
    "domain_fingerprint": "domain {domain} has changed since",
    "speech_digest": "the speech of domain {domain} has changed since",
    "dials_digest": "the dials have changed since",
}


def _check(record: UnitRecord, order: UnitOrder, world_seed: int, path: AnyPath) -> None:
    there = record.model_dump()
    for key, now in {**_made_for(order), "world_seed": world_seed}.items():
        if there[key] != now:
            words = _WORDS.get(key, f"it was made for {key}={there[key]}, not {now}").format(domain=order.domain.name)
            raise ConfigError(f"{path}: {words}: choose another output")
