"""One live session on a world: call tools, then close and get the canonical diff.

Invariants: single use; no wall clock, no uuid, no network. A call is one transaction: `refused` and `invalid_call` change nothing,
not even the counter of new ids. A write that leaves every row as it was is a refusal. What a call answers depends on the world and
the calls before it, on nothing else; after a `rewind`, on the calls before the mark and those since.

Not thread-safe; one environment belongs to one conversation, and is closed at its end: its copy of the world is then rolled back and
used again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import apsw
import orjson

from agentscaler.domain.domain import fill_words
from agentscaler.errors import FaultClass, RolloutFault
from agentscaler.messages import Outcome
from agentscaler.world import changeset, clock, functions
from agentscaler.world.binding import Invalid, bind, parse
from agentscaler.world.changeset import Diff
from agentscaler.world.copies import Copy, Shelf
from agentscaler.world.program import SPEAKER, CompiledTool, Program, rows_of

MAX_ROWS = 200
MAX_RESULT_CHARS = 256 * 1024
MAX_CHANGED_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class CallResult:
    """`content` is what the agent reads: JSON text. `changed_keys` are the rows the call changed, as `table/key`."""

    outcome: Outcome
    content: str
    changed_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Mark:
    """A point in one environment's life, and what stood outside the database there. `depth` is how many marks lie outside it."""

    depth: int
    num_writes: int
    changes: changeset.Changes
    counts: dict[str, int]
    issued: set[tuple[str, Any]]

    @property
    def savepoint(self) -> str:
        return f"mark_{self.depth}"


class _Refused(Exception):
    pass


