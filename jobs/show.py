"""Print one rollout for a person: dialogue, calls, verdict, state difference.

python -m jobs.show input=runs/rollout/first                 lists the rollouts
python -m jobs.show input=runs/rollout/first rollout=3f04    prints the one whose id begins so
"""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from agentscaler.errors import ConfigError
from agentscaler.shards.files import read_rollouts, read_tasks, shard_paths
from agentscaler.shards.render import render_rollout
from cluster.plan import TASKS_FILE
from jobs.compose import compose, refuse


class ShowConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    input: str
    rollout: str | None = None


def main(arguments: list[str]) -> int:
    config = compose("show", ShowConfig, arguments)
    source = Path(config.input)
    try:
        if not source.exists() or not shard_paths(source):
            raise ConfigError(f"input={config.input}: holds no shards")
        if config.rollout is None:
            for rollout in read_rollouts(source):
                verdict = rollout.verdict
                end = verdict.outcome.value + (
                    f" ({verdict.stage.value}: {verdict.reasons[0][:60]})" if verdict.stage else ""
                )
                print(f"{rollout.rollout_id[:12]}  {rollout.task_id:40}  {rollout.kind:18}  {end}")
            return 0
        found = [rollout for rollout in read_rollouts(source) if rollout.rollout_id.startswith(config.rollout)]
        if len(found) != 1:
            raise ConfigError(f"rollout={config.rollout}: {len(found) or 'no'} rollouts begin so")
        file = source / TASKS_FILE
        tasks = {task.task_digest: task for task in read_tasks(file)} if file.is_file() else {}
        print(render_rollout(found[0], tasks.get(found[0].task_digest), colour=sys.stdout.isatty()))
    except ConfigError as error:
        refuse(str(error))
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        sys.stderr.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
