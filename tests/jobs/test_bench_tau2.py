"""τ² worlds beside the package's own environment and evaluators."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.jobs.benches import run_bench


@pytest.mark.slow
def test_random_conversations_do_not_differ(tmp_path: Path) -> None:
    figures = run_bench("tau2_differential", tmp_path, "sequences=8", "seed=7")
    assert figures["differences"] == 0 and figures["sequences"] == 4 * 8
    assert figures["calls"] > 60 and 0 < figures["errors"] < figures["calls"] and figures["rewarded"] > 2
    assert figures["own_databases_airline"] == figures["own_databases_retail"] == 0


@pytest.mark.slow
def test_judging_is_faster_than_the_package(tmp_path: Path) -> None:
    figures = run_bench("tau2", tmp_path, "tasks=3", "domains=[mock]")
    assert figures["tasks_mock"] == 3 and figures["speedup_mock"] > 0
