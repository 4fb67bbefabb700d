"""Evaluation as a user runs it: references, an agent that does nothing, more trials, results written and read again, bad input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from agentscaler.shards.files import read_rollouts, shard_paths
from cluster.traces import build_trace
from tests.conftest import RunJob

LOCAL = ["cluster=in_process", "tracking=none"]


def evaluated(run_job: RunJob, output: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    run = run_job("evaluate", *LOCAL, *arguments, f"output={output}")
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.strip().splitlines()[-1] == str(output / "summary.json")
    return json.loads((output / "summary.json").read_text()), run.stderr


def test_references_of_tau2_again_with_more_trials_and_read_again(run_job: RunJob, tmp_path: Path) -> None:
    asked = ["benchmark=tau2", "domains=[mock,airline]", "teacher=reference", "export=true"]
    first, words = evaluated(run_job, tmp_path / "o", *asked)
    (failed,) = first["never_passed"]
    assert failed == "tau2/mock/update_task_with_history_and_env_assertions"
    assert any(failed in note for note in first["notes"]) and failed in words
    assert (first["planned"], first["passed"], first["void"], first["finished"]) == (59, 58, 0, 59)
    assert "passes 19 of 50 on airline, 1 of 9 on mock" in words
    assert first["do_nothing"]["by_domain"]["airline"] == {"tasks": 50, "passed": 19}
    assert all(rollout.benchmark for rollout in read_rollouts(tmp_path / "o"))

    more, _ = evaluated(run_job, tmp_path / "o", *asked, "trials=2")
    assert (more["planned"], more["resumed"], more["passed"]) == (118, 59, 116)
    assert more["pass_hat"]["2"] == more["pass_hat"]["1"] and more["pass_hat"]["1"]["tasks"] == 59
    assert more["by_domain"]["airline"]["pass_hat"]["2"]["value"] == 1.0
    assert set(more["by_kind"]) == {"write", "no_write"}
    assert sum(one["tasks"] for one in more["by_num_calls"].values()) == 59

    for domain, count in (("airline", 100), ("mock", 18)):
        run = run_job(
            "evaluate",
            "tracking=none",
            f"results={tmp_path / 'o' / 'results' / domain}.json",
            f"output={tmp_path / domain}",
        )
        assert run.returncode == 0, run.stderr[-3000:]
        again = json.loads((tmp_path / domain / "summary.json").read_text())
        assert (again["simulations"], again["agree"], again["disagree"]) == (count, count, 0)

    some = next(one for one in read_rollouts(tmp_path / "o") if one.state_changes != "{}" and one.domain == "airline")
    shown = run_job("show", f"input={tmp_path / 'o'}", f"rollout={some.rollout_id}")
    assert shown.returncode == 0 and "world:" in shown.stdout and "key=" in shown.stdout
    _, spans = build_trace(some, "run", "1")
    assert len(spans) > len(some.messages) // 2

    run = run_job("reverify", f"input={tmp_path / 'o'}", "tracking=none", f"output={tmp_path / 'again'}")
    assert run.returncode == 0, run.stderr[-3000:]
    assert json.loads((tmp_path / "again" / "summary.json").read_text())["changed"] == 0
    refused = run_job("rollout", f"tasks={tmp_path / 'o' / 'tasks.parquet'}", *LOCAL, "teacher=noop")
    assert refused.returncode == 2 and "benchmark tau2: jobs.evaluate plays them" in refused.stderr


def test_an_agent_that_does_nothing(run_job: RunJob, tmp_path: Path) -> None:
    summary, _ = evaluated(run_job, tmp_path / "o", "benchmark=tau2", "domains=[airline]", "teacher=noop")
    assert (summary["passed"], summary["rejected"], summary["pass_hat"]["1"]["value"]) == (19, 31, 0.38)
    assert summary["stop_reasons"] == {"agent_stop": 50}


def test_our_own_worlds(run_job: RunJob, tmp_path: Path) -> None:
    asked = ["benchmark=worlds", "domains=[notes]", "trials=2", "tasks_sample=9"]
    summary, _ = evaluated(run_job, tmp_path / "o", *asked, "teacher=reference")
    assert (summary["passed"], summary["finished"], summary["do_nothing"]["passed"]) == (18, 18, 0)
    flags = pl.concat([pl.read_parquet(path, columns=["benchmark"]) for path in map(str, shard_paths(tmp_path / "o"))])
    assert flags["benchmark"].to_list() == [True] * 18


def test_bfcl(run_job: RunJob, tmp_path: Path) -> None:
    asked = ["benchmark=bfcl", "domains=[miss_func,base]", "tasks_sample=12", "teacher=reference"]
    summary, _ = evaluated(run_job, tmp_path / "o", *asked)
    assert (summary["passed"], summary["finished"], summary["do_nothing"]["passed"]) == (12, 12, 0)
    noop, _ = evaluated(run_job, tmp_path / "n", *asked[:-1], "teacher=noop")
    assert (noop["passed"], noop["finished"]) == (0, 12)


def refused(run_job: RunJob, tmp_path: Path, *arguments: str) -> str:
    run = run_job("evaluate", *arguments, f"output={tmp_path / 'refused'}")
    assert run.returncode == 2, (run.returncode, run.stderr[-2000:])
    words = [line for line in run.stderr.splitlines() if line.strip()]
    assert len(words) == 1, words
    assert not (tmp_path / "refused").exists()
    return words[0]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["benchmark=nope"], "benchmark/nope"),
        (["trials=0"], "trials"),
        (["attempts=2"], "attempts"),
        (["benchmark=tau2", "domains=[nowhere]"], "no τ² domain nowhere"),
        (["benchmark=tau2", "benchmark.split=nope", "domains=[airline]"], "split=nope"),
        (["benchmark=tau2", "benchmark.path=/no/tasks.json", "domains=[airline]"], "benchmark.path=/no/tasks.json"),
        (["benchmark=tau2", "benchmark.path=/no/tasks.json"], "a task file is of one domain"),
        (["benchmark=tau2", "tasks=some.parquet"], "tasks"),
        (["benchmark=bfcl", "domains=[memory]"], "memory"),
        (["benchmark=bfcl", "export=true"], "export"),
        (["benchmark=acebench"], "benchmark.path"),
        (["benchmark=acebench", "benchmark.path=/no/such"], "github.com/"),
        (["domains=[nowhere]"], "domain=nowhere"),
        (["results=/no/such.json"], "results"),
    ],
)
def test_bad_input(run_job: RunJob, tmp_path: Path, arguments: list[str], names: str) -> None:
    teacher = [] if arguments[0].startswith("results=") else ["teacher=reference", *LOCAL]
    assert names in refused(run_job, tmp_path, *teacher, *arguments)


@pytest.mark.parametrize(
    ("text", "names"), [("{", "no JSON"), ('{"a": 1}', "results"), ("[]", "results"), ('[{"x": 1}]', "results")]
)
def test_files_that_are_no_results(run_job: RunJob, tmp_path: Path, text: str, names: str) -> None:
    file = tmp_path / "r.json"
    file.write_text(text)
    assert names in refused(run_job, tmp_path, f"results={file}")


def test_a_task_file_with_a_broken_reference(run_job: RunJob, tmp_path: Path) -> None:
    """Reported, not passed; the others are played."""
    good, _ = evaluated(
        run_job, tmp_path / "a", "benchmark=tau2", "domains=[mock]", "teacher=reference", "tasks_sample=1"
    )
    assert good["finished"] == 1
    row = json.loads(pl.read_parquet(tmp_path / "a" / "tasks.parquet")["task"][0])["data"]
    broken = json.loads(json.dumps(row)) | {"id": "broken"}
    broken["evaluation_criteria"]["actions"] = [{"action_id": "1", "name": "no_such_tool", "arguments": {}}]
    file = tmp_path / "tasks.json"
    file.write_text(json.dumps([row, broken]))
    asked = ["benchmark=tau2", "domains=[mock]", f"benchmark.path={file}", "teacher=reference"]
    summary, words = evaluated(run_job, tmp_path / "b", *asked)
    assert (summary["planned"], summary["tasks"]) == (1, 1)
    (line,) = summary["broken_tasks"]
    assert line == "tau2/mock/broken: reference action 1: there is no tool no_such_tool of the assistant"
    assert f"not played: {line}" in words
    shutil.rmtree(tmp_path / "b")
    file.write_text(json.dumps([broken]))
    assert "no task can be played" in refused(run_job, tmp_path, *LOCAL, *asked)
