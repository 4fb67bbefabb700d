"""Tasks of one world, by the number: walk, words, compile, prove.

Deterministic: domain, speech, world seed, dials and seed settle what is made, wherever it is made. What does not come off is counted by its
reason; nothing is kept whose reference did not run clean or whose soundness is not proven.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from agentscaler.domain.domain import Domain
from agentscaler.errors import RolloutFault, TaskError
from agentscaler.tasks.dials import Dials
from agentscaler.tasks.draft import Dropped
from agentscaler.tasks.kinds import make
from agentscaler.tasks.maker import Maker
from agentscaler.tasks.setting import Setting
from agentscaler.tasks.speech import Speech
from agentscaler.tasks.task import Kind, Task, WrittenTask
from agentscaler.tasks.walk.graph import ToolGraph
from agentscaler.verify.soundness.check import check_soundness
from agentscaler.world.world import World

BATCH = 32  # tasks drawn before they are proven
MAX_IN_A_ROW = 60  # draws of one kind that came to nothing: the world has no more of it


@dataclass
class Made:
    """`dropped`: kind/reason -> draws. `seconds`: stage -> seconds."""

    tasks: list[Task] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)

    def clock(self, stage: str, since: float) -> float:
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - since
        return now


def generate(
    domain: Domain,
    speech: Speech,
    world_seed: int,
    number: int,
    dials: Dials,
    seed: int,
    on_task: Callable[[Task], None] | None = None,
) -> Made:
    """Up to `number` tasks of the world, in the dials' mix as far as the world has it."""
    made = Made()
    begun = time.perf_counter()
    world = World.of(domain, world_seed)
    setting = Setting(world, speech)
    random = Random(f"{seed}/{domain.name}/{world_seed}")
    maker = Maker(setting, ToolGraph.of(world.program), dials, random)
    begun = made.clock("world", begun)
    wanted = _share_out(number, dials)
    idle = dict.fromkeys(wanted, 0)
    seen: set[str] = set()
    try:
        while sum(wanted.values()) > 0:
            drafted = _draw(maker, wanted, idle, seen, made)
            for task in _sound(maker, drafted, made):
                made.tasks.append(task)
                wanted[task.kind] = max(0, wanted.get(task.kind, 0) - 1)
                if on_task is not None:
                    on_task(task)
    finally:
        setting.close()
    return made


def _draw(maker: Maker, wanted: dict[Kind, int], idle: dict[Kind, int], seen: set[str], made: Made) -> list[Task]:
    """Some tasks that are not yet proven sound. Those before proving those: with both by turns each took half as long again, for the
    copies of the world push each other out of the processor's caches."""
    drafted: list[Task] = []
    left = Counter(wanted)
    while len(drafted) < BATCH and left.total() > 0:
        kind = maker.random.choices(list(left), list(left.values()))[0]
        task = _draw_one(maker, kind, seen, made)
        if task is not None:
            drafted.append(task)
            left[kind] -= 1
            idle[kind] = 0
            continue
        idle[kind] += 1
        if idle[kind] >= MAX_IN_A_ROW:
            _hand_on(kind, wanted, idle)
            left = Counter(wanted) - Counter(task.kind for task in drafted)
    return drafted


def _draw_one(maker: Maker, kind: Kind, seen: set[str], made: Made) -> Task | None:
    begun = time.perf_counter()
    try:
        task = make(maker, kind)
        writes = maker.world.program.write_tools & {call.call for call in task.written.calls}
        if reason := _outside(task.written, maker.dials, writes):
            raise Dropped(reason)
        if task.task_digest in seen:
            raise Dropped("made before")
    except (Dropped, TaskError, RolloutFault) as error:
        made.dropped[f"{kind.value}: {_general(str(error))}"] += 1
        made.clock("dropped", begun)
        return None
    seen.add(task.task_digest)
    made.clock("walk", begun)
    return task


def _sound(maker: Maker, drafted: list[Task], made: Made) -> Iterator[Task]:
    for task in drafted:
        begun = time.perf_counter()
        try:
            problems = check_soundness(maker.world.domain, task)
        except (TaskError, RolloutFault) as error:
            problems = [str(error)]
        made.clock("soundness", begun)
        if problems:
            made.dropped[f"{task.kind.value}: unsound: {_general(problems[0])}"] += 1
        else:
            yield task


def _outside(written: WrittenTask, dials: Dials, write_tools: frozenset[str]) -> str | None:
    """The dial that the task does not keep to."""
    if len(written.calls) > dials.max_calls:
        return "more than max_calls"
    if written.kind.must_not_write:
        return None
    writes = sum(call.call in write_tools for call in written.calls) - len(written.expected_refused)
    if len(written.calls) < dials.min_calls:
        return "fewer than min_calls"
    return None if dials.min_writes <= writes <= dials.max_writes else "other than min_writes to max_writes"


def _general(words: str) -> str:
    """A reason without numbers and values, so that equal ones are counted together."""
    return re.sub(r"=.*? is accepted", "=… is accepted", re.sub(r"\d+", "n", words.split(": {")[0]))[:120]


def _share_out(number: int, dials: Dials) -> dict[Kind, int]:
    """How many of each kind: the mix, in whole tasks; what is over goes to the largest remainders."""
    total = sum(dials.mix.values())
    exact = {kind: number * weight / total for kind, weight in dials.mix.items() if weight > 0}
    shared = {kind: int(one) for kind, one in exact.items()}
    order = sorted(exact, key=lambda kind: (shared[kind] - exact[kind], kind.value))
    for kind in order[: number - sum(shared.values())]:
        shared[kind] += 1
    return shared


def _hand_on(kind: Kind, wanted: dict[Kind, int], idle: dict[Kind, int]) -> None:
    """What a world has no more of is made up for by kinds it still has."""
    left = wanted.pop(kind)
    if not wanted:
        return
    others = sorted(wanted, key=lambda one: (-wanted[one], one.value))
    for place in range(left):
        wanted[others[place % len(others)]] += 1
