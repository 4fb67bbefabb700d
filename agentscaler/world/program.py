"""A domain made ready to run: tables read from its schema, tools vetted statement by statement, validators built.

Invariant: a `Program` exists only for a domain whose every statement passed the guard. What a tool reads and writes is asked of
SQLite here, never declared by hand.
"""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import apsw
import jsonschema_rs

from agentscaler.domain.domain import Domain, Tool
from agentscaler.errors import DomainError
from agentscaler.world import clock, functions, guard


@dataclass(frozen=True, slots=True)
class ForeignKey:
    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]
    on_delete: str


@dataclass(frozen=True, slots=True)
class Table:
    """`key` are the primary key's columns in order; `surrogate` is the key column that `new_id` fills, if any."""

    name: str
    columns: tuple[str, ...]
    types: dict[str, str]
    key: tuple[str, ...]
    foreign_keys: tuple[ForeignKey, ...]
    surrogate: str | None
    exempt: frozenset[str]
    semantic: frozenset[str]
    json_columns: frozenset[str]
    wholly_exempt: bool


@dataclass(frozen=True, slots=True)
class CompiledTool:
    tool: Tool
    validator: Any
    parameters: tuple[str, ...]
    writes: frozenset[tuple[str, str]]
    reads: frozenset[tuple[str, str]]
    list_parameters: frozenset[str]

    @property
    def is_write(self) -> bool:
        return bool(self.tool.do)


@dataclass(frozen=True, slots=True)
class Program:
    domain: Domain
    tables: dict[str, Table]
    tools: dict[str, CompiledTool]
    clock_ms: int

    @property
    def write_tools(self) -> frozenset[str]:
        return frozenset(name for name, tool in self.tools.items() if tool.is_write)


_programs: dict[str, Program] = {}


def compile_domain(domain: Domain) -> Program:
    """Vet and compile; kept by fingerprint. Raises DomainError naming domain, tool and statement."""
    if domain.fingerprint not in _programs:
        _programs[domain.fingerprint] = _compile(domain)
    return _programs[domain.fingerprint]


def build_schema(db: apsw.Connection, domain: Domain) -> None:
    """Run the DDL under the schema authorizer."""
    guard.check_text(domain.schema_sql, f"{domain.name}: schema.sql")
    db.set_authorizer(guard.schema_authorizer)
    try:
        db.execute(domain.schema_sql)
    except apsw.Error as error:
        raise DomainError(f"{domain.name}: schema.sql: {error}") from None
    finally:
        db.set_authorizer(None)
    if not db.get_autocommit():
        raise DomainError(f"{domain.name}: schema.sql: leaves a transaction open")


def _compile(domain: Domain) -> Program:
    with closing(apsw.Connection(":memory:", vfs=clock.VFS_NAME)) as db:
        guard.harden(db)
        functions.register_pure(db)
        functions.register_stubs(db)
        build_schema(db, domain)
        tables = _tables(db, domain)
        tools = {tool.name: _compile_tool(db, domain, tool, tables) for tool in domain.tools}
    _vet_recipe(domain)
    return Program(domain, tables, tools, clock.julian_ms(domain.clock))


def _vet_recipe(domain: Domain) -> None:
    for index, step in enumerate(domain.seed.steps, 1):
        guard.check_text(step, f"{domain.name}: seed step {index}")


def _compile_tool(db: apsw.Connection, domain: Domain, tool: Tool, tables: dict[str, Table]) -> CompiledTool:
    where = f"{domain.name}.{tool.name}"
    properties = tool.parameters["properties"]
    names = set(properties)
    reads: set[tuple[str, str]] = set()
    writes: set[tuple[str, str]] = set()
    steps = [("require", r.sql, True) for r in tool.require] + [("do", sql, False) for sql in tool.do]
    steps += [("returns", tool.returns, True)] if tool.returns else []
    for part, sql, must_read in steps:
        effects = guard.vet(db, sql, names, f"{where}: {part}")
        if must_read and (effects.writes or not effects.readonly):
            raise DomainError(f"{where}: {part} writes; only do may")
        if not must_read and not effects.writes:
            raise DomainError(f"{where}: do statement writes nothing: {sql.strip()[:60]}")
        reads |= effects.reads
        writes |= effects.writes | _cascades(effects.writes, sql, tables)
    if tool.returns and not tool.one and not re.search(r"\border\s+by\b", tool.returns, re.I):
        raise DomainError(f"{where}: returns needs a total ORDER BY")
    try:
        validator = jsonschema_rs.validator_for(tool.parameters)
    except (ValueError, jsonschema_rs.ValidationError) as error:
        raise DomainError(f"{where}: parameters: {str(error).splitlines()[0]}") from None
    lists = {n for n, s in properties.items() if isinstance(s, dict) and s.get("type") in ("array", "object")}
    return CompiledTool(tool, validator, tuple(properties), frozenset(writes), frozenset(reads), frozenset(lists))


