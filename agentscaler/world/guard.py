"""What SQL may do: the only place that decides it.

Tool programs and schemas are data that a model may have written. Every statement is prepared once against the domain's schema and
its compiled actions are checked here; only statements that passed ever run. Runaways are stopped by a budget of VDBE steps
(deterministic: the call is refused) and by a wall clock and a memory bound behind it (not deterministic: a fault, never data).

Not allowed, and why: `LIKE`, `GLOB`, `instr`, `replace` take time that grows with the product of their arguments inside one step,
out of the progress handler's reach (`instr` over 2 MB ran 22 s); `contains(text, part)` is linear. `random()` is no world's.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

import apsw
import apsw.ext

from agentscaler.errors import DomainError, FaultClass, RolloutFault

FUNCTIONS = frozenset(
    """abs avg ceil ceiling coalesce concat concat_ws count date datetime floor format group_concat hex ifnull iif json json_array
    json_array_length json_each json_extract json_group_array json_group_object json_insert json_object json_quote json_remove
    json_replace json_set json_tree json_type json_valid julianday length lower ltrim max min mod nullif printf round row_number rank
    dense_rank lag lead first_value last_value rtrim sign strftime string_agg substr substring sum time timediff total trim typeof
    unicode unixepoch upper -> ->> now new_id contains canonical_json""".split()
)
RECIPE_FUNCTIONS = FUNCTIONS | {"item", "pick", "rand_int"}
TABLE_FUNCTIONS = frozenset({"json_each", "json_tree"})

MAX_VALUE_BYTES = 64 * 1024
MAX_STEPS = 5_000_000
MAX_WALL_S = 0.8
MAX_MEMORY_BYTES = 64 * 1024 * 1024
STEPS_PER_CHECK = 1000

_PLAIN = {apsw.SQLITE_SELECT, apsw.SQLITE_RECURSIVE}
_WRITES = {apsw.SQLITE_INSERT: "insert", apsw.SQLITE_UPDATE: "update", apsw.SQLITE_DELETE: "delete"}
_SCHEMA_MAKING = {
    apsw.SQLITE_CREATE_TABLE,
    apsw.SQLITE_CREATE_INDEX,
    apsw.SQLITE_CREATE_TRIGGER,
    apsw.SQLITE_CREATE_VIEW,
    apsw.SQLITE_REINDEX,
}
_STRING_OR_COMMENT = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)
_ESCAPES = (
    (re.compile(r"\bOR\s+(ROLLBACK|IGNORE|FAIL)\b", re.I), "OR {0} ends or swallows the call's transaction"),
    (re.compile(r"\bRAISE\s*\(\s*(ROLLBACK|IGNORE|FAIL)\b", re.I), "RAISE({0}) is not allowed; use RAISE(ABORT, 'words')"),
    (re.compile(r"\bON\s+CONFLICT\s+(ROLLBACK|IGNORE|FAIL)\b", re.I), "ON CONFLICT {0} swallows errors"),
)


@dataclass(frozen=True, slots=True)
class Effects:
    """What a statement touches, as SQLite compiled it: pairs of table and column, triggers and cascades included."""

    readonly: bool
    reads: frozenset[tuple[str, str]]
    writes: frozenset[tuple[str, str]]


def check_text(sql: str, where: str) -> None:
    """Refuse conflict clauses that SQLite's authorizer does not show."""
    bare = _STRING_OR_COMMENT.sub(" ", sql)
    for pattern, words in _ESCAPES:
        if match := pattern.search(bare):
            raise DomainError(f"{where}: {words.format(match.group(1).upper())}")


