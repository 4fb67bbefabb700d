"""Which of the tasks that were made are kept: no problem twice, no near-duplicate, nothing trivial, and the rest in balance.

Pure: `Sketch` is all that selection knows of a task (about 0.6 KB, whatever the task's length), and what is chosen depends on the
sketches, their order and the seed alone. `sift` finds faults and looks at one domain at a time; `choose` takes what is wanted out of
the faultless. Every task that is not kept has a reason.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import Literal, TypeVar

import numpy as np

from agentscaler.canonical import canonical_json
from agentscaler.tasks.near_duplicates import Shingles, near_duplicates, shingles_of
from agentscaler.tasks.task import Kind, Task
from agentscaler.verify.call_match import is_told

ALIKE = 0.9  # Jaccard index of words, from which on two intents are one
LENGTHS = (2, 4, 6, 8, 12)  # reference calls: where a new class of lengths begins
FITTING_ROUNDS = 60

Split = Literal["train", "held_out"]
Name = TypeVar("Name", bound=Hashable)


class Drop(StrEnum):
    """Why a task that was made is not kept."""

    SAME_TASK = "the same task"
    SAME_PROBLEM = "the same problem in other words"
    NEARLY_SAME_WORDS = "nearly the same words"
    TRIVIAL = "trivial: one call"
    ANSWER_SAID = "trivial: the answer is in the question"
    SURPLUS = "surplus: not needed for the balance"


@dataclass(frozen=True, slots=True)
class Sketch:
    """`tools` are those that the reference calls, and the one that a refusal is about. `problem` is equal where the same is asked for."""

    task: bytes
    problem: bytes
    kind: Kind
    num_calls: int
    tools: frozenset[str]
    words: Shingles
    fault: Drop | None


def sketch_of(task: Task, world_digest: str) -> Sketch:
    written = task.written
    return Sketch(
        task=_short(task.task_digest),
        problem=_problem(task, world_digest),
        kind=task.kind,
        num_calls=task.num_calls,
        tools=_tools.setdefault(task.reference_tools, task.reference_tools),
        words=shingles_of("\n".join([written.intent, *written.then, *(fact.says for fact in written.facts.values())])),
        fault=_fault(task),
    )


_tools: dict[frozenset[str], frozenset[str]] = {}  # few, and each in thousands of sketches


def _short(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()


def _problem(task: Task, world_digest: str) -> bytes:
    """The calls in any order, what must be asked, told or refused. What no tool can do is in the words alone."""
    written = task.written
    calls = sorted(canonical_json([call.call, call.arguments]) for call in task.expected_calls)
    told = sorted(canonical_json([answer.type, answer.value]) for answer in written.must_tell)
    forbidden = written.forbidden.model_dump(mode="json") if written.forbidden else None
    words = written.intent if task.kind is Kind.IRRELEVANT else ""
    problem = [
        task.domain_fingerprint,
        world_digest,
        task.kind.value,
        calls,
        told,
        forbidden,
        sorted(written.facts),
        words,
    ]
    return _short(canonical_json(problem))


def _fault(task: Task) -> Drop | None:
    """Trivial is one call with all that it needs in the opening, and nothing to ask, tell, decline or wait for; or a question that says
    its own answer. A count may stand in the words by chance."""
    written = task.written
    words = "\n".join([written.intent, *written.then])
    if task.kind is Kind.READ_ONLY and all(
        one.type != "count" and is_told(one.type, one.value, words) for one in written.must_tell
    ):
        return Drop.ANSWER_SAID
    more = written.facts or written.must_tell or written.then or task.kind.must_decline
    return None if more or task.num_calls > 1 else Drop.TRIVIAL


def sift(sketches: Sequence[Sketch]) -> list[Drop | None]:
    """What is wrong with each task of one domain, in their order: of two that are the same the later one goes. What is added at the end
    changes nothing before it."""
    found = [sketch.fault for sketch in sketches]
    for reason, key in ((Drop.SAME_TASK, lambda one: one.task), (Drop.SAME_PROBLEM, lambda one: one.problem)):
        seen: set[bytes] = set()
        for place, sketch in enumerate(sketches):
            if found[place] is None:
                if key(sketch) in seen:
                    found[place] = reason
                seen.add(key(sketch))
    left = [place for place, fault in enumerate(found) if fault is None]
    for number in near_duplicates([sketches[place].words for place in left], ALIKE):
        found[left[number]] = Drop.NEARLY_SAME_WORDS
    return found


def choose(
    pools: Mapping[str, Sequence[Sketch]], count: int, mix: Mapping[Kind, float], seed: int
) -> dict[str, list[int]]:
    """`count` tasks out of the faultless of each domain (all, where there are fewer): the places of those chosen, ascending. As evenly
    over domains as they allow, in the mix over all, and inside a domain evenly over tools and lengths."""
    room = {domain: Counter(sketch.kind for sketch in pool) for domain, pool in pools.items()}
    wanted = wanted_kinds(room, count, mix)
    return {domain: _spread(pool, wanted[domain], seed) for domain, pool in pools.items()}


def wanted_kinds(
    room: Mapping[str, Mapping[Kind, int]], count: int, mix: Mapping[Kind, float]
) -> dict[str, dict[Kind, int]]:
    """How many of each kind each domain gives. What one domain lacks of a kind, others give, and it gives others' instead: weights are
    fitted to both sums by turns (iterative proportional fitting, with the room as bound), then made whole."""
    domains = share_out(
        count, dict.fromkeys(room, 1.0), {domain: sum(kinds.values()) for domain, kinds in room.items()}
    )
    rows, columns = (
        list(room),
        [kind for kind in Kind if mix.get(kind, 0) > 0 or any(k.get(kind) for k in room.values())],
    )
    bound = np.array([[room[domain].get(kind, 0) for kind in columns] for domain in rows], float).reshape(len(rows), -1)
    of_rows = np.array([domains[domain] for domain in rows], float)
    kinds = share_out(sum(domains.values()), mix, dict(zip(columns, map(int, bound.sum(0)), strict=True)))
    of_columns = np.array([kinds[kind] for kind in columns], float)
    fitted = np.minimum(np.outer(of_rows, of_columns) / max(1.0, of_rows.sum()), bound)
    for _ in range(FITTING_ROUNDS):
        fitted = np.minimum(fitted * _factors(of_columns, fitted.sum(0)), bound)
        fitted = np.minimum(fitted * _factors(of_rows, fitted.sum(1))[:, None], bound)
    return {
        domain: share_out(domains[domain], dict(zip(columns, map(float, row), strict=True)), room[domain])
        for domain, row in zip(rows, fitted, strict=True)
    }


def _factors(wanted: np.ndarray, have: np.ndarray) -> np.ndarray:
    return np.divide(wanted, have, out=np.ones_like(wanted), where=have > 0)


def share_out(total: int, weights: Mapping[Name, float], room: Mapping[Name, int]) -> dict[Name, int]:
    """Whole numbers in proportion to the weights, none above its room, that add up to the total, or to all the room there is. What one
    has no room for goes to the others."""
    given = dict.fromkeys(room, 0)
    total = min(total, sum(room.values()))
    while left := total - sum(given.values()):
        open_ = [name for name in room if given[name] < room[name]]
        weight = sum(weights.get(name, 0) for name in open_)
        part = {name: left * weights.get(name, 0) / weight if weight else left / len(open_) for name in open_}
        whole = {name: min(math.floor(part[name]), room[name] - given[name]) for name in open_}
        if not any(whole.values()):  # fewer left than there are names: one each, the largest parts first
            first = sorted(range(len(open_)), key=lambda place: (-part[open_[place]], place))[:left]
            whole = dict.fromkeys((open_[place] for place in first), 1)
        for name, number in whole.items():
            given[name] += number
    return given


def _spread(pool: Sequence[Sketch], wanted: Mapping[Kind, int], seed: int) -> list[int]:
    """Always a task whose rarest tool, and whose length, stand least among those chosen. Tasks of the same tools and length are alike
    here, so the scores are of such groups: 0.1 ms a task; a score for each task took 1.3."""
    names = {name: number for number, name in enumerate(sorted({tool for sketch in pool for tool in sketch.tools}))}
    tools, lengths = np.zeros(len(names), int), np.zeros(len(LENGTHS) + 1, int)
    chosen: list[int] = []
    groups = _groups(pool, seed)
    for kind in sorted(
        wanted, key=lambda one: (_size(groups.get(one, {})) - wanted[one], one)
    ):  # the least choice first
        of_kind = groups.get(kind, {})
        waiting = list(of_kind.values())
        uses = np.array([[name in of for name in names] for of, _ in of_kind], bool).reshape(len(waiting), len(names))
        classes = np.array([length for _, length in of_kind], int)
        spent = np.zeros(len(waiting), int)
        for _ in range(wanted[kind]):
            rarest = np.where(uses, tools, _NEVER).min(1, initial=_NEVER)
            rarest[rarest == _NEVER] = 0  # no tools
            best = int(np.argmin(rarest * len(names) + lengths[classes] * len(lengths) + spent))
            chosen.append(waiting[best].pop())
            tools += uses[best]
            lengths[classes[best]] += 1
            spent[best] = 0 if waiting[best] else _NEVER
    return sorted(chosen)


_NEVER = 2**40


def _groups(pool: Sequence[Sketch], seed: int) -> dict[Kind, dict[tuple[frozenset[str], int], list[int]]]:
    """kind -> (tools, length) -> places; groups and places in an order by chance."""
    key = str(seed).encode()[:64]
    order = sorted(range(len(pool)), key=lambda place: blake2b(pool[place].task, key=key, digest_size=8).digest())
    groups: dict[Kind, dict[tuple[frozenset[str], int], list[int]]] = {}
    for place in order:
        sketch = pool[place]
        group = (sketch.tools, length_class(sketch.num_calls))
        groups.setdefault(sketch.kind, {}).setdefault(group, []).append(place)
    return groups


def _size(groups: Mapping[tuple[frozenset[str], int], Sequence[int]]) -> int:
    return sum(map(len, groups.values()))


def length_class(num_calls: int) -> int:
    return sum(num_calls >= begin for begin in LENGTHS)


def split_of(domain: str, held_out: float | Collection[str]) -> Split:
    """By the domain's name alone: a share of all names, or the names themselves."""
    if isinstance(held_out, float | int):
        drawn = int.from_bytes(blake2b(domain.encode(), digest_size=8).digest()) / 2**64
        return "held_out" if drawn < held_out else "train"
    return "held_out" if domain in held_out else "train"


def median(numbers: Iterable[int]) -> float:
    """Nought of none."""
    return float(np.median(values)) if (values := list(numbers)) else 0.0
