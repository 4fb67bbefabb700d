"""ACEBench's tasks, from its data folder: normal (12 categories) and special (3), and, with a checkout of the repository, agent (2).

Owns finding and reading the files; every category of a domain must be there. A domain's `version` is a digest of its files, for agent of
the classes too. Does not download anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from agentscaler.adapters.acebench.agent import AgentWorld, State, check_end, play_way, read_way, same_end, ways
from agentscaler.adapters.acebench.call_text import NotCalls, read_milestone
from agentscaler.adapters.acebench.checkout import NEEDED, REPOSITORY, Checkout, find_checkout, load_checkout
from agentscaler.adapters.acebench.history import read_history
from agentscaler.adapters.acebench.match import tool_of
from agentscaler.adapters.acebench.scores import AGENT, KINDS, NORMAL, SPECIAL
from agentscaler.benchmark import BenchmarkDomain, BenchmarkTask, Loaded
from agentscaler.errors import ConfigError

DOMAINS = {"normal": NORMAL, "special": SPECIAL, "agent": AGENT}
ORIGIN = f"it comes from {REPOSITORY}, folder data_all/data_en"
# The 20 were counted by replaying the milestones on the repository's classes; with a checkout they are counted again.
AGENT_LEFT_OUT = (
    "ACEBench agent (50 tasks, of which 20 references do not reach their own ground truth when they are replayed) is left out: "
    f"{NEEDED}"
)

Record = dict[str, Any]


def load(domains: Sequence[str], path: str | None, split: str | None) -> Loaded:
    """`path`: the folder data_en, one that has it in it, or a checkout of the repository. `domains`: all where none is given, agent only
    where there is a checkout. `split`: one category alone (`normal_atom_bool`)."""
    if unknown := [name for name in domains if name not in DOMAINS]:
        raise ConfigError(f"domains: ACEBench has no {unknown[0]} (it has {', '.join(DOMAINS)})")
    if split is not None and split not in KINDS:
        raise ConfigError(f"split={split}: ACEBench has no such category (they are {', '.join(KINDS)})")
    folder = find_data(path)
    root = find_checkout(folder)
    asked = tuple(dict.fromkeys(domains)) or tuple(DOMAINS)
    if split is not None:
        asked = tuple(name for name in asked if split in DOMAINS[name])
        if not asked:
            raise ConfigError(f"split={split}: it is in none of the domains asked for ({', '.join(domains)})")
    notes: list[str] = []
    if "agent" in asked and root is None:
        if domains or split is not None:
            raise ConfigError(f"benchmark.path={path}: {NEEDED}")
        asked = tuple(name for name in asked if name != "agent")
        notes.append(AGENT_LEFT_OUT)
    tasks: list[BenchmarkTask] = []
    found: list[BenchmarkDomain] = []
    broken: list[str] = []
    for name in asked:
        checkout = load_checkout(root) if name == "agent" and root is not None else None
        domain, records = _read_domain(name, split, folder, checkout)
        found.append(domain)
        for kind, record in records:
            if problem := _broken(kind, record):
                broken.append(f"acebench/{name}/{record['id']}: {problem}")
            else:
                tasks.append(_task(domain, kind, record))
    return Loaded(tasks, found, broken, (*notes, *notes_on_references(tasks)))


def find_data(path: str | None) -> Path:
    if not path:
        raise ConfigError(f"benchmark.path is not set: it names the folder of ACEBench's data; {ORIGIN}")
    folder = Path(path).expanduser().absolute()
    for candidate in (folder, folder / "data_en", folder / "data_all" / "data_en"):
        if any(candidate.glob("data_*.json")):
            return candidate
    raise ConfigError(f"benchmark.path={path}: no ACEBench data there; {ORIGIN}")


def _read_domain(
    name: str, split: str | None, folder: Path, checkout: Checkout | None
) -> tuple[BenchmarkDomain, list[tuple[str, Record]]]:
    seen = hashlib.sha256()
    kinds = [kind for kind in DOMAINS[name] if split in (None, kind)]
    records = [(kind, record) for kind in kinds for record in _read_kind(folder, kind, seen)]
    if checkout is not None:
        seen.update(checkout.version.encode())
        records = [(kind, {**record, **_reference(checkout, kind, record)}) for kind, record in records]
    version = seen.hexdigest()[:16]
    return BenchmarkDomain(benchmark="acebench", name=name, version=version, source=str(folder)), records


def _task(domain: BenchmarkDomain, kind: str, record: Record) -> BenchmarkTask:
    question = record["question"]
    return BenchmarkTask(
        benchmark="acebench",
        domain=domain.name,
        domain_fingerprint=domain.fingerprint,
        name=record["id"],
        kind=kind,
        num_calls=_num_calls(kind, record),
        intent=question if kind in AGENT else read_history(question, {})[1],
        data={key: value for key, value in record.items() if key != "id"},
    )


def _num_calls(kind: str, record: Record) -> int:
    if kind in SPECIAL:
        return 0
    if kind in AGENT:
        return sum(len(read_milestone(stone)) for stone in ways(record["mile_stone"])[record["reference"]])
    return len(answers_of(record)[0])


def answers_of(record: Record) -> list[dict[str, Any]]:
    """A normal task's answer, or several that are equally good."""
    truth = record["ground_truth"]
    return truth if isinstance(truth, list) else [truth]


