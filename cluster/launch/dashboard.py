"""Draws `grafana.json` from the figures that `cluster/gauges.py` exports and from vLLM's own.

python -m cluster.launch.dashboard            # writes cluster/launch/grafana.json anew

The order is that of docs/sizing.md: what comes out, whether the engines are full, whether the harness keeps up, what it costs. Every
panel says what it means when it looks wrong. A test draws it again and finds the file equal.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.gauges import FIGURES, exported_name

FILE = Path(__file__).with_name("grafana.json")
_OURS = '{run=~"$run"}'
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    says: str
    unit: str
    lines: tuple[tuple[str, str], ...]  # expression, legend


def figure(name: str, legend: str, by: str = "run") -> tuple[str, str]:
    """A gauge as it stands, a counter as its rate; over the processes that published it."""
    metric = exported_name(name) + _OURS
    if FIGURES[name].kind == "counter":
        return f"sum by ({by}) (rate({metric}[$__rate_interval]))", legend
    return f"max by ({by}) ({metric})", legend


def engines(metric: str, legend: str, over: str = "sum", rate: bool = False) -> tuple[str, str]:
    inner = f'{metric}{{role=~"$role"}}'
    return f"{over} by (role) ({f'rate({inner}[$__rate_interval])' if rate else inner})", legend


_ROLE = "run, role"
ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "What comes out",
        (
            Panel(
                "Rollouts a second",
                "Void work is infrastructure: see attempts that failed. Nothing accepted: look at verdicts, not at the cluster.",
                "short",
                (
                    figure("rollouts_accepted", "accepted {{run}}"),
                    figure("rollouts_rejected", "rejected {{run}}"),
                    figure("rollouts_void", "void {{run}}"),
                    figure("attempts_failed", "attempts failed {{run}}"),
                ),
            ),
            Panel(
                "Output tokens a second",
                "The figure to raise. Ours counts finished rollouts, vLLM's what engines made, thrown away work included.",
                "short",
                (
                    figure("output_tokens", "{{run}}"),
                    engines("vllm:generation_tokens_total", "engines, {{role}}", rate=True),
                ),
            ),
            Panel(
                "In flight and the limit",
                "In flight below the limit for long: the harness or the last stragglers hold it. At the limit: the engines do.",
                "short",
                (figure("in_flight", "in flight {{run}}"), figure("admission_limit", "limit {{run}}")),
            ),
        ),
    ),
    (
        "The engines",
        (
            Panel(
                "KV cache in use",
                "Over 90 % with preemptions: fewer in flight or more KV. Under 60 % with nobody waiting: more in flight.",
                "percentunit",
                (
                    figure("kv_use_mean", "mean {{run}} {{role}}", _ROLE),
                    figure("kv_use_max", "fullest {{run}} {{role}}", _ROLE),
                ),
            ),
            Panel(
                "Requests running and waiting",
                "Waiting at 0 and running under max_num_seqs: engines starve, look at the harness. Waiting high: engines are full.",
                "short",
                (
                    figure("requests_running", "running {{run}} {{role}}", _ROLE),
                    figure("requests_waiting", "waiting {{run}} {{role}}", _ROLE),
                ),
            ),
            Panel(
                "Preemptions a second",
                "Work computed twice. Should be near 0.",
                "short",
                (figure("preemptions", "{{run}} {{role}}", _ROLE),),
            ),
            Panel(
                "Prefix cache hits",
                "Multi-turn work should hit nearly all of its earlier turns. Low: sessions move, or more sessions than KV holds.",
                "percentunit",
                (
                    figure("prefix_hit_rate", "{{run}}"),
                    (
                        'sum by (role) (rate(vllm:prefix_cache_hits_total{role=~"$role"}[$__rate_interval]))'
                        ' / sum by (role) (rate(vllm:prefix_cache_queries_total{role=~"$role"}[$__rate_interval]))',
                        "engines, {{role}}",
                    ),
                ),
            ),
            Panel(
                "Time to the first token, 95 %",
                "Rises before tokens a second fall: queues build up inside the engines.",
                "s",
                (
                    (
                        "histogram_quantile(0.95, sum by (role, le) "
                        '(rate(vllm:time_to_first_token_seconds_bucket{role=~"$role"}[$__rate_interval])))',
                        "{{role}}",
                    ),
                ),
            ),
            Panel(
                "Replicas",
                "Ready under wanted: engines start, or there is no node for them.",
                "short",
                (
                    figure("replicas_ready", "ready {{run}} {{role}}", _ROLE),
                    figure("replicas_wanted", "wanted {{run}} {{role}}", _ROLE),
                    figure("engine_restarts", "restarts a second {{run}} {{role}}", _ROLE),
                ),
            ),
        ),
    ),
    (
        "The harness",
        (
            Panel(
                "Event-loop lag, 95 %",
                "Over 50 ms: the workers' Python is the bottleneck. More cluster.workers.",
                "s",
                (figure("loop_lag_p95", "{{run}}"),),
            ),
            Panel(
                "Worker processes",
                "Restarts are deaths; their rollouts are played again or resumed.",
                "short",
                (figure("worker_processes", "{{run}}"), figure("worker_restarts", "restarts a second {{run}}")),
            ),
            Panel(
                "Age of what is not committed",
                "Should saw up to cluster.shard_age_s and back. Growing: the disk or object store is slower than the rollouts.",
                "s",
                (figure("commit_lag", "{{run}}"), figure("metrics_age", "engine figures {{run}} {{role}}", _ROLE)),
            ),
            Panel(
                "Buffered rollouts",
                "Played and in no committed shard yet: what a crash of the committer would play again.",
                "short",
                (figure("buffered_rollouts", "{{run}}"),),
            ),
        ),
    ),
    (
        "What it costs",
        (
            Panel(
                "GPU-seconds an accepted rollout",
                "Falls as the start's cost spreads. Rising: fewer are accepted, or engines starve.",
                "s",
                (figure("gpu_s_per_accepted", "{{run}}"),),
            ),
            Panel(
                "GPUs held",
                "GPU-hours an hour, by role.",
                "short",
                (
                    (
                        f"sum by ({_ROLE}) (rate({exported_name('gpu_hours')}{_OURS}[$__rate_interval])) * 3600",
                        "{{run}} {{role}}",
                    ),
                ),
            ),
            Panel(
                "Left to do",
                "Planned, less what was committed before and what ended in this run.",
                "short",
                (
                    (
                        f"max by (run) ({exported_name('planned')}{_OURS}) - max by (run) ({exported_name('resumed')}{_OURS})"
                        f" - sum by (run) ({exported_name('rollouts_finished')}{_OURS})",
                        "{{run}}",
                    ),
                ),
            ),
        ),
    ),
)


def dashboard() -> dict[str, Any]:
    panels: list[dict[str, Any]] = []
    y = 0
    for row, members in ROWS:
        panels.append(
            {
                "type": "row",
                "title": row,
                "id": len(panels) + 1,
                "collapsed": False,
                "gridPos": {"h": 1, "w": 24, "x": 0, "y": y},
                "panels": [],
            }
        )
        y += 1
        for place, panel in enumerate(members):
            panels.append(_panel(panel, len(panels) + 1, x=place % 3 * 8, y=y + place // 3 * 8))
        y += -(-len(members) // 3) * 8
    return {
        "uid": "agentscaler",
        "title": "AgentScaler",
        "description": "One rollout job, or several: what comes out, the engines, the harness, the cost. See docs/sizing.md.",
        "tags": ["agentscaler"],
        "editable": True,
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "label": "Prometheus", "query": "prometheus"},
                _choice("run", exported_name("planned")),
                _choice("role", "vllm:num_requests_running"),
            ]
        },
        "panels": panels,
    }


def _choice(label: str, metric: str) -> dict[str, Any]:
    return {
        "name": label,
        "type": "query",
        "datasource": _DATASOURCE,
        "query": f"label_values({metric}, {label})",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
    }


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.says,
        "id": number,
        "datasource": _DATASOURCE,
        "gridPos": {"h": 8, "w": 8, "x": x, "y": y},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + at), "expr": expression, "legendFormat": legend}
            for at, (expression, legend) in enumerate(panel.lines)
        ],
    }


def text() -> str:
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
