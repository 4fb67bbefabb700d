"""What an engine says of itself: the few figures of its Prometheus page that routing, admission and the run page need.

vLLM and the simulated engine use the same names. A server without such a page (somebody else's endpoint) has no figures, which is no fault.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE = re.compile(r"^vllm:(\w+?)(?:_total)?(?:\{[^}]*\})? ([-+.\deE]+|NaN)$", re.M)


@dataclass(frozen=True, slots=True)
class EngineFigures:
    """One reading of one engine, at `at` (monotonic seconds). Counters count from the engine's start; `kv_use` is a share of 1."""

    at: float
    running: int = 0
    waiting: int = 0
    kv_use: float = 0.0
    preemptions: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0


def parse_metrics(text: str, at: float) -> EngineFigures | None:
    """Summed over label sets (an engine with data parallel ranks has one a rank; KV use is the fullest's). None without any of them."""
    sums: dict[str, float] = {}
    fullest = 0.0
    for name, value in _LINE.findall(text):
        number = float(value)
        if name == "kv_cache_usage_perc":
            fullest = max(fullest, number)
        sums[name] = sums.get(name, 0.0) + number
    if "num_requests_running" not in sums:
        return None
    return EngineFigures(
        at=at,
        running=int(sums["num_requests_running"]),
        waiting=int(sums.get("num_requests_waiting", 0)),
        kv_use=fullest,
        preemptions=int(sums.get("num_preemptions", 0)),
        prefix_queries=int(sums.get("prefix_cache_queries", 0)),
        prefix_hits=int(sums.get("prefix_cache_hits", 0)),
        prompt_tokens=int(sums.get("prompt_tokens", 0)),
        generation_tokens=int(sums.get("generation_tokens", 0)),
    )
