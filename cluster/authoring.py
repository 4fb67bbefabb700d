"""A fleet writes what people say: every chosen task's opening is asked of a model, and stands where it says the same (`tasks.author`).

In the driver: it only waits for answers. What was answered is kept in `authored/`, a file a batch, so that an interrupted job loses no more
than its open batch. A task whose words were not kept is not asked again; one that no model answered is. A whole batch without an answer
stops the job: the grammar's words are not what was asked for.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import pyarrow as pa
from pydantic import Field, model_validator

from agentscaler.domain.domain import Domain
from agentscaler.shards.files import encode_parquet, read_table
from agentscaler.shards.schema import SCHEMA_VERSION
from agentscaler.shards.storage import AnyPath, list_files, write_bytes_atomic
from agentscaler.tasks.author import MODEL_FAULT, Author, AuthorConfig
from agentscaler.tasks.task import Task
from agentscaler.teachers.endpoint import EndpointTeacherConfig
from agentscaler.teachers.http import ChatEndpoint
from agentscaler.teachers.routing import Load, Router
from cluster.fleet import Fleet
from cluster.handles import Crew
from cluster.parts import ModelSpec
from cluster.serving import JobFailed

AUTHORED = "authored"
BATCH = 256  # tasks a file
SCHEMA = pa.schema(
    [("task_digest", pa.string()), ("intent", pa.string()), ("reason", pa.string())],
    metadata={b"agentscaler": b"authored", b"schema_version": str(SCHEMA_VERSION).encode()},
)
TICK_S = 1.0


class AuthorSpec(ModelSpec):
    """`engine` and `endpoint` as a teacher's; `none`: the grammar's words stay. Of `chat` the model and its sampling count."""

    kind: Literal["none", "engine", "endpoint"] = "none"
    chat: EndpointTeacherConfig | None = None
    tries: int = Field(default=2, ge=1, description="texts asked for a task")
    reader: bool = Field(default=True, description="a blind reader has to find the tools again")
    in_flight: int = Field(default=64, ge=1)

    @model_validator(mode="after")
    def _has_its_parts(self) -> AuthorSpec:
        if self.kind == "engine" and self.engine is None:
            raise ValueError("kind=engine needs engine")
        if self.kind == "endpoint" and not self.base_urls:
            raise ValueError("kind=endpoint needs base_urls")
        if self.kind != "none" and self.chat is None:
            raise ValueError(f"kind={self.kind} needs chat")
        return self

    def shape(self) -> dict[str, object]:
        """What shapes the words: not where or how often the model is served."""
        if self.kind == "none" or self.chat is None:
            return {"kind": "none"}
        return {"model": self.chat.model, "sampling": self.chat.sampling, "tries": self.tries, "reader": self.reader}


@dataclass(frozen=True)
class Authored:
    """`intents`: digest of the task as it was made -> the model's words. `kept_grammar`: reason -> tasks."""

    intents: Mapping[str, str]
    kept_grammar: Counter[str]

    @property
    def asked(self) -> int:
        return len(self.intents) + self.kept_grammar.total()

    def figures(self) -> dict[str, object]:
        return {"asked": self.asked, "kept": len(self.intents), "grammar_kept": dict(self.kept_grammar.most_common(30))}


OnAsked = Callable[[int, int, float], None]
"""Tasks asked for, of them kept, seconds."""


def author_all(
    spec: AuthorSpec,
    crew: Crew,
    output: AnyPath,
    logs: str,
    tasks: Iterable[Task],
    domains: Mapping[str, Domain],
    on_asked: OnAsked,
) -> Authored:
    """`domains` by fingerprint."""
    authored = _read(output)
    left = (task for task in tasks if task.task_digest not in authored)
    first = next(left, None)
    if first is not None:
        asyncio.run(_ask(spec, crew, output, logs, _from(first, left), domains, authored, on_asked))
    intents = {name: intent for name, (intent, _) in authored.items() if intent is not None}
    return Authored(intents, Counter(_general(reason) for intent, reason in authored.values() if intent is None))


def reworded(task: Task, intent: str) -> Task:
    """The task in other words: another digest, so made anew."""
    data = task.model_dump(mode="json")
    return Task.model_validate({**data, "written": {**data["written"], "intent": intent}})


async def _ask(
    spec: AuthorSpec,
    crew: Crew,
    output: AnyPath,
    logs: str,
    tasks: Iterator[Task],
    domains: Mapping[str, Domain],
    authored: dict[str, tuple[str | None, str]],
    on_asked: OnAsked,
) -> None:
    assert spec.chat is not None
    fleet = Fleet("author", crew, logs, spec.engine if spec.kind == "engine" else None, spec.replicas, spec.base_urls)
    router, begun = Router(), time.monotonic()
    config = AuthorConfig(model=spec.chat.model, sampling=spec.chat.sampling, tries=spec.tries, reader=spec.reader)
    endpoint = ChatEndpoint(spec.endpoint(), router)
    watching: asyncio.Task[None] | None = None
    try:
        await fleet.start(spec.min_replicas)
        router.update({url: Load() for url in fleet.urls})
        watching = asyncio.create_task(_watch(fleet, router))
        author, seats = Author(config, endpoint), asyncio.Semaphore(spec.in_flight)
        number = len(list_files(output / AUTHORED))
        while batch := list(islice(tasks, BATCH)):

            async def one(task: Task) -> tuple[str, str | None, str]:
                async with seats:
                    found = await author.write(task, domains[task.domain_fingerprint])
                return task.task_digest, found.intent, found.reason

            answers = [await answer for answer in asyncio.as_completed([one(task) for task in batch])]
            if all(reason.startswith(MODEL_FAULT) for _, _, reason in answers):
                raise JobFailed(f"author={config.model}: none of {len(batch)} tasks was answered: {answers[0][2]}")
            rows = [
                {"task_digest": name, "intent": intent, "reason": reason} for name, intent, reason in sorted(answers)
            ]
            number += 1
            write_bytes_atomic(
                output / AUTHORED / f"{number:05d}.parquet", encode_parquet(pa.Table.from_pylist(rows, SCHEMA))
            )
            authored.update({name: (intent, reason) for name, intent, reason in answers})
            on_asked(
                len(authored), sum(intent is not None for intent, _ in authored.values()), time.monotonic() - begun
            )
            if watching.done():
                await watching  # raises what ended it
    finally:
        if watching is not None:
            watching.cancel()
        await endpoint.close()
        await fleet.stop()


async def _watch(fleet: Fleet, router: Router) -> None:
    while True:
        await asyncio.sleep(TICK_S)
        await fleet.tick()
        router.update({url: Load() for url in fleet.urls})


def _read(output: AnyPath) -> dict[str, tuple[str | None, str]]:
    found: dict[str, tuple[str | None, str]] = {}
    for name in sorted(list_files(output / AUTHORED)):
        table = read_table(output / AUTHORED / name, SCHEMA)
        rows = (row for row in table.to_pylist() if not row["reason"].startswith(MODEL_FAULT))
        found.update({row["task_digest"]: (row["intent"], row["reason"]) for row in rows})
    return found


def _general(reason: str) -> str:
    """Without the word that was left out or added."""
    first, _, _ = reason.partition(" ")
    return {"leaves": "leaves something out", "adds": "adds something"}.get(first, reason)


def _from(first: Task, rest: Iterator[Task]) -> Iterator[Task]:
    yield first
    yield from rest
