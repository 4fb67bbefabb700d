"""Promises: people of the bench talk for as many turns as asked; both sides make the same requests and tokens; no side's time leaves the
tail out. With a simulated engine; vLLM itself takes minutes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from agentscaler.domain.store import load_domain
from agentscaler.users.scripted import ScriptedUser
from jobs.bench.saturation import SaturationBench, main, tasks_of
from jobs.bench.saturation_recorder import Recording
from jobs.compose import compose
from tests.jobs.benches import run_bench


def test_people_talk_for_the_turns_asked_for() -> None:
    config = compose("bench_saturation", SaturationBench, ["rollouts=12", "turns=[1,3,8]"])
    for index, task in enumerate(tasks_of(config, load_domain("notes"))):
        user = ScriptedUser(task.written)
        turns = 1
        while user.answer("There are some notes.") is not None:
            turns += 1
        assert turns == (1, 3, 8)[index % 3]


def test_the_time_is_from_the_first_request_to_the_last_answer() -> None:
    assert Recording(tokens=[10, 30], first_at=5.0, last_at=9.0).tokens_per_s == 10


@pytest.mark.parametrize("key", ["turns=[9]", "pairs=0", "cores=[0,4096]", "engine=gpt"])
def test_wrong_input_is_one_line(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([key])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_both_sides_make_the_same_requests(tmp_path: Path) -> None:
    figures = run_bench("saturation", tmp_path, "engine=sim", "rollouts=4", "pairs=1", "turns=[2,3]")
    assert figures["requests"] >= 4 * 2
    assert figures["tokens"] > 0
    assert 0 < figures["ratio"] < math.inf
    assert figures["tokens_per_s"] > 0
    assert (tmp_path / str(figures["figure"])).is_file()
