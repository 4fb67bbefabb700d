"""What became of a job that builds tasks: its summary, and its run in MLflow.

Counts are of the whole folder, whichever run made it; times are those of making the units, wherever that was done.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import orjson

from agentscaler.canonical import digest
from agentscaler.shards.storage import AnyPath, write_bytes_atomic, write_text
from agentscaler.tasks.selection import Drop, Sketch, median
from agentscaler.tasks.task import Kind
from cluster.plan import TASKS_FILE, tasks_digest
from cluster.report import SUMMARY_FILE
from cluster.task_building import BuildPlan, Built, Progress
from cluster.task_building_figures import DRAWN, LONG_CALLS, to_png, words
from cluster.tracker import Tracker

ENOUGH = 0.95  # of what was asked for
MAX_REASONS = 60
MAX_UNTOUCHED = 40
EXIT_SHORT = 3


class BuildReport:
    """The run in MLflow. Use as a context manager; a run that leaves by an exception is marked FAILED."""

    def __init__(self, plan: BuildPlan, uri: str):
        tracking = plan.config.tracking
        self._plan = plan
        self._tracker = Tracker(uri, tracking.experiment, tracking.kind != "none")
        self._last_tick = 0.0
        self._step = 0
        self._ended = False

    def __enter__(self) -> BuildReport:
        params = {key: str(value) for key, value in self._plan.config.shape().items()}
        params["domains"] = ", ".join(self._plan.orders)
        self.run_id = self._tracker.start("build_tasks", params, {"output": str(self._plan.output)})
        self._tracker.config(self._plan.config_text)
        return self

    def __exit__(self, *_: object) -> None:
        if not self._ended:
            self._tracker.finish({}, "FAILED")

    def tick(self, progress: Progress, seconds: float) -> None:
        if seconds - self._last_tick < self._plan.config.tracking.tick_s:
            return
        self._last_tick = seconds
        self._step += 1
        values = {"units": progress.units, "planned_units": progress.planned_units, "made": progress.made}
        values |= {f"made_{kind}": count for kind, count in progress.kinds.items()}
        self._tracker.metrics({**values, "made_per_s": progress.made_now / max(seconds, 1e-6)}, self._step)

    def end(self, built: Built) -> tuple[AnyPath, dict[str, Any]]:
        """Pictures, summary.json, and the same to the tracker."""
        output = self._plan.output
        summary = {**summarise(self._plan, built), "mlflow_run_id": self.run_id}
        for file, draw in DRAWN.items():
            write_bytes_atomic(output / file, to_png(draw(summary)))
        write_text(output / SUMMARY_FILE, orjson.dumps(summary, option=orjson.OPT_INDENT_2).decode() + "\n")
        self._tracker.dataset("tasks", summary["tasks_digest"], str(output / TASKS_FILE), summary["tasks"], "output")
        self._tracker.pictures({file: lambda draw=draw: draw(summary) for file, draw in DRAWN.items()}, words(summary))
        self._tracker.finish(summary)
        self._ended = True
        return output / SUMMARY_FILE, summary


def summarise(plan: BuildPlan, built: Built) -> dict[str, Any]:
    """Figures of the whole folder, once tasks.parquet is written. `tasks_per_s`: made and proven, before selection, per second of
    processor time (`processor_s`)."""
    records = [unit.record for one in built.yields.values() for unit in one.units]
    made = {name: one.sketches for name, one in built.yields.items()}
    kept = {name: [made[name][place] for place in places] for name, places in built.chosen.items()}
    tasks = [sketch for sketches in kept.values() for sketch in sketches]
    tools = {name: {tool.name for tool in order.domain.tools_for("agent")} for name, order in plan.orders.items()}
    touched = {name: _touched(sketches) for name, sketches in kept.items()}
    processor_s = sum(record.processor_s for record in records)
    seconds = sum((Counter(record.seconds) for record in records), Counter[str]())
    num_made = sum(map(len, made.values()))
    calls = sorted(sketch.num_calls for sketch in tasks)
    yields = _yields(built)
    drawn = sum(row["drawn"] for row in yields.values())
    splits = Counter[str]()
    for name, sketches in kept.items():
        splits[plan.orders[name].split] += len(sketches)
    return {
        "tasks": len(tasks),
        "asked_for": plan.config.count,
        "made": num_made,
        "tasks_per_s": round(num_made / processor_s, 2) if processor_s else None,
        "yield": round(sum(row["faultless"] for row in yields.values()) / drawn, 4) if drawn else None,
        "by_kind": {kind.value: yields[kind.value]["tasks"] for kind in Kind if kind.value in yields},
        "by_domain": {name: len(sketches) for name, sketches in kept.items()},
        "by_split": {split: splits[split] for split in ("train", "held_out")},
        "asked_shares": {kind.value: round(share, 4) for kind, share in plan.config.dials.shares.items()},
        "kinds_by_domain": {name: _by_kind(sketches) for name, sketches in kept.items()},
        "yields": yields,
        "dropped": _dropped(built),
        "median_calls": median(calls),
        "share_8_calls_or_more": round(sum(one >= LONG_CALLS for one in calls) / len(calls), 4) if calls else None,
        "lengths": {str(length): count for length, count in sorted(Counter(calls).items())},
        "seconds": {stage: round(spent, 3) for stage, spent in sorted(seconds.items())},
        "processor_s": round(processor_s, 3),
        "wall_s": round(built.seconds, 3),
        "made_now": built.made_now,
        "authored": built.authored.figures() if built.authored else None,
        "tools_touched": sum(len(touched[name] & tools[name]) for name in tools),
        "tools": sum(map(len, tools.values())),
        "tool_uses": {f"{name}/{tool}": count for name in tools for tool, count in sorted(_uses(kept[name]).items())},
        "tools_untouched": sorted(f"{name}/{one}" for name in tools for one in tools[name] - touched[name])[
            :MAX_UNTOUCHED
        ],
        "worlds": {name: len(one.units) for name, one in built.yields.items()},
        "broken_worlds": sum(record.broken is not None for record in records),
        "spent": sorted(name for name, one in built.yields.items() if one.is_spent),
        "tasks_digest": tasks_digest(plan.output / TASKS_FILE),
        "output": str(plan.output),
        "config_digest": digest(plan.config.shape()),
    }


def _uses(sketches: list[Sketch]) -> Counter[str]:
    return Counter(tool for sketch in sketches for tool in sketch.tools)


def _touched(sketches: list[Sketch]) -> set[str]:
    return set(_uses(sketches))


def _by_kind(sketches: list[Sketch]) -> dict[str, int]:
    counts = Counter(sketch.kind for sketch in sketches)
    return {kind.value: counts[kind] for kind in Kind if counts[kind]}


def _yields(built: Built) -> dict[str, dict[str, int]]:
    """kind -> drawn (made, or dropped before), made, faultless, tasks."""
    found = {kind.value: Counter[str]() for kind in Kind}
    for name, one in built.yields.items():
        sketches = one.sketches
        for sketch, fault in zip(sketches, one.faults, strict=True):
            found[sketch.kind.value].update(drawn=1, made=1, faultless=fault is None)
        for place in built.chosen[name]:
            found[sketches[place].kind.value]["tasks"] += 1
        for unit in one.units:
            for reason, count in unit.record.dropped.items():
                if (kind := reason.partition(": ")[0]) in found:  # not a world that could not be made
                    found[kind]["drawn"] += count
    steps = ("drawn", "made", "faultless", "tasks")
    return {kind: {step: counts[step] for step in steps} for kind, counts in found.items() if counts["drawn"]}


def _dropped(built: Built) -> dict[str, int]:
    """By reason, all kinds together: draws that came to nothing, and tasks that were not kept. The most frequent first."""
    reasons = Counter[str]()
    for name, one in built.yields.items():
        for unit in one.units:
            for reason, count in unit.record.dropped.items():
                reasons[reason.partition(": ")[2] or reason] += count
        reasons.update(fault.value for fault in one.faults if fault is not None)
        reasons[Drop.SURPLUS.value] += one.usable - len(built.chosen[name])
    most = sorted(((reason, count) for reason, count in reasons.items() if count), key=lambda row: (-row[1], row[0]))
    found = dict(most[:MAX_REASONS])
    if rest := sum(count for _, count in most[MAX_REASONS:]):
        found["other reasons"] = rest
    return found


def exit_code(summary: dict[str, Any]) -> tuple[int, str | None]:
    """And one line where there are fewer tasks than were asked for."""
    tasks, asked = summary["tasks"], summary["asked_for"]
    if tasks >= asked:
        return 0, None
    each = ", ".join(
        f"{name} {count} from {summary['worlds'][name]} worlds" for name, count in summary["by_domain"].items()
    )
    drops = [(reason, count) for reason, count in summary["dropped"].items() if reason != Drop.SURPLUS.value]
    why = ", ".join(f"{reason} {count}" for reason, count in drops[:3])
    line = f"{tasks} of {asked} tasks could be made ({each[:300]}), more worlds gave hardly anything new; most were dropped for: {why}"
    return (EXIT_SHORT if tasks < ENOUGH * asked else 0), line
