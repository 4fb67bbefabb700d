"""Measure something and print it as one flat JSON object, the last line of stdout.

python -m jobs.bench                          lists what there is and how long each takes
python -m jobs.bench world domain=airline     measures; `--help` after the name lists its keys
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module

from jobs.compose import refuse


@dataclass(frozen=True, slots=True)
class Bench:
    what: str
    takes: str


# Each is a module of this package with `main(arguments) -> int`, and a file conf/bench_<name>.yaml.
BENCHES = {
    "world": Bench("a rollout's work on a world beside the same statements on bare SQLite", "20 s"),
    "soundness": Bench(
        "the verifier's error rates on held-out mutants, beside an independent oracle", "1 min a domain"
    ),
    "tasks": Bench(
        "tasks from walks, the whole path (walk, words, compile, soundness), and where the time goes", "1 min"
    ),
    "loop": Bench("processor time a model call over all our actors, beside a bare aiohttp loop", "8 min"),
    "saturation": Bench("a job's tokens/s on real vLLM, beside the same prompts fed open-loop", "17 min"),
    "fleet": Bench("routing over up to 256 simulated replicas, beside four other policies", "2 to 9 min"),
    "scaling": Bench("one to eight Ray nodes on this machine, equal work a node", "5 min"),
    "chaos": Bench("SIGKILL over every kind of process, then what is lost or twice", "5 min for 20 rounds"),
    "tau2": Bench("judging a τ² conversation, beside the package's own evaluator", "1 min"),
    "tau2_differential": Bench("random conversations on τ² worlds, beside the package's own environment", "15 min"),
    "volume": Bench("a million short rollouts: rate, and memory that stays flat", "6 min"),
}


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("--help", "-h"):
        print("python -m jobs.bench <what> key=value …   (times on 2 cores)\n")
        for name, bench in BENCHES.items():
            print(f"  {name:18}{bench.what}; {bench.takes}")
        return 0
    if arguments[0] not in BENCHES:
        refuse(f"jobs.bench {arguments[0]}: no such bench ({', '.join(BENCHES)})")
    return import_module(f"jobs.bench.{arguments[0]}").main(arguments[1:])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
