"""Promises: tasks made for the bench are distinct and solvable; memory figures are those of the moment named; a small run through Ray ends
with every rollout committed."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from agentscaler.tasks.compile import compile_shipped
from jobs.bench.actor_processes import DRIVER, ActorProcesses, Use
from jobs.bench.volume import PARTS, Watch, main, named_anew
from tests.jobs.benches import run_bench


def test_tasks_made_anew_are_distinct() -> None:
    made = list(named_anew(compile_shipped("notes"), 100))
    assert len({task.task_digest for task in made}) == len({task.task_id for task in made}) == 100


def test_this_process_is_the_driver() -> None:
    used = ActorProcesses().use()[DRIVER]
    assert used.processes == 1
    assert used.rss_mib >= used.private_mib > 0
    assert used.cpu_s > 0


def test_memory_is_that_of_the_moment() -> None:
    watch = Watch(100)
    for number, finished in enumerate(range(0, 101, 2)):
        used = {part: Use(2, 0.0, 2 * (100.0 + finished), 0.0) for part in PARTS.values()}
        watch.readings.append((float(number), finished, used))
    assert watch.mib("Committer", 10) == pytest.approx(110, abs=2)
    assert watch.mib("Committer", 100) == pytest.approx(196, abs=2), "the median of the last few"


@pytest.mark.parametrize("key", ["num_rollouts=1001", "workers=0", "num_tasks=0"])
def test_wrong_input_is_one_line(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["num_tasks=10", key] if not key.startswith("num_tasks") else [key])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_a_small_volume(tmp_path: Path) -> None:
    figures = run_bench("volume", tmp_path, "num_rollouts=2000", "num_tasks=1000", "workers=1")
    assert figures["committed"] == figures["num_rollouts"] == 2000
    assert figures["rollouts_per_s"] > 0
    for name, moment in itertools.product(("driver", "committer", "dispatcher", "worker"), ("100k", "1m")):
        assert figures[f"{name}_mib_{moment}"] > 50
    assert figures["growth"] > 0.5
    assert (tmp_path / str(figures["figure"])).is_file()
