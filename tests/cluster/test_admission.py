"""Promises: the limit grows while the engines have room, shrinks when they have not, stands still when nobody knows, and may be fixed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster.admission import Admission
from cluster.engine_metrics import EngineFigures, parse_metrics


class Engines:
    """Carries `capacity` rollouts a replica at 80 % of its KV cache; admission sees what a poll would say."""

    def __init__(self, replicas: int, capacity: int, max_running: int = 10_000):
        self.replicas, self.capacity, self.max_running = replicas, capacity, max_running
        self.preemptions = 0

    def figures(self, now: float, in_flight: int) -> dict[str, EngineFigures]:
        each = in_flight / self.replicas
        running = min(int(each), self.max_running)
        use = 0.8 * running / self.capacity
        if use > 1:
            self.preemptions += 1
        one = EngineFigures(now, running, int(each) - running, min(use, 1.0), self.preemptions)
        return {f"r{number}": one for number in range(self.replicas)}


def drive(admission: Admission, engines: Engines, seconds: int, now: float = 0.0) -> list[int]:
    limits = []
    for second in range(seconds):
        limit = admission.limit
        limits.append(admission.update(now + second, engines.replicas, engines.figures(now + second, limit), limit))
    return limits


def test_it_finds_what_the_engines_carry() -> None:
    limits = drive(Admission(start=4), Engines(replicas=8, capacity=100), 300)
    assert 0.7 * 800 * 0.75 <= limits[-1] <= 800 * 1.05
    assert max(limits) < 2 * 800


def test_a_queue_in_the_engines_stops_growth() -> None:
    limits = drive(Admission(start=4), Engines(replicas=2, capacity=10_000, max_running=16), 200)
    assert 32 <= limits[-1] <= 48


def test_preemption_shrinks_at_once() -> None:
    admission = Admission(start=100)
    admission.update(0, 1, {"r": EngineFigures(0, 90, 0, 0.5, 3)}, 100)
    before = admission.limit
    admission.update(10, 1, {"r": EngineFigures(10, 90, 0, 0.5, 4)}, before)
    assert admission.limit < before and admission.why == "preempted"


def test_stale_or_missing_figures_stop_growth() -> None:
    admission = Admission(start=10)
    admission.update(0, 2, {}, 0)
    for now in range(0, 60, 2):
        figures = {"a": EngineFigures(now, 1), "b": EngineFigures(0, 1)}
        admission.update(now, 2, figures if now > 8 else {}, 20)
        assert admission.limit <= 20
    assert admission.why == "figures missing or stale"


def test_an_unused_limit_does_not_grow() -> None:
    admission = Admission(start=10)
    for now in range(0, 60, 2):
        admission.update(now, 1, {"a": EngineFigures(now, 1)}, 2)
    assert admission.limit == 10


def test_it_follows_the_number_of_replicas() -> None:
    admission = Admission(start=10)
    for now, ready in ((0, 1), (1, 4), (2, 2), (3, 0), (4, 2)):
        admission.update(now, ready, {}, 0)
    assert admission.limit == 20


def test_a_fixed_number() -> None:
    assert set(drive(Admission(start=1, fixed=7), Engines(2, 1), 50)) == {7}


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1), st.integers(0, 50), st.integers(0, 3)), max_size=80))
def test_there_is_always_room_for_one(steps: list[tuple[int, float, int, int]]) -> None:
    admission, preemptions = Admission(start=8), 0
    for now, (ready, use, waiting, preempted) in enumerate(steps):
        preemptions += preempted
        figures = {f"r{n}": EngineFigures(3 * now, 5, waiting, use, preemptions) for n in range(ready)}
        assert admission.update(3 * now, ready, figures, admission.limit) >= 1


def test_the_metrics_page() -> None:
    page = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 4.0
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.5
vllm:num_preemptions_total{engine="0",model_name="m"} 2.0
vllm:generation_tokens_total{engine="0",model_name="m"} 1.5e+06
vllm:generation_tokens_created{engine="0",model_name="m"} 1.7e+09
"""
    figures = parse_metrics(page, 5.0)
    assert figures == EngineFigures(5.0, 7, 1, 0.5, 2, generation_tokens=1_500_000)
    assert parse_metrics("python_gc_objects 3\n", 0.0) is None
