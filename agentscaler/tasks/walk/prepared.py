"""What SQLite itself says of a domain's schema and statements: views, unique columns, and what each statement reads.

Everything here is asked of SQLite on an empty database with the domain's schema. Nothing is run but the schema, which passed the guard
when the program was compiled.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

import apsw
import apsw.ext

from agentscaler.world import clock, functions, guard
from agentscaler.world.program import COMPILE_CPU_S, COMPILE_STEPS, CompiledTool, Program, build_schema

Column = tuple[str, str]
"""Table (or view) and column, in the words of the schema."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """`columns` are the names of the rows' columns; `by_triggers` what the triggers read that the statement fires, as far as SQLite tells:
    where a trigger looks through a view, the view's columns."""

    columns: tuple[str, ...]
    reads: frozenset[Column]
    by_triggers: frozenset[Column]


@dataclass(frozen=True, slots=True)
class PreparedDomain:
    """`unique` are the sets of columns of which no two rows of a table agree, primary keys among them. `statements` goes by text: the
    same text means the same, whichever tool holds it."""

    views: dict[str, str]
    unique: frozenset[tuple[str, frozenset[str]]]
    statements: dict[str, Prepared]


def statements_of(compiled: CompiledTool) -> list[str]:
    tool = compiled.tool
    return [*(r.sql for r in tool.require), *tool.do, *([tool.returns] if tool.returns else [])]


def prepare(program: Program) -> PreparedDomain:
    clock.freeze(program.clock_ms)
    with closing(apsw.Connection(":memory:", vfs=clock.VFS_NAME)) as db:
        budget = guard.Budget(COMPILE_STEPS, COMPILE_CPU_S)
        guard.harden(db)
        functions.register_pure(db, budget.spend)
        functions.register_stubs(db)
        db.set_progress_handler(budget.tick, guard.STEPS_PER_CHECK)
        build_schema(db, program.domain)
        rows = db.execute("SELECT type, name, sql FROM sqlite_schema WHERE type IN ('view', 'trigger')").fetchall()
        triggers = {str(name) for kind, name, _ in rows if kind == "trigger"}
        texts = dict.fromkeys(sql for tool in program.tools.values() for sql in statements_of(tool))
        return PreparedDomain(
            {str(name): str(sql) for kind, name, sql in rows if kind == "view"},
            frozenset(_unique(db, program)),
            {sql: _prepared(db, sql, triggers) for sql in texts},
        )


def _prepared(db: apsw.Connection, sql: str, triggers: set[str]) -> Prepared:
    info = apsw.ext.query_info(db, sql, actions=True)
    reads, by_triggers = set(), set()
    for action in info.actions or ():
        if action.action == apsw.SQLITE_READ:
            column = (action.table_name or "", action.column_name or "")
            reads.add(column)
            if action.trigger_or_view in triggers:
                by_triggers.add(column)
    return Prepared(tuple(name for name, _ in info.description), frozenset(reads), frozenset(by_triggers))


def _unique(db: apsw.Connection, program: Program) -> set[tuple[str, frozenset[str]]]:
    found = {(table.name, frozenset(table.key)) for table in program.tables.values()}
    for table in program.tables:
        query = 'SELECT name FROM pragma_index_list(?) WHERE "unique" AND NOT partial'
        for (index,) in db.execute(query, (table,)).fetchall():
            columns = [row[0] for row in db.execute("SELECT name FROM pragma_index_info(?)", (index,))]
            if None not in columns:  # NULL is an expression
                found.add((table, frozenset(map(str, columns))))
    return found
