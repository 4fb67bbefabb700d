"""Promises of the fleet bench: the same seed gives the same figures, every policy plays the same rollouts, the flat result has its keys,
and the worst fraction is the worst that the figures hold. The figures that README names come from the full run, not from here."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import orjson
import pytest

from agentscaler.teachers.routing import Load
from jobs.bench import drawing
from jobs.bench.fleet import MEASURES, FleetBench, describe, main, quantile, worst_fraction
from jobs.bench.fleet_policies import OURS, POLICIES
from jobs.bench.fleet_simulation import Outcome, play
from jobs.compose import compose

SMALL = ["sizes=[2,3]", "workload.rollouts=12", "workload.in_flight=6", "workload.domains=2", "processes=1"]
URLS = [f"http://{i}/v1" for i in range(8)]


def config(*more: str) -> FleetBench:
    return compose("bench_fleet", FleetBench, [*SMALL, *more])


def small(policy: str, seed: int = 0) -> Outcome:
    chosen = config()
    return play(policy, 3, chosen.workload, chosen.engine, seed)


def test_the_same_seed_gives_the_same_and_all_policies_play_the_same() -> None:
    outcomes = {policy: small(policy) for policy in POLICIES}
    assert small(OURS) == outcomes[OURS]
    assert small(OURS, seed=1) != outcomes[OURS]
    assert len({outcome.output_tokens for outcome in outcomes.values()}) == 1
    for outcome in outcomes.values():
        assert len(outcome.rollout_s) == 3 * 12
        assert 0 < outcome.busy_until_95_s <= 3 * outcome.until_95_s <= 3 * outcome.makespan_s
        assert 0 < outcome.busy_s <= 3 * outcome.makespan_s
    assert outcomes["consistent_hash"].moves == 0
    assert outcomes[OURS].hit_rate > outcomes["random"].hit_rate


def test_result_and_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(drawing, "FOLDER", tmp_path)
    assert main([*SMALL, f"policies=[{OURS},random,least_loaded]"]) == 0
    printed = capsys.readouterr()
    figures = orjson.loads(printed.out.splitlines()[-1])
    for name in MEASURES:
        assert all(
            figures[f"{name}_{size}_{policy}"] > 0 for size in (2, 3) for policy in (OURS, "random", "least_loaded")
        )
    assert not any(isinstance(value, dict | list) for value in figures.values())
    fractions = []
    for size in (2, 3):
        for name, (_, more_is_better) in MEASURES.items():
            ours, *others = (figures[f"{name}_{size}_{policy}"] for policy in (OURS, "random", "least_loaded"))
            fractions.append(ours / max(ours, *others) if more_is_better else min(ours, *others) / ours)
    assert figures["worst_fraction_of_best"] == pytest.approx(min(fractions), abs=1e-4)
    assert 0 < figures["busy_until_last_5pct"] <= 1
    assert Path(figures["figure"]).stat().st_size > 10_000
    assert printed.err.count("replicas, ") == 6


def test_the_worst_fraction_names_its_place() -> None:
    chosen = config("sizes=[2]", f"policies=[{OURS},random]")
    good = describe(small(OURS), 3)
    figures = {(2, OURS): good, (2, "random"): good | {"p90_s": good["p90_s"] / 2}}
    assert worst_fraction(chosen, figures) == (0.5, "p90_s_2 (best: random)")


def test_quantiles() -> None:
    values = [float(i) for i in range(1, 101)]
    assert [quantile(values, share) for share in (0.5, 0.9, 0.99, 1.0)] == [50.0, 90.0, 99.0, 100.0]
    assert quantile([7.0], 0.5) == 7.0


@pytest.mark.parametrize("policy", [name for name in POLICIES if not name.startswith("sticky")])
def test_the_others_do_what_their_names_say(policy: str) -> None:
    router = POLICIES[policy](3)
    router.update(dict.fromkeys(URLS, Load()))
    went = [router.route(f"s{i}") for i in range(800)]
    assert (went == [router.route(f"s{i}") for i in range(800)]) is (policy in ("consistent_hash", "round_robin"))
    counts = Counter(went)
    assert counts.keys() == set(URLS)
    assert max(counts.values()) < 2.2 * min(counts.values())


def test_least_loaded_counts_requests_in_flight() -> None:
    router = POLICIES["least_loaded"](0)
    router.update({"a": Load(5), "b": Load(2)})
    assert [router.route(str(i)) for i in range(3)] == ["b", "b", "b"]
    assert router.loads() == {"a": Load(), "b": Load(3)}
    router.update({"a": Load(4), "b": Load(2)})
    assert router.route("3") == "a"
    for i in range(4):
        router.answered(str(i))
    assert set(router.loads().values()) == {Load()}


def test_a_removed_replica_moves_only_its_own_in_consistent_hash() -> None:
    router = POLICIES["consistent_hash"](0)
    router.update(dict.fromkeys(URLS, Load()))
    before = {f"s{i}": router.route(f"s{i}") for i in range(400)}
    router.update(dict.fromkeys(URLS[1:], Load()))
    assert {s for s, url in before.items() if router.route(s) != url} == {
        s for s, url in before.items() if url == URLS[0]
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["policies=[sticky_least_loaded,fastest]"], "fastest"),
        (["policies=[random,round_robin]"], "sticky_least_loaded"),
        (["sizes=[0]"], "sizes"),
        (["workload.turns.median=0"], "workload.turns.median"),
        (["+engine.speed=9"], "engine.speed"),
    ],
)
def test_wrong_input_is_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error
