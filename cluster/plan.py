"""What a rollout job will do, decided before anything starts: tasks, domains, the attempts still to play.

Invariant: `prepare` raises ConfigError for every wrong input it can find (foreign or corrupt files in the output folder, a folder of
another configuration, unknown domain or tasks) and writes nothing; `open_output` then claims the folder and writes its description.
Neither holds the tasks: they are streamed from where they lie to tasks.parquet beside the shards, and from there to the workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from random import Random
from typing import Any

import numpy as np
import yaml

from agentscaler.benchmark import AnyDomain, AnyTask
from agentscaler.canonical import digest
from agentscaler.domain.store import read_domains, write_domains
from agentscaler.errors import ConfigError, ShardError
from agentscaler.rollout.record import UserIdentity, rollout_name
from agentscaler.shards import schema
from agentscaler.shards.files import committed_batches, read_table, read_tasks, shard_paths, write_tasks
from agentscaler.shards.manifest import Manifest
from agentscaler.shards.storage import AnyPath, is_local, probe, words_of, write_text
from agentscaler.tasks.load import DOMAINS_FILE, TaskSource, open_tasks
from agentscaler.teachers.chat import TeacherIdentity
from cluster.config import RolloutConfig, flatten
from cluster.parts import teacher_identity, user_identity

CONFIG_FILE, TASKS_FILE = "config.yaml", "tasks.parquet"


@dataclass(frozen=True, slots=True)
class Plan:
    output: AnyPath
    source: TaskSource
    rows: np.ndarray | None  # of the source that are played, where not all are
    num_tasks: int
    attempts: int
    teacher: TeacherIdentity
    user: UserIdentity
    run_seed: int
    config_text: str

    @property
    def domains(self) -> Mapping[str, AnyDomain]:
        return self.source.domains

    @property
    def tasks_path(self) -> AnyPath:
        return self.output / TASKS_FILE

    def tasks(self) -> Iterator[AnyTask]:
        """Those that are played, from their source."""
        if self.rows is None:
            yield from self.source.tasks()
            return
        chosen = set(self.rows.tolist())
        yield from (task for row, task in enumerate(self.source.tasks()) if row in chosen)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is committed: `done` says it for each index; `outcomes` counts accepted and rejected, shape (num_tasks, 2)."""

    done: np.ndarray
    outcomes: np.ndarray


def prepare(config: RolloutConfig, output: AnyPath, config_text: str, source: TaskSource | None = None) -> Plan:
    """`source`: where the tasks come from, if not from what the configuration names."""
    if source is None:
        domain = config.domain
        source = open_tasks(config.tasks, domain.name if domain else None, domain.path if domain else None)
    rows = None
    if config.tasks_sample is not None:
        if config.tasks_sample > source.num_tasks:
            raise ConfigError(f"tasks_sample={config.tasks_sample}: there are only {source.num_tasks} tasks")
        rows = np.sort(Random(config.tasks_seed).sample(range(source.num_tasks), config.tasks_sample))
    plan = Plan(
        output=output,
        source=source,
        rows=rows,
        num_tasks=source.num_tasks if rows is None else len(rows),
        attempts=config.attempts,
        teacher=teacher_identity(config.teacher),
        user=user_identity(config.user),
        run_seed=config.run_seed,
        config_text=config_text,
    )
    if config.cluster.journal and not is_local(output):
        raise ConfigError(
            f"cluster.journal=true: output={output} is an object store, and a journal is a file that grows"
        )
    _check_output(config, plan)
    return plan


def open_output(plan: Plan) -> int:
    """Claim the folder: whoever wrote into it before can commit nothing more. Returns the epoch."""
    try:
        plan.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"output={plan.output}: cannot be written: {words_of(error)}") from None
    probe(plan.output)
    write_text(
        plan.output / CONFIG_FILE, plan.config_text
    )  # first: by it the next run knows the folder, whenever this one ends
    if not plan.tasks_path.exists():
        write_domains(list(plan.domains.values()), plan.output / DOMAINS_FILE)
        write_tasks(plan.tasks_path, plan.tasks())
    return claim(plan)


def claim(plan: Plan) -> int:
    """A new epoch; what earlier ones left unnamed is removed."""
    manifest = Manifest(plan.output)
    epoch = manifest.claim()
    manifest.sweep(epoch)
    return epoch


