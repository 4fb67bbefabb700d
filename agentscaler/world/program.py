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
import orjson

from agentscaler.domain.domain import Domain, Tool
from agentscaler.errors import DomainError
from agentscaler.world import clock, functions, guard

COMPILE_STEPS = 20_000_000
COMPILE_CPU_S = 5.0


@dataclass(frozen=True, slots=True)
class ForeignKey:
    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]
    on_delete: str
    on_update: str


@dataclass(frozen=True, slots=True)
class Table:
    """`columns` are the stored ones, as a changeset lists them: generated columns are not among them. `key` are the primary key's
    columns in order; `surrogate` is the key column that `new_id` fills, if any. `names` says of which tables a column holds
    surrogate keys, followed through foreign keys of any length; `key_places` are the key's places among `columns`; `picks` are the
    places of `columns` among all of a row that SQLite stores, where it stores generated ones besides."""

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
    names: dict[str, tuple[str, ...]]
    key_places: tuple[tuple[int, str], ...]
    picks: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class CompiledTool:
    """`empty` binds every parameter to NULL; `integers` are the parameters whose schema asks for an integer."""

    tool: Tool
    validator: Any
    parameters: tuple[str, ...]
    empty: dict[str, Any]
    integers: frozenset[str]
    writes: frozenset[tuple[str, str]]
    reads: frozenset[tuple[str, str]]
    list_parameters: frozenset[str]
    is_write: bool


@dataclass(frozen=True, slots=True)
class Program:
    domain: Domain
    tables: dict[str, Table]
    tools: dict[str, CompiledTool]
    clock_ms: int
    integer_ids: frozenset[str]
    write_tools: frozenset[str]
    forbidding: dict[str, tuple[tuple[str, str], ...]]
    """Tool -> (name of a text_only rule, the query that returns a row where it forbids a call)."""
    invariant_reads: dict[str, dict[str, frozenset[str]]]
    """Invariant -> table -> columns that it reads of it; none where it only counts rows."""


def rows_of(db: apsw.Connection, table: Table) -> list[tuple[apsw.SQLiteValue, ...]]:
    columns = ", ".join(f'"{column}"' for column in table.columns)
    order = ", ".join(f'"{column}"' for column in table.key)
    return db.execute(f'SELECT {columns} FROM "{table.name}" ORDER BY {order}').fetchall()


SPEAKER = "speaker"  # the speaker's key, in the queries of text_only rules
_VIRTUAL = (
    2  # pragma_table_xinfo's mark of a generated column that is not stored; the preupdate hook cannot step over it
)
_programs: dict[str, Program] = {}


def compile_domain(domain: Domain) -> Program:
    """Vet and compile; kept by fingerprint. Raises DomainError naming domain, tool and statement."""
    if domain.fingerprint not in _programs:
        _programs[domain.fingerprint] = _compile(domain)
    return _programs[domain.fingerprint]


def build_schema(db: apsw.Connection, domain: Domain) -> None:
    """Run the DDL under the schema authorizer. The caller has set a budget."""
    where = f"{domain.name}: schema.sql"
    guard.check_text(domain.schema_sql, where)
    _check_new_ids(domain.schema_sql, domain, where)
    db.set_authorizer(guard.schema_authorizer)
    try:
        for _ in db.execute(domain.schema_sql):
            pass
    except (apsw.Error, ValueError, TypeError) as error:
        raise DomainError(f"{where}: {error}") from None
    finally:
        db.set_authorizer(None)