def _broken(kind: str, record: Record) -> str:
    """Why nobody could pass this task rightly; empty where one can."""
    if kind in AGENT:
        try:
            ways_read = [read_milestone(stone) for way in ways(record["mile_stone"]) for stone in way]
        except NotCalls as error:
            return f"a milestone is {error}"
        return "" if ways_read else "it has no milestones"
    names = [function["name"] for function in record["function"]]
    if len(set(names)) != len(names):
        return "two of its functions have one name"
    if kind in NORMAL:
        answers = answers_of(record)
        if not answers or not all(answers):
            return "its answer is empty"
        for name in (name for answer in answers for name in answer):
            if tool_of(record["function"], name) is None:
                return f"its answer calls {name}, which it does not offer"
    return ""


def _read_kind(folder: Path, kind: str, seen: Any) -> list[Record]:
    """Tasks with their answers put in; `seen` is fed the files' bytes."""
    file = folder / f"data_{kind}.json"
    answer_file = folder / "possible_answer" / file.name
    answers = {row["id"]: row for row in _read(answer_file, seen, ("id", "ground_truth"))}
    wanted = ("id", "question", "function", *(("initial_config", "involved_classes") if kind in AGENT else ()))
    records = []
    for row in _read(file, seen, wanted):
        answer = answers.get(row["id"])
        if answer is None:
            raise ConfigError(f"benchmark.path: {answer_file}: no answer to {row['id']}")
        if kind in AGENT and "mile_stone" not in answer:
            raise ConfigError(f"benchmark.path: {answer_file}: {row['id']} has no mile_stone")
        functions = row["function"] if isinstance(row["function"], list) else [row["function"]]
        records.append({**row, **answer, "function": functions})
    return records


def _read(file: Path, seen: Any, wanted: Sequence[str]) -> list[Record]:
    """One JSON object a line."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"benchmark.path: {file}: {error.strerror}; {ORIGIN}") from None
    seen.update(content)
    rows = []
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise ConfigError(f"benchmark.path: {file}: line {number} is not JSON: {error}") from None
        if missing := [key for key in wanted if not isinstance(row, dict) or key not in row]:
            raise ConfigError(f"benchmark.path: {file}: line {number} has no {missing[0]}")
        rows.append(row)
    if not rows:
        raise ConfigError(f"benchmark.path: {file}: holds no task; {ORIGIN}")
    return rows


def _reference(checkout: Checkout, kind: str, record: Record) -> Record:
    """Which of several milestone lists the reference plays: the first that ends at the ground truth, else the first; whether it ends there;
    and whether any list does so to the letter, as it is written."""
    milestones, truth = ways(record["mile_stone"]), record["ground_truth"]
    reaching = (number for number, way in enumerate(milestones) if _ends_right(checkout, kind, record, way))
    number = next(reaching, None)
    ends = [_end_of(checkout, kind, record, way, mended=False) for way in milestones]
    return {
        "reference": number or 0,
        "reference_reaches": number is not None,
        "reference_reaches_to_the_letter": any(end is not None and same_end(end, truth) for end in ends),
    }


def _ends_right(checkout: Checkout, kind: str, record: Record, way: Sequence[str]) -> bool:
    end = _end_of(checkout, kind, record, way, mended=True)
    return end is not None and not check_end(end, record["ground_truth"])


def _end_of(checkout: Checkout, kind: str, record: Record, way: Sequence[str], mended: bool) -> State | None:
    """None where the way does not read as calls."""
    involved = record["involved_classes"]
    if unknown := [name for name in involved if name not in checkout.classes[kind]]:
        raise ConfigError(f"benchmark.path: {record['id']} needs a class {unknown[0]}, which is not known")
    world = AgentWorld(checkout.classes[kind], involved, record["initial_config"])
    try:
        return play_way(world, read_way(way, mended))
    except NotCalls:
        return None


def notes_on_references(tasks: Sequence[BenchmarkTask]) -> list[str]:
    """That some of the benchmark's own ways do not end where it says they should: an agent that follows them is not accepted."""
    played = [task for task in tasks if task.domain == "agent"]
    to_the_letter = [task.name for task in played if not task.data["reference_reaches_to_the_letter"]]
    short = [task.name for task in played if not task.data["reference_reaches"]]
    if not to_the_letter and not short:
        return []
    return [
        f"ACEBench agent: {len(to_the_letter)} of {len(played)} references do not reach their own ground truth: "
        f"{', '.join(to_the_letter)}. {len(short)} of them do not with apostrophes mended and ends compared as published "
        f"(misspelt classes are not): {', '.join(short) or 'none'}"
    ]
