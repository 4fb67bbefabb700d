"""SIGKILL at random instants over every kind of process that a rollout job has, until the rounds are over; then nothing may be missing.

A round is one kill. One job takes many: a kill comes uniformly within `window_s` after the job is at work again and has committed
something since the last kill (without that there would be nothing to tear or to double), or, a share `hasty` of the rounds, into its
recovery. Kinds are drawn so that each comes equally often. The driver's death and that of the head's raylet end the job: then the same
command is run again, with more attempts where less work is left than the coming kills need. Engines are simulated (`cluster/sim_engine`)
or, with engine=vllm, real.

`hit_in_flight` counts the rounds whose kill struck work in flight, measured at the instant before the kill by the engines' own /metrics
(requests computed or queued): of the victim's own engine (engine, teacher server), of the engines on its node (second raylet), of all
engines (driver, dispatcher, committer, tracker, head raylet: all rollouts in flight are theirs to finish, count, keep or report). An
environment actor's are those that the driver then says were given back; those of a second raylet's environment actors count for it too.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from jobs.bench import chaos_cluster as cluster
from jobs.bench.chaos_checks import committed_rows, examine, mlflow_status
from jobs.bench.chaos_cluster import JobRun, Kind, OrphanWatch, Part, RayNodes, Seen
from jobs.bench.chaos_figures import Kill, Moment, Tally, draw, figures_of
from jobs.compose import compose, refuse

LOOK_S = 0.3
NUM_TASKS = 45  # of notes
ENDS_JOB_AFTER_S = 60.0  # after its head's raylet died
MAX_BAD_EXITS, BAD_EXITS_AT_END = 10, 3


class ChaosBench(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: Literal["sim", "vllm"]
    rounds: int = Field(ge=1)
    seed: int
    victims: tuple[Kind, ...] | None = Field(min_length=1)
    replicas: int | None = Field(ge=1)
    workers: int = Field(ge=1)
    concurrency: int = Field(ge=1)
    window_s: float = Field(gt=0)
    hasty: float = Field(ge=0, le=1)
    orphan_s: float = Field(gt=0)
    stall_s: float = Field(gt=0)
    output: str | None
    sim: dict[str, float]


def main(arguments: list[str]) -> int:
    config = compose("bench_chaos", ChaosBench, arguments)
    given = Path(config.output) if config.output else None
    if given is not None and given.exists() and any(given.iterdir()):
        refuse(f"output={given}: is not empty")
    folder = given or Path(tempfile.mkdtemp(prefix="as-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    cluster.adopt_descendants()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left of it then either
    chaos = Chaos(config, folder.absolute())
    began = time.monotonic()
    try:
        chaos.play()
    finally:
        chaos.close()
    found = examine(chaos.output, chaos.attempts)
    figures = (
        {"engine": config.engine, "seed": config.seed}
        | figures_of(chaos.tally, found)
        | {
            "seconds": round(time.monotonic() - began, 1),
            "figure": draw(chaos.tally, "chaos" if config.engine == "sim" else f"chaos_{config.engine}"),
        }
    )
    is_clean = not any(
        figures[key] for key in ("lost", "duplicated", "torn", "orphans", "surplus", "bad_exits", "stalls")
    )
    if is_clean and given is None:
        shutil.rmtree(folder)
    else:
        figures["output"] = str(folder)
    print(orjson.dumps(figures).decode())
    return 0


class Chaos:
    """One bench run. `tally` says what happened; `output` and `attempts` what is to be examined."""

    def __init__(self, config: ChaosBench, folder: Path):
        self.config, self.folder = config, folder
        self.output, self.database = folder / "output", folder / "mlflow.db"
        self.attempts = 0
        self.tally = Tally()
        self._random = random.Random(config.seed)
        self._replicas = config.replicas or (4 if config.engine == "sim" else 1)
        self._victims = list(self._draw_victims())
        self._nodes = RayNodes(num_cpus=2)
        self._run: JobRun | None = None
        self._tracked = False
        self._watch = OrphanWatch(config.orphan_s, self._say)
        self._began = time.monotonic()
        self._looked = 0.0
        self._seen = Seen()
        self._in_flight = 0
        self._lacking = ""
        self._surplus_since: float | None = None
        self._last_was_complete, self._last_words = False, ""

    def play(self) -> None:
        self._nodes.start()
        self._began = time.monotonic()
        for number, (kind, is_head) in enumerate(self._victims):
            while not self._strike(number, kind, is_head):
                pass
            last = self.tally.kills[-1]
            self._say(f"round {number + 1}: {kind.value}{' (head)' if is_head else ''}, {last.in_flight} in flight")
        self._finish()

    def close(self) -> None:
        if self._run is not None and not self._run.ended:
            self._run.process.kill()
            self._run.process.wait()
        self._nodes.close()
        for part in cluster.alive(cluster.look(None).all):
            cluster.kill(part.pid)
        cluster.reap()

    # The rounds

    def _draw_victims(self) -> list[tuple[Kind, bool]]:
        """Kind, and whether it is the head's raylet: every third raylet is."""
        few = (Kind.ENGINE, Kind.TEACHER_SERVER, Kind.DRIVER)
        kinds = self.config.victims or (tuple(Kind) if self.config.engine == "sim" else few)
        drawn: list[Kind] = []
        while len(drawn) < self.config.rounds:
            block = list(kinds)
            self._random.shuffle(block)
            drawn += block
        drawn = drawn[: self.config.rounds]
        raylets = [place for place, kind in enumerate(drawn) if kind is Kind.RAYLET]
        heads = set(raylets[1::3])
        return [(kind, place in heads) for place, kind in enumerate(drawn)]

    def _strike(self, number: int, kind: Kind, is_head: bool) -> bool:
        """Wait for the instant, and kill. False where the job ended before it."""
        if self._run is None:
            self._start(number)
        is_hasty = self._random.random() < self.config.hasty and number > 0
        if not self._wait(lambda: self._is_there(kind, is_head) and (is_hasty or self._is_at_work())):
            return False
        instant = time.monotonic() + self._random.uniform(0, self.config.window_s)
        while time.monotonic() < instant:
            time.sleep(max(0.0, min(LOOK_S, instant - time.monotonic())))
            if instant - time.monotonic() > LOOK_S:
                self._look()
        assert self._run is not None
        seen = cluster.look(self._run.process.pid)
        if self._run.ended:
            self._ended()
            return False
        victim, others, engines = self._choose(seen, kind, is_head)
        if victim is None:
            return False
        in_flight = sum(cluster.requests_in(engine) for engine in engines)
        log_start, committed = len(self._run.log.read_bytes()), committed_rows(self.output)
        try:
            cluster.kill(victim)
        except ProcessLookupError:
            return False
        at_s = time.monotonic() - self._began
        ends_job = kind is Kind.DRIVER or is_head
        self.tally.kills.append(Kill(kind, at_s, in_flight, committed, ends_job, self._run.log, log_start))
        self._watch.expect_gone(others, f"after the {kind.value}'s death")
        if ends_job:
            self._bury(is_head)
        elif kind is Kind.RAYLET:
            self._nodes.drop_second()
            self._nodes.add()
        return True

    def _choose(self, seen: Seen, kind: Kind, is_head: bool) -> tuple[int | None, list[Part], list[Part]]:
        """The victim; who must end with it; the engines whose requests are its work in flight."""
        assert self._run is not None
        engines = seen.of(Kind.ENGINE)
        if kind is Kind.DRIVER:
            return self._run.process.pid, [part for part in seen.all if part.kind is not kind], engines
        if kind is Kind.RAYLET:
            raylet = self._nodes.raylet(0 if is_head else 1)
            if raylet is None:
                return None, [], []
            below = cluster.below(raylet.pid)
            there = [part for part in seen.all if part.pid in below]
            return raylet.pid, there, engines if is_head else [one for one in engines if one.pid in below]
        candidates = seen.of(kind)
        if not candidates:
            return None, [], []
        victim = self._random.choice(candidates)
        below = cluster.below(victim.pid)  # a guardian stands between the two
        there = [part for part in (*engines, *seen.others) if part.pid in below]
        if kind is Kind.TEACHER_SERVER:
            return victim.pid, there, [engine for engine in engines if engine.pid in below]
        if kind is Kind.ENGINE:
            return victim.pid, there, [victim]
        return victim.pid, [], engines

    def _bury(self, is_head: bool) -> None:
        """The job is over: see it end, and run the command again at the next chance."""
        run, self._run = self._run, None
        assert run is not None
        if is_head:
            deadline = time.monotonic() + ENDS_JOB_AFTER_S
            while not run.ended and time.monotonic() < deadline:
                time.sleep(LOOK_S)
            self.tally.head_exit_codes.add(run.process.poll())
            if not run.ended:
                self._stalled(run, f"still there {ENDS_JOB_AFTER_S:g} s after its head's raylet died")
                run.process.kill()
            self._nodes.stop()
        run.process.wait()
        self._watch.expect_gone(cluster.look(None).all, "after the job's end")
        self.tally.moments.append(Moment(time.monotonic() - self._began, committed_rows(self.output), 0))
        if is_head:
            self._nodes.start()

    def _finish(self) -> None:
        """No more kills: the job is to complete, and nothing of it to be left."""
        for _ in range(BAD_EXITS_AT_END):
            if self._run is None:
                self._start(len(self._victims))
            self._wait(lambda: False)
            if self._last_was_complete:
                break
        else:
            raise RuntimeError(f"the job does not complete: {self._last_words}")
        self._watch.finish()
        self.tally.orphans = self._watch.num_orphans

    # The job

    def _start(self, number: int) -> None:
        """The same command, with as many attempts as the kills to come need."""
        coming = self._victims[number:]
        ending = next((place for place, (kind, head) in enumerate(coming) if kind is Kind.DRIVER or head), len(coming))
        until = coming[: ending + 1]
        tally, committed = self.tally, committed_rows(self.output)
        elapsed_s = max(time.monotonic() - self._began, 1.0)
        rate = committed / elapsed_s if len(tally.kills) > 2 else self.config.concurrency / 6
        round_s = elapsed_s / len(tally.kills) if len(tally.kills) > 2 else 10.0
        ahead = 4 * self.config.concurrency + 1.3 * rate * round_s * len(until) if until else 0
        self.attempts = max(self.attempts, math.ceil((committed + ahead) / NUM_TASKS), 1)
        self._tracked = any(kind is Kind.TRACKER for kind, _ in until)
        tracking = (
            [f"tracking.uri=sqlite:///{self.database}", "tracking.tick_s=1", "tracking.traces=4"]
            if self._tracked
            else ["tracking=none"]
        )
        if self.config.engine == "sim":
            teacher = [
                "teacher=sim",
                *(f"++teacher.engine.sim.{key}={value:g}" for key, value in self.config.sim.items()),
            ]
        else:
            teacher = ["teacher=smollm2"]
        line = ["domain=notes", *teacher, f"teacher.replicas={self._replicas}", f"output={self.output}", *tracking]
        line += [f"cluster.workers={self.config.workers}", f"cluster.concurrency={self.config.concurrency}"]
        line += [
            "cluster.shard_rollouts=64",
            "cluster.shard_age_s=3",
            "cluster.lease_s=20",
            f"attempts={self.attempts}",
        ]
        tally.runs += 1
        self._say(f"run {tally.runs}: attempts={self.attempts}, {committed} committed{', tracked' * self._tracked}")
        self._run = JobRun(line, self._nodes.environment, self.folder / f"run-{tally.runs:03d}.log")

    def _wait(self, is_so) -> bool:
        """Look until it is so. False where the job ended before."""
        deadline = time.monotonic() + self.config.stall_s
        finished = committed_rows(self.output)
        while True:
            self._look()
            assert self._run is not None
            if self._run.ended:
                self._ended()
                return False
            if is_so():
                return True
            if (now := committed_rows(self.output)) != finished:
                finished, deadline = now, time.monotonic() + self.config.stall_s
            if time.monotonic() > deadline:
                run, self._run = self._run, None
                self._stalled(run, "not at work again")
                run.process.kill()
                run.process.wait()
                return False
            time.sleep(LOOK_S)

    def _ended(self) -> None:
        """By itself: it is complete, or something went wrong."""
        run, self._run = self._run, None
        assert run is not None
        code = run.process.wait()
        self._last_was_complete = code == 0
        self._last_words = (run.words().strip().splitlines() or ["no word"])[-1]
        if code != 0:
            self.tally.bad_exits += 1
            self._say(f"run {self.tally.runs} ended with {code}: {self._last_words}")
            if self.tally.bad_exits > MAX_BAD_EXITS or not self.tally.kills:
                raise RuntimeError(f"the job ended {self.tally.bad_exits} times by itself: {self._last_words}")
        else:
            self.tally.completed += 1
            self._say(f"run {self.tally.runs} is complete; last seen: {self._lacking or 'every part'}")
            if self._tracked:
                self.tally.tracked_completed += 1
                run_id = json.loads((self.output / "summary.json").read_bytes())["mlflow_run_id"]
                self.tally.untracked += not run_id or mlflow_status(self.database, run_id) != "FINISHED"
        self._watch.expect_gone(cluster.look(None).all, "after the job's own end")

    def _stalled(self, run: JobRun, words: str) -> None:
        self.tally.stalls += 1
        self._last_was_complete = False
        self._say(f"stall: {words}; {(run.words().strip().splitlines() or ['no word'])[-1]}")

    # What is seen

    def _look(self) -> None:
        assert self._run is not None
        self._seen = cluster.look(None if self._run.ended else self._run.process.pid)
        self._in_flight = sum(cluster.requests_in(engine, 0.5) for engine in self._seen.of(Kind.ENGINE))
        now = time.monotonic() - self._began
        self.tally.moments.append(Moment(now, committed_rows(self.output), self._in_flight))
        counts = self._counts()
        self._lacking = _differences(counts)
        self._count_surplus(any(there > wanted for there, wanted in counts.values()), time.monotonic())
        if not self._lacking and self._in_flight:
            for kill in self.tally.kills:
                if kill.recovered_s is None:
                    kill.recovered_s = now - kill.at_s
        self._watch.look()
        self._nodes.tend()
        cluster.reap()

    def _is_there(self, kind: Kind, is_head: bool) -> bool:
        if kind is Kind.RAYLET:
            return self._nodes.raylet(0 if is_head else 1) is not None and bool(self._seen.of(Kind.WORKER))
        return bool(self._seen.of(kind))

    def _is_at_work(self) -> bool:
        needed = (Kind.DRIVER, Kind.DISPATCHER, Kind.COMMITTER, Kind.WORKER)
        is_busy = 2 * self._in_flight >= self.config.concurrency and all(self._seen.of(kind) for kind in needed)
        return is_busy and committed_rows(self.output) > self._committed_at_kill()

    def _committed_at_kill(self) -> int:
        """What was committed when the last kill struck."""
        return self.tally.kills[-1].committed if self.tally.kills else 0

    def _counts(self) -> dict[Kind, tuple[int, int]]:
        """By kind: how many there are, and how many there should be."""
        wanted = dict.fromkeys((Kind.DRIVER, Kind.DISPATCHER, Kind.COMMITTER), 1)
        wanted |= {Kind.WORKER: self.config.workers, Kind.TEACHER_SERVER: self._replicas, Kind.ENGINE: self._replicas}
        wanted |= {Kind.TRACKER: int(self._tracked), Kind.RAYLET: 2}
        there = {kind: len(self._seen.of(kind)) for kind in wanted}
        there[Kind.RAYLET] = sum(self._nodes.raylet(node) is not None for node in (0, 1))
        return {kind: (there[kind], count) for kind, count in wanted.items()}

    def _count_surplus(self, too_many: bool, now: float) -> None:
        """Too many of a kind for longer than `orphan_s`: superseded parts live on beside their successors. Counted once each time."""
        if not too_many:
            self._surplus_since = None
        elif self._surplus_since is None:
            self._surplus_since = now
        elif now - self._surplus_since > self.config.orphan_s:
            self._surplus_since = math.inf
            self.tally.surplus += 1
            self._say(f"surplus: {self._lacking}")

    def _say(self, words: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s: {words}", file=sys.stderr, flush=True)


def _differences(counts: dict[Kind, tuple[int, int]]) -> str:
    """What there is too little or too much of; nothing where every part is there once more."""
    return ", ".join(f"{there} of {wanted} {kind.value}" for kind, (there, wanted) in counts.items() if there != wanted)
