"""Promises: `jobs.bench` lists what there is; each bench ends in one flat JSON object with the keys that README names; a wrong name or
key is one line and exit code 2."""

from __future__ import annotations

import importlib
from pathlib import Path

import orjson
import pytest

from agentscaler.domain.store import load_domain, write_domains
from agentscaler.shards.files import write_tasks
from agentscaler.tasks.compile import compile_shipped
from jobs.bench.__main__ import BENCHES, main
from jobs.compose import CONF


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    figures = orjson.loads(capsys.readouterr().out.splitlines()[-1])
    assert not any(isinstance(value, dict | list) for value in figures.values())
    return figures


def test_the_list_names_every_bench(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    printed = capsys.readouterr().out
    for name, bench in BENCHES.items():
        assert f"  {name:18}{bench.what}; {bench.takes}\n" in printed
        assert callable(importlib.import_module(f"jobs.bench.{name}").main)
        assert (CONF / f"bench_{name}.yaml").is_file()


def test_world_on_notes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["world", "domain=notes", "rounds=3", "rollouts=5"]) == 0
    figures = last_line(capsys)
    assert {"rollouts_per_s", "bare_rollouts_per_s", "ratio", "open_us", "call_us", "diff_us"} <= figures.keys()
    assert figures["num_calls"] == 8
    assert all(isinstance(value, str) or value > 0 for value in figures.values())  # type: ignore[operator]


def test_soundness_on_a_tasks_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tasks(tmp_path / "tasks.parquet", compile_shipped("notes")[:3])
    write_domains([load_domain("notes")], tmp_path / "domains.parquet")
    assert main(["soundness", f"tasks={tmp_path / 'tasks.parquet'}", "minimum=60"]) == 0
    figures = last_line(capsys)
    assert figures["num_tasks"] == 3
    assert figures["mutants"] == 60
    assert figures["false_pass"] == figures["false_fail"] == figures["noop_pass"] == 0


def test_tasks_on_notes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "domains=[notes]", "tasks=30", "tasks_a_world=20"]) == 0
    figures = last_line(capsys)
    assert {"tasks_per_s", "notes_tasks_per_s", "walk_share", "soundness_share", "world_share"} <= figures.keys()
    assert (figures["tasks"], figures["worlds"]) == (40, 2)
    assert figures["tasks_per_s"] == figures["notes_tasks_per_s"]
    assert 0.98 < sum(share for key, share in figures.items() if key.endswith("_share")) < 1.02  # type: ignore[misc]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["speed"], "jobs.bench speed: no such bench"),
        (["world", "domain=nowhere"], "nowhere"),
        (["world", "domain=notes", "num_writes=999"], "num_writes=999"),
        (["world", "domain=notes", "rounds=0"], "rounds"),
        (["world", "domain=notes", "+colour=red"], "colour"),
        (["tasks", "domains=[nowhere]"], "nowhere"),
        (["tasks", "tasks=0"], "tasks"),
    ],
)
def test_wrong_input_is_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error


def test_help_names_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["world", "--help"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("python -m jobs.bench world ")
