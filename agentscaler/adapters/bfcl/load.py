"""BFCL's multi-turn tasks, read from the package or from a folder in the shape of its `data/`.

A domain is a category; its tools are the functions of all the classes, of which a task involves some. A task's data is the benchmark's
own record with the reference (`ground_truth`) beside it. Everything that playing a task relies on is checked here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from agentscaler.adapters.bfcl.calls import parse_call
from agentscaler.adapters.bfcl.environment import fault_of_beginning, functions_of, signature_of
from agentscaler.adapters.bfcl.functions import tool_from
from agentscaler.adapters.bfcl.package import VERSION, WORLDS, bfcl
from agentscaler.benchmark import BenchmarkDomain, BenchmarkTask, Loaded
from agentscaler.errors import ConfigError

DOMAINS = ("base", "miss_func", "miss_param", "long_context")
PREFIX = "multi_turn_"
NOTES = (
    "turns in which the reference makes no call are not checked, as in the package: an agent may do there what it likes",
    "functions that are not offered (yet) can be called, as in the package; the reference of miss_func_49 does so",
)


def load(domains: Sequence[str] = (), path: str | None = None, split: str | None = None) -> Loaded:
    """`domains`: categories, all four where none is named. Rows that are no tasks are a ConfigError; a task whose reference cannot be made
    is left out and named."""
    if split is not None:
        raise ConfigError(f"split: bfcl has no splits, {split} is none; leave it out")
    if unknown := [name for name in domains if name not in DOMAINS]:
        raise ConfigError(f"domains: bfcl has no {unknown[0]}; it has {', '.join(DOMAINS)}")
    folder = bfcl().data if path is None else Path(path)
    if not folder.is_dir():
        raise ConfigError(f"path: {path} is no folder; it must hold BFCL_v4_multi_turn_base.json and the like")
    tools = _tools(bfcl().data)
    tasks: list[BenchmarkTask] = []
    found: list[BenchmarkDomain] = []
    broken: list[str] = []
    for name in [name for name in DOMAINS if name in domains or not domains]:
        domain = BenchmarkDomain(benchmark="bfcl", name=name, version=VERSION, source=path or "", tools=tools)
        found.append(domain)
        for task in _tasks(folder, domain):
            if fault := _fault_of_reference(task.data) or fault_of_beginning(task):
                broken.append(f"{task.task_id}: {fault}")
            else:
                tasks.append(task)
    return Loaded(tasks, found, broken, NOTES)


def _tools(folder: Path) -> tuple[dict[str, Any], ...]:
    """Always the package's own: it is its classes that are called."""
    docs = (doc for world in WORLDS for doc in _rows(folder / "multi_turn_func_doc" / bfcl().doc_files[world]))
    return tuple(tool_from(doc) for doc in docs)


def _tasks(folder: Path, domain: BenchmarkDomain) -> list[BenchmarkTask]:
    kind = PREFIX + domain.name
    file = folder / f"BFCL_v4_{kind}.json"
    answers_file = folder / "possible_answer" / file.name
    answers = {_text(row, "id", answers_file): row.get("ground_truth") for row in _rows(answers_file)}
    tasks = []
    for row in _rows(file):
        name = _text(row, "id", file)
        if name not in answers:
            raise ConfigError(f"{answers_file.name}: {name} has no answer")
        data = {**row, "ground_truth": answers[name]}
        if fault := _fault(data, kind):
            raise ConfigError(f"{file.name}: {name}: {fault}")
        tasks.append(
            BenchmarkTask(
                benchmark="bfcl",
                domain=domain.name,
                domain_fingerprint=domain.fingerprint,
                name=name,
                kind=kind,
                num_calls=sum(map(len, data["ground_truth"])),
                intent=next((said["content"] for turn in data["question"] for said in turn), ""),
                data=data,
            )
        )
    return tasks


def _rows(file: Path) -> list[dict[str, Any]]:
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(f"path: {file} cannot be read: {error.strerror or error}") from None
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = orjson.loads(line) if line.strip() else None
        except orjson.JSONDecodeError as error:
            raise ConfigError(f"{file.name}: line {number} is no JSON: {error}") from None
        if row is not None and not isinstance(row, dict):
            raise ConfigError(f"{file.name}: line {number} is no JSON object")
        if row is not None:
            rows.append(row)
    return rows


def _text(row: dict[str, Any], key: str, file: Path) -> str:
    if not isinstance(row.get(key), str):
        raise ConfigError(f"{file.name}: a row without {key}: {str(row)[:80]}")
    return row[key]


def _fault(data: dict[str, Any], kind: str) -> str:
    """What is wrong with a task, in words; empty where nothing is."""
    if data["id"].rsplit("_", 1)[0] != kind:
        return f"the id does not begin with {kind}"
    turns, reference, worlds = data.get("question"), data.get("ground_truth"), data.get("involved_classes")
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, list) for turn in turns):
        return "question must be a list of turns, each a list of messages"
    if not isinstance(worlds, list) or any(world not in WORLDS for world in worlds):
        return f"involved_classes must be a list of {', '.join(WORLDS)}"
    if not isinstance(data.get("initial_config"), dict):
        return "initial_config must be an object"
    if not isinstance(reference, list) or len(reference) != len(turns):
        return f"ground_truth must be a list of {len(turns)} turns"
    if not all(isinstance(turn, list) and all(isinstance(text, str) for text in turn) for turn in reference):
        return "ground_truth must hold calls as text, turn by turn"
    return _fault_of_turns(data, turns)


def _fault_of_turns(data: dict[str, Any], turns: list[Any]) -> str:
    withheld = data.get("missed_function", {})
    if not isinstance(withheld, dict) or not all(key.isdigit() and int(key) < len(turns) for key in withheld):
        return "missed_function must be an object, its keys numbers of turns"
    known = {name for world in data["involved_classes"] for name in functions_of(bfcl().classes[world])}
    for names in withheld.values():
        if not isinstance(names, list) or any(name not in known for name in names):
            return f"missed_function names what no involved class has: {names}"
    for number, turn in enumerate(turns):
        if len(turn) != (0 if str(number) in withheld else 1):
            return f"turn {number} has {len(turn)} messages, expected one, or none where functions are handed out"
        if any(said.get("role") != "user" or not isinstance(said.get("content"), str) for said in turn):
            return f"turn {number} is not the user's"
    return ""


def _fault_of_reference(data: dict[str, Any]) -> str:
    classes = [bfcl().classes[world] for world in data["involved_classes"]]
    functions = {name: cls for cls in classes for name in functions_of(cls)}
    for text in (text for turn in data["ground_truth"] for text in turn):
        try:
            call = parse_call(text)
            if call.name not in functions:
                return f"no involved class has {call.name}"
            signature_of(functions[call.name], call.name).bind(*call.positional, **call.arguments)
        except ValueError as error:
            return str(error)
        except TypeError as error:
            return f"{text[:80]}: {error}"
    return ""
