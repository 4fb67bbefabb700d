"""What SQL may do: the only place that decides it.

Tool programs, schemas and seed recipes are data that a model may have written. Every statement is prepared once against the
domain's schema and its compiled actions are checked here; only statements that passed ever run. Runaways are stopped by a budget of
VDBE steps (deterministic: the call is refused) and by bounds of time and memory behind it (not deterministic: a fault, never data).

Not allowed, and why: `LIKE`, `GLOB`, `instr`, `replace` take time that grows with the product of their arguments inside one step,
out of the progress handler's reach (`instr` over 2 MB ran 22 s); `contains(text, part)` is linear, and so is our `trim`. `random()`
is no world's.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import apsw
import apsw.ext

from agentscaler.errors import DomainError, FaultClass, RolloutFault

_ALLOWED = """
    abs avg ceil ceiling coalesce concat concat_ws count current_date current_time current_timestamp date datetime
    dense_rank first_value floor format group_concat hex if ifnull iif json json_array json_array_length json_each
    json_extract json_group_array json_group_object json_insert json_object json_quote json_remove json_replace
    json_set json_tree json_type json_valid julianday lag last_value lead length lower ltrim max min mod nullif printf
    rank round row_number rtrim sign strftime string_agg substr substring sum time timediff total trim typeof unicode
    unixepoch upper -> ->> now new_id contains canonical_json
"""
FUNCTIONS = frozenset(_ALLOWED.split())
RECIPE_FUNCTIONS = (FUNCTIONS | {"item", "pick", "rand_int"}) - {"new_id"}
READ_FUNCTIONS = FUNCTIONS - {"new_id"}  # a read that took an id would change what later calls get
TABLE_FUNCTIONS = frozenset({"json_each", "json_tree"})

MAX_VALUE_BYTES = 64 * 1024
MAX_STEPS = 2_000_000  # 20 to 100 ms as a rule; the costliest read of notes takes 529
MAX_CPU_S = 0.4
MAX_WALL_S = 10.0
MAX_MEMORY_BYTES = 64 * 1024 * 1024
# Between two checks a statement is out of reach, so the longest step counts. Measured over every allowed function with 64 KiB
# arguments: json_set and json_extract with 30 to 60 paths 4 ms, strftime 0.9 ms, contains 0.5 ms, a JSON parse 0.4 ms, the rest
# below 0.3 ms. So 200 steps are 2 us as a rule; of 68 hostile programs none went over its 0.4 s by more than 0.03 s. Checks every 200
# steps cost a tight loop 30 % (every 1000: 10 %, every 50: 110 %), and a call of `notes` nothing that can be measured.
STEPS_PER_CHECK = 200

_PLAIN = {apsw.SQLITE_SELECT, apsw.SQLITE_RECURSIVE}
_WRITES = {apsw.SQLITE_INSERT: "insert", apsw.SQLITE_UPDATE: "update", apsw.SQLITE_DELETE: "delete"}
_SCHEMA_MAKING = {
    apsw.SQLITE_CREATE_TABLE,
    apsw.SQLITE_CREATE_INDEX,
    apsw.SQLITE_CREATE_TRIGGER,
    apsw.SQLITE_CREATE_VIEW,
    apsw.SQLITE_REINDEX,
}
# Strings, quoted names and comments, as SQLite's tokenizer cuts them. A comment left open runs to the end.
_QUOTED = re.compile(
    r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`(?:[^`]|``)*`|\[[^\]]*\]|--[^\n]*|/\*.*?(?:\*/|\Z)", re.DOTALL
)
_ESCAPES = (
    (re.compile(r"\bOR\s+(ROLLBACK|IGNORE|FAIL)\b", re.I), "OR {0} ends or swallows the call's transaction"),
    (
        re.compile(r"\bRAISE\s*\(\s*(ROLLBACK|IGNORE|FAIL)\b", re.I),
        "RAISE({0}) is not allowed; use RAISE(ABORT, 'words')",
    ),
    (re.compile(r"\bON\s+CONFLICT\s+(ROLLBACK|IGNORE|FAIL)\b", re.I), "ON CONFLICT {0} swallows errors"),
)


@dataclass(frozen=True, slots=True)
class Effects:
    """What a statement touches, as SQLite compiled it: pairs of table and column, triggers included, but not foreign key actions.
    `deletes` are the tables that lose rows."""

    readonly: bool
    reads: frozenset[tuple[str, str]]
    writes: frozenset[tuple[str, str]]
    deletes: frozenset[str]


def bare(sql: str) -> str:
    """The text without strings, quoted names and comments. A byte order mark is white space to SQLite."""
    return _QUOTED.sub(" ", sql).replace("\ufeff", " ")


def masked(sql: str) -> str:
    """As `bare`, every character in its place."""
    return _QUOTED.sub(lambda match: " " * len(match.group()), sql).replace("\ufeff", " ")


def without_comments(sql: str) -> str:
    return _QUOTED.sub(lambda match: " " if match.group().startswith(("--", "/*")) else match.group(), sql)


def check_text(sql: str, where: str) -> None:
    """Refuse conflict clauses that SQLite's authorizer does not show."""
    text = bare(sql)
    for pattern, words in _ESCAPES:
        if match := pattern.search(text):
            raise DomainError(f"{where}: {words.format(match.group(1).upper())}")


