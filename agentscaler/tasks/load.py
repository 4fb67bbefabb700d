"""Where a job's tasks come from: a domain's written ones, or a tasks.parquet, which may mix domains and has them beside it."""

from __future__ import annotations

from pathlib import Path

from agentscaler.domain.domain import Domain
from agentscaler.domain.store import load_domain, read_domains
from agentscaler.errors import ConfigError
from agentscaler.shards.files import read_tasks
from agentscaler.tasks.compile import compile_shipped
from agentscaler.tasks.task import Task

DOMAINS_FILE = "domains.parquet"


def load_tasks(tasks: str, domain: str | None, path: str | None = None) -> tuple[list[Task], dict[str, Domain]]:
    """Tasks, and the domains they use by fingerprint. `tasks` is `written` (then `domain` and its `path` say of which domain) or a
    file's path. Raises ConfigError naming the key."""
    if tasks == "written":
        if domain is None:
            raise ConfigError("domain: tasks=written needs a domain")
        loaded = load_domain(domain, path)
        return compile_shipped(domain, path), {loaded.fingerprint: loaded}
    file = Path(tasks)
    if not file.is_file():
        raise ConfigError(f"tasks={tasks}: no such file (written, or a path to a tasks.parquet)")
    found = read_tasks(file)
    domains = read_domains(file.with_name(DOMAINS_FILE))
    for task in found:
        if task.domain_fingerprint not in domains:
            raise ConfigError(f"tasks={tasks}: the domain of task {task.task_id} is not in {DOMAINS_FILE} beside it")
    if not found:
        raise ConfigError(f"tasks={tasks}: holds no task")
    used = {task.domain_fingerprint for task in found}
    return found, {name: one for name, one in domains.items() if name in used}
