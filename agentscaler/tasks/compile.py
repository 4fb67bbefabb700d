"""From written tasks to tasks: execute the reference, keep its end, prove soundness.

Invariant: a `Task` comes out only where the reference ran clean (each call ok, or refused where that is expected, none forbidden by a
rule in words), the end fits the kind, the scripted user can be asked for every fact, and every mutant of the design's soundness section
is judged rightly. Anything else is a `TaskError` naming file, task and reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agentscaler.domain.domain import Domain
from agentscaler.domain.store import domain_folder, load_domain, read_yaml
from agentscaler.errors import DomainError, TaskError
from agentscaler.messages import Outcome
from agentscaler.tasks.arguments import resolve
from agentscaler.tasks.task import Ask, Call, Task, WrittenTask
from agentscaler.users.scripted import asked_facts
from agentscaler.verify.soundness.check import check_soundness
from agentscaler.world.changeset import Diff
from agentscaler.world.environment import CallResult, Environment
from agentscaler.world.program import compile_domain
from agentscaler.world.world import World


def load_written(path: Path) -> list[WrittenTask]:
    """Tasks of a YAML file: a list under `tasks`."""
    try:
        data = read_yaml(path)
    except DomainError as error:
        raise TaskError(str(error)) from None
    if not isinstance(data, dict) or not isinstance(data.get("tasks"), list):
        raise TaskError(f"{path}: needs a list under the key tasks")
    tasks = []
    for number, entry in enumerate(data["tasks"], 1):
        name = entry.get("id", f"number {number}") if isinstance(entry, dict) else f"number {number}"
        try:
            tasks.append(WrittenTask.model_validate(entry))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise TaskError(f"{path}: task {name}: {where + ': ' if where else ''}{first['msg']}") from None
    names = [task.id for task in tasks]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TaskError(f"{path}: task id {twice[0]} occurs twice")
    return tasks


def compile_shipped(name: str, path: str | None = None) -> list[Task]:
    """The written tasks of a domain folder, compiled."""
    domain = load_domain(name, path)
    file = domain_folder(name, path) / "tasks.yaml"
    return [compile_task(domain, written, str(file)) for written in load_shipped(name, path)]


def load_shipped(name: str, path: str | None = None) -> list[WrittenTask]:
    """The written tasks of a domain folder as they stand in its file."""
    file = domain_folder(name, path) / "tasks.yaml"
    if not file.is_file():
        raise TaskError(f"tasks=written: {file} does not exist")
    return load_written(file)


def compile_task(domain: Domain, written: WrittenTask, where: str = "") -> Task:
    try:
        task = execute(domain, written)
        problems = check_soundness(domain, task)
    except TaskError as error:
        raise TaskError(f"{where or domain.name}: task {written.id}: {error}") from None
    if problems:
        raise TaskError(f"{where or domain.name}: task {written.id}: unsound: {'; '.join(problems[:3])}")
    return task


def execute(domain: Domain, written: WrittenTask) -> Task:
    """Run the reference; the task with its end, not yet proven sound."""
    environment = World.of(domain, written.seed).open()
    results: list[CallResult] = []
    resolved: list[Call] = []
    for number, call in enumerate(written.calls, 1):
        arguments = resolve(call.arguments, results)
        if broken := _broken_rules(environment, domain, call.call, arguments):
            raise TaskError(f"reference call {number} ({call.call}) breaks the rule {broken[0]}")
        result = environment.call("agent", call.call, arguments)
        wanted = Outcome.REFUSED if number in written.expected_refused else Outcome.OK
        if result.outcome is not wanted:
            raise TaskError(
                f"reference call {number} ({call.call}) is {result.outcome.value}, not {wanted.value}: {result.content}"
            )
        results.append(result)
        resolved.append(Call(call=call.call, arguments=arguments))
    offences = environment.offences()
    return assemble(domain, written, environment.close(), resolved, offences)


def assemble(
    domain: Domain,
    written: WrittenTask,
    diff: Diff,
    resolved: Sequence[Call],
    offences: Sequence[str],
    source: str = "written",
) -> Task:
    """The task of a reference that has run: `diff` is the end it led to, `resolved` the calls as they were made."""
    if offences:
        raise TaskError(f"after the reference an invariant is broken: {offences[0]}")
    if written.kind.must_not_write and diff:
        raise TaskError(f"a {written.kind.value} task must not write, but the reference changes {sorted(diff)}")
    if not written.kind.must_not_write and not diff:
        raise TaskError(f"a {written.kind.value} task writes, but the reference changes nothing")
    _check_asking(written)
    return Task(
        written=written,
        domain=domain.name,
        domain_fingerprint=domain.fingerprint,
        expected_diff=diff,
        expected_calls=tuple(resolved),
        source=source,
    )


def _broken_rules(environment: Environment, domain: Domain, tool: str, arguments: dict[str, Any]) -> list[str]:
    """text_only rules that forbid the call whoever speaks. The database would let it happen."""
    program = compile_domain(domain)
    if tool not in program.forbidding or not program.tools[tool].validator.is_valid(arguments):
        return []
    return environment.forbidding(tool, arguments, None, whoever=True)


def _check_asking(written: WrittenTask) -> None:
    """Every fact can be asked for by its own question, and is not in the opening already."""
    for name, fact in written.facts.items():
        asked = asked_facts(written, fact.question)
        if asked != [name]:
            raise TaskError(f"fact {name}: its question asks for {asked or 'nothing'}")
    asks = [step.ask for step in written.reference if isinstance(step, Ask)]
    if len(set(asks)) != len(asks):
        raise TaskError("the reference asks for a fact twice")
    if asks and set(asks) != set(written.facts):
        raise TaskError(f"the reference never asks for {sorted(set(written.facts) - set(asks))[0]}")
