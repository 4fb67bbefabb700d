"""A world's rows and tools, kept for drawing calls that it answers. What is drawn depends on the world and the `Random` alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from random import Random
from typing import Any

import apsw

from agentscaler.domain.domain import Tool
from agentscaler.errors import RolloutFault
from agentscaler.messages import Outcome
from agentscaler.tasks.task import Call
from agentscaler.world import functions
from agentscaler.world.changeset import Diff
from agentscaler.world.drawing import Record, draw_arguments, draw_call, records_of, texts_of
from agentscaler.world.environment import CallResult, Environment
from agentscaler.world.outline import Outliner
from agentscaler.world.program import Table
from agentscaler.world.world import World

NUM_VALID_WRITES, TRIES_A_WRITE = 4, 250
NUM_STRAYS_A_TOOL, STRAY_TRIES = 2, 200
NUM_UNDONE_PAIRS = 12
MAX_WRITES_TO_UNDO = 400
TRIES_AN_UNDO = 15
MAX_VALUES = 200


class Ground:
    """A world's rows and tools, for drawing. Draws of its own depend on the world alone."""

    def __init__(self, world: World):
        self.world = world
        self.tools = world.domain.tools_for("agent")
        self.writes = [tool for tool in self.tools if tool.do]
        self.reads = [tool for tool in self.tools if not tool.do]
        self.texts = texts_of(world)
        self.outliner = Outliner(world.program.tables)
        self._db = apsw.Connection(":memory:")  # to look values up
        functions.register_pure(self._db, lambda steps: None)
        self._db.deserialize("main", world.image)
        self._places: dict[Any, list[tuple[Table, str]]] = {}
        self.compared: Counter[str] = Counter()  # tool.argument -> how often whole tables were compared for it
        self.records = records_of(self._db, world.program.tables, Random(world.seed))

    def draw(self, tool: Tool, random: Random) -> Call:
        """Now and then the least number that is allowed: nought often takes something away."""
        arguments = draw_call(tool, self.records, self.texts, random)
        for name in arguments:
            least = tool.parameters["properties"][name].get("minimum")
            if isinstance(least, int) and random.random() < 0.15:
                arguments[name] = least
        return Call(call=tool.name, arguments=arguments)

    def draw_write(self, random: Random) -> Call:
        """By turns from the world's rows and by the tool's schema alone: in a large world texts from anywhere hardly ever go together."""
        tool = random.choice(self.writes)
        if random.random() < 0.5:
            return self.draw(tool, random)
        return Call(call=tool.name, arguments=draw_arguments(tool.parameters, self.texts, random))

    def other_value(self, value: Any, random: Random) -> Any:
        """What stands in another row where this value stands; None where the world does not hold it."""
        places = self._places_of(value)
        if not places:
            return None
        table, column = random.choice(places)
        query = f'SELECT DISTINCT "{column}" FROM "{table.name}" WHERE "{column}" IS NOT ? LIMIT {MAX_VALUES}'
        rows: list[Any] = self._db.execute(query, (value,)).fetchall()
        found = [row[0] for row in rows if type(row[0]) is type(value)]
        return random.choice(found) if found else None

    def _places_of(self, value: Any) -> list[tuple[Table, str]]:
        if value not in self._places:
            kind = "TEXT" if isinstance(value, str) else "INT"
            self._places[value] = [
                (table, column)
                for table in self.world.program.tables.values()
                for column in table.columns
                if table.types[column].startswith(kind) and column not in table.exempt
                if self._db.execute(f'SELECT 1 FROM "{table.name}" WHERE "{column}" = ?', (value,)).fetchone()
            ]
        return self._places[value]

    @cached_property
    def valid_writes(self) -> dict[tuple[str, str], list[Call]]:
        """(tool, what it does to rows) -> some calls that the seeded world answers ok. Found once by many tries: of some tools one draw
        in a hundred is, and hardly any takes a row away."""
        random = Random(self.world.seed)
        found: dict[tuple[str, str], list[Call]] = {}
        for write, diff in self._answered_ok(
            self.draw(tool, random) for tool in self.writes for _ in range(TRIES_A_WRITE)
        ):
            does = {change["op"] for changes in diff.values() for change in changes}
            same_kind = found.setdefault((write.call, " ".join(sorted(does))), [])
            if len(same_kind) < NUM_VALID_WRITES:
                same_kind.append(write)
        return found

    @cached_property
    def strays(self) -> list[Call]:
        """Some writes that the seeded world answers ok and that change more than exempt columns, a few of a tool. Found once: one draw in
        twenty is such a write."""
        random = Random(self.world.seed)
        found: list[Call] = []
        drawn = (self.draw_write(random) for _ in range(STRAY_TRIES if self.writes else 0))
        for write, diff in self._answered_ok(drawn):
            if diff and sum(one.call == write.call for one in found) < NUM_STRAYS_A_TOOL:
                found.append(write)
        return found

    def _answered_ok(self, calls: Iterable[Call]) -> Iterator[tuple[Call, Diff]]:
        """Those that the seeded world answers ok, and what each by itself changes."""
        with scratch(self.world) as environment:
            start = environment.mark()
            for call in calls:
                if call_in(environment, call).outcome is Outcome.OK:
                    yield call, environment.diff()
                    environment.rewind(start)

    @cached_property
    def undone_pairs(self) -> list[tuple[Call, Call]]:
        """A write and one that takes it back, tried on the seeded world."""
        random = Random(self.world.seed)
        found: list[tuple[Call, Call]] = []
        for _ in range(MAX_WRITES_TO_UNDO if self.writes else 0):
            write = self.draw(random.choice(self.writes), random)
            with scratch(self.world) as environment:
                if call_in(environment, write).outcome is Outcome.OK and environment.diff():
                    undo = self._undo(environment, write, random)
                    found += [(write, undo)] if undo is not None else []
            if len(found) == NUM_UNDONE_PAIRS:
                break
        return found

    def _undo(self, environment: Environment, write: Call, random: Random) -> Call | None:
        """Tries writes whose arguments are the write's own, or what stood in the changed rows before."""
        old: Record = {}
        before: dict[str, Any] = {}  # a value written -> the value that was there
        for table, changes in environment.diff().items():
            for change in changes[:3]:
                row = self._row(table, change["key"])
                old.update(row)
                before.update({str(new): row[column] for column, new in change["columns"].items() if column in row})
        given = [*write.arguments.values(), *old.values()]
        for _ in range(TRIES_AN_UNDO):
            tool = random.choice(self.writes)
            arguments: dict[str, Any] = {}
            for name in tool.parameters["properties"]:
                own = write.arguments.get(name)
                if str(own) in before and random.random() < 0.8:
                    arguments[name] = before[str(own)]
                elif own is not None:
                    arguments[name] = own
                elif name in old:
                    arguments[name] = old[name]
                elif name in tool.parameters.get("required", ()):
                    arguments[name] = random.choice(given) if given else None
            undo = Call(call=tool.name, arguments=arguments)
            if undo != write and call_in(environment, undo).outcome is Outcome.OK:
                return None if environment.diff() else undo
        return None

    def _row(self, table_name: str, key: dict[str, Any]) -> Record:
        """The seeded row; empty where there is none."""
        table = self.world.program.tables[table_name]
        if any(isinstance(value, dict) for value in key.values()):
            return {}  # a new row
        columns = ", ".join(f'"{column}"' for column in table.columns)
        where = " AND ".join(f'"{column}" = ?' for column in key)
        found: Any = self._db.execute(
            f'SELECT {columns} FROM "{table_name}" WHERE {where}', tuple(key.values())
        ).fetchone()
        return dict(zip(table.columns, found, strict=True)) if found else {}


_grounds: dict[tuple[str, int], Ground] = {}


def ground_of(world: World) -> Ground:
    """Kept by world: reading a large one's rows takes a tenth of a second."""
    key = (world.domain.fingerprint, world.seed)
    if key not in _grounds:
        if len(_grounds) >= 64:
            _grounds.clear()
        _grounds[key] = Ground(world)
    return _grounds[key]


def forget_ground(world: World) -> None:
    """For whoever comes back to it no more: that of a large world has 4 MB."""
    _grounds.pop((world.domain.fingerprint, world.seed), None)


@contextmanager
def scratch(world: World) -> Iterator[Environment]:
    environment = world.open()
    try:
        yield environment
    finally:
        environment.close()


def call_in(environment: Environment, call: Call) -> CallResult:
    try:
        return environment.call("agent", call.call, call.arguments)
    except RolloutFault as fault:  # a drawn call that ran past a bound of this machine: not a call to go on with
        return CallResult(Outcome.REFUSED, fault.words)
