"""The part of `jobs.evaluate` that reads a published result file: its recorded calls replayed, our outcome beside the recorded one."""

from __future__ import annotations

import sys
from pathlib import Path

import orjson
from pydantic import BaseModel, ConfigDict

from agentscaler.adapters.tau2.rescore import rescore
from agentscaler.errors import ConfigError
from agentscaler.shards.storage import write_text
from cluster.config import TrackingConfig
from cluster.plan import CONFIG_FILE, check_folder
from cluster.tracker import Tracker
from jobs.compose import compose, output_folder, redacted_yaml, refuse, tracking_uri


class ResultsConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    results: str
    tracking: TrackingConfig = TrackingConfig()
    output: str | None = None
    output_root: str | None = None


def main(arguments: list[str]) -> int:
    config = compose("evaluate_results", ResultsConfig, arguments)
    try:
        output = output_folder("evaluate", config.output, config.output_root)
        check_folder(
            output,
            lambda before: {"results": ResultsConfig.model_validate(before).results},
            {"results": config.results},
        )
        summary = rescore(Path(config.results), _progress).summary()
        write_text(output / CONFIG_FILE, redacted_yaml(config))
    except ConfigError as error:
        refuse(str(error))
    uri = tracking_uri(config.tracking.uri, config.output_root)
    tracker = Tracker(uri, config.tracking.experiment, config.tracking.kind != "none")
    summary["mlflow_run_id"] = tracker.start("evaluate", {"results": config.results}, {"output": str(output)})
    write_text(output / "summary.json", orjson.dumps(summary, option=orjson.OPT_INDENT_2).decode() + "\n")
    tracker.finish(summary)
    print(output / "summary.json")
    return 0


def _progress(done: int, total: int) -> None:
    if done % 50 == 0 or done == total:
        print(f"{done} of {total} simulations", file=sys.stderr)
