"""Measure a teacher: on public benchmarks, or on held-out tasks of our own worlds; or score a published result file again.

python -m jobs.evaluate benchmark=tau2 domains=[airline] teacher=smollm2 user=simulated trials=2
python -m jobs.evaluate results=<file>
"""

from __future__ import annotations

import asyncio
import logging
import sys

from agentscaler.benchmark import Loaded
from cluster.dispatcher import Progress
from cluster.evaluation import (
    EvaluateConfig,
    closing_words,
    comparison_key,
    evaluation_figures,
    export,
    load_source,
    remarks,
    run_label,
)
from cluster.handles import Crew
from cluster.parts import roles
from cluster.plan import Plan, open_output, prepare
from cluster.report import Report, write_summary
from cluster.rollouts import run_rollouts
from cluster.serving import Figures
from cluster.session import crew, preflight_here
from jobs import rescore
from jobs.compose import compose, output_folder, redacted_yaml, tracking_uri
from jobs.display import display
from jobs.ending import ending


def main(arguments: list[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    if any(argument.startswith("results=") for argument in arguments):
        return rescore.main(arguments)
    config = compose("evaluate", EvaluateConfig, arguments)
    return ending(lambda: _start(config))


def _start(config: EvaluateConfig) -> int:
    output = output_folder("evaluate", config.output, config.output_root)
    source, loaded = load_source(config)
    for line in remarks(config, loaded):
        print(line, file=sys.stderr)
    plan = prepare(config, output, redacted_yaml(config), source)
    with crew(config.cluster.kind) as hands:
        preflight_here(*roles(config.teacher, config.user).values())
        return _run(config, plan, open_output(plan), loaded, hands)


def _run(config: EvaluateConfig, plan: Plan, epoch: int, loaded: Loaded, hands: Crew) -> int:
    uri = tracking_uri(config.tracking.uri, config.output_root)
    with Report(config, plan, uri, hands, "evaluate") as report, display() as show:

        def on_tick(progress: Progress, figures: Figures, seconds: float) -> None:
            show(progress, figures, seconds)
            report.tick(progress, figures, seconds)

        ran = asyncio.run(run_rollouts(plan, epoch, config, hands, on_tick))
        figures = evaluation_figures(plan, loaded)
        if config.export:
            export(plan, config.limits)
        report.at_end("evaluation", comparison_key(config, plan), run_label(config, plan), figures)
        path = write_summary(plan, config, ran, report, figures)
    for line in closing_words(figures):
        print(line, file=sys.stderr)
    print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
