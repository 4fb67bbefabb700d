"""The pictures of a job that builds tasks, drawn from its summary alone.

Pure, like `figures.py`: each drawing returns a `Figure` with its own canvas. Made to be read at the size of a dashboard panel; every bar
carries its number. Of many domains, reasons or tools the most telling are drawn and the rest is said.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from agentscaler.tasks.selection import Drop
from cluster.figures import FAINT, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Summary = Mapping[str, Any]

WIDTH = 8.4
DOMAIN_COLOURS = ("#4f86c0", "#c98425", "#2e8b57", "#8f5fa8", "#b5514b", "#4a9494")
REST, KEPT, DRAW, LONG = "#b8bec7", "#4f86c0", "#d08a4e", "#2e8b57"
LONG_CALLS = 8
MAX_DOMAINS, MAX_REASONS, MAX_TOOLS = len(DOMAIN_COLOURS), 16, 60


def draw_mix(summary: Summary) -> Figure:
    """Tasks by kind, parted by domain, beside the share that was asked for."""
    by_kind, by_domain = summary["by_kind"], summary["kinds_by_domain"]
    asked = summary["asked_shares"]
    kinds = sorted({*by_kind, *asked}, key=lambda kind: (-asked.get(kind, 0), kind))
    names = sorted(by_domain, key=lambda name: (-sum(by_domain[name].values()), name))
    shown = names if len(names) <= MAX_DOMAINS else names[: MAX_DOMAINS - 1]
    total, longest = max(1, summary["tasks"]), max([1, *by_kind.values()])
    figure, axes = _blank(1.7 + 0.46 * len(kinds))
    for place, kind in enumerate(kinds):
        left, count = 0.0, by_kind.get(kind, 0)
        parts = [(by_domain[name].get(kind, 0), colour) for name, colour in zip(shown, DOMAIN_COLOURS, strict=False)]
        for number, colour in [*parts, (count - sum(number for number, _ in parts), REST)]:
            axes.barh(place, number / longest, left=left, height=0.72, color=colour, edgecolor="white", linewidth=1)
            if number / longest > 0.05:
                ink = INK if colour == REST else "white"
                _write(axes, left + number / longest / 2, place, f"{number:,}", "center", 10.5, colour=ink)
            left += number / longest
        _write(axes, -0.015, place, kind.replace("_", " "), "right", 12)
        _write(axes, 1.15, place, f"{count:,}", "right", 12, weight="bold")
        _write(axes, 1.34, place, f"{100 * count / total:.1f} %", "right", 12)
        _write(axes, 1.53, place, f"{100 * asked.get(kind, 0):.1f} %", "right", 12, colour=FAINT)
    for x, head in ((1.15, "tasks"), (1.34, "share"), (1.53, "asked for")):
        _write(axes, x, -0.85, head, "right", 10, colour=FAINT)
    axes.set_xlim(0, 1.55)
    axes.set_ylim(len(kinds) - 0.4, -1.2)
    labels = [f"{name} {sum(by_domain[name].values()):,}" for name in shown]
    if len(names) > len(shown):
        rest = sum(sum(by_domain[name].values()) for name in names[len(shown) :])
        labels.append(f"{len(names) - len(shown):,} others {rest:,}")
    _legend(figure, labels, [*DOMAIN_COLOURS[: len(shown)], REST])
    held = summary["by_split"].get("held_out", 0)
    _title(axes, f"{_tasks(summary)} by kind and domain" + (f", {held:,} held out" if held else ""))
    return figure


def draw_lengths(summary: Summary) -> Figure:
    """How many calls the references have."""
    counts = {int(length): count for length, count in summary["lengths"].items()}
    total = max(1, sum(counts.values()))
    figure, axes = _blank(3.8)
    places = range(max(counts, default=0) + 1)
    colours = [LONG if one >= LONG_CALLS else KEPT for one in places]
    axes.bar(places, [counts.get(one, 0) for one in places], width=0.8, color=colours)
    for one in places:
        if count := counts.get(one, 0):
            axes.annotate(
                f"{100 * count / total:.1f} %" if 100 * count / total >= 0.05 else "< 0.1 %",
                (one, count),
                (0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=9.5,
                color=INK,
            )
    axes.set_xticks(list(places))
    axes.set_yticks([])
    axes.set_xlabel("calls in the reference", color=FAINT, fontsize=10.5)
    axes.tick_params(length=0, colors=INK)
    _no_frame(axes, but="bottom")
    share = summary["share_8_calls_or_more"]
    long = f", {100 * share:.1f} % have 8 or more" if share is not None else ""
    _title(axes, f"Calls a task: median {summary['median_calls']:g}{long}")
    return figure


def draw_drops(summary: Summary) -> Figure:
    """Why draws came to nothing, and why tasks that were made are not kept."""
    rows = list(summary["dropped"].items())[:MAX_REASONS]
    rest = sum(list(summary["dropped"].values())[MAX_REASONS:])
    rows += [(f"{len(summary['dropped']) - MAX_REASONS} other reasons", rest)] if rest else []
    figure, axes = _blank(1.6 + 0.42 * max(2, len(rows)))
    longest = max((count for _, count in rows), default=1)
    selected = {drop.value for drop in Drop}
    for place, (reason, count) in enumerate(rows):
        axes.barh(place, count / longest, height=0.66, color=KEPT if reason in selected else DRAW)
        _write(axes, -0.015, place, textwrap.shorten(reason, 58, placeholder=" …"), "right", 10.5)
        _write(axes, count / longest + 0.015, place, f"{count:,}", "left", 11)
    axes.set_xlim(0, 1.12)
    axes.set_ylim(max(2, len(rows)) - 0.4, -0.6)
    _legend(figure, ["a draw came to nothing", "a task was made and is not kept"], [DRAW, KEPT])
    drawn = sum(row["drawn"] for row in summary["yields"].values())
    _title(axes, f"{summary['tasks']:,} tasks kept of {summary['made']:,} made in {drawn:,} draws")
    return figure


def draw_tools(summary: Summary) -> Figure:
    """How many tasks call each tool, or have to refuse to; of many tools those of the fewest tasks."""
    uses = sorted(summary["tool_uses"].items(), key=lambda row: (row[1], row[0]))
    rows = [(tool, 0) for tool in summary["tools_untouched"]] + uses
    shown = rows[:MAX_TOOLS]
    half = -(-len(shown) // 2)
    figure, axes = _blank(1.3 + 0.27 * max(2, half))
    longest = max((count for _, count in shown), default=1) or 1
    for number, (tool, count) in enumerate(shown):
        column, place = divmod(number, max(1, half))
        x = 1.55 * column
        axes.barh(place, 0.42 * count / longest, left=x, height=0.66, color=KEPT)
        _write(axes, x - 0.02, place, textwrap.shorten(tool, 44), "right", 9, colour=INK if count else "#b5443a")
        _write(axes, x + 0.42 * count / longest + 0.02, place, f"{count:,}", "left", 9)
    axes.set_xlim(-0.75, 2.2)
    axes.set_ylim(max(2, half) - 0.4, -0.6)
    head = f"{summary['tools_touched']} of {summary['tools']} tools are in a task"
    _title(axes, head + (f"; the {len(shown)} in fewest" if len(rows) > len(shown) else ""))
    return figure


DRAWN: Mapping[str, Callable[[Summary], Figure]] = {
    "mix.png": draw_mix,
    "lengths.png": draw_lengths,
    "drops.png": draw_drops,
    "tools.png": draw_tools,
}


def words(summary: Summary) -> str:
    """The same in Markdown, for the description of a run."""
    yields = [f"{kind} {row['tasks']:,} of {row['drawn']:,} draws" for kind, row in summary["yields"].items()]
    rate = f"{summary['tasks_per_s']:g} made a second and core" if summary["tasks_per_s"] else "none made"
    return f"**{_tasks(summary)}** of {summary['asked_for']:,} asked for; {rate}; {'; '.join(yields)}"


def to_png(figure: Figure) -> bytes:
    sink = io.BytesIO()
    figure.savefig(sink, dpi=144)
    return sink.getvalue()


def _tasks(summary: Summary) -> str:
    return f"{summary['tasks']:,} task{'' if summary['tasks'] == 1 else 's'}"


def _blank(height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xticks([])
    axes.set_yticks([])
    _no_frame(axes)
    return figure, axes


def _no_frame(axes: Axes, but: str = "") -> None:
    for side, spine in axes.spines.items():
        spine.set_visible(side == but)


def _title(axes: Axes, title: str) -> None:
    """At the left edge of the figure, however long the names beside the bars are."""
    axes.get_figure(root=True).suptitle(  # pyright: ignore[reportOptionalMemberAccess]
        title, x=0.01, ha="left", fontsize=14, color=INK, parse_math=False
    )


def _legend(figure: Figure, labels: list[str], colours: list[str]) -> None:
    from matplotlib.patches import Patch

    patches = [Patch(color=colour, label=label) for label, colour in zip(labels, colours, strict=False)]
    figure.legend(handles=patches, loc="outside lower center", ncols=3, frameon=False, fontsize=10, handlelength=1.1)


def _write(
    axes: Axes, x: float, y: float, words: str, side: str, size: float, colour: str = INK, weight: str = "normal"
) -> None:
    axes.text(x, y, words, ha=side, va="center", fontsize=size, color=colour, weight=weight, parse_math=False)
