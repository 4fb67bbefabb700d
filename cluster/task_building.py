"""Tasks by the number: what is to be made, made in units of one world each, and what of it is kept.

Units come in rounds. After each, what is faultless is counted; a domain that has too little gets more worlds, until it gives hardly
anything new, and then the others make up for it. So what is made depends on the configuration alone: not on the cluster, on who is
quick, or on how often the job was interrupted.

An output holds `units/`, one file each, written whole; the job goes on with those that are missing. `prepare` raises ConfigError for
every wrong input that it can find, and writes nothing.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import Field, field_validator

from agentscaler.domain.store import load_domain, read_domains, shipped_domains, write_domains
from agentscaler.errors import ConfigError
from agentscaler.shards import schema
from agentscaler.shards.files import read_table, write_task_rows
from agentscaler.shards.storage import AnyPath, list_files, probe, words_of, write_bytes_atomic, write_text
from agentscaler.tasks.dials import Dials
from agentscaler.tasks.load import DOMAINS_FILE
from agentscaler.tasks.plain_speech import derive_speech
from agentscaler.tasks.selection import Drop, Sketch, Split, choose, share_out, sift, split_of
from agentscaler.tasks.speech import SPEECH_FILE, check_speech, load_speech
from agentscaler.tasks.task import Task
from agentscaler.tasks.units import Unit, UnitOrder, read_unit, unit_file
from agentscaler.world.program import compile_domain
from cluster.authoring import Authored, AuthorSpec, reworded
from cluster.config import ClusterConfig, TrackingConfig, _Frozen, flatten
from cluster.plan import CONFIG_FILE, TASKS_FILE, check_folder
from cluster.unit_makers import MakeAll

log = logging.getLogger(__name__)
UNITS = "units"
FEWEST_A_WORLD = 40  # tasks: a world costs something before it gives its first, and few would hold no rare kind
SPENT = 0.05  # of what a round asked for: a domain that gives less that is new has no more
WORLDS_TRIED = 5  # times as many as a domain would need if all came off
MORE = 1.2  # a further round asks for a little more than is missing


class BuildTasksConfig(_Frozen):
    """`domains`: shipped, a folder of domain folders, or names of shipped ones. `held_out`: a share of all domain names, or names."""

    domains: str | tuple[str, ...] = "shipped"
    count: int = Field(default=3000, ge=1)
    seed: int = 0
    dials: Dials = Dials()
    held_out: float | tuple[str, ...] = 0.0
    worlds_a_domain: int = Field(default=8, ge=1)
    max_tasks_a_world: int = Field(default=200, ge=1)
    surplus: float = Field(default=1.3, ge=1, le=10)
    author: AuthorSpec = AuthorSpec()
    cluster: ClusterConfig = ClusterConfig()
    tracking: TrackingConfig = TrackingConfig()
    output: str | None = None
    output_root: str | None = None

    @field_validator("held_out")
    @classmethod
    def _is_a_share(cls, value: float | tuple[str, ...]) -> float | tuple[str, ...]:
        if isinstance(value, float) and not 0 <= value <= 1:
            raise ValueError("a share lies between 0 and 1")
        return value

    def shape(self) -> dict[str, Any]:
        """What shapes the tasks, by dotted key. Where the domains lie does not: each is compared by itself."""
        apart = {"cluster", "tracking", "output", "output_root", "domains", "author"}
        return flatten({**self.model_dump(mode="json", exclude=apart), "author": self.author.shape()})


@dataclass(frozen=True)
class BuildPlan:
    config: BuildTasksConfig
    output: AnyPath
    config_text: str
    orders: Mapping[str, UnitOrder]  # by domain
    num_worlds: int  # of a domain, to begin with


@dataclass(frozen=True, slots=True)
class Progress:
    """`made` and `kinds` are tasks before selection, those of an earlier run included; `…_now` without them."""

    units: int
    units_now: int
    planned_units: int
    made: int
    made_now: int
    kinds: Counter[str]


OnTick = Callable[[Progress, float], None]


@dataclass
class DomainYield:
    """What the worlds of one domain have given, in their order; `faults` of all tasks, a row after the other."""

    order: UnitOrder
    units: list[Unit] = field(default_factory=list)
    faults: list[Drop | None] = field(default_factory=list)
    is_spent: bool = False

    @property
    def sketches(self) -> list[Sketch]:
        return [sketch for unit in self.units for sketch in unit.sketches]

    @property
    def usable(self) -> int:
        return self.faults.count(None)

    def add(self, units: list[Unit]) -> None:
        before = self.usable
        self.units += units
        self.faults = sift(self.sketches)
        self.is_spent = self.usable - before < SPENT * self.order.number * len(units)


@dataclass(frozen=True)
class Built:
    """`chosen`: places among a domain's tasks, those with faults counted."""

    yields: Mapping[str, DomainYield]
    chosen: Mapping[str, list[int]]
    made_now: int
    seconds: float
    authored: Authored | None = None


