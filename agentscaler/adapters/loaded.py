"""What an adapter's `load` found."""

from __future__ import annotations

from dataclasses import dataclass

from agentscaler.adapters.benchmark import BenchmarkDomain, BenchmarkTask


@dataclass(frozen=True, slots=True)
class Loaded:
    """`broken`: a line for each task that cannot be played, why; those are in no figure. `notes`: what a reader of the figures must know
    of the benchmark's data."""

    tasks: list[BenchmarkTask]
    domains: list[BenchmarkDomain]
    broken: list[str]
    notes: tuple[str, ...] = ()
