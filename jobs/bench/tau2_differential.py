"""Random conversations on τ² worlds, ours beside the package's own environment: the same tool texts, databases and rewards?

A conversation is played in the package's environment, fresh from its constructor, and in ours, on the shared database; then the package's
evaluators and our `score` judge it. The package plays each conversation in a forked process with environments loaded before the fork,
since loading takes most of its time; ours play in one process, one after the other on the same live database, as rollouts do.
"""

from __future__ import annotations

import gc
import multiprocessing
import sys
import time
import warnings
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from agentscaler.adapters.tau2.live import LiveWorld, Tau2Environment, isolated, json_text, tried
from agentscaler.adapters.tau2.package import load_domain
from agentscaler.adapters.tau2.score import begin, score
from agentscaler.canonical import digest
from agentscaler.errors import ConfigError
from jobs.bench.tau2_sequences import Answer, Draw, Material, draws_of, play
from jobs.compose import compose, refuse

KITS = (("agent", "tools"), ("user", "user_tools"))


class Tau2DifferentialBench(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    domains: tuple[str, ...] = Field(min_length=1)
    sequences: int = Field(ge=1)
    seed: int
    processes: int = Field(ge=1)


@dataclass(frozen=True, slots=True)
class Seen:
    """What one side saw of a conversation. `ends` are the digests of all records that differ from the loaded ones."""

    answers: list[Answer]
    ends: str
    db_match: bool | None
    reward: float | None
    failure: str = ""  # of the package's evaluator: it raises where an assertion cannot be asked


def main(arguments: list[str]) -> int:
    config = compose("bench_tau2_differential", Tau2DifferentialBench, arguments)
    warnings.filterwarnings("ignore", module="pydantic")  # tools take values of the wrong type and dump them
    try:
        print(orjson.dumps(measure(config)).decode())
    except ConfigError as error:
        refuse(str(error))
    return 0


def measure(config: Tau2DifferentialBench) -> dict[str, float | int]:
    began = time.monotonic()
    figures: dict[str, float | int] = {
        "sequences": 0,
        "differences": 0,
        "calls": 0,
        "errors": 0,
        "rewarded": 0,
        "unjudged": 0,
    }
    for name in config.domains:
        domain = load_domain(name)
        material = Material.of(domain.environment(), domain.tasks("base"))
        world = LiveWorld(domain)
        moved = 0
        for number, (seed, theirs) in enumerate(
            zip(seeds_of(config), their_side(config, name, material), strict=True), 1
        ):
            ours, shared = play_ours(world, material, seed)
            figures["sequences"] += 1
            figures["calls"] += len(ours.answers)
            figures["errors"] += sum(error for _, error in ours.answers)
            figures["rewarded"] += bool(ours.reward)
            figures["unjudged"] += bool(theirs.failure)
            moved += world.is_shared and not shared
            for what in differing(ours, theirs):
                figures["differences"] += 1
                say(f"{name}, sequence {seed}: {what}")
            if number % 200 == 0:
                say(f"{time.monotonic() - began:4.0f} s: {name} {number} of {config.sequences}")
        figures[f"own_databases_{name}"] = moved if world.is_shared else config.sequences
    return figures | {"seconds": round(time.monotonic() - began, 1)}


def differing(ours: Seen, theirs: Seen) -> Iterator[str]:
    for number, (one, other) in enumerate(zip(ours.answers, theirs.answers, strict=True), 1):
        if one != other:
            yield f"call {number}: {other[0][:200]!r} is {one[0][:200]!r} here"
    if ours.ends != theirs.ends:
        yield "the databases differ"
    if not theirs.failure and (ours.db_match, ours.reward) != (theirs.db_match, theirs.reward):
        yield f"match {theirs.db_match}, reward {theirs.reward}; here {ours.db_match}, {ours.reward}"


def play_ours(world: LiveWorld, material: Material, seed: int) -> tuple[Seen, bool]:
    """And whether it could stay on the shared database."""
    task, draws = draws_of(material, seed)
    environment = world.open()
    begin(environment, task)

    def call(draw: Draw) -> Answer:
        return environment.call(draw.requestor, draw.tool, draw.arguments)

    answers, _, said = play(task, draws, call)
    ends = _digest_of(world, environment)
    given = score(world, task, environment, said, "user_stop")
    return Seen(answers, ends, given.db_match, given.reward), environment.is_shared


def _digest_of(world: LiveWorld, environment: Tau2Environment) -> str:
    if environment.is_shared:
        return digest({"/".join(place): text for place, text in environment.changes().items()})
    return environment.take(lambda own: _end(own, world.domain.environment()))


def _end(environment: Any, loaded: Any) -> str:
    """Digest of the records that differ, written as the live world names them; of whole databases where they hold none."""
    found: dict[str, str] = {}
    for whose, attribute in KITS:
        kit, before = getattr(environment, attribute), getattr(loaded, attribute)
        if kit is None or kit.db is None:
            continue
        for name, records in kit.db.__dict__.items():
            old = before.db.__dict__[name]
            if not isinstance(records, dict):
                if json_text_of(records) != json_text_of(old):
                    found[f"{whose}/{name}"] = json_text_of(records)
                continue
            for key in records.keys() | old.keys():
                text = json_text_of(records[key]) if key in records else ""
                if key not in old or text != json_text_of(old[key]):
                    found[f"{whose}/{name}/{key}"] = text
    return digest(found)


def json_text_of(value: Any) -> str:
    return (
        json_text([item.model_dump() if isinstance(item, BaseModel) else item for item in value])
        if isinstance(value, list)
        else json_text(value)
    )


def their_side(config: Tau2DifferentialBench, name: str, material: Material) -> Iterator[Seen]:
    """What the package saw of each conversation, in order. `processes` of them are played ahead."""
    domain = load_domain(name)
    loaded = [isolated(domain.environment()) for _ in range(4)]
    gc.freeze()  # else the collector's marks copy every page
    forked = multiprocessing.get_context("fork")
    running: deque[tuple[BaseProcess, Connection]] = deque()
    for seed in (*seeds_of(config), *[None] * config.processes):
        if seed is not None:
            receiving, sending = forked.Pipe(duplex=False)
            process = forked.Process(target=_play_and_send, args=(sending, material, loaded, seed))
            process.start()
            sending.close()
            running.append((process, receiving))
        if running and (seed is None or len(running) > config.processes):
            process, receiving = running.popleft()
            try:
                yield receiving.recv()
            except EOFError:
                raise RuntimeError(f"{name}: the package's side of a conversation failed, see above") from None
            process.join()
            receiving.close()


def _play_and_send(sending: Connection, material: Material, loaded: list[Any], seed: int) -> None:
    sending.send(play_theirs(material, loaded, seed))


def seeds_of(config: Tau2DifferentialBench) -> range:
    return range(config.seed * 1_000_003, config.seed * 1_000_003 + config.sequences)


def play_theirs(material: Material, loaded: list[Any], seed: int) -> Seen:
    from tau2.evaluator.evaluator_action import ActionEvaluator
    from tau2.evaluator.evaluator_communicate import CommunicateEvaluator
    from tau2.evaluator.evaluator_env import EnvironmentEvaluator

    task, draws = draws_of(material, seed)
    played, predicted, reference, pristine = loaded
    state = task.initial_state
    played.set_state(
        state.initialization_data if state else None,
        state.initialization_actions if state else None,
        (state.message_history if state else None) or [],
    )

    def call(draw: Draw) -> Answer:
        from tau2.data_model.message import ToolCall

        made = ToolCall(id="call", name=draw.tool, arguments=draw.arguments, requestor=draw.requestor)
        answer = played.get_response(made)
        return answer.content or "", answer.error

    answers, messages, _ = play(task, draws, call)
    end = _end(played, pristine)
    fresh = iter((predicted, reference))
    env, error = tried(
        lambda new: EnvironmentEvaluator.calculate_reward(new, task, messages), lambda solo_mode=False: next(fresh)
    )
    if error is not None:
        return Seen(answers, end, None, None, f"{type(error).__name__}: {error}")
    match = env.db_check.db_match if env.db_check else None
    basis = {kind.value for kind in task.evaluation_criteria.reward_basis} if task.evaluation_criteria else set()
    reward = env.reward
    if "COMMUNICATE" in basis:
        reward *= CommunicateEvaluator.calculate_reward(task, messages).reward
    if "ACTION" in basis:
        reward *= ActionEvaluator.calculate_reward(task, messages).reward
    return Seen(answers, end, match, None if "NL_ASSERTION" in basis and reward else reward)


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