def vet(db: apsw.Connection, sql: str, parameters: set[str], where: str) -> Effects:
    """Prepare (never run) one statement against the domain's schema; return its effects or raise DomainError."""
    check_text(sql, where)
    try:
        info = apsw.ext.query_info(db, sql, actions=True)
    except (apsw.Error, ValueError, TypeError) as error:
        raise DomainError(f"{where}: {error}") from None
    if info.query_remaining and _STRING_OR_COMMENT.sub(" ", info.query_remaining).strip(" \t\r\n;"):
        raise DomainError(f"{where}: one statement only")
    if info.is_explain or not info.has_vdbe:
        raise DomainError(f"{where}: not a query or a write")
    names = {name for name in info.bindings_names if name}
    if len(names) != info.bindings_count or (unknown := names - parameters):
        raise DomainError(f"{where}: binds {sorted(unknown) if len(names) == info.bindings_count else 'unnamed values'}, no parameter of the tool")
    tables = {row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')")} | TABLE_FUNCTIONS
    reads, writes = set(), set()
    for action in info.actions or ():
        code = action.action
        if code in _PLAIN:
            continue
        if code == apsw.SQLITE_FUNCTION:
            if (action.function_name or "").lower() not in FUNCTIONS:
                raise DomainError(f"{where}: function {action.function_name} is not allowed")
        elif code == apsw.SQLITE_READ:
            if action.table_name and action.table_name not in tables:
                raise DomainError(f"{where}: reads {action.table_name}, no table of the domain")
            reads.add((action.table_name or "", action.column_name or ""))
        elif code in _WRITES:
            if action.table_name not in tables:
                raise DomainError(f"{where}: writes {action.table_name}, no table of the domain")
            writes.add((action.table_name, action.column_name or "*"))
        else:
            raise DomainError(f"{where}: {apsw.mapping_authorizer_function[code]} is not allowed in a tool")
    return Effects(info.is_readonly, frozenset(reads), frozenset(writes))


def schema_authorizer(code: int, one: str | None, two: str | None, database: str | None, trigger: str | None) -> int:
    """For building an image: tables, indexes, triggers, views and rows; never ATTACH, PRAGMA, temp objects, virtual tables."""
    if database == "temp":
        return apsw.SQLITE_DENY
    if code == apsw.SQLITE_FUNCTION:
        return apsw.SQLITE_OK if (two or "").lower() in RECIPE_FUNCTIONS else apsw.SQLITE_DENY
    if code in _PLAIN or code in _WRITES or code in _SCHEMA_MAKING or code == apsw.SQLITE_READ:
        return apsw.SQLITE_OK
    return apsw.SQLITE_DENY


class Budget:
    """What one call may use. SQLite asks `tick` every `STEPS_PER_CHECK` steps; a true answer interrupts the statement."""

    __slots__ = ("_deadline", "_max_steps", "_memory", "_steps", "_wall_s", "exceeded")

    def __init__(self, steps: int = MAX_STEPS, wall_s: float = MAX_WALL_S) -> None:
        self._max_steps = steps
        self._wall_s = wall_s
        self.reset()

    def reset(self) -> None:
        self._steps = 0
        self._deadline = 0.0
        self._memory = 0
        self.exceeded = ""

    def rearm(self) -> None:
        """Fresh steps for the rollback; what was exceeded stays known."""
        self._steps = 0

    def tick(self) -> bool:
        if self._steps == 0:  # the first check is the reference: short calls never reach it
            self._deadline = time.monotonic() + self._wall_s
            self._memory = apsw.memory_used() + MAX_MEMORY_BYTES
        self._steps += STEPS_PER_CHECK
        if self._steps >= self._max_steps:
            self.exceeded = "steps"
        elif time.monotonic() > self._deadline:
            self.exceeded = "wall clock"
        elif apsw.memory_used() > self._memory:
            self.exceeded = "memory"
        else:
            return False
        return True

    def raise_if_not_deterministic(self, tool: str) -> None:
        """Wall clock and memory depend on the machine: such a rollout is a fault, not a refusal."""
        if self.exceeded in ("wall clock", "memory"):
            raise RolloutFault(FaultClass.TOOL_BUG, f"tool {tool} ran past its {self.exceeded} bound", retryable=False)


def harden(db: apsw.Connection) -> None:
    """Settings that every connection to a world has, asserted. To be called outside a transaction, after deserialize."""
    db.limit(apsw.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    db.limit(apsw.SQLITE_LIMIT_TRIGGER_DEPTH, 20)
    for setting, value in _SETTINGS:
        if db.config(setting, value) != value:
            raise RuntimeError(f"SQLite did not take setting {setting}={value}")
    db.pragma("recursive_triggers", 1)
    if db.pragma("recursive_triggers") != 1:
        raise RuntimeError("SQLite did not turn recursive triggers on")


_SETTINGS = (
    (apsw.SQLITE_DBCONFIG_ENABLE_FKEY, 1),
    (apsw.SQLITE_DBCONFIG_DEFENSIVE, 1),
    (apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0),
    (apsw.SQLITE_DBCONFIG_DQS_DML, 0),
    (apsw.SQLITE_DBCONFIG_DQS_DDL, 0),
    (apsw.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0),
)
