"""Exactly once. Promises:

1. A rollout is in one shard, however often and by whomever it is handed in, and whatever was killed between any two steps.
2. A shard is written when enough rows, or old enough ones, are at hand, also if nobody adds any more.
3. What a fenced worker hands in is not taken; a committer whose epoch is over commits nothing.
4. A disk that is full, or a folder that cannot be written, is one line; nothing is lost or left half, and later it goes on.
5. The same on a store.
"""

from __future__ import annotations

import pickle
import secrets
import time
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentscaler.errors import FaultClass, ShardError
from agentscaler.rollout.record import FailedAttempt
from agentscaler.shards import schema
from agentscaler.shards.files import attempt_paths, committed, committed_batches, read_rollouts, shard_paths
from agentscaler.shards.manifest import EntryKind, Fenced, Manifest, damaged
from agentscaler.shards.storage import AnyPath, folder, list_files
from cluster.committer import Batch, Committer, OutputError
from tests.shards.made import played
from tests.shards.stores import s3_bucket
from tests.shards.test_storage import largest_file

NUM_INDICES = 12


@cache
def rows() -> pa.Table:
    """A row an index, whose rollout id is the index."""
    table = schema.to_table([rollout for _, rollout in played()[:NUM_INDICES]])
    names = pa.array([str(index) for index in range(NUM_INDICES)])
    return table.set_column(0, schema.ROLLOUTS.field(0), names)


def batch(*indices: int, failures: bool = False) -> Batch:
    failed = [
        FailedAttempt(str(index), "notes/x", 0, 1, FaultClass.ENGINE_GONE, "gone", True, "now") for index in indices
    ]
    return Batch(
        list(indices),
        schema.to_ipc(rows().take(pa.array(indices, pa.int64()))),
        schema.to_ipc(schema.attempts_table(failed)) if failures else None,
    )


def resume(output: AnyPath, shard_rollouts: int = 4, max_age_s: float = 1e9) -> Committer:
    """As a driver that starts, or starts again: claim, sweep, and only then see what is committed."""
    manifest = Manifest(output)
    epoch = manifest.claim()
    manifest.sweep(epoch)
    done = np.zeros(NUM_INDICES, bool)
    done[[int(name) for name in committed(output)]] = True
    return Committer(str(output), epoch, done, shard_rollouts, max_age_s)


def counts(output: AnyPath) -> Counter[int]:
    """How often each index is in a committed shard."""
    tables = committed_batches(output, ["rollout_id"])
    return Counter(int(name) for table in tables for name in table["rollout_id"].to_pylist())


def test_doubles_in_one_run_and_over_runs_are_dropped(tmp_path: Path) -> None:
    first = resume(tmp_path)
    assert first.add("a", batch(0, 1, 2, 3)) and first.add("b", batch(3, 2, 1, 0)) and first.add("b", batch(4, 4, 1))
    assert [path.name for path in shard_paths(tmp_path)] == ["shard-0001-00001.parquet"]
    stats = first.tick()
    assert (stats.committed, stats.buffered, stats.doubles, stats.shards) == (4, 1, 6, 1)
    assert stats.bytes_written == shard_paths(tmp_path)[0].stat().st_size
    second = resume(tmp_path)
    second.add("a", batch(*range(6)))
    second.flush()
    assert [path.name for path in shard_paths(tmp_path)] == ["shard-0001-00001.parquet", "shard-0002-00001.parquet"]
    assert counts(tmp_path) == Counter(range(6)) and damaged(tmp_path) == []
    found = {rollout.rollout_id: rollout for rollout in read_rollouts(tmp_path)}
    for index in range(6):
        assert found[str(index)].messages == played()[index][1].messages


def test_the_flags_are_copied(tmp_path: Path) -> None:
    """Ray hands arrays over read-only."""
    epoch = Manifest(tmp_path).claim()
    done = np.array([True, False])
    done.flags.writeable = False
    committer = Committer(str(tmp_path), epoch, done, 4, 1e9)
    committer.add("a", batch(0, 1))
    committer.flush()
    assert counts(tmp_path) == {1: 1} and done.tolist() == [True, False]


