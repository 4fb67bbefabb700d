"""One live session on a world: call tools, then close and get the canonical diff.

Invariants: single use; no wall clock, no uuid, no network. A call is one transaction: `refused` and `invalid_call` change nothing,
not even the counter of new ids. A write that leaves every row as it was is a refusal. What a call answers depends on the world and
the calls before it, on nothing else.

Not thread-safe; one environment belongs to one conversation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import apsw
import jsonschema_rs
import orjson

from agentscaler.canonical import canonical_json
from agentscaler.domain.domain import fill_words
from agentscaler.errors import FaultClass, RolloutFault
from agentscaler.messages import Outcome
from agentscaler.world import changeset, clock, functions, guard
from agentscaler.world.changeset import Diff
from agentscaler.world.program import CompiledTool, Program

MAX_ROWS = 200
INTEGER_ID_START = 1_000_000_000


@dataclass(frozen=True, slots=True)
class CallResult:
    """`content` is what the agent reads: JSON text. `changed_keys` are the rows the call changed, as `table/key`."""

    outcome: Outcome
    content: str
    changed_keys: tuple[str, ...] = ()


class _Refused(Exception):
    pass


class _Invalid(Exception):
    pass


class Environment:
    def __init__(self, program: Program, seed: int, image: bytes):
        self._program = program
        self._seed = seed
        self._counts: dict[str, int] = {}
        self._issued: set[tuple[str, Any]] = set()
        self._changesets: list[bytes] = []
        self._budget = guard.Budget()
        clock.freeze(program.clock_ms)
        self._db = db = apsw.Connection(":memory:", vfs=clock.VFS_NAME)
        db.deserialize("main", image)
        guard.harden(db)
        functions.register_pure(db)
        functions.register_world(db, program.domain.clock, self._new_id)
        db.set_progress_handler(self._budget.tick, guard.STEPS_PER_CHECK)

    def call(self, actor: str, tool: str, arguments: str | dict[str, Any]) -> CallResult:
        """Run one call. `arguments` is JSON text as a model wrote it, or a dict. Raises RolloutFault only where the tool itself ran
        past a bound that depends on the machine."""
        clock.freeze(self._program.clock_ms)
        self._budget.reset()
        try:
            compiled = self._find(actor, tool)
            values = _parse(arguments)
            bindings = _bind(compiled, values)
            rows, keys = self._write(compiled, bindings) if compiled.is_write else (self._read(compiled, bindings), ())
        except _Invalid as error:
            return _error(Outcome.INVALID_CALL, str(error))
        except _Refused as error:
            return _error(Outcome.REFUSED, str(error))
        except functions.BadValue as error:
            return _error(Outcome.REFUSED, str(error))
        except apsw.Error as error:
            self._budget.raise_if_not_deterministic(tool)
            if isinstance(error, apsw.NoMemError):
                raise RolloutFault(FaultClass.TOOL_BUG, f"tool {tool} ran out of memory", retryable=False) from None
            return _error(Outcome.REFUSED, _database_words(error))
        if not compiled.tool.returns:
            content = '{"done":true}'
        else:
            content = orjson.dumps((rows[0] if rows else None) if compiled.tool.one else rows).decode()
        return CallResult(Outcome.OK, content, keys)

    def close(self) -> Diff:
        """End the session; the net change of all calls, canonical."""
        diff = self.diff()
        self._db.close()
        return diff

    def diff(self) -> Diff:
        if not self._changesets:
            return {}
        return changeset.canonical_diff(changeset.join(self._changesets), self._program.tables, self._issued)

    def net_keys(self) -> tuple[str, ...]:
        """`table/key` of every row that now differs from the start."""
        return changeset.changed_keys(changeset.join(self._changesets), self._program.tables) if self._changesets else ()

    @property
    def connection(self) -> apsw.Connection:
        """For oracles and tests that look at the tables themselves. Writing through it is not recorded."""
        return self._db

    @property
    def issued(self) -> frozenset[tuple[str, Any]]:
        return frozenset(self._issued)

    def _find(self, actor: str, tool: str) -> CompiledTool:
        compiled = self._program.tools.get(tool)
        if compiled is None or compiled.tool.actor != actor:
            names = ", ".join(t.name for t in self._program.domain.tools_for(actor))
            raise _Invalid(f"There is no tool {tool[:64]!r}. Tools: {names}.")
        return compiled

    def _read(self, compiled: CompiledTool, bindings: dict[str, Any]) -> list[dict[str, Any]]:
        self._require(compiled, bindings)
        return self._returns(compiled, bindings)

    def _write(self, compiled: CompiledTool, bindings: dict[str, Any]) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
        with self._transaction():
            self._require(compiled, bindings)
            session = apsw.Session(self._db, "main")
            try:
                session.attach()
                for statement in compiled.tool.do:
                    self._db.execute(statement, bindings)
                changes = session.changeset()
            finally:
                session.close()
            if not changes:
                raise _Refused(f"{compiled.tool.name} changed nothing: what you asked for is already so, or there is nothing to change.")
            rows = self._returns(compiled, bindings)
        self._changesets.append(changes)
        return rows, changeset.changed_keys(changes, self._program.tables)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        counts, issued = self._counts, self._issued
        self._counts, self._issued = dict(counts), set(issued)
        self._db.execute("SAVEPOINT call")
        try:
            yield
            self._db.execute("RELEASE call")  # deferred foreign keys are checked here
        except BaseException:
            self._counts, self._issued = counts, issued
            self._budget.rearm()
            if self._db.in_transaction:
                self._db.execute("ROLLBACK TO call")
                self._db.execute("RELEASE call")
            raise

    def _require(self, compiled: CompiledTool, bindings: dict[str, Any]) -> None:
        for requirement in compiled.tool.require:
            if self._db.execute(requirement.sql, bindings).fetchone() is None:
                raise _Refused(fill_words(requirement.otherwise, bindings))

    def _returns(self, compiled: CompiledTool, bindings: dict[str, Any]) -> list[dict[str, Any]]:
        if compiled.tool.returns is None:
            return []
        cursor = self._db.execute(compiled.tool.returns, bindings)
        nested = compiled.tool.nested
        rows = []
        for row in cursor:
            if len(rows) == MAX_ROWS:
                raise _Refused(f"More than {MAX_ROWS} results; narrow the request.")
            names = [column[0] for column in cursor.description]
            rows.append({n: _readable(value, n in nested) for n, value in zip(names, row, strict=True)})
        return rows

    def _new_id(self, table: str) -> Any:
        domain = self._program.domain
        if table not in domain.ids:
            raise RolloutFault(FaultClass.TOOL_BUG, f"new_id: table {table} has no ids", retryable=False)
        count = self._counts[table] = self._counts.get(table, 0) + 1
        info = self._program.tables[table]
        assert info.surrogate
        if info.types[info.surrogate].startswith("INT"):
            fresh: Any = INTEGER_ID_START + count
        else:
            fresh = functions.surrogate(self._seed, table, domain.ids[table], count)
        self._issued.add((table, fresh))
        return fresh


def _parse(arguments: str | dict[str, Any]) -> dict[str, Any]:
    if isinstance(arguments, str):
        try:
            arguments = orjson.loads(arguments) if arguments.strip() else {}
        except orjson.JSONDecodeError as error:
            raise _Invalid(f"The arguments are not valid JSON: {error}.") from None
        except UnicodeEncodeError:
            raise _Invalid("The arguments are not valid Unicode text.") from None
    if not isinstance(arguments, dict):
        raise _Invalid("The arguments must be a JSON object.")
    return arguments


def _bind(compiled: CompiledTool, values: dict[str, Any]) -> dict[str, Any]:
    """Validate against the tool's JSON Schema; then every parameter as SQLite takes it, absent ones as NULL."""
    name = compiled.tool.name
    try:
        compiled.validator.validate(values)
    except jsonschema_rs.ValidationError as error:
        where = "".join(f" at {'/'.join(str(p) for p in error.instance_path)}" if error.instance_path else "")
        raise _Invalid(f"Invalid arguments for {name}{where}: {error.message[:300]}.") from None
    except (ValueError, TypeError, RecursionError, UnicodeEncodeError) as error:
        raise _Invalid(f"Invalid arguments for {name}: {str(error)[:200]}.") from None
    bindings: dict[str, Any] = dict.fromkeys(compiled.parameters)
    for key, value in values.items():
        bindings[key] = _storable(name, key, value)
    return bindings


