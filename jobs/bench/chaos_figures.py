"""What the chaos bench saw, as figures and as a picture."""

from __future__ import annotations

import re
import statistics
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from jobs.bench.chaos_checks import Examined
from jobs.bench.chaos_cluster import Kind
from jobs.bench.drawing import save

GIVEN_BACK = re.compile(r"worker-\S+ died .*: (\d+) rollouts given back")
TAKES_WORKERS = (Kind.WORKER, Kind.RAYLET)


@dataclass(slots=True)
class Kill:
    kind: Kind
    at_s: float
    in_flight: int
    committed: int
    ends_job: bool
    log: Path
    log_start: int
    recovered_s: float | None = None  # until every part was there again and requests in the engines


@dataclass(frozen=True, slots=True)
class Moment:
    """What was seen at a time: rollouts that the manifest names, requests in the engines."""

    at_s: float
    committed: int
    in_flight: int


@dataclass(slots=True)
class Tally:
    kills: list[Kill] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    orphans: int = 0
    runs: int = 0
    completed: int = 0
    bad_exits: int = 0
    surplus: int = 0  # times that superseded parts lived on beside their successors
    stalls: int = 0
    head_exit_codes: set[int | None] = field(default_factory=set)
    tracked_completed: int = 0
    untracked: int = 0  # completed runs whose MLflow run is missing or unfinished


def was_hit(kill: Kill, later: list[Kill]) -> bool:
    """Whether it struck work in flight (see `chaos.py`). `later`: kills that came after it."""
    if kill.in_flight > 0 and kill.kind is not Kind.WORKER:
        return True
    if kill.kind not in TAKES_WORKERS or kill.ends_job:
        return False
    end = next((one.log_start for one in later if one.log == kill.log and one.kind in TAKES_WORKERS), None)
    words = kill.log.read_bytes()[kill.log_start : end].decode(errors="replace")
    return any(int(count) > 0 for count in GIVEN_BACK.findall(words))


def hits_of(tally: Tally) -> list[bool]:
    return [was_hit(kill, tally.kills[place + 1 :]) for place, kill in enumerate(tally.kills)]


def figures_of(tally: Tally, found: Examined) -> dict[str, Any]:
    hits = hits_of(tally)
    figures: dict[str, Any] = {
        "rounds": len(tally.kills),
        "hit_in_flight": sum(hits),
        "after_a_commit": sum(now > before for before, now in pairwise([0, *(kill.committed for kill in tally.kills)])),
        "committed_at_last_kill": tally.kills[-1].committed,
        "lost": found.lost,
        "duplicated": found.duplicated,
        "torn": found.torn,
        "orphans": tally.orphans,
        "surplus": tally.surplus,
        "planned": found.planned,
        "committed": found.committed,
        "given_up": found.given_up,
        "named_twice": found.named_twice,
        "losers_left": found.losers,
        "summary_agrees": found.summary_agrees,
        "shards": found.shards,
        "epochs": found.epochs,
        "runs": tally.runs,
        "completed_runs": tally.completed,
        "bad_exits": tally.bad_exits,
        "stalls": tally.stalls,
        "tracked_completed": tally.tracked_completed,
        "untracked": tally.untracked,
        "head_exit_codes": " ".join(sorted(map(str, tally.head_exit_codes))),
    }
    for kind in Kind:
        kills = [(kill, hit) for kill, hit in zip(tally.kills, hits, strict=True) if kill.kind is kind]
        if not kills:
            continue
        recovered = [kill.recovered_s for kill, _ in kills if kill.recovered_s is not None]
        figures[f"killed_{kind.value}"] = len(kills)
        figures[f"hit_{kind.value}"] = sum(hit for _, hit in kills)
        figures[f"recovery_s_{kind.value}"] = round(statistics.median(recovered), 1) if recovered else None
    figures["recovered"] = sum(kill.recovered_s is not None for kill in tally.kills)
    return figures


def draw(tally: Tally, name: str) -> str:
    """Rollouts committed and requests in flight over time, and every kill."""
    from matplotlib.figure import Figure

    hits = hits_of(tally)
    figure = Figure(figsize=(13, 7))
    kills, committed, in_flight = figure.subplots(3, 1, sharex=True, height_ratios=[2, 2, 1])
    kinds = list(Kind)
    for hit, colour, label in ((True, "tab:red", "hit work in flight"), (False, "tab:gray", "did not")):
        chosen = [kill for kill, struck in zip(tally.kills, hits, strict=True) if struck is hit]
        kills.scatter(
            [kill.at_s for kill in chosen], [kinds.index(kill.kind) for kill in chosen], c=colour, s=22, label=label
        )
    kills.set_yticks(range(len(kinds)), [kind.value.replace("_", " ") for kind in kinds])
    kills.set_ylim(-0.5, len(kinds) - 0.5)
    kills.set_title(f"{len(tally.kills)} kills", fontsize=10)
    kills.legend(fontsize=8, loc="upper left", ncols=2)
    times = [moment.at_s for moment in tally.moments]
    committed.plot(times, [moment.committed for moment in tally.moments], color="tab:blue")
    committed.set_ylabel("rollouts committed")
    in_flight.fill_between(
        times, [moment.in_flight for moment in tally.moments], step="post", color="tab:green", alpha=0.6
    )
    in_flight.set_ylabel("requests in engines")
    in_flight.set_xlabel("seconds")
    for axis in (kills, committed, in_flight):
        axis.spines[["top", "right"]].set_visible(False)
        for kill in tally.kills:
            axis.axvline(kill.at_s, color="tab:red", alpha=0.12, linewidth=0.8)
    figure.tight_layout()
    return save(figure, name)
