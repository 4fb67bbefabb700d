"""A rollout job over a fleet of simulated replicas, in virtual time: workload, workers, and what came of it.

As in a real run there are several workers, each with a router of its own and a fixed number of rollouts in flight, refilled at once from
one queue. What a worker knows of the others' load comes from a board that it writes to and reads from every `exchange_s`, each worker at a
moment of its own. Rollouts are drawn from the seed and their number alone, so every policy plays the same ones.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from agentscaler.teachers.routing import Load
from cluster.sim_engine.model import Request, SimConfig, SimEngine
from jobs.bench.fleet_policies import POLICIES, Policy


class LongTail(BaseModel):
    """A lognormal distribution, cut off."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    median: float = Field(gt=0)
    sigma: float = Field(ge=0)
    most: float = Field(gt=0)


class Workload(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    domains: int = Field(ge=1)
    shared_tokens: int = Field(ge=0)  # system message and tools: the same for all rollouts of a domain
    turns: LongTail
    input_tokens: LongTail  # what a tool or the user says before a turn
    output_tokens: LongTail
    tool_s: LongTail
    user_s: LongTail
    user_share: float = Field(ge=0, le=1)  # of the turns that answer the user; the others answer a tool
    in_flight: int = Field(ge=1)  # rollouts a replica
    rollouts: int = Field(ge=1)  # in all, a replica
    replicas_a_worker: int = Field(ge=1)
    exchange_s: float = Field(gt=0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One fleet's run under one policy."""

    makespan_s: float
    output_tokens: int
    hit_rate: float
    busy_s: float  # summed over replicas
    busy_until_95_s: float
    until_95_s: float  # when 95 % of all output tokens were there, less up to one exchange
    rollout_s: list[float]  # sorted
    preemptions: int
    moves: int
    kv_usage: float  # mean over replicas and exchanges, until 95 %


@dataclass(slots=True, eq=False)
class _Rollout:
    name: str
    worker: int
    domain: int
    text: int
    random: random.Random
    turns_left: int
    context: int
    started_s: float
    last: str = ""


def play(policy: str, num_replicas: int, work: Workload, sim: SimConfig, seed: int) -> Outcome:
    return _Play(policy, num_replicas, work, sim, seed).run()


_ENGINE, _ASK, _EXCHANGE = range(3)


class _Play:
    def __init__(self, policy: str, num_replicas: int, work: Workload, sim: SimConfig, seed: int):
        self.work, self.seed = work, seed
        self.engines = [SimEngine(sim) for _ in range(num_replicas)]
        self.urls = [f"http://replica-{i}/v1" for i in range(num_replicas)]
        self.index = {url: i for i, url in enumerate(self.urls)}
        num_workers = max(2, num_replicas // work.replicas_a_worker)
        self.routers: list[Policy] = [POLICIES[policy](seed * 1000 + i) for i in range(num_workers)]
        self.board = [[Load()] * num_replicas for _ in self.routers]  # what each worker said last
        self.sums = [[0, 0] for _ in self.urls]
        self.total = work.rollouts * num_replicas
        self.begun = self.done = self.moves = 0
        self.events: list[tuple[float, int, int, object]] = []
        self.serial = 0
        self.asked: dict[Request, _Rollout] = {}
        self.durations: list[float] = []
        self.made: list[tuple[float, int]] = []  # when, and output tokens of each answer
        self.usage: list[tuple[float, float]] = []
        self.busy: list[tuple[float, float]] = []

    def push(self, at: float, kind: int, what: object) -> None:
        self.serial += 1
        heapq.heappush(self.events, (at, self.serial, kind, what))

    def run(self) -> Outcome:
        work, num = self.work, len(self.routers)
        for i, router in enumerate(self.routers):
            router.update(dict.fromkeys(self.urls, Load()))
            self.push(work.exchange_s * (i + 1) / num, _EXCHANGE, i)
        slots = work.in_flight * len(self.urls)
        for slot in range(min(slots, self.total)):
            # A job starts its rollouts over the time of a first turn or so, as its processes come up.
            self.begin(10.0 * slot / slots, slot % num)
        now = 0.0
        while self.done < self.total:
            now, _, kind, what = heapq.heappop(self.events)
            if kind == _ENGINE:
                assert isinstance(what, int)
                engine = self.engines[what]
                if engine.next_event() == now:
                    for request in engine.advance(now):
                        self.answered(now, request)
                    if (at := engine.next_event()) is not None:
                        self.push(at, _ENGINE, what)
            elif kind == _ASK:
                assert isinstance(what, _Rollout)
                self.ask(now, what)
            else:
                assert isinstance(what, int)
                self.exchange(now, what)
        return self.outcome(now)

    def begin(self, now: float, worker: int) -> None:
        number, self.begun = self.begun, self.begun + 1
        draw = random.Random(self.seed << 32 | number)
        turns = max(1, round(_draw(draw, self.work.turns)))
        domain = draw.randrange(self.work.domains)
        rollout = _Rollout(f"{number:x}", worker, domain, self.work.domains + number, draw, turns, 0, now)
        self.push(now, _ASK, rollout)

    def ask(self, now: float, rollout: _Rollout) -> None:
        work, draw = self.work, rollout.random
        url = self.routers[rollout.worker].route(rollout.name)
        self.moves += bool(rollout.last) and url != rollout.last
        rollout.last = url
        rollout.context += max(1, round(_draw(draw, work.input_tokens)))
        chain = ((rollout.domain, work.shared_tokens), (rollout.text, rollout.context))
        request = Request(chain, max(1, round(_draw(draw, work.output_tokens))), rollout.text)
        self.asked[request] = rollout
        replica = self.index[url]
        engine = self.engines[replica]
        before = engine.next_event()
        assert before is None or before >= now
        engine.submit(now, request)
        if (at := engine.next_event()) is not None and at != before:
            self.push(at, _ENGINE, replica)

    def answered(self, now: float, request: Request) -> None:
        rollout = self.asked.pop(request)
        router, work = self.routers[rollout.worker], self.work
        rollout.context += request.output_tokens
        rollout.turns_left -= 1
        self.made.append((now, request.output_tokens))
        router.answered(rollout.name)
        router.spent(rollout.name, work.shared_tokens + rollout.context)
        if rollout.turns_left:
            by_user = rollout.random.random() < work.user_share
            self.push(now + _draw(rollout.random, work.user_s if by_user else work.tool_s), _ASK, rollout)
            return
        router.end(rollout.name)
        self.durations.append(now - rollout.started_s)
        self.done += 1
        if self.begun < self.total:
            self.begin(now, rollout.worker)

    def exchange(self, now: float, worker: int) -> None:
        router = self.routers[worker]
        if own := router.loads():
            view = {}
            for url, load, before, total in zip(self.urls, own.values(), self.board[worker], self.sums, strict=True):
                if load is not before:
                    total[0] += load.sessions - before.sessions
                    total[1] += load.tokens - before.tokens
                view[url] = Load(total[0] - load.sessions, total[1] - load.tokens)
            self.board[worker] = list(own.values())
            router.update(view)
        if worker == 0:
            self.busy.append((now, sum(engine.busy_s(now) for engine in self.engines)))
            self.usage.append((now, sum(engine.kv_usage for engine in self.engines) / len(self.engines)))
        self.push(now + self.work.exchange_s, _EXCHANGE, worker)

    def outcome(self, now: float) -> Outcome:
        tokens = sum(tokens for _, tokens in self.made)
        so_far, until = 0, now
        for at, made in self.made:
            so_far += made
            if so_far >= 0.95 * tokens:
                until = at
                break
        busy = sum(engine.busy_s(now) for engine in self.engines)
        until_seen, busy_until = max((seen for seen in self.busy if seen[0] <= until), default=(now, busy))
        usage = [used for at, used in self.usage if at <= until]
        return Outcome(
            makespan_s=now,
            output_tokens=tokens,
            hit_rate=sum(e.hit_tokens for e in self.engines) / sum(e.queried_tokens for e in self.engines),
            busy_s=busy,
            busy_until_95_s=busy_until,
            until_95_s=until_seen,
            rollout_s=sorted(self.durations),
            preemptions=sum(e.preemptions for e in self.engines),
            moves=self.moves,
            kv_usage=sum(usage) / max(1, len(usage)),
        )


def _draw(draw: random.Random, tail: LongTail) -> float:
    return min(tail.most, tail.median * draw.lognormvariate(0.0, tail.sigma))