def test_faults_go_to_the_sidecar(tmp_path: Path) -> None:
    committer = resume(tmp_path)
    assert committer.add("a", Batch([], schema.to_ipc(rows()[:0]), batch(0, 1, failures=True).failures))
    committer.flush()
    assert shard_paths(tmp_path) == []
    (sidecar,) = attempt_paths(tmp_path)
    assert sidecar.name == "attempts-0001-00001.parquet"
    assert [row["fault"] for row in pq.read_table(sidecar).to_pylist()] == ["engine_gone", "engine_gone"]
    committer.flush()
    assert len(Manifest(tmp_path).entries()) == 2  # nothing to write: no file and no entry


def test_age_flushes_though_nobody_adds(tmp_path: Path) -> None:
    committer = resume(tmp_path, max_age_s=0.05)
    committer.add("a", batch(0))
    assert committer.tick().buffered == 1
    time.sleep(0.06)
    assert committer.tick().committed == 1 and counts(tmp_path) == {0: 1}
    time.sleep(0.06)
    assert committer.tick().shards == 1
    committer.add("a", batch(1))
    time.sleep(0.06)
    committer.add("a", batch(2))
    assert counts(tmp_path) == {0: 1, 1: 1, 2: 1}


def test_a_fenced_worker_is_not_heard(tmp_path: Path) -> None:
    committer = resume(tmp_path)
    committer.add("a", batch(0))
    committer.fence("a")
    assert not committer.add("a", batch(1, failures=True)) and committer.add("b", batch(0, 2))
    committer.flush()
    assert counts(tmp_path) == {0: 1, 2: 1} and attempt_paths(tmp_path) == []


def test_a_committer_whose_epoch_is_over_commits_nothing(tmp_path: Path) -> None:
    older = resume(tmp_path)
    older.add("a", batch(0, 1))
    fresh = resume(tmp_path)
    with pytest.raises(Fenced) as caught:
        older.flush()
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # it comes out of an actor
    with pytest.raises(Fenced):
        older.tick()
    with pytest.raises(Fenced):
        Committer(str(tmp_path), 1, np.zeros(NUM_INDICES, bool), 4, 1e9)
    assert counts(tmp_path) == {} and len(list_files(tmp_path / "shards")) == 1
    fresh.add("a", batch(0))
    fresh.flush()
    assert Manifest(tmp_path).sweep(2) == 1 and counts(tmp_path) == {0: 1}


def test_wrong_batches_are_our_bug(tmp_path: Path) -> None:
    committer = resume(tmp_path)
    one = batch(0)
    for wrong in (Batch([0, 1], one.rollouts), Batch([NUM_INDICES], one.rollouts), Batch([-1], one.rollouts)):
        with pytest.raises(ValueError, match=r"indices came with|is none of the"):
            committer.add("a", wrong)
    with pytest.raises(ShardError):
        committer.add("a", Batch([0], batch(0, failures=True).failures or b""))
    committer.add("a", one)
    committer.flush()
    assert counts(tmp_path) == {0: 1}


def test_a_full_disk_is_one_line_and_later_it_goes_on(tmp_path: Path) -> None:
    committer = resume(tmp_path)
    with largest_file(1000):
        with pytest.raises(OutputError, match=rf"^output={tmp_path}: cannot be written: File too large$"):
            committer.add("a", batch(*range(5), failures=True))
        for use in (committer.flush, committer.tick, lambda: committer.add("a", batch(5))):
            with pytest.raises(OutputError):
                use()
    assert list_files(tmp_path / "shards") == {} and counts(tmp_path) == {}
    waiting = committer.stats()
    assert (waiting.committed, waiting.buffered) == (0, 5)
    assert 0 < waiting.oldest_s < committer.stats().oldest_s, "what waits for the disk grows old"
    stats = committer.tick()
    assert (stats.committed, stats.buffered, stats.oldest_s) == (5, 0, 0) and counts(tmp_path) == Counter(range(5))
    committer.add("a", batch(5))  # this batch had not been taken in
    committer.flush()
    assert counts(tmp_path) == Counter(range(6)) and len(attempt_paths(tmp_path)) == 1
    assert not list(tmp_path.rglob("*.tmp")) and damaged(tmp_path) == []


