"""What the world core costs: open, reads, writes, diff, compare, with arguments as a model writes them, on one core.

The bare side does the same statements with the same values on the same image and nothing else: deserialize, pragmas, our SQL
functions, a session, each statement, the changeset, a comparison of bytes, close. No validation, no transaction a call, no results
in words, no canonical labels. Ours and bare run by turns, so that a busy machine slows both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import apsw
import orjson
from pydantic import BaseModel, ConfigDict, Field

from agentscaler.domain.store import load_domain
from agentscaler.errors import ConfigError, TaskError
from agentscaler.messages import Outcome
from agentscaler.tasks.compile import execute, load_shipped
from agentscaler.world import functions
from agentscaler.world.binding import bind, parse
from agentscaler.world.changeset import Diff
from agentscaler.world.compare import same
from agentscaler.world.world import World
from cluster.config import DomainChoice
from jobs.compose import compose, refuse


class WorldBench(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    domain: DomainChoice
    seed: int
    num_reads: int = Field(ge=0)
    num_writes: int = Field(ge=0)
    rounds: int = Field(ge=1)
    rollouts: int = Field(ge=1)


@dataclass(frozen=True, slots=True)
class Work:
    """Calls with their arguments as JSON text; the statements that they come to, in order; where they end."""

    calls: list[tuple[str, str]]
    statements: list[tuple[str, dict[str, Any]]]
    expected: Diff


def main(arguments: list[str]) -> int:
    config = compose("bench_world", WorldBench, arguments)
    try:
        world = World.of(load_domain(config.domain.name, config.domain.path), config.seed)
        work = choose_work(world, config)
    except ConfigError as error:
        refuse(str(error))
    print(orjson.dumps({"domain": world.domain.name, **measure(world, work, config)}).decode())
    return 0


def choose_work(world: World, config: WorldBench) -> Work:
    """Calls out of the written tasks' references that the world answers ok one after the other; reads of different tools first."""
    program = world.program
    candidates: dict[bool, list[tuple[str, dict[str, Any]]]] = {False: [], True: []}
    for written in load_shipped(config.domain.name, config.domain.path):
        if written.seed != world.seed:
            continue
        for call in execute(world.domain, written).expected_calls:
            candidates[program.tools[call.call].is_write].append((call.call, call.arguments))
    environment = world.open()
    calls: list[tuple[str, str]] = []
    for is_write, wanted in ((False, config.num_reads), (True, config.num_writes)):
        num, tools_used = 0, set[str]()
        for again in (False, True):  # each tool once, then any
            for tool, arguments in candidates[is_write]:
                text = orjson.dumps(arguments).decode()
                if num == wanted or (tool in tools_used) is not again or (tool, text) in calls:
                    continue
                if environment.call("agent", tool, text).outcome is Outcome.OK:
                    calls.append((tool, text))
                    tools_used.add(tool)
                    num += 1
        if num < wanted:
            kind = "num_writes" if is_write else "num_reads"
            raise TaskError(
                f"{kind}={wanted}: the tasks of seed {world.seed} have only {num} such calls that go together"
            )
    expected = environment.close()
    statements = []
    for name, text in calls:
        compiled = program.tools[name]
        bindings = bind(compiled, parse(text))
        tool = compiled.tool
        queries = [*(r.sql for r in tool.require), *tool.do, *([tool.returns] if tool.returns else [])]
        statements += [(sql, bindings) for sql in queries]
    return Work(calls, statements, expected)


def measure(world: World, work: Work, config: WorldBench) -> dict[str, float | int]:
    """Medians over the rounds. `ratio` is time over the bare loop's; `fresh_ratio` the same where no copy is used twice."""
    bare_changes = play_bare(world, work)
    assert bare_changes

    def ours(played: World = world) -> None:
        environment = played.open()
        for name, text in work.calls:
            environment.call("agent", name, text)
        if not same(work.expected, environment.close()):
            raise RuntimeError("a rollout ended otherwise than the first")

    def fresh() -> None:
        ours(World(world.program, world.seed, world.image))

    def bare() -> None:
        if play_bare(world, work) != bare_changes:
            raise RuntimeError("a bare run ended otherwise than the first")

    for warm in (ours, fresh, bare):
        warm()
    times: dict[str, list[float]] = {"ours": [], "fresh": [], "bare": []}
    parts = []
    for _ in range(config.rounds):
        times["ours"].append(seconds_each(ours, config.rollouts))
        times["bare"].append(seconds_each(bare, config.rollouts))
        times["fresh"].append(seconds_each(fresh, max(1, config.rollouts // 5)))
        parts.append(time_parts(world, work))
    ratio = [one / other for one, other in zip(times["ours"], times["bare"], strict=True)]
    fresh_ratio = [one / other for one, other in zip(times["fresh"], times["bare"], strict=True)]
    open_s, calls_s, diff_s = (statistics.median(part[i] for part in parts) for i in range(3))
    return {
        "rollouts_per_s": round(1 / statistics.median(times["ours"]), 1),
        "bare_rollouts_per_s": round(1 / statistics.median(times["bare"]), 1),
        "ratio": round(statistics.median(ratio), 3),
        "fresh_rollouts_per_s": round(1 / statistics.median(times["fresh"]), 1),
        "fresh_ratio": round(statistics.median(fresh_ratio), 3),
        "open_us": round(open_s * 1e6, 1),
        "call_us": round(calls_s / len(work.calls) * 1e6, 1),
        "diff_us": round(diff_s * 1e6, 1),
        "num_calls": len(work.calls),
        "num_statements": len(work.statements),
        "image_bytes": len(world.image),
    }


def seconds_each(run: Callable[[], None], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - start) / times


def time_parts(world: World, work: Work) -> tuple[float, float, float]:
    """Seconds of one rollout: opening, all calls, and the end (canonical diff, comparison, rollback of the copy)."""
    start = time.perf_counter()
    environment = world.open()
    opened = time.perf_counter()
    for name, text in work.calls:
        environment.call("agent", name, text)
    called = time.perf_counter()
    same(work.expected, environment.close())
    return opened - start, called - opened, time.perf_counter() - called


def play_bare(world: World, work: Work) -> bytes:
    """The changeset's bytes."""
    db = apsw.Connection(":memory:")
    db.deserialize("main", world.image)
    db.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)  # else every statement is prepared twice
    db.execute("PRAGMA foreign_keys = 1; PRAGMA recursive_triggers = 1; PRAGMA temp_store = 2")
    functions.register_pure(db, lambda steps: None)
    count = iter(range(1, 1_000_000))
    functions.register_world(
        db, world.domain.clock, lambda table: functions.surrogate(world.seed, table, "", next(count))
    )
    session = apsw.Session(db, "main")
    session.attach()
    for sql, bindings in work.statements:
        db.execute(sql, bindings).fetchall()
    changes = session.changeset()
    session.close()
    db.close()
    return changes
