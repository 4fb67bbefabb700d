"""A world: a domain's database, seeded, kept as an image from which every rollout gets a fresh copy in about 50 µs.

Invariant: the same domain and seed give the same digest, which is over the rows' meaning (tables in order of name, rows in order
of key), not over SQLite's pages.
"""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property

import apsw

from agentscaler.canonical import canonical_json
from agentscaler.domain.domain import Domain
from agentscaler.errors import DomainError
from agentscaler.world import clock, functions, guard
from agentscaler.world.environment import Environment
from agentscaler.world.program import Program, Table, build_schema, compile_domain

_worlds: dict[tuple[str, int], World] = {}


@dataclass(frozen=True)
class World:
    program: Program
    seed: int
    image: bytes

    @classmethod
    def build(cls, domain: Domain, seed: int) -> World:
        """Run schema and recipe. Raises DomainError where a step fails or leaves a foreign key dangling."""
        program = compile_domain(domain)
        clock.freeze(program.clock_ms)
        with closing(apsw.Connection(":memory:", vfs=clock.VFS_NAME)) as db:
            guard.harden(db)
            functions.register_pure(db)
            functions.register_world(db, domain.clock, lambda table: _no_new_id(table))
            functions.register_recipe(db, seed, domain.seed.lists)
            build_schema(db, domain)
            db.set_authorizer(guard.schema_authorizer)
            budget = guard.Budget(steps=100_000_000, wall_s=60.0)
            db.set_progress_handler(budget.tick, guard.STEPS_PER_CHECK)
            for index, step in enumerate(domain.seed.steps, 1):
                try:
                    db.execute(step).fetchall()
                except (apsw.Error, ValueError, TypeError, OverflowError) as error:
                    raise DomainError(f"{domain.name}: seed step {index}: {error}") from None
            db.set_authorizer(None)
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

    @property
    def domain(self) -> Domain:
        return self.program.domain

    @cached_property
    def digest(self) -> str:
        with closing(apsw.Connection(":memory:")) as db:
            db.deserialize("main", self.image)
            return digest_of(db, self.program.tables)

    def open(self) -> Environment:
        return Environment(self.program, self.seed, self.image)


def digest_of(db: apsw.Connection, tables: dict[str, Table]) -> str:
    """SHA-256 over all rows of all tables, exempt ones included."""
    total = hashlib.sha256()
    for name in sorted(tables):
        total.update(name.encode())
        for row in rows_of(db, tables[name]):
            total.update(canonical_json([v.hex() if isinstance(v, bytes) else v for v in row]).encode())
    return total.hexdigest()


def rows_of(db: apsw.Connection, table: Table) -> list[tuple[apsw.SQLiteValue, ...]]:
    columns = ", ".join(f'"{column}"' for column in table.columns)
    order = ", ".join(f'"{column}"' for column in table.key)
    return db.execute(f'SELECT {columns} FROM "{table.name}" ORDER BY {order}').fetchall()


def _no_new_id(table: str) -> None:
    raise ValueError("new_id() is for tools; a seed recipe writes its keys out")
