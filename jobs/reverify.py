"""Verdicts again from shards alone: no model, no GPU.

python -m jobs.reverify input=runs/rollout/first mode=verdict|replay
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import orjson
import yaml
from pydantic import BaseModel, ConfigDict

from agentscaler.errors import ConfigError, ShardError
from agentscaler.rollout.replay import Reverified, ReverifyMode, reverify
from agentscaler.shards import schema
from agentscaler.shards.files import read_rollouts, shard_paths, write_parquet
from agentscaler.shards.storage import AnyPath, folder, write_text
from agentscaler.verify.funnel import VerifyMode
from cluster.config import TrackingConfig
from cluster.plan import CONFIG_FILE, check_folder, read_output
from cluster.tracker import Tracker
from jobs.compose import compose, output_folder, redacted_yaml, refuse, tracking_uri

SHARD_ROLLOUTS = 512


class ReverifyConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    input: str
    mode: ReverifyMode = ReverifyMode.VERDICT
    verify: VerifyMode | None = None
    tracking: TrackingConfig = TrackingConfig()
    output: str | None = None
    output_root: str | None = None


def main(arguments: list[str]) -> int:
    config = compose("reverify", ReverifyConfig, arguments)
    try:
        source = folder(config.input, "input")
        output = output_folder("reverify", config.output, config.output_root)
        _check_output(config, output)
        _check_input(config, source)
        write_text(output / CONFIG_FILE, redacted_yaml(config))
        summary = _run(config, source, output)
    except ConfigError as error:
        refuse(str(error))
    tracker = Tracker(
        tracking_uri(config.tracking.uri, config.output_root),
        config.tracking.experiment,
        config.tracking.kind != "none",
    )
    summary["mlflow_run_id"] = tracker.start(
        "reverify", {k: str(v) for k, v in config.model_dump(exclude={"tracking"}).items()}, {}
    )
    write_text(output / "summary.json", orjson.dumps(summary, option=orjson.OPT_INDENT_2).decode() + "\n")
    tracker.finish(summary)
    print(output / "summary.json")
    return 0


def _run(config: ReverifyConfig, source: AnyPath, output: AnyPath) -> dict[str, object]:
    mode = config.verify or VerifyMode(yaml.safe_load((source / CONFIG_FILE).read_text()).get("verify", "state"))
    started, verified, changes = time.monotonic(), 0, []
    for number, batch in enumerate(_batches(config, source, mode), 1):
        verified += len(batch)
        changes += [{"rollout_id": one.rollout.rollout_id, "parted": one.parted} for one in batch if one.changed]
        rows = [schema.to_row(one.rollout) for one in batch]
        write_parquet(output / "shards" / f"shard-{number:05d}.parquet", rows, schema.ROLLOUTS)
    seconds = max(time.monotonic() - started, 1e-6)
    return {
        "verified": verified,
        "changed": len(changes),
        "changes": changes[:100],
        "mode": config.mode.value,
        "verify": mode.value,
        "input": str(source),
        "rollouts_per_s": round(verified / seconds, 1),
    }


def _batches(config: ReverifyConfig, source: AnyPath, mode: VerifyMode) -> Iterator[list[Reverified]]:
    tasks, domains = read_output(source)
    batch = []
    for rollout in read_rollouts(source):
        task, domain = tasks.get(rollout.task_digest), domains.get(rollout.domain_fingerprint)
        if task is None or domain is None:
            raise ShardError(f"input={source}: task or domain of rollout {rollout.rollout_id} is not beside the shards")
        batch.append(reverify(task, rollout, domain, config.mode, mode))
        if len(batch) == SHARD_ROLLOUTS:
            yield batch
            batch = []
    if batch:
        yield batch


def _check_input(config: ReverifyConfig, source: AnyPath) -> None:
    if not source.is_dir() or not shard_paths(source):
        raise ConfigError(f"input={config.input}: holds no shards")
    if not (source / CONFIG_FILE).is_file():
        raise ConfigError(f"input={config.input}: is no output of the rollout job ({CONFIG_FILE} is missing)")


def _check_output(config: ReverifyConfig, output: AnyPath) -> None:
    """Running again with the same output writes the same shards anew; another configuration is refused."""
    check_folder(output, lambda before: _shape(ReverifyConfig.model_validate(before)), _shape(config))


def _shape(config: ReverifyConfig) -> dict[str, object]:
    return config.model_dump(mode="json", include={"input", "mode", "verify"})


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
