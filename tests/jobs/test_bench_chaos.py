"""Promises: a kill loses nothing, doubles nothing, tears nothing and leaves nothing running, and the bench says so in one flat JSON
object; its checks find what is wrong with an output; wrong input is one line and exit code 2."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest

from jobs.bench.__main__ import main
from jobs.bench.chaos import Chaos, ChaosBench
from jobs.bench.chaos_checks import examine
from jobs.compose import compose
from tests.conftest import ROOT, RunJob

ZERO = ("lost", "duplicated", "torn", "orphans", "surplus", "named_twice", "bad_exits", "stalls")


@pytest.mark.slow
def test_a_kill_loses_nothing(tmp_path: Path) -> None:
    """In a process of its own: the bench becomes the parent of all that loses its own."""
    line = [
        "chaos",
        "rounds=1",
        "victims=[committer]",
        "replicas=1",
        "workers=1",
        "concurrency=16",
        "window_s=0.5",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "jobs.bench", *line, f"output={tmp_path / 'c'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = orjson.loads(done.stdout.splitlines()[-1])
    assert not any(isinstance(value, dict | list) for value in figures.values())
    assert {key: figures[key] for key in ZERO} == dict.fromkeys(ZERO, 0)
    assert (figures["rounds"], figures["hit_in_flight"], figures["killed_committer"]) == (1, 1, 1)
    assert figures["summary_agrees"] and figures["committed"] == figures["planned"] > 0
    assert (ROOT / figures["figure"]).is_file()


def test_parts_that_outlive_their_successors_are_counted(tmp_path: Path) -> None:
    chaos = Chaos(compose("bench_chaos", ChaosBench, ["orphan_s=15"]), tmp_path)
    try:
        for now, too_many in ((0, True), (14, True), (15, False), (16, True), (30, True)):
            chaos._count_surplus(too_many, now)
        assert chaos.tally.surplus == 0, "a successor may start before its predecessor is gone"
        for now, too_many in ((32, True), (60, True), (61, False), (62, True), (80, True)):
            chaos._count_surplus(too_many, now)
        assert chaos.tally.surplus == 2
    finally:
        chaos._nodes.close()  # all else it would end is not its own here


@pytest.fixture
def output(run_job: RunJob, tmp_path: Path) -> Path:
    """Of a job of 45 rollouts, complete."""
    line = ["domain=notes", "teacher=reference", "cluster=in_process", "cluster.shard_rollouts=16"]
    assert run_job("rollout", *line, f"output={tmp_path / 'o'}").returncode == 0
    return tmp_path / "o"


def test_a_whole_output_passes(output: Path) -> None:
    found = examine(output, attempts=1)
    assert (found.planned, found.committed, found.summary_agrees) == (45, 45, True)
    assert (found.lost, found.duplicated, found.torn, found.named_twice, found.losers) == (0, 0, 0, 0, 0)


def _tear(output: Path) -> None:
    shard = min((output / "shards").iterdir())
    shard.write_bytes(shard.read_bytes()[:-1])


def _leave_temporary(output: Path) -> None:
    (output / "shards" / "shard-0001-00009.parquet.77-ab.tmp").write_bytes(b"")


def _unname(output: Path) -> None:
    max((output / "manifest").iterdir()).unlink()


def _copy(output: Path) -> None:
    """The last shard once more, under another name, named too."""
    last = max((output / "manifest").iterdir())
    entry = json.loads(last.read_bytes())
    (output / "shards" / "again.parquet").write_bytes((output / entry["file"]).read_bytes())
    (output / "manifest" / "00000099.json").write_text(json.dumps(entry | {"file": "shards/again.parquet"}))


def _name_twice(output: Path) -> None:
    last = max((output / "manifest").iterdir())
    (output / "manifest" / "00000099.json").write_bytes(last.read_bytes())


@pytest.mark.parametrize(
    ("damage", "key"),
    [
        (_tear, "torn"),
        (_leave_temporary, "torn"),
        (_tear, "lost"),
        (_unname, "lost"),
        (_unname, "losers"),
        (_copy, "duplicated"),
        (_name_twice, "named_twice"),
    ],
)
def test_the_checks_find_it(damage: Callable[[Path], None], key: str, output: Path) -> None:
    damage(output)
    assert getattr(examine(output, attempts=1), key) > 0


def test_more_attempts_than_were_played_are_lost(output: Path) -> None:
    assert examine(output, attempts=2).lost == 45


def test_the_same_work_under_two_names_is_a_duplicate(output: Path) -> None:
    """Told by task and attempt, not by the rollout's name."""
    entry = json.loads(max((output / "manifest").iterdir()).read_bytes())
    table = pq.read_table(output / entry["file"])
    names = [f"{row:032x}" for row in range(table.num_rows)]
    place = table.schema.get_field_index("rollout_id")
    changed = table.set_column(place, table.schema.field(place), [names])
    path = output / "shards" / "again.parquet"
    pq.write_table(changed, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    new = entry | {"file": "shards/again.parquet", "digest": digest}
    (output / "manifest" / "00000099.json").write_text(json.dumps(new))
    assert examine(output, attempts=1).duplicated > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rounds=0"], "rounds"),
        (["victims=[raylet,mouse]"], "victims"),
        (["engine=other"], "engine"),
        (["hasty=2"], "hasty"),
        (["output=/proc"], "output=/proc: is not empty"),
    ],
)
def test_wrong_input_is_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["chaos", *arguments])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error