def _compile(domain: Domain) -> Program:
    clock_ms = clock.julian_ms(domain.clock)
    clock.freeze(clock_ms)
    with closing(apsw.Connection(":memory:", vfs=clock.VFS_NAME)) as db:
        budget = guard.Budget(COMPILE_STEPS, COMPILE_CPU_S)
        guard.harden(db)
        guard.limit_statements(db)
        functions.register_pure(db, budget.spend)
        functions.register_stubs(db)
        db.set_progress_handler(budget.tick, guard.STEPS_PER_CHECK)  # SQLite asks while it prepares, too
        build_schema(db, domain)
        tables = _tables(db, domain)
        tools = {tool.name: _compile_tool(db, domain, tool, tables) for tool in domain.tools}
        invariant_reads = {}
        for invariant in domain.invariants:
            where = f"{domain.name}: invariant {invariant.name}"
            effects = guard.vet(db, invariant.sql, (), where, guard.READ_FUNCTIONS)
            if not effects.readonly:
                raise DomainError(f"{where}: writes; it may only look")
            invariant_reads[invariant.name] = {
                table: frozenset(column for name, column in effects.reads if name == table and column)
                for table, _ in effects.reads
            }
        forbidding = _forbidding(db, domain)
        functions.register_recipe(db, 0, {})
        for index, step in enumerate(domain.seed.steps, 1):
            for _ in guard.vet_all(db, step, f"{domain.name}: seed step {index}", guard.RECIPE_FUNCTIONS):
                pass
    integer_ids = frozenset(t.name for t in tables.values() if t.surrogate and t.types[t.surrogate].startswith("INT"))
    write_tools = frozenset(name for name, tool in tools.items() if tool.is_write)
    return Program(domain, tables, tools, clock_ms, integer_ids, write_tools, forbidding, invariant_reads)


def _forbidding(db: apsw.Connection, domain: Domain) -> dict[str, tuple[tuple[str, str], ...]]:
    """Vetted: they look, and name nothing but the tool's parameters and `:speaker`."""
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    tools = {tool.name: tool for tool in domain.tools}
    for rule in domain.policy:
        for one in rule.forbids:
            for name in one.tools:
                where = f"{domain.name}: policy {rule.name}: forbids"
                if name not in tools:
                    raise DomainError(f"{where}: there is no tool {name}")
                if SPEAKER in tools[name].parameters["properties"]:
                    raise DomainError(
                        f"{where}: {name} has a parameter {SPEAKER}, which means the person who speaks here"
                    )
                known = [*tools[name].parameters["properties"], SPEAKER]
                effects = guard.vet(db, one.sql, known, f"{where} ({name})", guard.READ_FUNCTIONS)
                if effects.writes or not effects.readonly:
                    raise DomainError(f"{where} ({name}): writes; it may only look")
                found[name] = (*found.get(name, ()), (rule.name, one.sql))
    return found


def _compile_tool(db: apsw.Connection, domain: Domain, tool: Tool, tables: dict[str, Table]) -> CompiledTool:
    where = f"{domain.name}.{tool.name}"
    properties = tool.parameters["properties"]
    reads: set[tuple[str, str]] = set()
    writes: set[tuple[str, str]] = set()
    steps = [("require", r.sql) for r in tool.require] + [("do", sql) for sql in tool.do]
    steps += [("returns", tool.returns)] if tool.returns else []
    for part, sql in steps:
        allowed = guard.FUNCTIONS if part == "do" else guard.READ_FUNCTIONS
        effects = guard.vet(db, sql, properties, f"{where}: {part}", allowed)
        if part == "do":
            _check_new_ids(sql, domain, f"{where}: do")
            if not effects.writes:
                raise DomainError(f"{where}: do statement writes nothing: {sql.strip()[:60]}")
        elif effects.writes or not effects.readonly:
            raise DomainError(f"{where}: {part} writes; only do may")
        reads |= effects.reads
        writes |= effects.writes | _cascades(effects, tables)
    if tool.returns and not tool.one and not re.search(r"\border\s+by\b", guard.bare(tool.returns), re.I):
        raise DomainError(f"{where}: returns needs a total ORDER BY")
    kinds = {name: _kinds(schema) for name, schema in properties.items()}
    return CompiledTool(
        tool,
        _validator(tool, where),
        tuple(properties),
        dict.fromkeys(properties),
        frozenset(name for name, kind in kinds.items() if "integer" in kind and "number" not in kind),
        frozenset(writes),
        frozenset(reads),
        frozenset(name for name, kind in kinds.items() if kind & {"array", "object"}),
        bool(tool.do),
    )


