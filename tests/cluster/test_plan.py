"""Promises: what is committed is found again from rollout names, whatever was committed in which order; tasks come from a file without
being held; a folder that belongs to something else is refused in one line, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from agentscaler.domain.store import load_domain, write_domains
from agentscaler.errors import ConfigError
from agentscaler.shards.files import read_tasks, write_tasks
from agentscaler.tasks.compile import compile_shipped
from cluster.config import RolloutConfig
from cluster.plan import open_output, prepare, standing
from jobs.compose import compose
from tests.conftest import RunJob


def config(*line: str) -> RolloutConfig:
    return compose("rollout", RolloutConfig, ["teacher=reference", "cluster=in_process", "tracking=none", *line])


@pytest.fixture(scope="module")
def tasks_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two domains mixed."""
    folder = tmp_path_factory.mktemp("store")
    tasks = [
        task for pair in zip(compile_shipped("notes")[:9], compile_shipped("retail")[:9], strict=True) for task in pair
    ]
    write_tasks(folder / "tasks.parquet", tasks)
    write_domains([load_domain("notes"), load_domain("retail"), load_domain("airline")], folder / "domains.parquet")
    return folder / "tasks.parquet"


def test_a_file_of_mixed_domains(tasks_file: Path, tmp_path: Path) -> None:
    plan = prepare(config(f"tasks={tasks_file}", "tasks_sample=7", "attempts=2"), tmp_path / "o", "")
    assert not (tmp_path / "o").exists()
    assert plan.num_tasks == 7 and {domain.name for domain in plan.domains.values()} == {"notes", "retail"}
    assert open_output(plan) == 1
    assert [task.task_id for task in read_tasks(plan.tasks_path)] == [task.task_id for task in plan.tasks()]
    assert not standing(plan).done.any()
    assert open_output(plan) == 2


@pytest.mark.parametrize(("first", "then"), [(1, 3), (2, 1), (2, 2)])
def test_what_is_committed_is_found_again(
    run_job: RunJob, tmp_path: Path, tasks_file: Path, first: int, then: int
) -> None:
    output = tmp_path / "o"
    line = [f"tasks={tasks_file}", "teacher=random_call", "cluster=in_process", f"output={output}"]
    assert run_job("rollout", *line, f"attempts={first}").returncode == 0
    plan = prepare(config(*line, "teacher=random_call", f"attempts={then}"), output, "")
    found = standing(plan)
    assert found.done.reshape(then, 18).all(axis=1).tolist() == [attempt < first for attempt in range(then)]
    assert (found.outcomes.sum(axis=1) == min(first, then)).all()


def test_a_changed_task_is_named(tasks_file: Path, tmp_path: Path) -> None:
    plan = prepare(config(f"tasks={tasks_file}"), tmp_path, "")
    open_output(plan)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config(f"tasks={tasks_file}").model_dump(mode="json")))
    prepare(config(f"tasks={tasks_file}"), tmp_path, "")
    write_tasks(tmp_path / "tasks.parquet", [*plan.tasks()][:-1])
    with pytest.raises(ConfigError, match="holds other tasks"):
        prepare(config(f"tasks={tasks_file}"), tmp_path, "")


def test_a_journal_needs_files() -> None:
    from agentscaler.shards.storage import folder

    with pytest.raises(ConfigError, match=r"cluster\.journal"):
        prepare(config("domain=notes", "cluster.journal=true"), folder("memory://bucket/run"), "")
