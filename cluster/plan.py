"""What a rollout job will do, decided before anything starts: tasks, domains, the items still to play.

Invariant: `prepare` raises ConfigError for every wrong input it can find (foreign or corrupt files in the output folder, a folder of
another configuration, unknown domain or tasks) and writes nothing; `open_output` then writes the folder's own description.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import yaml

from agentscaler.domain.domain import Domain
from agentscaler.domain.store import read_domains, write_domains
from agentscaler.errors import ConfigError, ShardError
from agentscaler.rollout.record import UserIdentity, WorkItem, work_item
from agentscaler.shards.files import committed, read_tasks, shard_paths, sweep, write_tasks, write_text
from agentscaler.tasks.load import DOMAINS_FILE, load_tasks
from agentscaler.tasks.task import Task
from agentscaler.teachers.chat import TeacherIdentity
from cluster.config import RolloutConfig, flatten

CONFIG_FILE, TASKS_FILE = "config.yaml", "tasks.parquet"


@dataclass(frozen=True, slots=True)
class Plan:
    output: Path
    tasks: tuple[Task, ...]
    domains: dict[str, Domain]
    committed: dict[str, str]
    config_text: str

    def items(self, config: RolloutConfig, teacher: TeacherIdentity, user: UserIdentity) -> list[WorkItem]:
        """Every attempt at every task; all tasks once before any twice."""
        return [
            work_item(task, attempt, teacher, user, config.run_seed)
            for attempt in range(config.attempts)
            for task in self.tasks
        ]


def prepare(config: RolloutConfig, output: Path, config_text: str) -> Plan:
    domain = config.domain
    tasks, domains = load_tasks(config.tasks, domain.name if domain else None, domain.path if domain else None)
    if config.tasks_sample is not None:
        if config.tasks_sample > len(tasks):
            raise ConfigError(f"tasks_sample={config.tasks_sample}: there are only {len(tasks)} tasks")
        chosen = sorted(Random(config.tasks_seed).sample(range(len(tasks)), config.tasks_sample))
        tasks = [tasks[index] for index in chosen]
    done: dict[str, str] = {}
    if output.exists():
        if not output.is_dir():
            raise ConfigError(f"output={output}: is a file, not a folder")
        done = _check_output(config, output, tasks)
    return Plan(output, tuple(tasks), domains, done, config_text)


def open_output(plan: Plan) -> None:
    plan.output.mkdir(parents=True, exist_ok=True)
    sweep(plan.output)
    if not (plan.output / TASKS_FILE).exists():
        write_domains(list(plan.domains.values()), plan.output / DOMAINS_FILE)
        write_tasks(plan.output / TASKS_FILE, plan.tasks)
    write_text(plan.output / CONFIG_FILE, plan.config_text)


def _check_output(config: RolloutConfig, output: Path, tasks: Sequence[Task]) -> dict[str, str]:
    """Committed rollouts of an output that goes on; ConfigError where the folder belongs to something else."""
    file = output / CONFIG_FILE
    if not file.is_file():
        if any(output.iterdir()):
            raise ConfigError(f"output={output}: is not empty, and no output of this job ({CONFIG_FILE} is missing)")
        return {}
    try:
        before = RolloutConfig.model_validate(yaml.safe_load(file.read_text())).shape()
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(
            f"output={output}: {CONFIG_FILE} is not a rollout job's: {str(error).splitlines()[0]}"
        ) from None
    now = config.shape()
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            raise ConfigError(
                f"output={output}: holds another configuration: {key} was {before.get(key)}, is {now.get(key)}"
            )
    if (output / TASKS_FILE).is_file():
        there = {task.task_digest for task in read_tasks(output / TASKS_FILE)}
        if changed := [task.task_id for task in tasks if task.task_digest not in there]:
            raise ConfigError(f"output={output}: holds other tasks: {changed[0]} has changed since")
    elif shard_paths(output):
        raise ShardError(f"output={output}: has shards but no {TASKS_FILE}")
    return committed(output)


def read_output(output: Path) -> tuple[dict[str, Task], dict[str, Domain]]:
    """Tasks by digest and domains by fingerprint, as they lie beside the shards of an output."""
    if not (output / CONFIG_FILE).is_file():
        raise ConfigError(f"input={output}: is no output of the rollout job ({CONFIG_FILE} is missing)")
    tasks = {task.task_digest: task for task in read_tasks(output / TASKS_FILE)}
    return tasks, read_domains(output / DOMAINS_FILE)


def describe(config: RolloutConfig) -> dict[str, str]:
    """Flat parameters for the tracker."""
    return {
        key: str(value)[:500] for key, value in flatten(config.model_dump(mode="json")).items() if value is not None
    }