def _kinds(schema: Any) -> frozenset[str]:
    kind = schema.get("type", ()) if isinstance(schema, dict) else ()
    return frozenset([kind] if isinstance(kind, str) else kind)


def _validator(tool: Tool, where: str) -> Any:
    """Offline, and with bounded regular expressions. References are refused: they may be endless, and models read them badly."""
    text = orjson.dumps(tool.parameters).decode()
    if found := re.search(r'"\$(ref|dynamicRef|recursiveRef)":', text):
        raise DomainError(f"{where}: parameters: ${found.group(1)} is not allowed; write the schema out")
    patterns = jsonschema_rs.FancyRegexOptions(backtrack_limit=10_000)
    try:
        return jsonschema_rs.validator_for(tool.parameters, pattern_options=patterns, offline=True)
    except (ValueError, jsonschema_rs.ValidationError) as error:
        raise DomainError(f"{where}: parameters: {str(error).splitlines()[0]}") from None


def _check_new_ids(sql: str, domain: Domain, where: str) -> None:
    """`new_id` takes a table's name as it stands, one that `ids` names: never an argument of the call."""
    for match in re.finditer(r"\bnew_id\W*\(\s*('(\w+)'\s*\))?", guard.without_comments(sql), re.I):
        if match.group(2) not in domain.ids:
            raise DomainError(f"{where}: new_id needs the name of a table that has ids, in single quotes")


def _cascades(effects: guard.Effects, tables: dict[str, Table]) -> set[tuple[str, str]]:
    """Rows that foreign key actions write: SQLite's authorizer does not report those."""
    found: set[tuple[str, str]] = set()
    deleted, updated = set(effects.deletes), {pair for pair in effects.writes if pair[1] != "*"}
    while deleted or updated:
        parent, column = (deleted.pop(), "*") if deleted else updated.pop()
        for child in tables.values():
            for key in child.foreign_keys:
                hit = key.parent == parent and (column == "*" or column in key.parent_columns)
                action = key.on_delete if column == "*" else key.on_update
                if not hit or action not in ("CASCADE", "SET NULL", "SET DEFAULT"):
                    continue
                if column == "*" and action == "CASCADE":
                    fresh = {(child.name, "*")} - found
                    deleted |= {name for name, _ in fresh}
                else:
                    fresh = {(child.name, own) for own in key.columns} - found
                    updated |= fresh
                found |= fresh
    return found


