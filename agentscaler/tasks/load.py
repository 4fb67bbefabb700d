"""Where a job's tasks come from: a domain's written ones, or a tasks.parquet, which may mix domains and has them beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agentscaler.benchmark import AnyDomain, AnyTask
from agentscaler.domain.domain import Domain
from agentscaler.domain.store import load_domain, read_domains
from agentscaler.errors import ConfigError
from agentscaler.shards.files import task_batches
from agentscaler.shards.storage import AnyPath, folder
from agentscaler.tasks.compile import compile_shipped
from agentscaler.tasks.task import Task

DOMAINS_FILE = "domains.parquet"


@dataclass(frozen=True, slots=True)
class TaskSource:
    """Tasks, read anew each time, and the domains they use by fingerprint."""

    num_tasks: int
    domains: Mapping[str, AnyDomain]
    written: tuple[AnyTask, ...] = ()
    file: AnyPath | None = None

    def tasks(self) -> Iterator[AnyTask]:
        if self.file is None:
            yield from self.written
            return
        for batch in task_batches(self.file):
            yield from batch


def open_tasks(tasks: str, domain: str | None, path: str | None = None) -> TaskSource:
    """`tasks` is `written` (then `domain` and its `path` say of which domain) or a file's path. Raises ConfigError naming the key; every
    task of a file is read once for that."""
    if tasks == "written":
        if domain is None:
            raise ConfigError("domain: tasks=written needs a domain")
        loaded = load_domain(domain, path)
        written = tuple(compile_shipped(domain, path))
        if not written:
            raise ConfigError(f"tasks=written: the domain {domain} has none")
        return TaskSource(len(written), {loaded.fingerprint: loaded}, written)
    file = folder(tasks)
    if not file.is_file():
        raise ConfigError(f"tasks={tasks}: no such file (written, or a path to a tasks.parquet)")
    domains = read_domains(file.with_name(DOMAINS_FILE))
    used: set[str] = set()
    num_tasks = 0
    for batch in task_batches(file):
        for task in batch:
            if task.domain_fingerprint not in domains:
                raise ConfigError(
                    f"tasks={tasks}: the domain of task {task.task_id} is not in {DOMAINS_FILE} beside it"
                )
            if not isinstance(task, Task):
                raise ConfigError(
                    f"tasks={tasks}: holds tasks of the benchmark {task.benchmark}: jobs.evaluate plays them, and none of it is data"
                )
            used.add(task.domain_fingerprint)
        num_tasks += len(batch)
    if not num_tasks:
        raise ConfigError(f"tasks={tasks}: holds no task")
    return TaskSource(num_tasks, {name: one for name, one in domains.items() if name in used}, file=file)


def load_tasks(tasks: str, domain: str | None, path: str | None = None) -> tuple[list[Task], dict[str, Domain]]:
    """All tasks of our own worlds at once, and their domains."""
    source = open_tasks(tasks, domain, path)
    own = [task for task in source.tasks() if isinstance(task, Task)]
    return own, {name: one for name, one in source.domains.items() if isinstance(one, Domain)}
