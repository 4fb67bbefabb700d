"""Verdicts again from shards alone: no model, no GPU.

python -m jobs.reverify input=runs/rollout/first mode=verdict|replay
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, Literal

import orjson
import yaml
from pydantic import BaseModel, ConfigDict

from agentscaler.errors import ConfigError, ShardError
from agentscaler.rollout.record import Rollout
from agentscaler.rollout.replay import verify_recorded, verify_replayed
from agentscaler.shards import schema
from agentscaler.shards.files import read_rollouts, shard_paths, write_parquet, write_text
from agentscaler.verify.funnel import VerifyMode
from cluster.config import TrackingConfig, flatten
from cluster.plan import CONFIG_FILE, read_output
from cluster.tracker import Tracker
from jobs.compose import compose, output_folder, redacted_yaml, refuse, tracking_uri

BATCH = 512


class ReverifyConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    input: str
    mode: Literal["verdict", "replay"] = "verdict"
    verify: VerifyMode | None = None
    tracking: TrackingConfig = TrackingConfig()
    output: str | None = None
    output_root: str | None = None


def main(arguments: list[str]) -> int:
    config = compose("reverify", ReverifyConfig, arguments)
    try:
        source = Path(config.input)
        output = output_folder("reverify", config.output, config.output_root)
        if output.exists() and any(output.iterdir()):
            _check_same(config, output)
        tasks, domains = read_output(source)
        if not shard_paths(source):
            raise ConfigError(f"input={config.input}: holds no shards")
        mode = config.verify or _verified_as(source)
        tracker = _tracker(config)
        started, verified, changes, batch, number = time.monotonic(), 0, [], [], 0
        for rollout in read_rollouts(source):
            task = tasks.get(rollout.task_digest)
            if task is None or rollout.domain_fingerprint not in domains:
                raise ShardError(
                    f"input={config.input}: task or domain of rollout {rollout.rollout_id} is not beside the shards"
                )
            domain, parted = domains[rollout.domain_fingerprint], []
            if config.mode == "verdict":
                verdict = verify_recorded(task, rollout, domain, mode)
            else:
                verdict, parted = verify_replayed(task, rollout, domain, mode)
            verified += 1
            if verdict != rollout.verdict or parted:
                changes.append(
                    {
                        "rollout_id": rollout.rollout_id,
                        "was": _words(rollout),
                        "is": verdict.outcome.value,
                        "parted": parted,
                    }
                )
            batch.append(schema.to_row(rollout.with_verdict(verdict)))
            if len(batch) == BATCH:
                number = _write(output, number, batch)
                batch = []
        _write(output, number, batch)
    except ConfigError as error:
        refuse(str(error))
    seconds = max(time.monotonic() - started, 1e-6)
    summary: dict[str, Any] = {
        "verified": verified,
        "changed": len(changes),
        "changes": changes[:100],
        "mode": config.mode,
        "verify": mode.value,
        "input": str(source),
        "rollouts_per_s": round(verified / seconds, 1),
        "mlflow_run_id": tracker.start(
            "reverify", {k: str(v) for k, v in flatten(config.model_dump(mode="json")).items()}, {}
        )
        if tracker
        else None,
    }
    write_text(output / CONFIG_FILE, redacted_yaml(config))
    write_text(output / "summary.json", orjson.dumps(summary, option=orjson.OPT_INDENT_2).decode() + "\n")
    if tracker and summary["mlflow_run_id"]:
        tracker.finish(summary)
    print(output / "summary.json")
    return 0


def _check_same(config: ReverifyConfig, output: Path) -> None:
    """Running again with the same output writes the same shards anew; another configuration is refused."""
    try:
        before = yaml.safe_load((output / CONFIG_FILE).read_text())
    except OSError:
        raise ConfigError(
            f"output={output}: is not empty, and no output of this job ({CONFIG_FILE} is missing)"
        ) from None
    for key in ("input", "mode", "verify"):
        now = config.model_dump(mode="json")[key]
        if before.get(key) != now:
            raise ConfigError(f"output={output}: holds another configuration: {key} was {before.get(key)}, is {now}")


def _verified_as(source: Path) -> VerifyMode:
    return VerifyMode(yaml.safe_load((source / CONFIG_FILE).read_text()).get("verify", "state"))


def _write(output: Path, number: int, rows: list[dict[str, Any]]) -> int:
    if rows:
        number += 1
        write_parquet(output / "shards" / f"shard-{number:05d}.parquet", rows, schema.ROLLOUTS)
    return number


def _words(rollout: Rollout) -> str:
    verdict = rollout.verdict
    return verdict.outcome.value + (f" at {verdict.stage.value}" if verdict.stage else "")


def _tracker(config: ReverifyConfig) -> Tracker | None:
    if config.tracking.kind == "none":
        return None
    return Tracker(tracking_uri(config.tracking.uri, config.output_root), config.tracking.experiment)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