class Environment:
    """`shelf` is where the copy of the world's image comes from and goes back to; `image` where there is none on it."""

    def __init__(self, program: Program, seed: int, image: bytes, shelf: Shelf):
        clock.freeze(program.clock_ms)
        self._program = program
        self._shelf = shelf
        self._copy = copy = shelf.take() or Copy(program, seed, image)
        self._db, self._budget, self._ids = copy.db, copy.budget, copy.ids
        self._changes: changeset.Changes = {}
        self._writes: list[tuple[CompiledTool, dict[str, Any]]] = []
        self._marks: list[Mark] = []
        self._closed = False
        copy.begin()

    def call(self, actor: str, tool: str, arguments: str | dict[str, Any]) -> CallResult:
        """Run one call. `arguments` is JSON text as a model wrote it, or a dict. Raises RolloutFault only where the tool itself ran
        past a bound that depends on the machine."""
        if self._closed:
            raise RuntimeError("the environment is closed")
        clock.freeze(self._program.clock_ms)
        self._budget.reset()
        try:
            compiled = self._find(actor, tool)
            bindings = bind(compiled, parse(arguments))
            if compiled.is_write:
                return self._write(compiled, bindings)
            self._require(compiled, bindings)
            return CallResult(Outcome.OK, self._content(compiled, bindings))
        except Invalid as error:
            return _error(Outcome.INVALID_CALL, str(error))
        except (_Refused, functions.BadValue) as error:
            return _error(Outcome.REFUSED, str(error))
        except UnicodeDecodeError:
            return _error(Outcome.REFUSED, "The request could not be carried out: a text is not valid Unicode.")
        except _OF_THE_CALL as error:
            self._budget.raise_if_not_deterministic(tool)
            return _error(Outcome.REFUSED, _TOO_MUCH if self._budget.exceeded else _database_words(error))
        except apsw.NoMemError:
            raise RolloutFault(FaultClass.TOOL_BUG, f"tool {tool} ran out of memory", retryable=False) from None
        finally:
            if self._copy.is_lost:
                self._write_again()

    def mark(self) -> Mark:
        """A point to `rewind` to, any number of times. Marks nest: rewinding to one drops those made after it."""
        self._check_can_go_back()
        self._budget.reset()
        counts, issued = self._ids.mark()
        mark = Mark(len(self._marks), len(self._writes), dict(self._changes), counts, issued)
        self._db.execute(f"SAVEPOINT {mark.savepoint}")
        self._marks.append(mark)
        return mark

    def rewind(self, mark: Mark) -> None:
        """Everything as it stood at the mark: rows, new ids, noted changes."""
        self._check_can_go_back()
        if mark.depth >= len(self._marks) or self._marks[mark.depth] is not mark:
            raise RuntimeError("the mark is another environment's, or was dropped by rewinding past it")
        self._budget.reset()
        self._db.execute(f"ROLLBACK TO {mark.savepoint}")
        del self._marks[mark.depth + 1 :]
        del self._writes[mark.num_writes :]
        self._changes = dict(mark.changes)
        self._ids.rewind((dict(mark.counts), set(mark.issued)))

    def close(self) -> Diff:
        """End the session; the net change of all calls, canonical."""
        diff = self.diff()
        if not self._closed:
            self._closed = True
            self._ids = self._ids.taken_down()
            if self._copy.undo():
                self._shelf.put(self._copy)
            else:
                self._db.close()
            del self._copy, self._db  # they may be another environment's by now
        return diff

    def diff(self) -> Diff:
        return changeset.canonical_diff(self._changes, self._program.tables, self._ids.issued)

    def net_keys(self) -> tuple[str, ...]:
        """`table/key` of every row that now differs from the start."""
        return changeset.changed_keys(self._changes, self._program.tables)

    @property
    def changes(self) -> changeset.Changes:
        """Net, as the database told them; to be looked at only."""
        return self._changes

    @property
    def connection(self) -> apsw.Connection:
        """For conformance and tests that look at the database itself. Writing through it is not recorded; the copy is not used again.
        What is run on it has a call's budget from here on. There are no marks from then on."""
        self._copy.detach()
        self._budget.reset()
        return self._db

    def tables(self) -> dict[str, list[tuple[apsw.SQLiteValue, ...]]]:
        """All rows of all tables as they are now, in order of key."""
        self._budget.reset()
        return {name: rows_of(self._db, table) for name, table in self._program.tables.items()}

    def forbidding(
        self, tool: str, arguments: dict[str, Any], speaker: str | int | None, whoever: bool = False
    ) -> list[str]:
        """Names of the text_only rules that forbid `speaker` this call as things stand now; with `whoever`, of those that forbid it
        whoever speaks. The database would let it happen. Raises `Invalid` where the arguments do not fit the tool's signature."""
        asked = self._program.forbidding.get(tool)
        if not asked:
            return []
        bindings = {**bind(self._program.tools[tool], arguments), SPEAKER: speaker}
        self._budget.reset()
        return list(
            dict.fromkeys(
                rule
                for rule, sql in asked
                if not (whoever and f":{SPEAKER}" in sql) and self._db.execute(sql, bindings).fetchone() is not None
            )
        )

    def look(self, sql: str, bindings: dict[str, Any]) -> list[dict[str, Any]]:
        """Rows of a vetted query on the world as it is now. It sees what no agent sees, and changes nothing."""
        self._budget.reset()
        cursor = self._db.execute(sql, bindings)
        names: list[str] = []
        found: list[dict[str, Any]] = []
        for row in cursor:
            names = names or [column[0] for column in cursor.description]  # known only while there are rows
            found.append(dict(zip(names, row, strict=True)))
        return found

    def offences(self) -> list[str]:
        """`invariant: first offending row` of every invariant that does not hold now. Of airline and retail they take 16 and 7 ms; so one
        that reads nothing of what was changed here is answered as in the seeded world, where it is asked once."""
        found = []
        touched = self._touched() if self._copy.in_savepoint else None
        for invariant in self._program.domain.invariants:
            reads = self._program.invariant_reads[invariant.name]
            if touched is None or any(self._is_touched(touched, table, columns) for table, columns in reads.items()):
                offence = self._offence(invariant.sql)
            else:
                known = self._shelf.seeded_offences
                if invariant.name not in known:
                    known[invariant.name] = self._offence(invariant.sql)
                offence = known[invariant.name]
            if offence is not None:
                found.append(f"{invariant.name}: {offence}")
        return found

    def _offence(self, sql: str) -> str | None:
        self._budget.reset()
        try:
            row = self._db.execute(sql).fetchone()
        except apsw.InterruptError:
            return "takes too long"
        return None if row is None else ", ".join(str(value) for value in row)

    def _touched(self) -> dict[str, set[str] | None]:
        """Table -> the columns that were changed; None where rows came or went."""
        touched: dict[str, set[str] | None] = {}
        for (name, _), (old, new) in self._changes.items():
            columns = touched.setdefault(name, set())
            if old is None or new is None:
                touched[name] = None
            elif columns is not None:
                columns |= {
                    column
                    for column, one, other in zip(self._program.tables[name].columns, old, new, strict=True)
                    if one != other
                }
        return touched

    def _is_touched(self, touched: dict[str, set[str] | None], table: str, columns: frozenset[str]) -> bool:
        """A column that is not stored as it was written (a generated one, the row's number) may hang on any other."""
        if table not in touched:
            return False
        changed = touched[table]
        return changed is None or bool(columns & changed) or not columns <= set(self._program.tables[table].columns)

    @property
    def issued(self) -> frozenset[tuple[str, Any]]:
        return frozenset(self._ids.issued)

    @property
    def id_counts(self) -> dict[str, int]:
        """How many ids each table has given out: all there is to an environment beside its rows."""
        return self._ids.counts

    def _find(self, actor: str, tool: str) -> CompiledTool:
        compiled = self._program.tools.get(tool)
        if compiled is None or compiled.tool.actor != actor:
            names = ", ".join(t.name for t in self._program.domain.tools_for(actor))
            raise Invalid(f"There is no tool {tool[:64]!r}. Tools: {names or 'none'}.")
        return compiled

    def _write(self, compiled: CompiledTool, bindings: dict[str, Any]) -> CallResult:
        with self._transaction():
            self._require(compiled, bindings)
            self._copy.log.clear()
            for statement in compiled.tool.do:
                self._db.execute(statement, bindings)
            changes = self._copy.log.take()
            if not changes:
                words = "what you asked for is already so, or there is nothing to change"
                raise _Refused(f"{compiled.tool.name} changed nothing: {words}.")
            if len(changes) > MAX_CHANGED_ROWS:
                raise _Refused(f"More than {MAX_CHANGED_ROWS} rows would change; narrow the request.")
            keys = changeset.changed_keys(changes, self._program.tables)
            content = self._content(compiled, bindings)  # what cannot be told is not done
        changeset.join(self._changes, changes)
        self._writes.append((compiled, bindings))
        return CallResult(Outcome.OK, content, keys)

    def _check_can_go_back(self) -> None:
        if self._closed:
            raise RuntimeError("the environment is closed")
        if not self._copy.in_savepoint:
            raise RuntimeError("the environment's connection was handed out: it cannot go back")

    def _write_again(self) -> None:
        """SQLite rolled back the calls before the one that failed, too: what they wrote is written again, in the same order, and the
        marks are set where they stood between them."""
        self._copy.begin()
        self._ids.reset()
        num_done = 0
        for mark in self._marks:
            self._do_again(self._writes[num_done : mark.num_writes])
            self._db.execute(f"SAVEPOINT {mark.savepoint}")
            num_done = mark.num_writes
        self._do_again(self._writes[num_done:])

    def _do_again(self, writes: Sequence[tuple[CompiledTool, dict[str, Any]]]) -> None:
        for compiled, bindings in writes:
            self._budget.reset()
            for statement in compiled.tool.do:
                self._db.execute(statement, bindings)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        mark = self._ids.mark()
        self._db.execute("SAVEPOINT call")
        try:
            yield
            if self._db.status(apsw.SQLITE_DBSTATUS_DEFERRED_FKS)[0]:  # RELEASE asks only where it ends the transaction
                raise _Refused(_DANGLING)
            self._db.execute("RELEASE call")
        except BaseException:
            self._ids.rewind(mark)
            self._budget.rearm()
            if self._db.in_transaction:
                self._db.execute("ROLLBACK TO call; RELEASE call")
            raise

    def _require(self, compiled: CompiledTool, bindings: dict[str, Any]) -> None:
        for requirement in compiled.tool.require:
            if self._db.execute(requirement.sql, bindings).fetchone() is None:
                raise _Refused(fill_words(requirement.otherwise, bindings))

    def _content(self, compiled: CompiledTool, bindings: dict[str, Any]) -> str:
        """What the agent reads of an ok call."""
        tool = compiled.tool
        if tool.returns is None:
            return '{"done":true}'
        cursor = self._db.execute(tool.returns, bindings)
        rows: list[dict[str, Any]] = []
        names: tuple[str, ...] = ()
        num_chars = 0
        for row in cursor:
            if len(rows) == MAX_ROWS:
                raise _Refused(f"More than {MAX_ROWS} results; narrow the request.")
            names = names or tuple(column[0] for column in cursor.description)
            shown = dict(zip(names, row, strict=True))
            for name, value in shown.items():
                if isinstance(value, str):
                    num_chars += len(value)
                    if name in tool.nested:
                        shown[name] = _parsed(value)
                elif isinstance(value, bytes):
                    num_chars += len(value)
                    shown[name] = value.hex()
            if num_chars > MAX_RESULT_CHARS:
                raise _Refused("The result is too long; narrow the request.")
            rows.append(shown)
        try:
            return orjson.dumps((rows[0] if rows else None) if tool.one else rows).decode()
        except TypeError:  # JSON nested deeper than can be written
            raise _Refused("The result is nested too deeply to be shown.") from None


