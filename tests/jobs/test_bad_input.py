"""Wrong input: one clear line on stderr that names the key or file, exit code 2, nothing written."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agentscaler.domain.store import SHIPPED
from tests.conftest import RunJob

LOCAL = ["teacher=reference", "cluster=in_process"]


def refused(run_job: RunJob, *arguments: str) -> str:
    run = run_job("rollout", *arguments)
    assert run.returncode == 2, (run.returncode, run.stderr[-2000:])
    words = [line for line in run.stderr.splitlines() if line.strip()]
    assert len(words) == 1, words
    return words[0]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["domain=nope"], "domain/nope"),
        (["teachr=reference"], "teachr"),
        (["teacher=nope"], "teacher/nope"),
        (["attempts=many"], "attempts"),
        (["limits.max_turns=0"], "limits.max_turns"),
        (["tasks=/no/such.parquet"], "tasks=/no/such.parquet"),
        (["domain=store", "domain.path=/no/such", "domain.name=mine"], "domain=mine"),
        (["tasks_sample=10000"], "tasks_sample=10000"),
        (["teacher=vllm", "teacher.engine.model=/no/such/model"], "/no/such/model"),
        (["teacher=endpoint", "teacher.base_urls=[http://127.0.0.1:9/v1]", "teacher.chat.model=m"], "127.0.0.1:9"),
    ],
)
def test_one_line_that_names_the_key(run_job: RunJob, tmp_path: Path, arguments: list[str], names: str) -> None:
    words = refused(run_job, *LOCAL, *arguments, f"output={tmp_path / 'o'}")
    assert names in words
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ([], "input"),
        (["domain=notes", "input=runs"], "not both"),
        (["input=runs", "html=page.html"], "html"),
        (["domain=notes", "rollout=3f"], "rollout"),
        (["domain=notes", "html=/dev/null/page.html"], "html=/dev/null/page.html"),
        (["domain=store", "domain.path=/no/such", "domain.name=mine"], "domain=mine"),
        (["input=/no/such"], "input=/no/such"),
    ],
)
def test_show_is_told_one_thing_to_show(run_job: RunJob, arguments: list[str], names: str) -> None:
    run = run_job("show", *arguments)
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1
    assert names in run.stderr


def test_a_port_in_use(run_job: RunJob, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        words = refused(
            run_job, "teacher=smollm2", "cluster=in_process", f"teacher.engine.port={port}", f"output={tmp_path / 'o'}"
        )
    assert str(port) in words
    assert not (tmp_path / "o").exists()


def test_no_memory_for_the_engine(run_job: RunJob, tmp_path: Path) -> None:
    words = refused(
        run_job,
        "teacher=smollm2",
        "cluster=in_process",
        "teacher.engine.kv_cache_gib=100000",
        f"output={tmp_path / 'o'}",
    )
    assert "GiB" in words
    assert not (tmp_path / "o").exists()


def test_an_output_of_another_configuration(run_job: RunJob, tmp_path: Path) -> None:
    output = tmp_path / "o"
    assert run_job("rollout", *LOCAL, "tasks_sample=2", f"output={output}").returncode == 0
    assert "run_seed" in refused(run_job, *LOCAL, "tasks_sample=2", "run_seed=7", f"output={output}")
    assert "teacher.kind" in refused(
        run_job, "cluster=in_process", "teacher=noop", "tasks_sample=2", f"output={output}"
    )


def test_a_folder_that_is_something_else(run_job: RunJob, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    assert str(tmp_path) in refused(run_job, *LOCAL, f"output={tmp_path}")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("damage", ["corrupt", "truncated"])
def test_bad_parquet_in_the_output(run_job: RunJob, tmp_path: Path, damage: str) -> None:
    output = tmp_path / "o"
    done = run_job("rollout", *LOCAL, "tasks_sample=2", f"output={output}")
    assert done.returncode == 0, done.stderr
    (shard,) = (output / "shards").glob("*.parquet")
    shard.write_bytes(b"not parquet at all" if damage == "corrupt" else shard.read_bytes()[:-100])
    words = refused(run_job, *LOCAL, "tasks_sample=2", f"output={output}")
    assert ".parquet" in words


def test_a_foreign_file_beside_the_shards_is_neither_read_nor_removed(run_job: RunJob, tmp_path: Path) -> None:
    output = tmp_path / "o"
    assert run_job("rollout", *LOCAL, "tasks_sample=2", f"output={output}").returncode == 0
    other = output / "shards" / "other.parquet"
    pq.write_table(pa.table({"x": [1]}), other)
    assert run_job("rollout", *LOCAL, "tasks_sample=2", "attempts=2", f"output={output}").returncode == 0
    assert other.exists()


@pytest.mark.parametrize(
    ("line", "wrong", "names"),
    [
        ("tasks:", "tasks: [", "tasks.yaml"),
        ("kind: write", "kind: wirte", "kind"),
        ("move_note,", "teleport_note,", "teleport_note"),
    ],
)
def test_broken_tasks(run_job: RunJob, tmp_path: Path, line: str, wrong: str, names: str) -> None:
    shutil.copytree(SHIPPED / "notes", tmp_path / "notes")
    file = tmp_path / "notes" / "tasks.yaml"
    assert line in file.read_text()
    file.write_text(file.read_text().replace(line, wrong, 1))
    words = refused(
        run_job, *LOCAL, "domain=store", f"domain.path={tmp_path}", "domain.name=notes", f"output={tmp_path / 'o'}"
    )
    assert names in words
    assert "tasks.yaml" in words


def test_an_unreachable_tracker_does_not_stop_the_job(run_job: RunJob, tmp_path: Path) -> None:
    run = run_job(
        "rollout",
        *LOCAL,
        "tasks_sample=2",
        f"output={tmp_path / 'o'}",
        "tracking=mlflow",
        "tracking.uri=http://127.0.0.1:9",
    )
    assert run.returncode == 0, run.stderr
    assert "tracking.uri=http://127.0.0.1:9" in run.stderr
    assert (tmp_path / "o" / "summary.json").is_file()


def test_help_lists_the_groups(run_job: RunJob) -> None:
    words = run_job("rollout", "--help").stdout
    for group in ("domain", "teacher", "user", "cluster", "tracking"):
        assert group in words
    assert "reference" in words


@pytest.mark.parametrize(
    ("job", "source"), [("reverify", "input=runs/no"), ("evaluate", "results=no.json"), ("build_tasks", "count=3")]
)
def test_an_output_that_is_none(run_job: RunJob, tmp_path: Path, job: str, source: str) -> None:
    """Every job that writes a folder looks at it in the same way."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.yaml").write_text("")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.yaml").write_text("a: [")
    for name, words in (("file", "is a file"), ("empty", "is not this job's"), ("broken", "is not this job's")):
        run = run_job(job, source, f"output={tmp_path / name}")
        assert run.returncode == 2, run.stderr[-2000:]
        assert f"output={tmp_path / name}: " in run.stderr and words in run.stderr and run.stderr.count("\n") == 1
