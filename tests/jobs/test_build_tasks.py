"""The job that builds tasks, as a user runs it: made, played, continued, on Ray, refused, and with too little to give."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import mlflow
import pyarrow.parquet as pq
import pytest
import yaml

from agentscaler.domain.store import SHIPPED
from agentscaler.shards.files import read_tasks
from agentscaler.tasks.dials import Dials
from cluster.plan import tasks_digest
from tests.conftest import ROOT, RayHead, RunJob

HERE = ["cluster=in_process"]
NOTES = ["domains=[notes]", "count=50", "seed=3", *HERE]


def summary_of(run: subprocess.CompletedProcess[str], code: int = 0) -> dict[str, Any]:
    assert run.returncode == code, run.stderr[-3000:]
    return json.loads(Path(run.stdout.strip().splitlines()[-1]).read_text())


def refused(run_job: RunJob, *arguments: str) -> str:
    run = run_job("build_tasks", *arguments)
    assert run.returncode == 2, (run.returncode, run.stderr[-2000:])
    assert run.stderr.count("\n") == 1 and run.stderr.startswith("error: "), run.stderr
    return run.stderr


def test_made_and_solved_by_the_reference_and_continued(run_job: RunJob, tmp_path: Path) -> None:
    output = tmp_path / "o"
    line = [*NOTES, "held_out=[notes]", f"output={output}"]
    summary = summary_of(run_job("build_tasks", *line))
    assert (summary["tasks"], summary["asked_for"], summary["by_split"]) == (50, 50, {"train": 0, "held_out": 50})
    tasks = read_tasks(output / "tasks.parquet")
    assert Counter(str(task.kind) for task in tasks) == summary["by_kind"]
    assert len({task.task_digest for task in tasks}) == len(tasks) == 50
    assert {task.source for task in tasks} == {"walk"}
    assert set(pq.read_table(output / "tasks.parquet")["split"].to_pylist()) == {"held_out"}
    assert summary["tasks_digest"] == tasks_digest(output / "tasks.parquet"), (
        "the name that rollouts give to their input"
    )
    assert summary["made"] >= 50 and summary["tasks_per_s"] > 0 and 0 < summary["yield"] <= 1
    for picture in ("mix", "lengths", "drops", "tools"):
        assert (output / f"{picture}.png").read_bytes().startswith(b"\x89PNG")

    played = run_job(
        "rollout", f"tasks={output / 'tasks.parquet'}", "teacher=reference", *HERE, f"output={tmp_path / 'p'}"
    )
    assert summary_of(played)["accepted"] == 50

    before = (output / "tasks.parquet").read_bytes()
    lost = min((output / "units").iterdir())
    lost.unlink()
    again = summary_of(run_job("build_tasks", *line))
    assert 0 < again["made_now"] < again["made"] == summary["made"]
    assert (output / "tasks.parquet").read_bytes() == before and lost.exists()
    assert summary_of(run_job("build_tasks", *line))["made_now"] == 0


@pytest.mark.slow
def test_on_ray_the_same_stopped_and_continued(run_job: RunJob, ray_head: RayHead, tmp_path: Path) -> None:
    summary_of(run_job("build_tasks", *NOTES, f"output={tmp_path / 'here'}"))
    there = tmp_path / "there"
    line = ["domains=[notes]", "count=50", "seed=3", "tracking=none", f"output={there}"]
    command = [sys.executable, "-m", "jobs.build_tasks", *line]
    job = subprocess.Popen(command, cwd=ROOT, env=ray_head.environment, stdout=-3, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    while not list(there.glob("units/*.parquet")) and job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    job.send_signal(signal.SIGTERM)
    _, words = job.communicate(timeout=120)
    assert job.returncode in (0, 130), words[-2000:]  # it may just have ended
    if job.returncode == 130:
        assert words.splitlines()[-1].startswith("stopped: ")
    summary = summary_of(run_job("build_tasks", *line[:-1], f"output={there}", environment=ray_head.environment))
    assert summary["tasks"] == 50 and summary["made_now"] < summary["made"]
    assert (there / "tasks.parquet").read_bytes() == (tmp_path / "here" / "tasks.parquet").read_bytes()


def test_a_run_in_mlflow(run_job: RunJob, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    asked = [*NOTES[:1], "count=12", *HERE, "tracking=mlflow", f"tracking.uri={uri}", f"output={tmp_path / 'o'}"]
    summary = summary_of(run_job("build_tasks", *asked))
    client = mlflow.MlflowClient(uri)
    run = client.get_run(summary["mlflow_run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["final/tasks"] == 12
    assert run.data.params["dials.max_calls"] == str(Dials().max_calls)
    assert "12 tasks" in run.data.tags["mlflow.note.content"]
    files = {one.path for one in client.list_artifacts(run.info.run_id)}
    assert {"mix.png", "lengths.png", "drops.png", "tools.png", "summary.json", "config.yaml"} <= files


def test_too_few_are_written_and_said(run_job: RunJob, tmp_path: Path) -> None:
    """Of single calls with nothing to ask for, none is kept."""
    kinds = [
        "multi_goal",
        "changed_mind",
        "read_only",
        "missing_parameter",
        "refusal",
        "irrelevant",
        "recovery",
        "ambiguous",
    ]
    nothing_else = [f"dials.mix.{kind}=0" for kind in kinds]
    asked = [*NOTES[:1], "count=20", "dials.max_calls=1", *nothing_else, *HERE, f"output={tmp_path / 'o'}"]
    run = run_job("build_tasks", *asked)
    summary = summary_of(run, code=3)
    assert summary["tasks"] == 0 and read_tasks(tmp_path / "o" / "tasks.parquet") == []
    line = run.stderr.splitlines()[-1]
    assert "0 of 20 tasks could be made (notes 0 from" in line and "trivial: one call" in line


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["domains=[nope]"], "domain=nope"),
        (["domains=/no/such/folder"], "domains=/no/such/folder"),
        (["domains=[]"], "domains"),
        (["count=0"], "count"),
        (["surplus=0.5"], "surplus"),
        (["held_out=1.5"], "held_out"),
        (["held_out=[atlantis]"], "held_out=atlantis"),
        (["dials.min_calls=9", "dials.max_calls=3"], "min_calls: 9 is more than max_calls=3"),
        (["dials.max_writes=0"], "max_writes: 0, but mix asks for write"),
        (["dials.mix.write=-1"], "mix.write"),
        (["dials.goals=[1,2]"], "goals"),
        (["dials.extra_reads=2"], "dials.extra_reads"),
        (["dials.colour=1"], "colour"),
        (["+nonsense=1"], "nonsense"),
    ],
)
def test_one_line_that_names_the_key(run_job: RunJob, tmp_path: Path, arguments: list[str], names: str) -> None:
    assert names in refused(run_job, *HERE, *arguments, f"output={tmp_path / 'o'}")
    assert not (tmp_path / "o").exists()


def test_a_domain_that_cannot_be_written_to_is_named(run_job: RunJob, tmp_path: Path) -> None:
    shutil.copytree(SHIPPED / "notes", tmp_path / "s" / "archive")
    file = tmp_path / "s" / "archive" / "domain.yaml"
    domain = yaml.safe_load(file.read_text())
    domain["tools"] = [tool for tool in domain["tools"] if not tool.get("do")]
    file.write_text(yaml.safe_dump({**domain, "name": "archive", "policy": []}))
    words = refused(run_job, *HERE, f"domains={tmp_path / 's'}", f"output={tmp_path / 'o'}")
    assert "domains=archive: has no tool that writes" in words
    assert not (tmp_path / "o").exists()


def test_what_has_changed_since_is_not_mixed(run_job: RunJob, tmp_path: Path) -> None:
    shutil.copytree(SHIPPED / "notes", tmp_path / "s" / "notes")
    line = [f"domains={tmp_path / 's'}", "count=20", *HERE, f"output={tmp_path / 'o'}"]
    summary_of(run_job("build_tasks", *line))
    assert "count was 20, is 30" in refused(run_job, *line, "count=30")
    assert "dials.max_calls" in refused(run_job, *line, "dials.max_calls=5")
    file = tmp_path / "s" / "notes" / "domain.yaml"
    # Domains are kept by their folder in a process, so another folder stands for a later process.
    shutil.copytree(tmp_path / "s", tmp_path / "later")
    file = tmp_path / "later" / "notes" / "domain.yaml"
    file.write_text(file.read_text().replace("description: ", "description: Changed. ", 1))
    words = refused(run_job, f"domains={tmp_path / 'later'}", *line[1:])
    assert "holds tasks of other domains, or one has changed since: choose another output" in words


def test_other_domains_leave_what_is_there_as_it_is(run_job: RunJob, tmp_path: Path) -> None:
    shutil.copytree(SHIPPED / "notes", tmp_path / "two" / "notes")
    shutil.copytree(SHIPPED / "notes", tmp_path / "one" / "notes")
    shutil.copytree(SHIPPED / "airline", tmp_path / "two" / "airline")
    line = ["count=20", *HERE, f"output={tmp_path / 'o'}"]
    summary_of(run_job("build_tasks", f"domains={tmp_path / 'two'}", *line))
    before = {path: path.read_bytes() for path in (tmp_path / "o").rglob("*") if path.is_file()}
    assert "other domains" in refused(run_job, f"domains={tmp_path / 'one'}", *line)
    assert {path: path.read_bytes() for path in (tmp_path / "o").rglob("*") if path.is_file()} == before
    assert len(read_tasks(tmp_path / "o" / "tasks.parquet")) == 20


def test_an_author_that_cannot_be_reached_is_said_before_the_work(run_job: RunJob, tmp_path: Path) -> None:
    line = ["domains=[notes]", "count=20", "author=endpoint", "author.base_urls=[http://127.0.0.1:9/v1]"]
    assert "127.0.0.1:9" in refused(run_job, *line, "author.chat.model=m", *HERE, f"output={tmp_path / 'o'}")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("damage", ["corrupt", "truncated", "foreign"])
def test_a_damaged_unit_is_named(run_job: RunJob, tmp_path: Path, damage: str) -> None:
    line = ["domains=[notes]", "count=12", *HERE, f"output={tmp_path / 'o'}"]
    summary_of(run_job("build_tasks", *line))
    unit = tmp_path / "o" / "units" / "notes-1.parquet"
    data = unit.read_bytes()
    tasks = (tmp_path / "o" / "tasks.parquet").read_bytes()
    unit.write_bytes({"corrupt": b"no parquet", "truncated": data[:-100], "foreign": tasks}[damage])
    assert "notes-1.parquet" in refused(run_job, *line)


def test_a_folder_that_is_something_else(run_job: RunJob, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    assert "is not empty" in refused(run_job, *HERE, f"output={tmp_path}")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_help_lists_keys(run_job: RunJob) -> None:
    words = run_job("build_tasks", "--help").stdout
    assert "python -m jobs.build_tasks" in words and "held_out" in words and "in_process" in words


def test_a_model_writes_the_openings_where_it_says_the_same(run_job: RunJob, tmp_path: Path) -> None:
    """A served stand-in: it greets before every second message, and makes something up for the others."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body["messages"][0]["content"])
            message = asked[-1].partition("Message: ")[2]
            words = f"Dear desk, {message}" if len(asked) % 2 else "My cat ate 17 of them on May 3."
            answer = json.dumps({"choices": [{"message": {"role": "assistant", "content": words}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    author = [
        "author=endpoint",
        f"author.base_urls=[{url}]",
        "author.chat.model=m",
        "author.reader=false",
        "author.tries=1",
    ]
    output = tmp_path / "o"
    line = [*NOTES, *author, "author.in_flight=1", f"output={output}"]
    summary = summary_of(run_job("build_tasks", *line))
    tasks = read_tasks(output / "tasks.parquet")
    polite = [task for task in tasks if task.intent.startswith("Dear desk, ")]
    assert summary["authored"]["asked"] == len(asked) == len(tasks) == 50
    assert summary["authored"]["kept"] == len(polite) == 25
    assert sum(summary["authored"]["grammar_kept"].values()) == 25

    before = (output / "tasks.parquet").read_bytes()
    (output / "tasks.parquet").unlink()
    again = summary_of(run_job("build_tasks", *line))
    assert (len(asked), again["authored"]["kept"]) == (50, 25), "what was answered is not asked again"
    assert (output / "tasks.parquet").read_bytes() == before
    server.shutdown()
    played = run_job(
        "rollout", f"tasks={output / 'tasks.parquet'}", "teacher=reference", *HERE, f"output={tmp_path / 'p'}"
    )
    assert summary_of(played)["accepted"] == 50
