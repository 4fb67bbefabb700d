"""What any domain must pass before tasks are made of it, ours or a third party's: `check_domain`, in words.

Three parts: rules of the schema that the canonical diff rests on; the seed recipe's determinism; every tool run on seeded worlds
with drawn arguments, each call twice, on the world and on a twin that answers unordered queries backwards.

`compile_domain` has refused by then what could do harm (STRICT, keys, the guard). Does not judge whether tools make sense.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import apsw.ext
import orjson

from agentscaler.domain.domain import Domain
from agentscaler.errors import DomainError, RolloutFault
from agentscaler.messages import Outcome
from agentscaler.world import guard
from agentscaler.world.binding import bind
from agentscaler.world.drawing import Record, draw_call, records_of, texts_of
from agentscaler.world.environment import CallResult, Environment
from agentscaler.world.new_ids import INTEGER_ID_START
from agentscaler.world.program import CompiledTool, Program, Table, compile_domain, rows_of
from agentscaler.world.world import World, digest_of

MAX_TRIES = 1000  # for tools that want several values that belong together; most work within ten
NUM_READS = 8  # ok calls of a tool that reads; the first that works of one that writes
NUM_FAILURES_LOOKED_AT = 3  # a tool's refused calls of which the whole world is compared

_MONEY = re.compile(
    r"(^|_)(price|amount|cost|total|subtotal|balance|fee|salary|wage|fare|budget|refund|payment|deposit|tax|charge|money|revenue)s?(_|$)"
)
_BRACKETS = re.compile(r"\([^()]*\)")


def check_domain(domain: Domain, seeds: tuple[int, ...] = (1, 2)) -> list[str]:
    """Problems in words; empty when the domain conforms."""
    try:
        program = compile_domain(domain)
        worlds = [World.build(domain, seed) for seed in seeds]
    except DomainError as error:
        return [str(error)]
    environment = worlds[0].open()
    problems = [*_check_schema(environment.connection, program)]
    for compiled in program.tools.values():
        problems += _check_signature(environment.connection, compiled)
    environment.close()
    problems += _check_seeds(worlds)
    trials = [_Trial(world) for world in worlds]
    for trial in trials:
        trial.run()
        problems += trial.problems
        trial.close()
    for name in program.tools:
        if not any(name in trial.worked for trial in trials):
            why = next(
                (trial.last_words[name] for trial in trials if name in trial.last_words), "it has no valid arguments"
            )
            problems.append(f"tool {name} was never ok in {MAX_TRIES} tries a seed; the last time: {why}")
    return list(dict.fromkeys(problems))


def _check_schema(db: apsw.Connection, program: Program) -> Iterator[str]:
    written_by_triggers = _written_by_triggers(db, program)
    for table in program.tables.values():
        for column, kind in table.types.items():
            if kind == "ANY":
                yield f"table {table.name}: column {column} is ANY; give it a type"
            if kind == "REAL" and _MONEY.search(column.lower()):
                yield f"table {table.name}: column {column} looks like money and is REAL; use INTEGER minor units"
        collations = db.execute(
            "SELECT x.name, x.coll FROM pragma_index_list(?) i, pragma_index_xinfo(i.name) x WHERE i.origin = 'pk' AND x.key",
            (table.name,),
        )
        for column, collation in collations:
            if collation != "BINARY":
                yield f"table {table.name}: key column {column} compares as {collation}; keys must compare exactly"
        if table.name in written_by_triggers and _numbered_by_sqlite(table):
            yield (
                f"table {table.name}: a trigger writes it and SQLite numbers its rows, so that the order of calls shows; "
                "derive its key, use new_id, or list it under columns.exempt"
            )
    if db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'").fetchone():
        yield "the schema uses AUTOINCREMENT; use new_id"


def _numbered_by_sqlite(table: Table) -> bool:
    """One INTEGER key column that nobody need fill."""
    return (
        len(table.key) == 1
        and table.types[table.key[0]] == "INTEGER"
        and not table.surrogate
        and not table.wholly_exempt
    )


def _written_by_triggers(db: apsw.Connection, program: Program) -> set[str]:
    """Asked of SQLite: what each write of each table would write besides."""
    found = set()
    for table in program.tables.values():
        name = table.name.replace('"', '""')
        sets = ", ".join(f'"{column}" = "{column}"' for column in table.columns)
        for sql in (f'INSERT INTO "{name}" DEFAULT VALUES', f'UPDATE "{name}" SET {sets}', f'DELETE FROM "{name}"'):
            for action in apsw.ext.query_info(db, sql, actions=True).actions or ():
                if action.trigger_or_view and action.action in (apsw.SQLITE_INSERT, apsw.SQLITE_UPDATE):
                    found.add(action.table_name)
    return found


def _check_signature(db: apsw.Connection, compiled: CompiledTool) -> Iterator[str]:
    tool = compiled.tool
    where = f"tool {tool.name}"
    properties = tool.parameters["properties"]
    for name in tool.parameters.get("required", ()):
        if name not in properties:
            yield f"{where}: required parameter {name} is no property"
    for requirement in tool.require:
        for name in re.findall(r"\{(\w+)\}", requirement.otherwise):
            if name not in properties:
                yield f"{where}: the words {requirement.otherwise!r} name {{{name}}}, no parameter"
    statements = [
        *(requirement.sql for requirement in tool.require),
        *tool.do,
        *([tool.returns] if tool.returns else []),
    ]
    bound = {name for sql in statements for name in apsw.ext.query_info(db, sql).bindings_names}
    for name in properties:
        if name not in bound:
            yield f"{where}: no statement uses parameter {name}"
    columns = [column[0] for column in apsw.ext.query_info(db, tool.returns).description] if tool.returns else []
    for name in tool.nested:
        if name not in columns:
            yield f"{where}: nested names {name}, which is no column of the result"
    for name in sorted({name for name in columns if columns.count(name) > 1}):
        yield f"{where}: the result has column {name} twice"
    if tool.example and not compiled.validator.is_valid(tool.example.arguments):
        yield f"{where}: the example's arguments do not fit the parameters"


def _check_seeds(worlds: list[World]) -> Iterator[str]:
    program = worlds[0].program
    for world in worlds:
        if World.build(program.domain, world.seed).digest != world.digest:
            yield f"seed {world.seed}: two builds differ; every draw needs a key, and every ordered thing an ORDER BY"
        environment = world.open()
        yield from (f"seed {world.seed}: invariant {words}" for words in environment.offences())
        for table in program.tables.values():
            if table.name not in program.integer_ids:
                continue
            query = f'SELECT max("{table.surrogate}") FROM "{table.name}"'
            highest: Any = environment.connection.execute(query).fetchone()
            if highest and (highest[0] or 0) >= INTEGER_ID_START:
                yield f"table {table.name}: seeded keys must stay below {INTEGER_ID_START}, where new ids begin"
        environment.close()
    read = {table for compiled in program.tools.values() for table, _ in compiled.reads}
    environments = [world.open() for world in worlds]
    for name, table in program.tables.items():
        if name in read and not table.wholly_exempt and not any(rows_of(e.connection, table) for e in environments):
            yield f"table {name}: tools read it, and no seed fills it"
    for environment in environments:
        environment.close()


@dataclass(frozen=True, slots=True)
class _State:
    """Equal pages are equal rows; only where pages differ are rows compared."""

    image: bytes
    ids: dict[str, int]

    @classmethod
    def of(cls, environment: Environment) -> _State:
        return cls(environment.connection.serialize("main"), environment.id_counts)


class _Trial:
    """Every tool of one world, tried with drawn arguments until it works. Two rounds: what the first did may help the second."""

    def __init__(self, world: World):
        self._world, self._random = world, Random(world.seed)
        self._environment, self._twin = world.open(), world.open()
        _turn_round(self._twin.connection, world.program)
        self._texts = texts_of(world)
        self.worked: set[str] = set()
        self.problems: list[str] = []
        self.last_words: dict[str, str] = {}

    def close(self) -> None:
        self._environment.close()
        self._twin.close()

    def run(self) -> None:
        for _ in range(2):
            records = records_of(self._environment.connection, self._world.program.tables, self._random)
            for compiled in self._world.program.tools.values():
                if compiled.tool.name in self.worked:
                    continue
                try:
                    self._try(compiled, records)
                except RolloutFault as fault:
                    self.problems.append(f"tool {compiled.tool.name}: {fault.words}")

    def _try(self, compiled: CompiledTool, records: list[Record]) -> None:
        tool = compiled.tool
        self._expect_unchanged(compiled, '{"no such parameter": 1}', Outcome.INVALID_CALL)
        num_ok = 0
        for number in range(MAX_TRIES):
            arguments = draw_call(tool, records, self._texts, self._random)
            before = _State.of(self._environment) if number < NUM_FAILURES_LOOKED_AT or not compiled.is_write else None
            result = self._call_both(compiled, arguments)
            if result.outcome is Outcome.OK:
                self.worked.add(tool.name)
                self._look_at(compiled, arguments, before, result)
                num_ok += 1
                if compiled.is_write or num_ok == NUM_READS:
                    return
                continue
            self.last_words[tool.name] = result.content
            if before and not self._is_unchanged(before):
                self.problems.append(f"tool {tool.name}: a call that was {result.outcome.value} changed the world")

    def _call_both(self, compiled: CompiledTool, arguments: Any) -> CallResult:
        tool = compiled.tool
        result = self._environment.call(tool.actor, tool.name, arguments)
        other = self._twin.call(tool.actor, tool.name, arguments)
        if result != other:
            self.problems.append(
                f"tool {tool.name}: what it answers or changes depends on an order that no ORDER BY settles: "
                f"{result.content[:150]} or {other.content[:150]}"
            )
        return result

    def _expect_unchanged(self, compiled: CompiledTool, arguments: str, outcome: Outcome) -> None:
        before = _State.of(self._environment)
        if self._call_both(compiled, arguments).outcome is not outcome:
            self.problems.append(f"tool {compiled.tool.name}: it takes parameters that it does not name")
        if not self._is_unchanged(before):
            self.problems.append(f"tool {compiled.tool.name}: an invalid call changed the world")

    def _look_at(
        self, compiled: CompiledTool, arguments: dict[str, Any], before: _State | None, result: CallResult
    ) -> None:
        name = compiled.tool.name
        if compiled.tool.returns and not compiled.tool.one:
            self._check_order(compiled, arguments)
        if not compiled.is_write:
            if before and not self._is_unchanged(before):
                self.problems.append(f"tool {name}: it reads, and changes the world")
            return
        for words in self._environment.offences():
            self.problems.append(f"tool {name}: after {orjson.dumps(arguments).decode()[:200]}: invariant {words}")
        one, other = orjson.dumps(self._environment.diff()).decode(), orjson.dumps(self._twin.diff()).decode()
        if one != other:
            self.problems.append(f"tool {name}: what it writes depends on an order that no ORDER BY settles")
        for table, fresh in self._environment.issued:
            if f'"{fresh}"' in one or f":{fresh}" in one:
                self.problems.append(
                    f"tool {name}: it writes a new id of table {table} into a column that no foreign key ties to that table"
                )
        for key in result.changed_keys:
            table_name, _, value = key.partition("/")
            table = self._world.program.tables[table_name]
            given = orjson.dumps(arguments).decode()
            if _numbered_by_sqlite(table) and value not in given and not self._was_seeded(table, value):
                self.problems.append(
                    f"tool {name}: SQLite numbers its new row of {table_name}; list the table under ids and use new_id"
                )

    def _check_order(self, compiled: CompiledTool, arguments: dict[str, Any]) -> None:
        """Rows that the ORDER BY leaves equal come out the same, whichever way they are then ordered."""
        forward, backward = (
            _with_ties(self._environment.connection, compiled.tool.returns or "", way) for way in ("ASC", "DESC")
        )
        bindings = bind(compiled, arguments)
        rows = [self._environment.connection.execute(sql, bindings).fetchall() for sql in (forward, backward)]
        if rows[0] != rows[1]:
            self.problems.append(
                f"tool {compiled.tool.name}: its ORDER BY leaves rows in an order that nothing settles; add a key"
            )

    def _was_seeded(self, table: Table, value: str) -> bool:
        environment = self._world.open()
        query = f'SELECT 1 FROM "{table.name}" WHERE "{table.key[0]}" = ?'
        found = environment.connection.execute(query, (int(value),)).fetchone() is not None
        environment.close()
        return found

    def _is_unchanged(self, before: _State) -> bool:
        now = _State.of(self._environment)
        if now.ids != before.ids:
            return False
        if now.image == before.image:
            return True
        program = self._world.program
        past = World(program, self._world.seed, before.image).digest
        return past == digest_of(self._environment.connection, program.tables)


def _turn_round(db: apsw.Connection, program: Program) -> None:
    """The same world, its rows lying the other way round, and queries without order answered backwards."""
    db.execute("PRAGMA reverse_unordered_selects = 1")
    db.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
    for name, without_rowid in db.execute("SELECT name, wr FROM pragma_table_list WHERE schema = 'main'").fetchall():
        table = program.tables.get(str(name))
        if table and not without_rowid and not (len(table.key) == 1 and table.types[table.key[0]] == "INTEGER"):
            db.execute(f'UPDATE "{name}" SET rowid = -rowid')
    db.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 1)


def _with_ties(db: apsw.Connection, sql: str, way: str) -> str:
    """The query with all its result columns behind its own order."""
    outer = guard.masked(sql).rstrip(" \t\r\n;")
    while (inner := _BRACKETS.sub(lambda match: " " * len(match.group()), outer)) != outer:
        outer = inner  # until only the outermost query is left
    limit = re.search(r"\blimit\b", outer, re.I)
    end = limit.start() if limit else len(outer)
    ties = ", ".join(f"{place} {way}" for place in range(1, len(apsw.ext.query_info(db, sql).description) + 1))
    comma = "," if re.search(r"\border\s+by\b", outer, re.I) else " ORDER BY"
    return f"{sql[:end]}\n{comma} {ties} {sql[end : len(outer)]}"