def _tables(db: apsw.Connection, domain: Domain) -> dict[str, Table]:
    query = """SELECT name, type, strict FROM pragma_table_list
               WHERE schema = 'main' AND type <> 'view' AND substr(name, 1, 7) <> 'sqlite_' ORDER BY name"""
    rows: list[Any] = db.execute(query).fetchall()
    tables: dict[str, Table] = {}
    named = {"exempt": domain.columns.exempt, "semantic": domain.columns.semantic, "json": domain.columns.json_}
    actual = {row[0].lower(): row[0] for row in rows}
    for name, kind, strict in rows:
        laid_out: list[Any] = db.execute(
            "SELECT name, type, pk, hidden FROM pragma_table_xinfo(?) ORDER BY cid", (name,)
        ).fetchall()
        if virtual := next((row[0] for row in laid_out if row[3] == _VIRTUAL), None):
            raise DomainError(f"{domain.name}: table {name}: generated column {virtual} must be STORED")
        info = [row for row in laid_out if row[3] == 0]
        columns = tuple(row[0] for row in info)
        key = tuple(row[0] for row in sorted((row for row in info if row[2]), key=lambda row: row[2]))
        if kind != "table" or not strict:
            raise DomainError(f"{domain.name}: table {name} is not STRICT")
        if not key:
            raise DomainError(f"{domain.name}: table {name} has no primary key; its changes would be lost")
        classes = {kind: _columns_of(name, columns, names) for kind, names in named.items()}
        surrogate = None
        if name in domain.ids:
            if len(key) != 1:
                raise DomainError(f"{domain.name}: ids: {name} needs a key of one column")
            surrogate = key[0]
        wholly = f"{name}.*" in domain.columns.exempt
        for kind, members in classes.items():
            if not wholly and members & set(key):  # two keys that differ could become one
                raise DomainError(
                    f"{domain.name}: columns.{kind}: {name}.{sorted(members & set(key))[0]} is part of the key"
                )
        foreign = _foreign_keys(db, name, actual, domain)
        types = {row[0]: row[1].upper() for row in info}
        tables[name] = Table(
            name,
            columns,
            types,
            key,
            foreign,
            surrogate,
            classes["exempt"],
            classes["semantic"],
            classes["json"],
            wholly,
            {},
            tuple((place, column) for place, column in enumerate(columns) if column in key),
            tuple(place for place, row in enumerate(laid_out) if row[3] == 0) if len(info) < len(laid_out) else None,
        )
    for entry in (*domain.columns.exempt, *domain.columns.semantic, *domain.columns.json_):
        table, _, column = entry.partition(".")
        if table not in tables or (column != "*" and column not in tables[table].columns):
            raise DomainError(f"{domain.name}: columns: there is no {entry}")
    for table in domain.ids:
        if table not in tables:
            raise DomainError(f"{domain.name}: ids: there is no table {table}")
    for table in tables.values():
        for column in table.columns:
            if found := _named(tables, table, column, set()):
                table.names[column] = tuple(sorted(found))
    return tables


def _named(tables: dict[str, Table], table: Table, column: str, seen: set[tuple[str, str]]) -> set[str]:
    """Tables whose surrogate keys a column holds, over any number of foreign keys."""
    found: set[str] = set()
    if (table.name, column) in seen:
        return found
    seen.add((table.name, column))
    for key in table.foreign_keys:
        for own, target in zip(key.columns, key.parent_columns, strict=True):
            if own == column:
                parent = tables[key.parent]
                found |= {parent.name} if parent.surrogate == target else set()
                found |= _named(tables, parent, target, seen)
    return found


def _columns_of(table: str, columns: tuple[str, ...], entries: tuple[str, ...]) -> frozenset[str]:
    return frozenset(c for c in columns if f"{table}.{c}" in entries or f"{table}.*" in entries)


def _foreign_keys(db: apsw.Connection, table: str, actual: dict[str, str], domain: Domain) -> tuple[ForeignKey, ...]:
    grouped: dict[int, list[Any]] = {}
    query = (
        'SELECT id, seq, "table", "from", "to", on_delete, on_update FROM pragma_foreign_key_list(?) ORDER BY id, seq'
    )
    for row in db.execute(query, (table,)):
        grouped.setdefault(row[0], []).append(row)
    found = []
    for rows in grouped.values():
        parent = actual.get(rows[0][2].lower())
        if parent is None:
            raise DomainError(f"{domain.name}: table {table} refers to {rows[0][2]}, which does not exist")
        info: list[Any] = db.execute("SELECT name, pk FROM pragma_table_xinfo(?) ORDER BY pk", (parent,)).fetchall()
        names = {name.lower(): name for name, _ in info}
        key = [name for name, place in info if place]
        wanted = [row[4] for row in rows] if rows[0][4] is not None else key
        if len(wanted) != len(rows) or any(name.lower() not in names for name in wanted):
            raise DomainError(
                f"{domain.name}: table {table}: its foreign key to {parent} does not fit that table's key"
            )
        targets = tuple(names[name.lower()] for name in wanted)
        found.append(ForeignKey(tuple(row[3] for row in rows), parent, targets, rows[0][5], rows[0][6]))
    return tuple(found)
