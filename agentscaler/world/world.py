"""A world: a domain's database, seeded, kept as an image of which every rollout gets a copy: a fresh one, or one that was rolled
back to it (`copies`).

Invariant: the same domain and seed give the same digest, which is over the rows' meaning (tables in order of name, rows in order
of key), not over SQLite's pages.
"""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property

import apsw

from agentscaler.canonical import canonical_json
from agentscaler.domain.domain import Domain
from agentscaler.errors import DomainError
from agentscaler.world import clock, functions, guard
from agentscaler.world.changeset import plain
from agentscaler.world.copies import Shelf
from agentscaler.world.environment import Environment
from agentscaler.world.program import Program, Table, build_schema, compile_domain, rows_of

SEED_STEPS = 200_000_000
SEED_CPU_S = 20.0

_OF_THE_RECIPE = (apsw.Error, functions.BadValue, ArithmeticError, LookupError, ValueError, TypeError)
_worlds: dict[tuple[str, int], World] = {}


@dataclass(frozen=True)
class World:
    program: Program
    seed: int
    image: bytes
    _shelf: Shelf = field(default_factory=Shelf, repr=False, compare=False)

    @classmethod
    def build(cls, domain: Domain, seed: int) -> World:
        """Run schema and recipe. Raises DomainError where a step fails or leaves a foreign key dangling."""
        program = compile_domain(domain)
        clock.freeze(program.clock_ms)
        with closing(apsw.Connection(":memory:", vfs=clock.VFS_NAME)) as db:
            budget = guard.Budget(SEED_STEPS, SEED_CPU_S)
            guard.harden(db)
            functions.register_pure(db, budget.spend)
            functions.register_world(db, domain.clock, _no_new_id)
            functions.register_recipe(db, seed, domain.seed.lists)
            db.set_progress_handler(budget.tick, guard.STEPS_PER_CHECK)
            build_schema(db, domain)
            for index, step in enumerate(domain.seed.steps, 1):
                try:
                    for _ in db.execute(step):  # vetted by compile_domain
                        pass
                except _OF_THE_RECIPE as error:
                    words = f"ran past its bound of {budget.exceeded}" if budget.exceeded else error
                    raise DomainError(f"{domain.name}: seed step {index}: {words}") from None
            db.set_progress_handler(None)
            if dangling := db.execute('SELECT "table" FROM pragma_foreign_key_check').fetchone():
                raise DomainError(f"{domain.name}: seed: a foreign key of table {dangling[0]} points nowhere")
            return cls(program, seed, db.serialize("main"))

    @classmethod
    def of(cls, domain: Domain, seed: int) -> World:
        """As `build`, but kept: one image a domain and seed in this process."""
        key = (domain.fingerprint, seed)
        if key not in _worlds:
            if len(_worlds) >= 2048:
                _worlds.clear()
            _worlds[key] = cls.build(domain, seed)
        return _worlds[key]

    @classmethod
    def forget(cls, domain: Domain, seed: int) -> None:
        """For whoever goes through many worlds and comes back to none: an image may have megabytes."""
        _worlds.pop((domain.fingerprint, seed), None)

    @property
    def domain(self) -> Domain:
        return self.program.domain

    @cached_property
    def digest(self) -> str:
        with closing(apsw.Connection(":memory:")) as db:
            functions.register_pure(db, lambda steps: None)  # an index on an expression may name them
            db.deserialize("main", self.image)
            return digest_of(db, self.program.tables)

    def open(self) -> Environment:
        return Environment(self.program, self.seed, self.image, self._shelf)


def digest_of(db: apsw.Connection, tables: dict[str, Table]) -> str:
    """SHA-256 over all rows of all tables, exempt ones included."""
    total = hashlib.sha256()
    for name in sorted(tables):
        total.update(name.encode())
        for row in rows_of(db, tables[name]):
            total.update(canonical_json([plain(value) for value in row]).encode())
    return total.hexdigest()


def _no_new_id(table: str) -> None:
    raise ValueError("new_id() is for tools; a seed recipe writes its keys out")
