"""Rollouts as Arrow tables. Promises: a table built column by column holds every rollout whole, in order, in exactly the stated schema, on
its way between processes too; a table of another kind is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentscaler.errors import FaultClass, ShardError
from agentscaler.rollout.record import FailedAttempt, Rollout
from agentscaler.shards import schema
from tests.shards.made import ROLLOUTS, played


@given(st.lists(ROLLOUTS, max_size=4))
@settings(max_examples=60)
def test_a_table_holds_every_rollout_whole(rollouts: list[Rollout]) -> None:
    table = schema.from_ipc(schema.to_ipc(schema.to_table(rollouts)), schema.ROLLOUTS)
    assert table.schema.equals(schema.ROLLOUTS, check_metadata=True)
    table.validate(full=True)
    assert [schema.from_row(row) for row in table.to_pylist()] == rollouts


def test_real_rollouts_too() -> None:
    rollouts = [rollout for _, rollout in played()]
    assert [schema.from_row(row) for row in schema.to_table(rollouts).to_pylist()] == rollouts


def test_failed_attempts() -> None:
    failure = FailedAttempt("r", "t", 0, 1, FaultClass.TIMEOUT, "slow", False, "2026-03-02T09:00:00Z")
    table = schema.attempts_table([failure, failure])
    assert table.schema.equals(schema.ATTEMPTS, check_metadata=True)
    assert table.to_pylist()[1] == schema.attempt_row(failure)
    assert schema.attempts_table([]).num_rows == 0


def test_another_kind_of_table_is_refused() -> None:
    with pytest.raises(ShardError, match="another process"):
        schema.from_ipc(schema.to_ipc(schema.attempts_table([])), schema.ROLLOUTS)
