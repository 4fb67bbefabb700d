"""How full our rollouts keep a real engine: output tokens a second of a multi-turn job over those of the same requests open-loop.

The engine is vLLM on CPU with SmolLM2, bound to one core; everything else is bound to another. A pair is a rollout job as it is (driver,
dispatcher, environment actor, committer), whose requests are recorded on their way, and then a bare client that sends the very same
bodies in the same order, as many in flight, none waiting for another. Answers have a forced length, so both sides make the same number of
tokens. The prefix cache is emptied before each side. Both are timed from the first request to the last answer: the tail, when the last
conversations no longer fill the engine, counts against us in full.

Calls of tools are left to the model (`tool_choice=auto`): a grammar would end an answer at a length of its own. People have a row of things
to say, so conversations have many turns whatever the model says.
"""

from __future__ import annotations

import asyncio
import logging
import os
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import aiohttp
import orjson
from pydantic import BaseModel, ConfigDict, Field, field_validator

from agentscaler.domain.domain import Domain
from agentscaler.domain.store import load_domain, write_domains
from agentscaler.errors import ConfigError
from agentscaler.shards.files import write_tasks
from agentscaler.tasks.load import DOMAINS_FILE
from agentscaler.tasks.task import Kind, Task, WrittenTask
from cluster.config import DomainChoice, RolloutConfig
from cluster.engine import EngineConfig, preflight
from cluster.engine_metrics import EngineFigures, parse_metrics
from cluster.engine_process import EngineError, EngineProcess
from cluster.handles import Crew
from cluster.plan import TASKS_FILE, open_output, prepare
from cluster.rollouts import JobFailed, run_rollouts
from cluster.session import crew
from jobs.bench.drawing import save
from jobs.bench.saturation_recorder import Recorder, Recording
from jobs.compose import compose, redacted_yaml, refuse

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OPENING = "Hello. I have a few questions about the notes that I keep here. Tell me first what you can do for me."
THINGS_TO_SAY = (
    "I see. Then tell me about the notes in my folder Travel, and which of them I wrote last.",
    "Good. And what is there about the garden, the kitchen and the car? I may have filed those under Home.",
    "I would also like to know which of my notes are shared with somebody, and with whom.",
    "Thank you. Now think about the tags: some of them are hardly used, and I want to hear which.",
    "Fine. Put the most important things that you have told me so far in order, with a word on each.",
    "That helps. Say it once more, shorter, as you would on the telephone.",
    "Very good. Last of all, tell me what you would tidy up first if these notes were yours.",
)


