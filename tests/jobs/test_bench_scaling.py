"""Promises: only the steady middle of a job is measured; the server answers each turn after its time; each number of nodes has a rate."""

from __future__ import annotations

import math
import time
import urllib.request
from pathlib import Path

import pytest

from cluster.rollouts import JobFailed
from jobs.bench.actor_processes import RAY
from jobs.bench.chat_server import serving
from jobs.bench.scaling import PARTS, Reading, main, steady_part
from tests.jobs.benches import run_bench


def reading(at: float, finished: int, calls: int, cpu_s: float) -> Reading:
    return Reading(at, finished, calls, dict.fromkeys((*PARTS, RAY), cpu_s), cpu_s)


def test_the_steady_part_leaves_start_and_end_out() -> None:
    readings = [
        reading(0, 0, 0, 50),  # start-up: slow, and dear
        reading(10, 10, 100, 100),
        reading(20, 30, 300, 110),
        reading(30, 70, 700, 114),
        reading(60, 100, 900, 200),
    ]
    steady = steady_part(readings, 100)
    assert (steady.seconds, steady.calls, steady.calls_per_s) == (10, 400, 40)
    assert steady.cpu_ms_per_call == pytest.approx(len(PARTS) * 1000 * 4 / 400), "Ray's own is not in it"


def test_a_job_too_short_says_so() -> None:
    with pytest.raises(JobFailed, match="more rounds"):
        steady_part([reading(0, 0, 0, 0), reading(1, 50, 10, 1), reading(2, 100, 20, 2)], 100)


def test_the_server_takes_its_time_and_counts() -> None:
    with serving([{"turn": 0}, {"turn": 1}], latency_s=0.2) as server:
        for body, turn in (
            (b'{"messages":[]}', b'{"turn":0}'),
            (b'{"messages":[{"tool_call_id":"a"}]}', b'{"turn":1}'),
        ):
            started = time.monotonic()
            with urllib.request.urlopen(f"{server.url}/chat/completions", data=body, timeout=10) as answer:
                assert answer.read() == turn
            assert time.monotonic() - started >= 0.2
        assert server.calls() == 2


@pytest.mark.parametrize("key", ["nodes=[2,4]", "nodes=[1,1]", "rounds=1", "latency_s=0"])
def test_wrong_input_is_one_line(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([key])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_two_nodes(tmp_path: Path) -> None:
    figures = run_bench("scaling", tmp_path, "nodes=[1,2]", "rounds=6", "in_flight=4", "latency_s=0.1")
    assert figures["most_nodes"] == 2
    for number in (1, 2):  # with work on fewer nodes than there are it fails
        for name in ("calls_per_s", "cpu_ms_per_call", "share_of_possible", "window_s"):
            assert 0 < figures[f"{name}_{number}"] < math.inf
    assert 0 < figures["efficiency"] < math.inf and 0 < figures["cpu_ratio"] < math.inf
    assert (tmp_path / str(figures["figure"])).is_file()
