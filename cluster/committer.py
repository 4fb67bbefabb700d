"""The only writer of an output folder's shards and attempts.

Invariants: a rollout is in exactly one shard or in none, however often it is handed in; a shard is complete or absent. What is
buffered when the process dies is played again by the next run.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from pathlib import Path

from agentscaler.rollout.attempt import Played
from agentscaler.shards import schema
from agentscaler.shards.files import write_parquet


class Committer:
    def __init__(self, output: str, committed: Iterable[str], shard_rollouts: int, max_age_s: float):
        self._output = Path(output)
        self._known = set(committed)
        self._shard_rollouts = shard_rollouts
        self._max_age_s = max_age_s
        self._rollouts: list[dict] = []
        self._failures: list[dict] = []
        self._oldest = 0.0
        self._epoch = 1 + max((_epoch(path) for path in self._output.rglob("*.parquet")), default=0)
        self._num_shards = 0
        self._num_attempts = 0

    def add(self, batch: list[Played]) -> None:
        """Take results in; writes a shard once enough, or old enough, are at hand."""
        for played in batch:
            self._failures += [schema.attempt_row(failure) for failure in played.failures]
            if played.rollout is not None and played.rollout_id not in self._known:
                self._known.add(played.rollout_id)
                self._rollouts.append(schema.to_row(played.rollout))
        if (self._rollouts or self._failures) and not self._oldest:
            self._oldest = time.monotonic()
        if len(self._rollouts) >= self._shard_rollouts or (
            self._oldest and time.monotonic() - self._oldest > self._max_age_s
        ):
            self.flush()

    def flush(self) -> None:
        if self._rollouts:
            self._num_shards += 1
            name = f"shard-{self._epoch:04d}-{self._num_shards:05d}.parquet"
            write_parquet(self._output / "shards" / name, self._rollouts, schema.ROLLOUTS)
            self._rollouts = []
        if self._failures:
            self._num_attempts += 1
            name = f"attempts-{self._epoch:04d}-{self._num_attempts:05d}.parquet"
            write_parquet(self._output / "attempts" / name, self._failures, schema.ATTEMPTS)
            self._failures = []
        self._oldest = 0.0


def _epoch(path: Path) -> int:
    match = re.match(r"(?:shard|attempts)-(\d+)-", path.name)
    return int(match.group(1)) if match else 0
