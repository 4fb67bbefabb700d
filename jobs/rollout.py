"""Play tasks with a teacher, verify every rollout, write shards: the main job.

python -m jobs.rollout domain=notes teacher=smollm2 attempts=2 output=runs/rollout/first
"""

from __future__ import annotations

import asyncio
import logging
import sys

from cluster.config import RolloutConfig
from cluster.dispatcher import Progress
from cluster.handles import Crew
from cluster.parts import roles
from cluster.plan import Plan, open_output, prepare
from cluster.report import Report, write_summary
from cluster.rollouts import run_rollouts
from cluster.serving import Figures
from cluster.session import crew, preflight_here
from jobs.compose import compose, output_folder, redacted_yaml, tracking_uri
from jobs.display import display
from jobs.ending import ending


def main(arguments: list[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    from_file = any(a.startswith("tasks=") and a != "tasks=written" for a in arguments)
    if not from_file and not any(a.startswith("domain=") for a in arguments):
        arguments = ["domain=notes", *arguments]
    config = compose("rollout", RolloutConfig, arguments)
    return ending(lambda: _start(config))


def _start(config: RolloutConfig) -> int:
    output = output_folder("rollout", config.output, config.output_root)
    plan = prepare(config, output, redacted_yaml(config))
    with crew(config.cluster.kind) as hands:
        preflight_here(*roles(config.teacher, config.user).values())
        return _run(config, plan, open_output(plan), hands)


def _run(config: RolloutConfig, plan: Plan, epoch: int, hands: Crew) -> int:
    with (
        Report(config, plan, tracking_uri(config.tracking.uri, config.output_root), hands) as report,
        display() as show,
    ):

        def on_tick(progress: Progress, figures: Figures, seconds: float) -> None:
            show(progress, figures, seconds)
            report.tick(progress, figures, seconds)

        ran = asyncio.run(run_rollouts(plan, epoch, config, hands, on_tick))
        path = write_summary(plan, config, ran, report)
    print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
