"""Judging a τ² conversation: ours beside the package's own evaluator, in one process, by turns.

A conversation is the reference's calls of a task as an agent would make them. Ours: open an environment, bring it to the task's beginning,
make the calls again, take the reference to its end, compare both ends, judge. The package's: its evaluators on the same messages, which do
the same from databases that they load. `speedup_<domain>` takes the reference to its end anew for every conversation, as the package does;
`speedup_<domain>_kept` keeps it, as a job with several rollouts a task does.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from agentscaler.adapters.tau2.live import LiveWorld
from agentscaler.adapters.tau2.package import load_domain
from agentscaler.adapters.tau2.score import begin, score
from agentscaler.errors import ConfigError
from jobs.bench.tau2_sequences import Answer, Draw, play, said_in
from jobs.compose import compose, refuse


class Tau2Bench(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    domains: tuple[str, ...] = Field(min_length=1)
    tasks: int = Field(ge=1)


def main(arguments: list[str]) -> int:
    config = compose("bench_tau2", Tau2Bench, arguments)
    try:
        print(orjson.dumps(measure(config)).decode())
    except ConfigError as error:
        refuse(str(error))
    return 0


def measure(config: Tau2Bench) -> dict[str, float | int]:
    figures: dict[str, float | int] = {}
    for name in config.domains:
        domain = load_domain(name)
        began = time.perf_counter()
        world = LiveWorld(domain)
        figures[f"load_ms_{name}"] = round((time.perf_counter() - began) * 1e3, 1)
        tasks = domain.tasks("base")[: config.tasks]
        figures[f"tasks_{name}"] = len(tasks)
        times: dict[str, list[float]] = {"ours": [], "kept": [], "theirs": []}
        for number, task in enumerate(tasks, 1):
            messages = reference_conversation(world, task)
            world.reference_ends.clear()
            times["theirs"].append(seconds(theirs, domain, task, messages))
            times["ours"].append(seconds(ours, world, task, messages))
            times["kept"].append(seconds(ours, world, task, messages))
            if number % 10 == 0:
                print(f"{name}: {number} of {len(tasks)} tasks", file=sys.stderr, flush=True)
        for side, values in times.items():
            figures[f"{side}_ms_{name}"] = round(statistics.median(values) * 1e3, 3)
        figures[f"speedup_{name}"] = round(sum(times["theirs"]) / sum(times["ours"]), 1)
        figures[f"speedup_{name}_kept"] = round(sum(times["theirs"]) / sum(times["kept"]), 1)
    return figures


def seconds(judge: Callable[..., float], *of: Any) -> float:
    began = time.perf_counter()
    reward = judge(*of)
    took = time.perf_counter() - began
    if reward != 1.0:
        raise RuntimeError(f"a reference conversation got the reward {reward}")
    return took


def reference_conversation(world: LiveWorld, task: Any) -> list[Any]:
    environment = world.open()
    begin(environment, task)
    criteria = task.evaluation_criteria
    draws: list[Draw | str] = [Draw(a.requestor, a.name, a.arguments) for a in criteria.actions or ()]
    draws += [f"That is {text}." for text in criteria.communicate_info or ()]

    def call(draw: Draw) -> Answer:
        return environment.call(draw.requestor, draw.tool, draw.arguments)

    return play(task, draws, call)[1]


def ours(world: LiveWorld, task: Any, messages: list[Any]) -> float:
    environment = world.open()
    begin(environment, task)
    for message in messages:
        for call in getattr(message, "tool_calls", None) or ():
            environment.call(call.requestor, call.name, call.arguments)
    return score(world, task, environment, said_in(messages), "user_stop").reward or 0.0


def theirs(domain: Any, task: Any, messages: list[Any]) -> float:
    from tau2.evaluator.evaluator_action import ActionEvaluator
    from tau2.evaluator.evaluator_communicate import CommunicateEvaluator
    from tau2.evaluator.evaluator_env import EnvironmentEvaluator

    basis = {kind.value for kind in task.evaluation_criteria.reward_basis}
    reward = EnvironmentEvaluator.calculate_reward(domain.environment, task, messages).reward
    if "COMMUNICATE" in basis:
        reward *= CommunicateEvaluator.calculate_reward(task, messages).reward
    if "ACTION" in basis:
        reward *= ActionEvaluator.calculate_reward(task, messages).reward
    return reward
