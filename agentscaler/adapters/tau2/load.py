"""τ² tasks and domains, as our jobs take them.

A task whose reference cannot be carried out at all (it names a tool that does not exist, or arguments that the tool does not take) is
reported and not played: nobody could pass it rightly. An action that the world refuses is another thing: τ² lets its references do so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from agentscaler.adapters.tau2.live import LiveWorld
from agentscaler.adapters.tau2.package import VERSION, check_installed
from agentscaler.adapters.tau2.prompts import agent_prompt
from agentscaler.adapters.tau2.score import KNOWN_BASES, begin, beginning, reference_end
from agentscaler.benchmark import BenchmarkDomain, BenchmarkTask, Loaded
from agentscaler.errors import ConfigError

DOMAINS = ("airline", "retail", "telecom")


def load(domains: Sequence[str], path: str | None, split: str | None) -> Loaded:
    """`domains`: names, import paths or folders, all three public ones where none is given. `path`: a task file in place of the domain's
    own. `split`: `base` is what is reported."""
    from agentscaler.adapters.tau2.scene import live_world

    check_installed()
    names = tuple(domains) or DOMAINS
    if path is not None and len(names) != 1:
        raise ConfigError(f"benchmark.path={path}: a task file is of one domain; domains names {len(names)}")
    tasks: list[BenchmarkTask] = []
    found: list[BenchmarkDomain] = []
    broken: list[str] = []
    for name in names:
        world = live_world(name)
        domain = _domain(name, world)
        found.append(domain)
        for task in _tasks(world, path, split):
            if problem := _broken(world, task):
                broken.append(f"tau2/{domain.name}/{task.id}: {problem}")
            else:
                tasks.append(_task(domain, world, task))
    return Loaded(tasks, found, broken, tuple(filter(None, map(_remark, tasks))))


def _domain(source: str, world: LiveWorld) -> BenchmarkDomain:
    environment = world.domain.environment()
    return BenchmarkDomain(
        benchmark="tau2",
        name=world.domain.name,
        version=VERSION,
        source=str(Path(source).absolute()) if Path(source).is_dir() else source,
        prompt=agent_prompt(environment.get_policy()),
        tools=tuple(tool.openai_schema for tool in environment.get_tools()),
    )


def _tasks(world: LiveWorld, path: str | None, split: str | None) -> list[Any]:
    if path is not None:
        return list(_read(Path(path)))
    try:
        return world.domain.tasks(split)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"split={split}: {world.domain.name}: {_line(error)}") from None


def _read(file: Path) -> Iterator[Any]:
    """A task file of the package's form; newer keys that this version does not know are an error that names them."""
    from tau2.data_model.tasks import Task

    try:
        rows = orjson.loads(file.read_bytes())
    except OSError as error:
        raise ConfigError(f"benchmark.path={file}: {error.strerror}") from None
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"benchmark.path={file}: not JSON: {error}") from None
    rows = rows.get("tasks") if isinstance(rows, dict) else rows
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConfigError(f"benchmark.path={file}: holds no list of tasks")
    for number, row in enumerate(rows, 1):
        where = f"benchmark.path={file}: task {row.get('id', f'number {number}')}"
        basis = (row.get("evaluation_criteria") or {}).get("reward_basis") or ()
        if unknown := [kind for kind in basis if kind not in KNOWN_BASES]:
            raise ConfigError(f"{where}: unknown reward basis {unknown[0]} (known: {', '.join(sorted(KNOWN_BASES))})")
        try:
            yield Task.model_validate(row)
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigError(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _task(domain: BenchmarkDomain, world: LiveWorld, task: Any) -> BenchmarkTask:
    criteria = task.evaluation_criteria
    actions = (criteria.actions if criteria is not None else None) or []
    data = task.model_dump(mode="json", exclude_none=True)
    for message in (data.get("initial_state") or {}).get("message_history") or ():
        for key in ("timestamp", "turn_idx"):  # made anew at each loading
            message.pop(key, None)
    start = world.open()
    begin(start, task)
    writes = criteria is not None and not reference_end(world, task).same_end(start)
    told = task.user_scenario.instructions
    return BenchmarkTask(
        benchmark="tau2",
        domain=domain.name,
        domain_fingerprint=domain.fingerprint,
        name=str(task.id),
        kind="write" if writes else "no_write",
        num_calls=len(actions),
        intent=told if isinstance(told, str) else told.reason_for_call,
        data=data,
    )


def _remark(task: BenchmarkTask) -> str:
    criteria = task.data.get("evaluation_criteria") or {}
    if criteria.get("env_assertions") and not criteria.get("actions") and "ENV_ASSERTION" in criteria["reward_basis"]:
        return f"{task.task_id} asks for an end to which no reference leads: its reference agent fails"
    return ""


def _broken(world: LiveWorld, task: Any) -> str:
    """Why the task's beginning or its reference cannot be carried out; empty where it can."""
    criteria = task.evaluation_criteria
    for action in (criteria.actions if criteria is not None else None) or []:
        if problem := world.misfit(action.requestor, action.name, action.arguments):
            return f"reference action {action.action_id}: {problem}"
    for assertion in (criteria.env_assertions if criteria is not None else None) or []:
        if problem := world.misfit(assertion.env_type, assertion.func_name, assertion.arguments, is_tool=False):
            return f"environment assertion: {problem}"
    _, error = world.open().tried(beginning(task))
    return "" if error is None else f"its beginning: {_line(error)}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