def vet_all(db: apsw.Connection, sql: str, where: str, functions: Collection[str]) -> Iterator[Effects]:
    """As `vet`, for a text of one or more statements without parameters."""
    rest: str | None = sql
    while rest and bare(rest).strip(" \t\r\n\f;"):
        effects, rest = _vet(db, rest, frozenset(), where, functions)
        yield effects


def vet(
    db: apsw.Connection, sql: str, parameters: Collection[str], where: str, functions: Collection[str] = FUNCTIONS
) -> Effects:
    """Prepare (never run) one statement against the domain's schema; return its effects or raise DomainError."""
    effects, rest = _vet(db, sql, parameters, where, functions)
    if rest and bare(rest).strip(" \t\r\n\f;"):
        raise DomainError(f"{where}: one statement only")
    return effects


def _vet(
    db: apsw.Connection, sql: str, parameters: Collection[str], where: str, functions: Collection[str]
) -> tuple[Effects, str | None]:
    check_text(sql, where)
    try:
        info = apsw.ext.query_info(db, sql, actions=True)
    except (apsw.Error, ValueError, TypeError) as error:
        raise DomainError(f"{where}: {error}") from None
    if info.is_explain or not info.has_vdbe or (info.is_readonly and not info.description):
        raise DomainError(f"{where}: not a query or a write")
    names = {name for name in info.bindings_names if name}
    if len(names) != info.bindings_count:
        raise DomainError(f"{where}: binds unnamed values, no parameter of the tool")
    if unknown := sorted(name for name in names if name not in parameters or not name.isidentifier()):
        raise DomainError(f"{where}: binds {unknown}, no parameter of the tool")
    tables = {
        name.lower(): name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')")
    }
    modules = {row[0].lower() for row in db.execute("SELECT name FROM pragma_module_list")} - TABLE_FUNCTIONS
    reads, writes, deletes = set(), set(), set()
    for action in info.actions or ():
        code = action.action
        table = action.table_name or ""
        name = table.lower()
        if code in _PLAIN:
            continue
        if code == apsw.SQLITE_FUNCTION:
            if (action.function_name or "").lower() not in functions:
                raise DomainError(f"{where}: function {action.function_name} is not allowed here")
        elif code == apsw.SQLITE_READ:
            # A name that is neither a table's nor a module's is a WITH clause's: reported when no column of it is read.
            if name in modules or name.startswith(("sqlite_", "pragma_")):
                raise DomainError(f"{where}: reads {table}, no table of the domain")
            if name in tables:
                reads.add((tables[name], action.column_name or ""))
        elif code in _WRITES:
            if name not in tables or name.startswith("sqlite_"):
                raise DomainError(f"{where}: writes {table}, no table of the domain")
            writes.add((tables[name], action.column_name or "*"))
            if code == apsw.SQLITE_DELETE:
                deletes.add(tables[name])
        else:
            raise DomainError(f"{where}: {apsw.mapping_authorizer_function[code]} is not allowed here")
    if not info.is_readonly and not writes:
        raise DomainError(f"{where}: not a query or a write")  # VACUUM shows no action at all
    if re.search(r"\breplace\b", bare(sql), re.I):  # the rows that REPLACE takes away are not reported
        deletes |= {table for table, column in writes if column == "*"}
    return Effects(info.is_readonly, frozenset(reads), frozenset(writes), frozenset(deletes)), info.query_remaining


def schema_authorizer(code: int, one: str | None, two: str | None, database: str | None, trigger: str | None) -> int:
    """For running a schema: tables, indexes, triggers, views; never ATTACH, PRAGMA, temp objects, virtual tables."""
    if database == "temp":
        return apsw.SQLITE_DENY
    if code == apsw.SQLITE_FUNCTION:
        return apsw.SQLITE_OK if (two or "").lower() in FUNCTIONS else apsw.SQLITE_DENY
    if code in _PLAIN or code in _WRITES or code in _SCHEMA_MAKING or code == apsw.SQLITE_READ:
        return apsw.SQLITE_OK
    return apsw.SQLITE_DENY


