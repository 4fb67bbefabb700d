"""Where requests go, compared: our router against round robin, random, consistent hash and pure least-loaded, over simulated replicas.

Virtual time (`fleet_simulation.py`), the engine's model as in `cluster/sim_engine/model.py`. Every policy plays the same rollouts on the
same fleet. Keys end in `_<replicas>_<policy>`; `worst_fraction_of_best` is the least, over sizes and over tokens/s, hit rate, busy
fraction (ours / best of all) and p50, p90, p99 of a rollout's time (best of all / ours). `busy_until_last_5pct` is the share of replica
time with work until 95 % of the output tokens were there, the least over sizes.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Annotated, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, model_validator

from cluster.sim_engine.config import SimConfig
from jobs.bench.drawing import save
from jobs.bench.fleet_policies import OURS, POLICIES
from jobs.bench.fleet_simulation import Outcome, Workload, play
from jobs.compose import compose

# Key, title in the picture, and whether more is better.
MEASURES = {
    "tokens_per_s": ("output tokens/s", True),
    "hit_rate": ("prefix cache hit rate", True),
    "busy_fraction": ("busy fraction of replica time", True),
    "p50_s": ("rollout time, p50 (s)", False),
    "p90_s": ("rollout time, p90 (s)", False),
    "p99_s": ("rollout time, p99 (s)", False),
}
Figures = dict[str, float]


class FleetBench(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    sizes: tuple[int, ...] = Field(min_length=1)
    policies: tuple[str, ...]
    seed: int
    processes: Annotated[int, Field(ge=1)] | Literal["cores"]
    workload: Workload
    engine: SimConfig

    @model_validator(mode="after")
    def _known(self) -> FleetBench:
        if unknown := sorted(set(self.policies) - POLICIES.keys()):
            raise ValueError(f"policies: {unknown[0]} is none of {', '.join(POLICIES)}")
        if OURS not in self.policies or len(set(self.policies)) < 2:
            raise ValueError(f"policies: {OURS} and at least one other")
        if min(self.sizes) < 1:
            raise ValueError("sizes: at least 1 replica")
        return self


def main(arguments: list[str]) -> int:
    config = compose("bench_fleet", FleetBench, arguments)
    start = time.monotonic()
    outcomes = play_all(config)
    figures = {key: describe(outcome, key[0]) for key, outcome in outcomes.items()}
    worst, where = worst_fraction(config, figures)
    flat: dict[str, float | str] = {
        "worst_fraction_of_best": round(worst, 4),
        "worst_measure": where,
        "busy_until_last_5pct": round(min(figures[size, OURS]["busy_until_last_5pct"] for size in config.sizes), 4),
    }
    for (size, policy), measured in figures.items():
        flat |= {f"{name}_{size}_{policy}": value for name, value in measured.items()}
    flat |= {"seed": config.seed, "figure": draw(config, figures), "seconds": round(time.monotonic() - start, 1)}
    print(orjson.dumps(flat).decode())
    return 0


def play_all(config: FleetBench) -> dict[tuple[int, str], Outcome]:
    """The long ones first."""
    runs = [(size, policy) for size in sorted(config.sizes, reverse=True) for policy in config.policies]
    start, outcomes = time.monotonic(), dict[tuple[int, str], Outcome]()
    for (size, policy), outcome in _play_each(config, runs):
        outcomes[size, policy] = outcome
        words = ", ".join(f"{name} {value:g}" for name, value in describe(outcome, size).items())
        print(f"{time.monotonic() - start:5.0f} s: {size} replicas, {policy}: {words}", file=sys.stderr, flush=True)
    return {run: outcomes[run] for run in sorted(runs, key=lambda run: (run[0], config.policies.index(run[1])))}


def _play_each(config: FleetBench, runs: list[tuple[int, str]]) -> Iterator[tuple[tuple[int, str], Outcome]]:
    """Outcomes as they come."""
    work, engine, seed = config.workload, config.engine, config.seed
    processes = (os.cpu_count() or 1) if config.processes == "cores" else config.processes
    if processes == 1:
        for size, policy in runs:
            yield (size, policy), play(policy, size, work, engine, seed)
        return
    with ProcessPoolExecutor(min(processes, len(runs)), multiprocessing.get_context("forkserver")) as pool:
        waiting = {pool.submit(play, policy, size, work, engine, seed): (size, policy) for size, policy in runs}
        for future in as_completed(waiting):
            yield waiting[future], future.result()


def describe(outcome: Outcome, num_replicas: int) -> Figures:
    replica_s = outcome.makespan_s * num_replicas
    return {
        "tokens_per_s": round(outcome.output_tokens / outcome.makespan_s, 1),
        "hit_rate": round(outcome.hit_rate, 4),
        "p50_s": round(quantile(outcome.rollout_s, 0.5), 2),
        "p90_s": round(quantile(outcome.rollout_s, 0.9), 2),
        "p99_s": round(quantile(outcome.rollout_s, 0.99), 2),
        "busy_fraction": round(outcome.busy_s / replica_s, 4),
        "idle_s": round(replica_s - outcome.busy_s, 1),
        "busy_until_last_5pct": round(outcome.busy_until_95_s / (outcome.until_95_s * num_replicas), 4),
        "kv_usage": round(outcome.kv_usage, 3),
        "preemptions": outcome.preemptions,
        "moves": outcome.moves,
    }


def quantile(ascending: list[float], share: float) -> float:
    """The least value that at least this share of all reach or stay below."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


def worst_fraction(config: FleetBench, figures: dict[tuple[int, str], Figures]) -> tuple[float, str]:
    """Ours beside the best of all policies, in the measure and at the size where it is worst."""
    fractions = []
    for size in config.sizes:
        for name, (_, more_is_better) in MEASURES.items():
            values = {policy: figures[size, policy][name] for policy in config.policies}
            best = (max if more_is_better else min)(values, key=lambda policy: values[policy])
            fraction = values[OURS] / values[best] if more_is_better else values[best] / values[OURS]
            fractions.append((fraction, f"{name}_{size} (best: {best})"))
    return min(fractions)


def draw(config: FleetBench, figures: dict[tuple[int, str], Figures]) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7))
    axes = figure.subplots(2, 3)
    width = 0.8 / len(config.policies)
    for axis, (name, (title, _)) in zip(axes.flat, MEASURES.items(), strict=True):
        for i, policy in enumerate(config.policies):
            places = [at + (i - (len(config.policies) - 1) / 2) * width for at in range(len(config.sizes))]
            heights = [figures[size, policy][name] / (size if name == "tokens_per_s" else 1) for size in config.sizes]
            axis.bar(places, heights, width * 0.92, label=policy.replace("_", " "))
        axis.set_xticks(range(len(config.sizes)), [f"{size} replicas" for size in config.sizes])
        axis.set_title(title + (" a replica" if name == "tokens_per_s" else ""), fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.tight_layout()
    figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=len(labels), frameon=False)
    return save(figure, "fleet")