def _parsed(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise _Refused("The result holds a text that is not valid JSON.") from None


def _error(outcome: Outcome, words: str) -> CallResult:
    return CallResult(outcome, orjson.dumps({"error": words}).decode())


# What a call's own values and rows can bring about. Any other error of the database is our bug, and stays loud.
_OF_THE_CALL = (apsw.ConstraintError, apsw.InterruptError, apsw.TooBigError, apsw.SQLError, apsw.MismatchError)


_DANGLING = "Something the request refers to does not exist, or something else still refers to it."
_TOO_MUCH = "The request needs more work than one call may do; narrow it."


def _database_words(error: apsw.Error) -> str:
    """The database's own refusal in words for an agent. A trigger's words come as they are."""
    words = str(error)
    if isinstance(error, apsw.ConstraintError):
        if getattr(error, "extendedresult", 0) == apsw.SQLITE_CONSTRAINT_TRIGGER:
            return words
        for start, plain in _CONSTRAINTS:
            if words.startswith(start):
                return plain + words[len(start) :].strip() + "."
        return words
    if isinstance(error, apsw.TooBigError):
        return "A text is too long."
    return f"The request could not be carried out: {words}."


_CONSTRAINTS = (
    ("UNIQUE constraint failed:", "There is already one with the same "),
    ("FOREIGN KEY constraint failed", _DANGLING.removesuffix(".")),
    ("CHECK constraint failed:", "Not allowed: "),
    ("NOT NULL constraint failed:", "A value is missing: "),
    ("cannot store", "A value has the wrong type: cannot store "),
)
