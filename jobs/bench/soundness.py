"""The verifier's error rates: mutants of references by held-out operators, judged by the verifier and by an independent oracle.

What the two disagree on is worded on stderr, and so are the counts of each operator. The figures do not depend on the number of
processes.
"""

from __future__ import annotations

import os
import sys
import time

import orjson
from pydantic import BaseModel, ConfigDict, Field, model_validator

from agentscaler.errors import ConfigError
from agentscaler.tasks.load import load_tasks
from agentscaler.verify.soundness.rates import Rates, measure
from cluster.config import DomainChoice
from jobs.compose import compose, refuse

MAX_SHOWN = 20  # disagreements


class SoundnessBench(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    domain: DomainChoice | None = None
    tasks: str = "written"
    minimum: int | None = Field(default=None, ge=1)
    seed: int = 0

    @model_validator(mode="after")
    def _one_source(self) -> SoundnessBench:
        if self.tasks != "written" and self.domain is not None:
            raise ValueError("domain: not given where tasks names a file, whose domains lie beside it")
        return self


def main(arguments: list[str]) -> int:
    from_file = any(a.startswith("tasks=") and a != "tasks=written" for a in arguments)
    if not from_file and not any(a.startswith("domain=") for a in arguments):
        arguments = ["domain=notes", *arguments]
    config = compose("bench_soundness", SoundnessBench, arguments)
    start = time.monotonic()
    try:
        name, path = (config.domain.name, config.domain.path) if config.domain else (None, None)
        tasks, domains = load_tasks(config.tasks, name, path)
        processes = min(2, os.cpu_count() or 1)
        minimum = config.minimum or (5000 if config.tasks == "written" else 50_000)
        rates = measure(domains, tasks, minimum, config.seed, processes, _progress)
    except ConfigError as error:
        refuse(str(error))
    _describe(rates)
    seconds = round(time.monotonic() - start, 1)
    print(orjson.dumps({"num_tasks": len(tasks), **rates.figures(), "seconds": seconds}).decode())
    return 0


def _progress(done: int, total: int, mutants: int) -> None:
    if done == total or done % max(1, total // 100) == 0:
        print(f"{done} of {total} tasks, {mutants} mutants", file=sys.stderr)


def _describe(rates: Rates) -> None:
    for name, counts in rates.operators.items():
        print(
            f"{name:24}{counts.mutants:6} mutants{counts.accepted:6} accepted"
            f"{counts.false_pass:4} false pass{counts.false_fail:4} false fail",
            file=sys.stderr,
        )
    for name, count in rates.broken.items():
        print(f"broken verifier {name!r}: {f'caught {count} times' if count else 'NOT CAUGHT'}", file=sys.stderr)
    for one in rates.disagreements[:MAX_SHOWN]:
        print(f"disagreement: {one}", file=sys.stderr)
    for one in rates.oracle_errors[:MAX_SHOWN]:
        print(f"the oracle is wrong: {one}", file=sys.stderr)
