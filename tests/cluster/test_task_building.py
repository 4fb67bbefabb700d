"""The rounds of a job that builds tasks, with a maker of units that stands in for the walks. Promises:

1. Exactly as many tasks as are asked for come out, each split right, whoever made which unit first.
2. A domain that has little gets more worlds until it gives hardly anything new; the others make up for it; where none can, all there is
   comes out, and one line says so.
3. What was made is not made again.
4. On Ray the same comes out; a worker that dies is replaced; what is raised ends the job as it was raised.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from agentscaler.domain.store import SHIPPED, load_domain
from agentscaler.errors import ConfigError, DomainError
from agentscaler.shards.files import read_tasks
from agentscaler.tasks.compile import compile_shipped
from agentscaler.tasks.dials import Dials
from agentscaler.tasks.generate import Made
from agentscaler.tasks.selection import Drop
from agentscaler.tasks.speech import Speech
from agentscaler.tasks.task import Task
from agentscaler.tasks.units import Unit, UnitOrder, pack_unit
from cluster.handles import InProcess, OnRay
from cluster.serving import JobFailed
from cluster.task_building import (
    BuildPlan,
    BuildTasksConfig,
    Built,
    Progress,
    build,
    open_output,
    prepare,
    write_chosen,
)
from cluster.task_building_report import exit_code, summarise
from cluster.unit_makers import Job, makers

NOTES = load_domain("notes")
WRITTEN = [task for task in compile_shipped("notes") if task.num_calls > 1]


def made_of(domain: str, seed: int, number: int) -> list[Task]:
    """Tasks in words of their own, and of worlds of their own."""
    found = []
    for place in range(number):
        task = WRITTEN[place % len(WRITTEN)]
        words = " ".join(f"{domain} {seed} {place} {letter}" for letter in "abcdefg")
        written = task.written.model_copy(update={"id": f"w{seed}_{place}", "seed": seed, "intent": words})
        found.append(
            Task(**{**task.model_dump(), "written": written, "domain": domain})
        )  # a copy would keep the digest
    return found


def unit(order: UnitOrder, seed: int) -> Unit:
    """A domain with `poor` in its name has three tasks a world, and none after the fourth; in one called `same` all worlds are alike."""
    name = order.domain.name
    number = (3 if seed <= 4 else 0) if "poor" in name else order.number
    tasks = made_of(name, 1 if "same" in name else seed, min(number, len(WRITTEN)))
    dropped = Counter({"write: nobody has a case of it": 5})
    world = "one" if "same" in name else f"{name}-{seed}"
    return pack_unit(order, seed, world, Made(tasks, dropped, {"walk": 0.1, "soundness": 0.2}), 0.5)


class Maker:
    """Makes units backwards, and remembers which."""

    def __init__(self, orders: Mapping[str, UnitOrder], stops_after: int = 10_000):
        self.made: list[Job] = []
        self._orders, self._stops_after = orders, stops_after

    def __call__(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Unit]]:
        for job in reversed(jobs):
            if len(self.made) == self._stops_after:
                raise KeyboardInterrupt
            self.made.append(job)
            yield job, unit(self._orders[job[0]], job[1])


def plan_of(output: Path, count: int, *names: str, number: int = 10, worlds: int = 2, held_out: str = "") -> BuildPlan:
    config = BuildTasksConfig(count=count, max_tasks_a_world=number)
    orders = {
        name: UnitOrder(
            NOTES.model_copy(update={"name": name}),
            Speech(),
            Dials(),
            0,
            number,
            "held_out" if name == held_out else "train",
        )
        for name in names
    }
    plan = BuildPlan(config, output, "count: 0\n", orders, worlds)
    open_output(plan)
    return plan


def built(plan: BuildPlan, maker: Maker | None = None) -> Built:
    found = build(plan, maker or Maker(plan.orders), lambda progress, seconds: None)
    write_chosen(plan, found)
    return found


def domains_in(output: Path) -> Counter[str]:
    return Counter(task.domain for task in read_tasks(output / "tasks.parquet"))


def test_exactly_as_many_as_are_asked_for(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, 50, "one", "two", held_out="two")
    summary = summarise(plan, built(plan))
    assert domains_in(tmp_path) == {"one": 25, "two": 25}
    table = pq.read_table(tmp_path / "tasks.parquet")
    assert set(zip(table["domain"].to_pylist(), table["split"].to_pylist(), strict=True)) == {
        ("one", "train"),
        ("two", "held_out"),
    }
    assert (summary["tasks"], summary["asked_for"], summary["made"]) == (50, 50, 60)
    assert summary["by_split"] == {"train": 25, "held_out": 25}
    assert summary["dropped"] == {"nobody has a case of it": 30, Drop.SURPLUS.value: 10}
    assert summary["tasks_per_s"] == 60 / (6 * 0.5)
    assert summary["seconds"] == {"soundness": 1.2, "walk": 0.6}
    assert sum(summary["by_kind"].values()) == sum(summary["lengths"].values()) == 50
    assert sum(row["drawn"] for row in summary["yields"].values()) == 90
    assert summary["yield"] == 0.6667
    assert 0 < summary["tools_touched"] <= summary["tools"] == 24
    assert exit_code(summary) == (0, None)


def test_the_others_make_up_for_a_poor_one(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, 100, "poor", "plenty")
    summary = summarise(plan, built(plan))
    assert domains_in(tmp_path) == {"poor": 12, "plenty": 88}
    assert summary["spent"] == ["poor"] and summary["worlds"]["plenty"] == 10
    assert exit_code(summary) == (0, None)


@pytest.mark.parametrize(("count", "code"), [(13, 3), (12, 0)])
def test_where_there_are_too_few_all_come_out(tmp_path: Path, count: int, code: int) -> None:
    plan = plan_of(tmp_path, count, "poor")
    summary = summarise(plan, built(plan))
    assert summary["tasks"] == 12 and domains_in(tmp_path) == {"poor": 12}
    found, line = exit_code(summary)
    assert found == code
    assert line is None if code == 0 else (line is not None and "12 of 13 tasks" in line and "\n" not in line)


def test_few_too_few_are_no_failure() -> None:
    summary = {"tasks": 96, "asked_for": 100, "by_domain": {"one": 96}, "worlds": {"one": 7}, "dropped": {"why": 3}}
    code, line = exit_code(summary)
    assert code == 0 and line is not None and "96 of 100" in line and "why 3" in line
    assert exit_code({**summary, "tasks": 94})[0] == 3


def test_worlds_that_are_alike_give_nothing_new(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, 100, "same")
    summary = summarise(plan, built(plan))
    assert summary["tasks"] == 10
    assert summary["dropped"]["the same task"] >= 10


def test_what_was_made_is_not_made_again(tmp_path: Path) -> None:
    whole = plan_of(tmp_path / "whole", 100, "poor", "plenty")
    everything = Maker(whole.orders)
    first = built(whole, everything)
    plan = plan_of(tmp_path / "parts", 100, "poor", "plenty")
    made: list[Job] = []
    for stops_after in (1, 0, 3, 2):
        maker = Maker(plan.orders, stops_after)
        with pytest.raises(KeyboardInterrupt):
            built(plan, maker)
        made += maker.made
    maker = Maker(plan.orders)
    last = built(plan, maker)
    made += maker.made
    assert sorted(made) == sorted(everything.made)
    assert last.chosen == first.chosen
    tasks = [(folder / "tasks.parquet").read_bytes() for folder in (whole.output, plan.output)]
    assert tasks[0] == tasks[1]
    again = Maker(plan.orders)
    ticks: list[Progress] = []
    build(plan, again, lambda progress, seconds: ticks.append(progress))
    assert again.made == [] and ticks[-1].made_now == 0 and ticks[-1].units == len(made)


# -- what is prepared


def test_worlds_and_tasks_a_world(tmp_path: Path) -> None:
    def sizes(count: int) -> tuple[int, int]:
        plan = prepare(BuildTasksConfig(count=count, domains=("notes",)), tmp_path / "o", "")
        return plan.num_worlds, plan.orders["notes"].number

    assert sizes(10) == (1, 13)
    assert sizes(1000) == (8, 163)
    assert sizes(10_000) == (65, 200)
    assert not (tmp_path / "o").exists()


def test_domains_by_name_and_by_folder(tmp_path: Path) -> None:
    def names(domains: str | tuple[str, ...]) -> list[str]:
        return list(prepare(BuildTasksConfig(domains=domains), tmp_path / "o", "").orders)

    assert names("shipped") == names(str(SHIPPED)) == ["airline", "notes", "retail"]
    assert names("notes") == names(("notes",)) == names(str(SHIPPED / "notes")) == ["notes"]
    for wrong in ("/no/such", ("nope",), ()):
        with pytest.raises(ConfigError, match="domain"):
            names(wrong)


# -- on Ray


@pytest.fixture(scope="module")
def ray_here(ray_head: object) -> Iterator[None]:
    import ray

    ray.init(address=ray_head.address, log_to_driver=False)  # type: ignore[attr-defined]
    yield
    ray.shutdown()


def dies_once(order: UnitOrder, seed: int) -> Unit:
    flag = Path(order.domain.description) / f"died-{seed}"
    if seed == 2 and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return unit(order, seed)


def always_dies(order: UnitOrder, seed: int) -> Unit:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def has_a_broken_world(order: UnitOrder, seed: int) -> Unit:
    raise DomainError(f"{order.domain.name}: seed step 3: no such table")


@pytest.mark.slow
def test_on_ray_the_same_comes_out_and_a_dead_worker_is_replaced(ray_here: None, tmp_path: Path) -> None:
    plan = plan_of(tmp_path / "ray", 60, "one", "two")
    orders = {
        name: UnitOrder(
            order.domain.model_copy(update={"description": str(tmp_path)}),
            order.speech,
            order.dials,
            order.seed,
            order.number,
            order.split,
        )
        for name, order in plan.orders.items()
    }
    write_chosen(plan, build(plan, makers(OnRay(), orders, 1, dies_once), lambda progress, seconds: None))
    assert (tmp_path / "died-2").exists()
    here = plan_of(tmp_path / "here", 60, "one", "two")
    write_chosen(here, build(here, makers(InProcess(), here.orders, "auto", unit), lambda progress, seconds: None))
    tasks = [(folder / "tasks.parquet").read_bytes() for folder in (plan.output, here.output)]
    assert tasks[0] == tasks[1]


@pytest.mark.slow
def test_on_ray_what_is_raised_ends_the_job(ray_here: None, tmp_path: Path) -> None:
    plan = plan_of(tmp_path, 20, "one")
    with pytest.raises(DomainError, match="one: seed step 3"):
        list(makers(OnRay(), plan.orders, 2, has_a_broken_world)([("one", 1)]))
    with pytest.raises(JobFailed, match="unit one-1: its worker died"):
        list(makers(OnRay(), plan.orders, 2, always_dies)([("one", 1)]))