def standing(plan: Plan) -> Standing:
    """Read from the shards which attempts are committed. Takes about 10 us an attempt; holds 9 bytes a committed one."""
    names, accepted = [], []
    for table in committed_batches(plan.output, ["rollout_id", "verdict"]):
        names.append(np.array([_short(name) for name in table["rollout_id"].to_pylist()], np.uint64))
        accepted.append(
            np.array(
                [outcome == "accepted" for outcome in table["verdict"].combine_chunks().field("outcome").to_pylist()]
            )
        )
    done = np.zeros(plan.num_tasks * plan.attempts, bool)
    outcomes = np.zeros((plan.num_tasks, 2), np.int32)
    if not names:
        return Standing(done, outcomes)
    committed, verdicts = np.concatenate(names), np.concatenate(accepted)
    order = np.argsort(committed)
    committed, verdicts = committed[order], verdicts[order]
    digests = _digests(plan.tasks_path)
    if (committed[1:] == committed[:-1]).any():
        raise ShardError(f"output={plan.output}: a rollout is in two shards")
    for attempt in range(plan.attempts):
        planned = np.array(
            [_short(rollout_name(one, attempt, plan.teacher, plan.user, plan.run_seed)) for one in digests], np.uint64
        )
        places = np.minimum(np.searchsorted(committed, planned), len(committed) - 1)
        found = committed[places] == planned
        done[attempt * plan.num_tasks : (attempt + 1) * plan.num_tasks] = found
        outcomes[:, 0] += found & verdicts[places]
        outcomes[:, 1] += found & ~verdicts[places]
    return Standing(done, outcomes)


def _short(name: str) -> int:
    """64 bits of a rollout's name: a million names collide with probability 3e-8."""
    return int(name[:16], 16)


def _digests(tasks_path: AnyPath) -> list[str]:
    return read_table(tasks_path, schema.TASKS, ["task_digest"])["task_digest"].to_pylist()


def check_folder(output: AnyPath, shape_of: Callable[[Any], dict[str, Any]], now: dict[str, Any]) -> None:
    """ConfigError where the folder belongs to something else than what is `now` asked for. `shape_of` what a config.yaml holds: what of
    it may not differ; raises ValueError where it is another job's."""
    if not output.exists():
        return
    if not output.is_dir():
        raise ConfigError(f"output={output}: is a file, not a folder")
    file = output / CONFIG_FILE
    if not file.is_file():
        if any(not path.name.endswith(".tmp") for path in output.iterdir()):
            raise ConfigError(f"output={output}: is not empty, and no output of this job ({CONFIG_FILE} is missing)")
        return
    try:
        before = shape_of(yaml.safe_load(file.read_text()))
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"output={output}: {CONFIG_FILE} is not this job's: {str(error).splitlines()[0]}") from None
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            raise ConfigError(
                f"output={output}: holds another configuration: {key} was {before.get(key)}, is {now.get(key)}"
            )


def _check_output(config: RolloutConfig, plan: Plan) -> None:
    output = plan.output
    check_folder(output, lambda before: type(config).model_validate(before).shape(), config.shape())
    if plan.tasks_path.is_file():
        for task, there in zip_longest(plan.tasks(), _digests(plan.tasks_path)):
            if task is None or task.task_digest != there:
                which = f"{task.task_id} has changed since" if task else "there are fewer now"
                raise ConfigError(f"output={output}: holds other tasks: {which}")
    elif shard_paths(output):
        raise ShardError(f"output={output}: has shards but no {TASKS_FILE}")


def read_output(output: AnyPath) -> tuple[dict[str, AnyTask], dict[str, AnyDomain]]:
    """Tasks by digest and domains by fingerprint, as they lie beside the shards of an output."""
    if not (output / CONFIG_FILE).is_file():
        raise ConfigError(f"input={output}: is no output of the rollout job ({CONFIG_FILE} is missing)")
    tasks = {task.task_digest: task for task in read_tasks(output / TASKS_FILE)}
    return tasks, read_domains(output / DOMAINS_FILE)


def tasks_digest(tasks_path: AnyPath) -> str:
    """Names the tasks of a file, for lineage: what one job has as output another has as input."""
    return digest(_digests(tasks_path))


def describe(config: RolloutConfig) -> dict[str, str]:
    """Flat parameters for the tracker."""
    return {
        key: str(value)[:500] for key, value in flatten(config.model_dump(mode="json")).items() if value is not None
    }
