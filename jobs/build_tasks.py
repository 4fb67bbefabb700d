"""Make tasks from walks over the tools of worlds: sound, different from each other, in the mix that is asked for.

python -m jobs.build_tasks domains=shipped count=3000 output=runs/build_tasks/first
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from cluster.authoring import author_all
from cluster.handles import Crew
from cluster.session import crew, preflight_here
from cluster.task_building import (
    BuildPlan,
    BuildTasksConfig,
    Progress,
    build,
    chosen_tasks,
    open_output,
    prepare,
    write_chosen,
)
from cluster.task_building_report import BuildReport, exit_code
from cluster.unit_makers import makers
from jobs.compose import compose, output_folder, redacted_yaml, tracking_uri
from jobs.display import display_units
from jobs.ending import ending


def main(arguments: list[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    config = compose("build_tasks", BuildTasksConfig, arguments)
    return ending(lambda: _start(config))


def _start(config: BuildTasksConfig) -> int:
    plan = prepare(config, output_folder("build_tasks", config.output, config.output_root), redacted_yaml(config))
    with crew(config.cluster.kind) as hands, _terminated_like_interrupted():
        if config.author.kind != "none":
            preflight_here(config.author)
        open_output(plan)
        return _run(plan, hands)


def _run(plan: BuildPlan, hands: Crew) -> int:
    config = plan.config
    with BuildReport(plan, tracking_uri(config.tracking.uri, config.output_root)) as report, display_units() as show:

        def on_tick(progress: Progress, seconds: float) -> None:
            show(progress, seconds)
            report.tick(progress, seconds)

        make_all = makers(hands, plan.orders, config.cluster.workers)
        built = build(plan, make_all, on_tick)
        if config.author.kind != "none":
            domains = {order.domain.fingerprint: order.domain for order in plan.orders.values()}
            logs = str(plan.output / "logs")
            tasks = chosen_tasks(plan, built)
            built = replace(
                built, authored=author_all(config.author, hands, plan.output, logs, tasks, domains, _show_asked)
            )
        write_chosen(plan, built)
        path, summary = report.end(built)
    code, line = exit_code(summary)
    if line is not None:
        print(line, file=sys.stderr)
    print(path)
    return code


def _show_asked(asked: int, kept: int, seconds: float) -> None:
    logging.info("author: %d asked, %d of them in the model's words, %.0f s", asked, kept, seconds)


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM as Ctrl-C: Ray's own handler, set when it is started, would end the process with no word."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