class Budget:
    """What one call may use. SQLite asks `tick` every `STEPS_PER_CHECK` steps; a true answer interrupts the statement. Functions of
    ours that may take long say so with `spend`.

    Time is this thread's processor time: a busy machine makes no fault, nor does one garbage collection. It is first read once the wall
    clock says that the call has taken as long as it may (`thread_time` asks the kernel: 1 us here, 370 us on a virtual machine), and
    counted from then on; so a call may take up to twice its time. A far wall stands behind it."""

    __slots__ = ("_cpu_s", "_deadline", "_max_steps", "_memory", "_start_cpu", "_start_wall", "_steps", "exceeded")

    def __init__(self, steps: int = MAX_STEPS, cpu_s: float = MAX_CPU_S) -> None:
        self._max_steps = steps
        self._cpu_s = cpu_s
        self.reset()

    def reset(self) -> None:
        self.exceeded = ""
        self.rearm()

    def rearm(self) -> None:
        """Fresh steps for the rollback; what was exceeded stays known."""
        self._steps = 0
        self._deadline = 0.0

    def tick(self) -> bool:
        if not self._deadline:  # the first check is the reference: short calls never reach it
            self._start_wall, self._start_cpu = time.monotonic(), None
            self._deadline = self._start_wall + self._cpu_s
            self._memory = apsw.memory_used() + MAX_MEMORY_BYTES
        self._steps += STEPS_PER_CHECK
        if self._steps >= self._max_steps:
            self.exceeded = "steps"
        elif time.monotonic() > self._deadline and self._out_of_time():
            self.exceeded = "time"
        elif apsw.memory_used() > self._memory:
            self.exceeded = "memory"
        else:
            return False
        return True

    def charge(self, steps: int) -> None:
        """Counted; what is too much shows at the next check."""
        self._steps += steps

    def spend(self, steps: int) -> None:
        """Counted, and stopped at once where it is too much."""
        self._steps += steps
        if self._steps >= self._max_steps:
            self.exceeded = "steps"
            raise apsw.InterruptError("interrupted")

    def _out_of_time(self) -> bool:
        now, cpu = time.monotonic(), time.thread_time()
        if self._start_cpu is None:
            self._start_cpu = cpu
        left_s = self._cpu_s - (cpu - self._start_cpu)
        self._deadline = now + max(left_s, 0.01)
        return left_s <= 0 or now - self._start_wall > max(MAX_WALL_S, self._cpu_s)

    def raise_if_not_deterministic(self, tool: str) -> None:
        """Time and memory depend on the machine: such a rollout is a fault, not a refusal."""
        if self.exceeded in ("time", "memory"):
            raise RolloutFault(FaultClass.TOOL_BUG, f"tool {tool} ran past its {self.exceeded} bound", retryable=False)


def harden(db: apsw.Connection) -> None:
    """Settings that every connection to a world has, asserted. To be called outside a transaction, after deserialize."""
    db.limit(apsw.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    db.limit(apsw.SQLITE_LIMIT_TRIGGER_DEPTH, 20)
    for setting, value in _SETTINGS:
        if db.config(setting, value) != value:
            raise RuntimeError(f"SQLite did not take setting {setting}={value}")
    # temp_store 2: sorters and temporary tables stay in memory, under our bound, and never become files.
    taken = db.execute(_PRAGMAS).fetchall()
    if taken != [(1,), (2,)]:
        raise RuntimeError(f"SQLite did not take recursive_triggers and temp_store: {taken}")


def limit_statements(db: apsw.Connection) -> None:
    """Bounds on what a domain's author may write. Only vetting needs them: what passed it once passes again."""
    for limit, value in _STATEMENT_LIMITS:
        db.limit(limit, value)


_SETTINGS = (
    (apsw.SQLITE_DBCONFIG_ENABLE_FKEY, 1),
    (apsw.SQLITE_DBCONFIG_DEFENSIVE, 1),
    (apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0),
    (apsw.SQLITE_DBCONFIG_DQS_DML, 0),
    (apsw.SQLITE_DBCONFIG_DQS_DDL, 0),
    (apsw.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0),
    # Plans must not depend on the values bound. Without this a statement may be prepared again each time that it is bound (apsw is
    # built with STAT4): a look-up through a view of airline took 52 us instead of 2.
    (apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1),
)
_PRAGMAS = "PRAGMA recursive_triggers = 1; PRAGMA temp_store = 2; PRAGMA recursive_triggers; PRAGMA temp_store"
_STATEMENT_LIMITS = (
    (apsw.SQLITE_LIMIT_SQL_LENGTH, 256 * 1024),  # a whole schema is one text
    (apsw.SQLITE_LIMIT_FUNCTION_ARG, 64),
    (apsw.SQLITE_LIMIT_COLUMN, 200),
    (apsw.SQLITE_LIMIT_COMPOUND_SELECT, 100),
    (apsw.SQLITE_LIMIT_EXPR_DEPTH, 200),
    (apsw.SQLITE_LIMIT_VDBE_OP, 100_000),
    (apsw.SQLITE_LIMIT_ATTACHED, 0),
)