def _storable(tool: str, key: str, value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise _Invalid(f"Invalid arguments for {tool} at {key}: the number is too large.")
        return value
    if isinstance(value, list | dict):
        try:
            value = canonical_json(value)
        except (TypeError, RecursionError, orjson.JSONEncodeError) as error:
            raise _Invalid(f"Invalid arguments for {tool} at {key}: {str(error)[:200]}.") from None
    if isinstance(value, str):
        if "\x00" in value or "\\u0000" in value:
            raise _Invalid(f"Invalid arguments for {tool} at {key}: text must not hold NUL characters.")
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            raise _Invalid(f"Invalid arguments for {tool} at {key}: not valid Unicode text.") from None
        if size > guard.MAX_VALUE_BYTES // 2:
            raise _Invalid(f"Invalid arguments for {tool} at {key}: the text is too long.")
    return value


def _readable(value: Any, nested: bool) -> Any:
    if nested and isinstance(value, str):
        return orjson.loads(value)
    return value.hex() if isinstance(value, bytes) else value


def _error(outcome: Outcome, words: str) -> CallResult:
    return CallResult(outcome, orjson.dumps({"error": words}).decode())


def _database_words(error: apsw.Error) -> str:
    """The database's own refusal in words for an agent. A trigger's words come as they are."""
    words = str(error)
    if isinstance(error, apsw.ConstraintError):
        for start, plain in _CONSTRAINTS:
            if words.startswith(start):
                return plain + words[len(start) :].strip() + "."
        return words
    if isinstance(error, apsw.InterruptError):
        return "The request needs more work than one call may do; narrow it."
    if isinstance(error, apsw.TooBigError):
        return "A text is too long."
    return f"The request could not be carried out: {words}."


_CONSTRAINTS = (
    ("UNIQUE constraint failed:", "There is already one with the same "),
    ("FOREIGN KEY constraint failed", "Something the request refers to does not exist, or something else still refers to it"),
    ("CHECK constraint failed:", "Not allowed: "),
    ("NOT NULL constraint failed:", "A value is missing: "),
    ("cannot store", "A value has the wrong type: cannot store"),
)