def _cascades(writes: frozenset[tuple[str, str]], sql: str, tables: dict[str, Table]) -> set[tuple[str, str]]:
    """Rows that foreign key actions write: SQLite's authorizer does not report those."""
    found: set[tuple[str, str]] = set()
    frontier = {table for table, _ in writes} if re.search(r"\bdelete\b", sql, re.I) else set()
    while frontier:
        parent = frontier.pop()
        for child in tables.values():
            for key in child.foreign_keys:
                if key.parent == parent and key.on_delete in ("CASCADE", "SET NULL", "SET DEFAULT") and (child.name, "*") not in found:
                    found.add((child.name, "*"))
                    frontier.add(child.name)
    return found


def _tables(db: apsw.Connection, domain: Domain) -> dict[str, Table]:
    rows = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name").fetchall()
    tables: dict[str, Table] = {}
    named = {"exempt": domain.columns.exempt, "semantic": domain.columns.semantic, "json": domain.columns.json_}
    for name, sql in rows:
        info = db.execute('SELECT name, type, pk FROM pragma_table_xinfo(?) WHERE hidden IN (0, 2, 3)', (name,)).fetchall()
        columns = tuple(row[0] for row in info)
        key = tuple(row[0] for row in sorted((row for row in info if row[2]), key=lambda row: row[2]))
        if not key:
            raise DomainError(f"{domain.name}: table {name} has no primary key; its changes would be lost")
        if not re.search(r"\)\s*(?:WITHOUT\s+ROWID\s*,\s*)?STRICT\b[^)]*$", sql, re.I):
            raise DomainError(f"{domain.name}: table {name} is not STRICT")
        classes = {kind: _columns_of(name, columns, names) for kind, names in named.items()}
        surrogate = None
        if name in domain.ids:
            if len(key) != 1:
                raise DomainError(f"{domain.name}: ids: {name} needs a key of one column")
            surrogate = key[0]
        wholly = f"{name}.*" in domain.columns.exempt
        if not wholly and classes["exempt"] & set(key):
            raise DomainError(f"{domain.name}: columns.exempt: {name}.{sorted(classes['exempt'] & set(key))[0]} is part of the key")
        foreign = _foreign_keys(db, name, {row[0] for row in rows}, domain)
        types = {row[0]: row[1].upper() for row in info}
        tables[name] = Table(
            name, columns, types, key, foreign, surrogate, classes["exempt"], classes["semantic"], classes["json"], wholly
        )
    for entry in (*domain.columns.exempt, *domain.columns.semantic, *domain.columns.json_):
        table, _, column = entry.partition(".")
        if table not in tables or (column != "*" and column not in tables[table].columns):
            raise DomainError(f"{domain.name}: columns: there is no {entry}")
    for table in domain.ids:
        if table not in tables:
            raise DomainError(f"{domain.name}: ids: there is no table {table}")
    return tables


def _columns_of(table: str, columns: tuple[str, ...], entries: tuple[str, ...]) -> frozenset[str]:
    return frozenset(c for c in columns if f"{table}.{c}" in entries or f"{table}.*" in entries)


def _foreign_keys(db: apsw.Connection, table: str, known: set[str], domain: Domain) -> tuple[ForeignKey, ...]:
    grouped: dict[int, list[Any]] = {}
    for row in db.execute("SELECT id, seq, \"table\", \"from\", \"to\", on_delete FROM pragma_foreign_key_list(?) ORDER BY id, seq", (table,)):
        grouped.setdefault(row[0], []).append(row)
    found = []
    for rows in grouped.values():
        parent = rows[0][2]
        if parent not in known:
            raise DomainError(f"{domain.name}: table {table} refers to {parent}, which does not exist")
        keys = db.execute("SELECT name FROM pragma_table_xinfo(?) WHERE pk ORDER BY pk", (parent,)).fetchall()
        targets = tuple(row[4] or keys[i][0] for i, row in enumerate(rows))
        found.append(ForeignKey(tuple(row[3] for row in rows), parent, targets, rows[0][5]))
    return tuple(found)