def prepare(config: BuildTasksConfig, output: AnyPath, config_text: str) -> BuildPlan:
    places = _domain_places(config.domains)
    wanted = math.ceil(-(-config.count // len(places)) * config.surplus)
    num_worlds = max(min(config.worlds_a_domain, -(-wanted // FEWEST_A_WORLD)), -(-wanted // config.max_tasks_a_world))
    orders: dict[str, UnitOrder] = {}
    for name, path in places:
        split = split_of(load_domain(name, path).name, config.held_out)
        order = order_of(name, path, config.dials, config.seed, -(-wanted // num_worlds), split)
        if order.domain.name in orders:
            raise ConfigError(f"domains={name}: a second domain of the name {order.domain.name}")
        orders[order.domain.name] = order
    if isinstance(config.held_out, tuple) and (unknown := sorted(set(config.held_out) - set(orders))):
        raise ConfigError(f"held_out={unknown[0]}: is none of the domains ({', '.join(orders)})")
    plan = BuildPlan(config, output, config_text, orders, num_worlds)
    _check_output(plan)
    return plan


def order_of(name: str, path: str | None, dials: Dials, seed: int, number: int, split: Split) -> UnitOrder:
    """`name` is shipped, or a folder in the store `path`. ConfigError where no task could be made of it."""
    domain, written = load_domain(name, path), load_speech(name, path)
    if not any(tool.do for tool in domain.tools_for("agent")):
        raise ConfigError(f"domains={name}: has no tool that writes: there is nothing that a task could be about")
    if written is not None:
        check_speech(domain, written, f"domains={name}: {SPEECH_FILE}")
    speech = written or derive_speech(compile_domain(domain))
    return UnitOrder(domain, speech, dials, seed, number, split)


def _domain_places(domains: str | tuple[str, ...]) -> list[tuple[str, str | None]]:
    """Name and store of each."""
    if domains == "shipped":
        return [(name, None) for name in shipped_domains()]
    if isinstance(domains, tuple):
        if not domains:
            raise ConfigError("domains: names none")
        return [(name, None) for name in domains]
    if domains in shipped_domains():
        return [(domains, None)]
    folder = Path(domains)
    if (folder / "domain.yaml").is_file():
        return [(folder.absolute().name, str(folder.absolute().parent))]
    found = sorted(file.parent.name for file in folder.glob("*/domain.yaml"))
    if not found:
        shipped = ", ".join(shipped_domains())
        raise ConfigError(
            f"domains={domains}: neither shipped nor a folder of domain folders (shipped ones: {shipped})"
        )
    return [(name, str(folder)) for name in found]


def _check_output(plan: BuildPlan) -> None:
    output = plan.output
    check_folder(output, lambda before: BuildTasksConfig.model_validate(before).shape(), plan.config.shape())
    if (output / DOMAINS_FILE).is_file():
        there = set(read_domains(output / DOMAINS_FILE))
        if there != {order.domain.fingerprint for order in plan.orders.values()}:
            raise ConfigError(
                f"output={output}: holds tasks of other domains, or one has changed since: choose another output"
            )


def open_output(plan: BuildPlan) -> None:
    try:
        plan.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"output={plan.output}: cannot be written: {words_of(error)}") from None
    probe(plan.output)
    write_text(plan.output / CONFIG_FILE, plan.config_text)
    write_domains([order.domain for order in plan.orders.values()], plan.output / DOMAINS_FILE)


def build(plan: BuildPlan, make_all: MakeAll, on_tick: OnTick) -> Built:
    """All rounds, then the choice; writes the units that are missing."""
    building = _Building(plan, make_all, on_tick)
    wanted = dict.fromkeys(plan.orders, plan.num_worlds)
    while wanted:
        building.make(wanted)
        wanted = building.missing_worlds()
    pools, places = {}, {}
    for name, one in building.yields.items():
        places[name] = [place for place, fault in enumerate(one.faults) if fault is None]
        sketches = one.sketches
        pools[name] = [sketches[place] for place in places[name]]
    chosen = choose(pools, plan.config.count, plan.config.dials.shares, plan.config.seed)
    chosen = {name: [places[name][number] for number in numbers] for name, numbers in chosen.items()}
    return Built(building.yields, chosen, building.made_now, time.monotonic() - building.begun)


def chosen_tasks(plan: BuildPlan, built: Built) -> Iterator[Task]:
    """Read unit by unit."""
    for table in _chosen_rows(plan, built):
        for row in table.to_pylist():
            task = schema.task_from_row(row, str(plan.output / UNITS))
            assert isinstance(task, Task)
            yield task


def write_chosen(plan: BuildPlan, built: Built) -> None:
    """tasks.parquet: the chosen ones, in a model's words where those were kept."""
    intents = built.authored.intents if built.authored else {}
    write_task_rows(plan.output / TASKS_FILE, (_worded(table, intents) for table in _chosen_rows(plan, built)))


def _worded(table: pa.Table, intents: Mapping[str, str]) -> pa.Table:
    digests = table["task_digest"].to_pylist()
    if not any(digest in intents for digest in digests):
        return table
    rows = table.to_pylist()
    for place, digest in enumerate(digests):
        if digest in intents:
            task = schema.task_from_row(rows[place], "units")
            assert isinstance(task, Task)
            rows[place] = schema.task_row(reworded(task, intents[digest]), rows[place]["split"])
    return pa.Table.from_pylist(rows, schema.TASKS)


class _Building:
    def __init__(self, plan: BuildPlan, make_all: MakeAll, on_tick: OnTick):
        self.yields = {name: DomainYield(order) for name, order in plan.orders.items()}
        self.begun = time.monotonic()
        self.made_now = self.units_now = 0
        self._plan, self._make_all, self._on_tick = plan, make_all, on_tick
        self._units = self._planned = self._made = 0
        self._kinds = Counter[str]()
        self._there = set(list_files(plan.output / UNITS))

    def make(self, wanted: Mapping[str, int]) -> None:
        """So many more worlds of each domain. They are added in the order of their seeds, whoever is ready first."""
        seeds = {
            name: range(len(self.yields[name].units) + 1, len(self.yields[name].units) + number + 1)
            for name, number in wanted.items()
        }
        turns = zip_longest(*([(name, seed) for seed in row] for name, row in seeds.items()))
        jobs = [job for turn in turns for job in turn if job is not None]  # the domains by turns: some are slow
        self._planned += len(jobs)
        found: dict[tuple[str, int], Unit] = {}
        missing = []
        for name, seed in jobs:
            if (file := unit_file(name, seed)) in self._there:
                found[name, seed] = read_unit(self._plan.output / UNITS / file, self._plan.orders[name], seed)
                self._count(found[name, seed], is_new=False)
            else:
                missing.append((name, seed))
        for (name, seed), unit in self._make_all(missing):
            assert unit.data is not None
            write_bytes_atomic(self._plan.output / UNITS / unit_file(name, seed), unit.data)
            found[name, seed] = Unit(unit.record, unit.sketches)
            self._count(unit, is_new=True)
        for name, row in seeds.items():
            self.yields[name].add([found[name, seed] for seed in row])

    def missing_worlds(self) -> dict[str, int]:
        """How many more each domain should get. What a spent one does not have, the others make."""
        count, config = self._plan.config.count, self._plan.config
        while True:
            room = {name: one.usable if one.is_spent else count for name, one in self.yields.items()}
            targets = share_out(count, dict.fromkeys(room, 1.0), room)
            wanted: dict[str, int] = {}
            given_up = False
            for name, one in self.yields.items():
                lacking = targets[name] - one.usable
                if one.is_spent or lacking <= 0:
                    continue
                most = WORLDS_TRIED * math.ceil(targets[name] * config.surplus / one.order.number) - len(one.units)
                if most <= 0:
                    one.is_spent = given_up = True
                    continue
                wanted[name] = min(most, math.ceil(MORE * lacking * len(one.units) / one.usable))
            if not given_up:
                return wanted

    def _count(self, unit: Unit, is_new: bool) -> None:
        self._units += 1
        self._made += len(unit.sketches)
        self.units_now += is_new
        self.made_now += len(unit.sketches) if is_new else 0
        self._kinds.update(sketch.kind.value for sketch in unit.sketches)
        if unit.record.broken is not None:
            log.warning("world seed %d: %s: no task is made of it", unit.record.world_seed, unit.record.broken)
        progress = Progress(self._units, self.units_now, self._planned, self._made, self.made_now, self._kinds)
        self._on_tick(progress, time.monotonic() - self.begun)


def _chosen_rows(plan: BuildPlan, built: Built) -> Iterator[pa.Table]:
    for name, one in built.yields.items():
        chosen, first = set(built.chosen[name]), 0
        for unit in one.units:
            rows = [row for row in range(len(unit.sketches)) if first + row in chosen]
            first += len(unit.sketches)
            if rows:
                file = unit_file(name, unit.record.world_seed)
                yield read_table(plan.output / UNITS / file, schema.TASKS).take(rows)