@pytest.mark.parametrize("place", ["shards", "manifest"])
def test_a_folder_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    committer = resume(tmp_path)
    committer.add("a", batch(0))
    hidden = tmp_path / "hidden"
    if (tmp_path / place).exists():
        (tmp_path / place).rename(hidden)
    (tmp_path / place).write_text("in the way")
    for _ in range(2):
        with pytest.raises(OutputError, match=rf"^output={tmp_path}: cannot be written: ") as caught:
            committer.flush()
        assert "\n" not in str(caught.value)
    (tmp_path / place).unlink()
    if hidden.exists():
        hidden.rename(tmp_path / place)
    committer.flush()
    assert counts(tmp_path) == {0: 1} and len(list_files(tmp_path / "shards")) == 1


STEPS = st.one_of(
    st.tuples(st.just("resume"), st.integers(0, 1), st.just(())),
    st.tuples(st.just("add"), st.integers(0, 1), st.lists(st.integers(0, NUM_INDICES - 1), max_size=4).map(tuple)),
    st.tuples(st.sampled_from(["write_files", "name_files", "flush", "kill"]), st.integers(0, 1), st.just(())),
)


def interleave(output: AnyPath, steps: list[tuple[str, int, tuple[int, ...]]]) -> None:
    """Two drivers that do not know of each other; either may die between any two steps, and only its object is lost."""
    alive: dict[int, Committer] = {}
    seen: Counter[int] = Counter()
    for step, slot, indices in steps:
        if step == "resume":
            alive[slot] = resume(output, shard_rollouts=3)
        elif step == "kill":
            alive.pop(slot, None)
        elif slot in alive:
            try:
                if step == "add":
                    alive[slot].add("a", batch(*indices, failures=True))
                else:
                    getattr(alive[slot], step)()
            except Fenced:
                del alive[slot]
        now = counts(output)
        assert not seen - now and max(now.values(), default=1) == 1  # what counts, counts for good, and once
        seen = now
    last = resume(output)
    done = set(counts(output))
    last.add("a", batch(*range(NUM_INDICES)))
    last.flush()
    assert counts(output) == Counter(range(NUM_INDICES))
    assert last.tick().doubles == len(done)
    named = {entry.file for entry in last._manifest.named()}
    Manifest(output).sweep(last._epoch)
    assert {f"{place}/{name}" for place in ("shards", "attempts") for name in list_files(output / place)} == named
    assert damaged(output) == []


@given(st.lists(STEPS, min_size=8, max_size=24))
@settings(max_examples=30)
def test_any_interleaving_of_two_drivers_and_kills(steps: list[tuple[str, int, tuple[int, ...]]]) -> None:
    interleave(folder(f"memory://{secrets.token_hex(8)}/run"), steps)


@given(steps=st.lists(STEPS, min_size=8, max_size=20))
@settings(max_examples=8)
def test_any_interleaving_in_a_local_folder(tmp_path_factory: pytest.TempPathFactory, steps: list) -> None:
    interleave(tmp_path_factory.mktemp("run"), steps)


def test_on_a_store() -> None:
    with s3_bucket() as bucket:
        output = folder(f"{bucket}/run")
        older = resume(output)
        older.add("a", batch(0, 1, 2, 3, failures=True))
        older.add("a", batch(4, 5))
        older.write_files()  # killed, or slow, before it could name them
        fresh = resume(output)
        assert list(list_files(output / "shards")) == ["shard-0001-00001.parquet"]  # the loser is gone
        for use in (older.name_files, lambda: older.add("a", batch(6, 7))):
            with pytest.raises(Fenced):
                use()
        fresh.add("a", batch(*range(8)))
        fresh.flush()
        assert counts(output) == Counter(range(8)) and len(attempt_paths(output)) == 1
        assert [entry.epoch for entry in Manifest(output).entries() if entry.kind is EntryKind.SHARD] == [1, 2]
        assert damaged(output) == []