class SaturationBench(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    domain: DomainChoice
    engine: Literal["smollm2", "sim"]
    max_num_seqs: int = Field(ge=1)
    in_flight: int = Field(ge=1)
    rollouts: int = Field(ge=1)
    turns: tuple[int, ...] = Field(min_length=1)
    output_tokens: int = Field(ge=1)
    pairs: int = Field(ge=1)
    cores: tuple[int, int] | Literal["auto"]

    @field_validator("turns")
    @classmethod
    def _can_be_said(cls, turns: tuple[int, ...]) -> tuple[int, ...]:
        if not all(1 <= number <= len(THINGS_TO_SAY) + 1 for number in turns):
            raise ValueError(f"each from 1 to {len(THINGS_TO_SAY) + 1}")
        return turns


@dataclass(frozen=True, slots=True)
class Side:
    tokens: int
    seconds: float
    hits: int
    queries: int

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.seconds

    @property
    def hit_rate(self) -> float:
        return self.hits / max(1, self.queries)


def main(arguments: list[str]) -> int:
    config = compose("bench_saturation", SaturationBench, arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    try:
        print(orjson.dumps(measure(config)).decode())
    except ConfigError as error:
        refuse(str(error))
    except (JobFailed, EngineError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    return 0


def measure(config: SaturationBench) -> dict[str, float | int | str]:
    began = time.monotonic()
    pairs: list[tuple[Side, Side]] = []
    requests = 0
    with bound_to(cores_of(config)) as (engine_core, _), tempfile.TemporaryDirectory(prefix="as-saturation-") as folder:
        domain = load_domain(config.domain.name, config.domain.path)
        write_tasks(Path(folder) / TASKS_FILE, tasks_of(config, domain))
        write_domains([domain], Path(folder) / DOMAINS_FILE)
        with engine_on(engine_core, engine_config(config), Path(folder) / "engine.log") as engine:
            say(began, "the engine answers")
            recorder = Recorder(engine.url)
            with recorder.serving() as url, crew("local") as hands:
                for number in range(config.pairs):
                    recording = recorder.start_anew()
                    reset_cache(engine)
                    ours = side(engine, recording, play(config, url, Path(folder), number, hands))
                    requests = len(recording.bodies)
                    replayed = Recording()
                    reset_cache(engine)
                    other = side(engine, replayed, replay(config, engine.url, recording.bodies, replayed))
                    if (ours.tokens, requests) != (other.tokens, len(replayed.bodies)):
                        raise JobFailed(f"the sides differ: {ours.tokens} tokens and {other.tokens}")
                    pairs.append((ours, other))
                    say(
                        began,
                        f"pair {number + 1}: {requests} requests, {ours.tokens} tokens; {ours.tokens_per_s:.1f} tokens/s, "
                        f"open-loop {other.tokens_per_s:.1f}: {ours.tokens_per_s / other.tokens_per_s:.3f}; "
                        f"cache hits {ours.hit_rate:.3f} and {other.hit_rate:.3f}",
                    )
    ratios = [ours.tokens_per_s / other.tokens_per_s for ours, other in pairs]
    return {
        "tokens_per_s": round(statistics.median(ours.tokens_per_s for ours, _ in pairs), 2),
        "open_loop_tokens_per_s": round(statistics.median(other.tokens_per_s for _, other in pairs), 2),
        "ratio": round(statistics.median(ratios), 4),
        "ratio_least": round(min(ratios), 4),
        "ratio_most": round(max(ratios), 4),
        "prefix_cache_hit_rate": round(statistics.median(ours.hit_rate for ours, _ in pairs), 4),
        "open_loop_prefix_cache_hit_rate": round(statistics.median(other.hit_rate for _, other in pairs), 4),
        "pairs": config.pairs,
        "rollouts": config.rollouts,
        "requests": requests,
        "tokens": pairs[-1][0].tokens,
        "max_num_seqs": config.max_num_seqs,
        "in_flight": config.in_flight,
        "figure": save(draw(pairs), "saturation"),
        "seconds": round(time.monotonic() - began, 1),
    }


def cores_of(config: SaturationBench) -> tuple[int, int]:
    free = sorted(os.sched_getaffinity(0))
    if config.cores != "auto":
        if missing := set(config.cores) - set(free):
            raise ConfigError(f"cores: there is no core {', '.join(map(str, sorted(missing)))}")
        return config.cores
    if len(free) < 2:
        raise ConfigError("cores=auto: needs two cores, one for the engine and one for the harness")
    return free[0], free[1]


@contextmanager
def bound_to(cores: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """This process, and what it starts, on the harness's core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cores[1]})
    try:
        yield cores
    finally:
        os.sched_setaffinity(0, before)


def engine_config(config: SaturationBench) -> EngineConfig:
    job = compose("rollout", RolloutConfig, ["domain=notes", f"teacher={config.engine}"])
    engine = job.teacher.engine
    assert engine is not None
    if engine.kind == "sim":
        return engine.model_copy(update={"sim": engine.sim | {"max_num_seqs": config.max_num_seqs}})
    return engine.model_copy(update={"max_num_seqs": config.max_num_seqs})


@contextmanager
def engine_on(core: int, config: EngineConfig, log: Path) -> Iterator[EngineProcess]:
    """All its processes and threads are born on that core."""
    preflight(config)
    engine = EngineProcess(config, log)
    own, developer = os.sched_getaffinity(0), os.environ.get("VLLM_SERVER_DEV_MODE")
    os.environ["VLLM_SERVER_DEV_MODE"] = "1"  # has the page that empties the prefix cache
    os.sched_setaffinity(0, {core})
    try:
        engine.launch()
    finally:
        os.sched_setaffinity(0, own)
        if developer is None:
            del os.environ["VLLM_SERVER_DEV_MODE"]
    try:
        while engine.state() != "ready":
            time.sleep(0.5)
        engine.warm_up()
        yield engine
    finally:
        engine.stop()


def tasks_of(config: SaturationBench, domain: Domain) -> Iterator[Task]:
    """People who talk for a given number of turns. Nothing is to be changed; the verdict is of no interest here."""
    for index in range(config.rollouts):
        turns = config.turns[index % len(config.turns)]
        written = WrittenTask(
            id=f"talk_{index}", kind=Kind.IRRELEVANT, intent=f"{OPENING} ({index})", then=THINGS_TO_SAY[: turns - 1]
        )
        yield Task(
            written=written,
            domain=domain.name,
            domain_fingerprint=domain.fingerprint,
            expected_diff={},
            expected_calls=(),
        )


async def play(config: SaturationBench, url: str, folder: Path, number: int, hands: Crew) -> None:
    length = config.output_tokens
    arguments = [
        f"tasks={folder / TASKS_FILE}",
        f"teacher={config.engine}",
        "teacher.kind=endpoint",
        "teacher.engine=null",
        f"++teacher.base_urls=[{url}]",
        "teacher.timeout_s=600",
        "++teacher.chat.tool_choice=auto",
        "++teacher.chat.strict=false",
        "++teacher.chat.speak=free",
        "++teacher.chat.shots=0",
        "++teacher.chat.return_token_ids=true",
        f"++teacher.chat.sampling={{temperature: 1.0, max_tokens: {length}, min_tokens: {length}, ignore_eos: true}}",
        "cluster.workers=1",
        f"cluster.concurrency={config.in_flight}",
        "limits.max_invalid_calls=1000",
        "tracking=none",
    ]
    job = compose("rollout", RolloutConfig, arguments)
    plan = prepare(job, folder / f"output-{number}", redacted_yaml(job))
    ran = await run_rollouts(plan, open_output(plan), job, hands, lambda progress, figures, seconds: None)
    progress = ran.progress
    if progress.finished != config.rollouts or progress.outcomes["void"] or progress.num_faults:
        raise JobFailed(f"of {config.rollouts} rollouts {dict(progress.outcomes)}, {progress.num_faults} faults")


async def replay(config: SaturationBench, url: str, bodies: list[bytes], recording: Recording) -> None:
    """The next request leaves when any answer has come."""
    waiting = iter(bodies)
    headers = {"Content-Type": "application/json"}
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as http:

        async def send() -> None:
            for body in waiting:
                recording.bodies.append(body)
                async with http.post(f"{url}/chat/completions", data=body, headers=headers) as answer:
                    text = await answer.read()
                    if answer.status != 200:
                        raise JobFailed(f"the open loop was answered {answer.status}: {text[:200].decode()}")
                    recording.last_at = time.monotonic()
                    recording.tokens.append(orjson.loads(text)["usage"]["completion_tokens"])

        recording.first_at = time.monotonic()
        await asyncio.gather(*(send() for _ in range(config.in_flight)))


def reset_cache(engine: EngineProcess) -> None:
    """The simulated engine cannot: there the first pair is unequal, our side alone begins with an empty cache."""
    if engine.config.kind == "vllm":
        page = engine.url.removesuffix("/v1") + "/reset_prefix_cache"
        urllib.request.urlopen(urllib.request.Request(page, method="POST"), timeout=60).close()


def side(engine: EngineProcess, recording: Recording, work: Coroutine[None, None, None]) -> Side:
    before = _figures(engine)
    asyncio.run(work)
    after = _figures(engine)
    hits, queries = after.prefix_hits - before.prefix_hits, after.prefix_queries - before.prefix_queries
    return Side(sum(recording.tokens), recording.seconds, hits, queries)


def _figures(engine: EngineProcess) -> EngineFigures:
    with urllib.request.urlopen(engine.url.removesuffix("/v1") + "/metrics", timeout=60) as answer:
        found = parse_metrics(answer.read().decode(), time.monotonic())
    assert found is not None
    return found


def draw(pairs: list[tuple[Side, Side]]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4))
    axis = figure.subplots()
    places = range(1, len(pairs) + 1)
    axis.bar([at - 0.2 for at in places], [ours.tokens_per_s for ours, _ in pairs], 0.38, label="rollout job")
    axis.bar([at + 0.2 for at in places], [other.tokens_per_s for _, other in pairs], 0.38, label="open loop")
    axis.set(xlabel="pair", ylabel="output tokens a second", xticks=list(places))
    axis.legend(frameon=True, loc="lower right")
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def say(began: float, words: str) -> None:
    print(f"{time.monotonic() - began:4.0f} s: {words}", file=sys.stderr, flush=True)
