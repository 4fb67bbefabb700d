"""How often the verifier errs: held-out mutants of references, judged by the verifier and by the independent oracle.

`measure` counts a *false pass* where the verifier accepts what the oracle rejects, a *false fail* the other way round, and which of
the deliberately broken verifiers are caught. The same tasks, minimum and seed give the same figures, in one process or in two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from random import Random

from agentscaler.canonical import canonical_json
from agentscaler.domain.domain import Domain
from agentscaler.rollout.attempt import PlaySettings, play
from agentscaler.rollout.limits import Limits
from agentscaler.rollout.record import work_item
from agentscaler.tasks.task import Call, Task
from agentscaler.teachers.chat import Teacher
from agentscaler.teachers.reference import NoopTeacher, RandomCallTeacher
from agentscaler.users.scripted import ScriptedUsers
from agentscaler.verify.funnel import VerifyMode
from agentscaler.verify.soundness.broken import Broken, Case, MostChanged, broken_verifiers
from agentscaler.verify.soundness.call_operators import CALL_OPERATORS
from agentscaler.verify.soundness.ground import ground_of
from agentscaler.verify.soundness.judge import Judge, Played
from agentscaler.verify.soundness.mutant import Material, Mutant
from agentscaler.verify.soundness.oracle import Judgement, Oracle
from agentscaler.verify.soundness.word_operators import FAULTS, WORD_OPERATORS
from agentscaler.verify.verdict import Verdict, VerdictOutcome
from agentscaler.world.world import World

OPERATORS = (*CALL_OPERATORS, *WORD_OPERATORS)
RANDOM_CALLS_A_TASK = 5
BATCHES_A_PROCESS = 8  # at least, so that no process is left alone with the last ones
MAX_IDLE_DRAWS = 8  # in a row without a mutant that is new: the operator has no more for this task

Progress = Callable[[int, int, int], None]
"""Called after each task with (tasks done, tasks in all, mutants judged)."""


@dataclass(slots=True)
class OperatorCounts:
    """`accepted` is by the oracle."""

    mutants: int = 0
    accepted: int = 0
    false_pass: int = 0
    false_fail: int = 0


@dataclass(frozen=True, slots=True)
class Disagreement:
    """For a person to read: which of the two is wrong?"""

    task_id: str
    operator: str
    mutant: str
    verifier: str
    oracle: str

    def __str__(self) -> str:
        return f"{self.task_id}, {self.operator}: {self.mutant}\n  verifier: {self.verifier}\n  oracle:   {self.oracle}"


@dataclass(slots=True)
class Rates:
    """`mutants` = `accepted_mutants` and those that the oracle rejects. The broken verifiers counted are those that could show."""

    operators: dict[str, OperatorCounts] = field(
        default_factory=lambda: {operator.__name__: OperatorCounts() for operator in OPERATORS}
    )
    disagreements: list[Disagreement] = field(default_factory=list)
    oracle_errors: list[Disagreement] = field(default_factory=list)
    """Mutants that are right or wrong by their making, and the oracle says otherwise: then no figure here can be trusted."""
    broken: dict[str, int] = field(default_factory=dict)
    """Name of a broken verifier that applies -> mutants on which it and the oracle part."""
    noop_tried: int = 0
    noop_pass: int = 0
    random_call_tried: int = 0
    random_call_pass: int = 0

    @property
    def mutants(self) -> int:
        return sum(one.mutants for one in self.operators.values())

    @property
    def accepted_mutants(self) -> int:
        return sum(one.accepted for one in self.operators.values())

    @property
    def false_pass(self) -> int:
        return sum(one.false_pass for one in self.operators.values())

    @property
    def false_fail(self) -> int:
        return sum(one.false_fail for one in self.operators.values())

    @property
    def broken_verifiers(self) -> int:
        return len(self.broken)

    @property
    def broken_caught(self) -> int:
        return sum(count > 0 for count in self.broken.values())

    def figures(self) -> dict[str, int]:
        """Flat, each ratio with both its sides."""
        return {
            "mutants": self.mutants,
            "accepted_mutants": self.accepted_mutants,
            "false_pass": self.false_pass,
            "false_fail": self.false_fail,
            "oracle_errors": len(self.oracle_errors),
            "broken_verifiers": self.broken_verifiers,
            "broken_caught": self.broken_caught,
            "noop_tried": self.noop_tried,
            "noop_pass": self.noop_pass,
            "random_call_tried": self.random_call_tried,
            "random_call_pass": self.random_call_pass,
        }

    def add(self, part: Rates) -> None:
        for name, counts in part.operators.items():
            mine = self.operators[name]
            mine.mutants += counts.mutants
            mine.accepted += counts.accepted
            mine.false_pass += counts.false_pass
            mine.false_fail += counts.false_fail
        self.disagreements += part.disagreements
        self.oracle_errors += part.oracle_errors
        for name, count in part.broken.items():
            self.broken[name] = self.broken.get(name, 0) + count
        self.noop_tried += part.noop_tried
        self.noop_pass += part.noop_pass
        self.random_call_tried += part.random_call_tried
        self.random_call_pass += part.random_call_pass


@dataclass(frozen=True, slots=True)
class _Settings:
    num_mutants: int
    seed: int
    most: MostChanged
    broken: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Batch:
    """Some tasks of one world, by their places among all of that world: what a world costs at its first use is paid once a batch."""

    domain: Domain
    world_tasks: tuple[Task, ...]
    chosen: tuple[int, ...]
    numbers: tuple[int, ...]  # of the chosen ones, among all tasks
    settings: _Settings


def measure(
    domains: Mapping[str, Domain],
    tasks: Sequence[Task],
    minimum: int = 5000,
    seed: int = 0,
    processes: int = 1,
    on_progress: Progress | None = None,
) -> Rates:
    """At least `minimum` mutants (fewer only where the operators find no more), evenly over the tasks. `domains` by fingerprint."""
    most = MostChanged.of(tasks)
    broken = frozenset(one.name for one in broken_verifiers(most) if any(one.applies(task) for task in tasks))
    settings = _Settings(-(-minimum // len(tasks)), seed, most, broken)
    parts: dict[int, Rates] = {}
    num_mutants = 0
    for number, part in _each(_batches(domains, tasks, settings, processes), processes):
        parts[number] = part
        num_mutants += part.mutants
        if on_progress is not None:
            on_progress(len(parts), len(tasks), num_mutants)
    total = Rates()
    for number in range(len(tasks)):  # in the order of the tasks, whoever was first
        total.add(parts[number])
    return total


def _batches(domains: Mapping[str, Domain], tasks: Sequence[Task], settings: _Settings, processes: int) -> list[_Batch]:
    """World by world; the tasks of a single one are still enough for all processes."""
    worlds: dict[tuple[str, int], list[int]] = {}
    for number, task in enumerate(tasks):
        worlds.setdefault((task.domain_fingerprint, task.world_seed), []).append(number)
    size = -(-len(tasks) // (BATCHES_A_PROCESS * processes))
    found = []
    for (fingerprint, _), numbers in worlds.items():
        world_tasks = tuple(tasks[number] for number in numbers)
        for start in range(0, len(numbers), size):
            chosen = tuple(range(start, min(start + size, len(numbers))))
            found.append(_Batch(domains[fingerprint], world_tasks, chosen, tuple(numbers[c] for c in chosen), settings))
    return found


def _each(batches: Sequence[_Batch], processes: int) -> Iterator[tuple[int, Rates]]:
    if processes == 1:
        for batch in batches:
            yield from _measure_batch(batch)
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:  # a fork would copy locks of Arrow's threads
        for measured in pool.map(_all_of_batch, batches):
            yield from measured


def _all_of_batch(batch: _Batch) -> list[tuple[int, Rates]]:
    return list(_measure_batch(batch))


def _measure_batch(batch: _Batch) -> Iterator[tuple[int, Rates]]:
    for number, place in zip(batch.numbers, batch.chosen, strict=True):
        task = batch.world_tasks[place]
        others = tuple(one for one in batch.world_tasks if one.task_digest != task.task_digest)
        yield number, measure_task(batch.domain, task, others, batch.settings)


def measure_task(domain: Domain, task: Task, others: Sequence[Task], settings: _Settings) -> Rates:
    """The figures of one task; those of all add up. `others` are of the same world."""
    world = World.of(domain, task.world_seed)
    material = Material(task, ground_of(world), others)
    judge = Judge(world, task)
    rates = Rates()
    broken = [one for one in broken_verifiers(settings.most) if one.name in settings.broken]
    rates.broken = {one.name: 0 for one in broken}
    reference = judge.play(material.calls, keep_end=True)
    assert reference.end is not None
    with Oracle(world.program, task, reference.end) as oracle:
        for mutant in draw_mutants(material, settings.num_mutants, Random(f"{settings.seed}/{task.task_digest}")):
            _judge(mutant, judge, oracle, broken, rates)
    rates.noop_tried += 1  # with words, for a message without any is not even valid
    rates.noop_pass += judge.verdict(judge.play([], closing="Done.")).outcome is VerdictOutcome.ACCEPTED
    asyncio.run(_play_scripted(domain, task, settings.seed, rates))
    return rates


def draw_mutants(material: Material, number: int, random: Random) -> list[Mutant]:
    """Up to `number` different ones, the operators taking turns; in an order by chance where there are fewer turns than operators, else
    the last ones would never have theirs."""
    found: dict[str, Mutant] = {}
    order = random.sample(OPERATORS, len(OPERATORS)) if number < len(OPERATORS) else OPERATORS
    idle = dict.fromkeys(order, 0)
    while idle and len(found) < number:
        for operator in list(idle):
            mutant = operator(material, random)
            if mutant is None or mutant.content in found:
                idle[operator] += 1
                if idle[operator] == MAX_IDLE_DRAWS:
                    del idle[operator]
            elif len(found) < number:
                found[mutant.content] = mutant
                idle[operator] = 0
    return list(found.values())


def _judge(mutant: Mutant, judge: Judge, oracle: Oracle, broken: Sequence[Broken], rates: Rates) -> None:
    played = play_mutant(judge, mutant)
    assert played.end is not None
    verdict = judge.verdict(played)
    judgement = oracle.judge(played.messages, played.stop_reason, played.end)
    passed = verdict.outcome is VerdictOutcome.ACCEPTED
    counts = rates.operators[mutant.operator]
    counts.mutants += 1
    counts.accepted += judgement.accepted
    counts.false_pass += passed and not judgement.accepted
    counts.false_fail += judgement.accepted and not passed
    if passed is not judgement.accepted:
        rates.disagreements.append(_disagreement(judge.task, mutant, verdict, judgement))
    if mutant.expected is not None and mutant.expected is not judgement.accepted:
        rates.oracle_errors.append(_disagreement(judge.task, mutant, verdict, judgement))
    case = Case(
        judge.task, played.messages, played.stop_reason, played.diff, played.net_keys, judge.world.program.write_tools
    )
    for one in broken:
        rates.broken[one.name] += one.accepts(case) is not judgement.accepted


def play_mutant(judge: Judge, mutant: Mutant) -> Played:
    played = judge.play(mutant.steps, mutant.closing, keep_end=True)
    messages = tuple(FAULTS[mutant.fault](played.messages)) if mutant.fault else played.messages
    return replace(played, messages=messages, stop_reason=mutant.stop_reason)


def _disagreement(task: Task, mutant: Mutant, verdict: Verdict, judgement: Judgement) -> Disagreement:
    steps = [
        f"{step.call}({canonical_json(step.arguments)})" if isinstance(step, Call) else f"says {step.say!r}"
        for step in mutant.steps
    ]
    said = "the reference's closing words" if mutant.closing is None else repr(mutant.closing)
    words = "; ".join([*steps, f"closes with {said}", *([f"fault: {mutant.fault}"] if mutant.fault else [])])
    by_verifier = f"{verdict.outcome.value} {'; '.join(verdict.reasons)}"
    by_oracle = f"{'accepted' if judgement.accepted else 'rejected'} {'; '.join(judgement.reasons)}"
    return Disagreement(task.task_id, mutant.operator, words, by_verifier[:600].strip(), by_oracle[:600].strip())


async def _play_scripted(domain: Domain, task: Task, seed: int, rates: Rates) -> None:
    """The real thing: the scripted teachers in whole conversations."""
    settings = PlaySettings(Limits(), VerifyMode.STATE, config_digest="")
    teachers: list[tuple[Teacher, int]] = [(NoopTeacher(), 1), (RandomCallTeacher(), RANDOM_CALLS_A_TASK)]
    users = ScriptedUsers()
    for teacher, times in teachers:
        for attempt in range(times):
            item = work_item(task, attempt, teacher.identity, users.identity, seed)
            rollout = (await play(item, domain, teacher, users, settings)).rollout
            if rollout is None:
                continue
            accepted = rollout.verdict.outcome is VerdictOutcome.ACCEPTED
            if isinstance(teacher, NoopTeacher):
                rates.noop_tried += 1
                rates.noop_pass += accepted
            else:
                rates.random_call_tried += 1
                rates.random_call_pass += accepted
