"""The figures of an evaluation, drawn from the plain dict that `agentscaler/evaluation/passes.py` makes, this run's or an earlier one's.

Pure, like `figures.py`: each drawing returns a `Figure` with its own canvas, and touches no display, pyplot or global state. Drawn
8.4 inches wide (the tracker saves 144 dots an inch). What is null is left out and said, never drawn as zero; so is what the file of
an earlier run lacks.
Names and labels come from outside: they are shortened, and never read as formulas or as Markdown.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from agentscaler.evaluation.passes import CALL_BUCKETS
from cluster.figures import FAINT, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Figures = Mapping[str, Any]
Grouping = Literal["by_domain", "by_kind", "by_num_calls"]

WIDTH = 8.4
HAT, HAT_FILL, LARGEST, AT, OTHER = "#1f5fa8", "#a9c5e6", "#b5443a", "#2e8b57", "#9aa3af"
GROUPINGS: Mapping[Grouping, str] = {"by_domain": "domain", "by_kind": "kind", "by_num_calls": "calls"}
PANELS_A_ROW = 4
SHARES = (0, 0.25, 0.5, 0.75, 1)
MAX_ROWS = 20  # of a grouping in words: the tracker's description holds 8,000 characters


def draw_passes(figures: Figures) -> Figure:
    """pass^k and pass@k over k, with the bands of their intervals."""
    figure = _blank(4.6)
    axes = figure.add_subplot()
    ks = _ks(figures)
    for how, words, colour, side in (("pass_at", "pass@k", AT, 1), ("pass_hat", "pass^k", HAT, -1)):
        points = [(k, one) for k in ks if (one := _one(figures, how, k))]
        if not points:
            continue
        xs, values = [k for k, _ in points], [one["value"] for _, one in points]
        lows, highs = [one["low"] for _, one in points], [one["high"] for _, one in points]
        axes.fill_between(xs, lows, highs, color=colour, alpha=0.16, linewidth=0)
        if len(points) == 1:  # a band of one point shows nothing
            axes.vlines(xs, lows, highs, color=colour, linewidth=2)
        axes.plot(xs, values, "o-", color=colour, linewidth=2, markersize=6)
        for x, value in zip(xs, values, strict=True):
            if x > 1:
                _note(axes, x, value, _percent(value), (0, 12 * side), colour=colour)
            elif how == "pass_hat":  # pass@1 is pass^1
                _note(axes, x, value, _percent(value), (-10, 0), side="right", colour=colour)
        # Apart also where both curves end at the same place.
        _note(axes, xs[-1], values[-1], words, (24, 9 * side), side="left", colour=colour, weight="bold")
    axes.set_xlim(min(ks, default=1) - 0.4, max(ks, default=1) + (0.15 * len(ks) if len(ks) > 1 else 0.45))
    axes.set_xticks(ks, [f"k = {k}\n{_count(_number(figures, 'pass_hat', k), 'task')}" for k in ks])
    _shares(axes, "y", (-0.07, 1.08))
    _title(axes, _heading(figures), _below(figures), "bands: 95 % intervals, by resampling tasks")
    if not any(_one(figures, "pass_hat", k) for k in ks):
        _empty(axes, "no trial has finished")
    return figure


def draw_groups(figures: Figures, grouping: Grouping, title: str) -> Figure:
    """pass^1 and pass^k of the largest k: bars by domain or kind, the best first; a line over the numbers of calls."""
    groups: Mapping[str, Figures] = figures.get(grouping) or {}
    return _draw_calls(groups, title) if grouping == "by_num_calls" else _draw_bars(groups, title)


def draw_comparison(runs: Sequence[tuple[str, Figures]]) -> Figure:
    """pass^1 to pass^k of this run (the first) beside earlier ones: a panel for each k, a row for each run."""
    ks = sorted({k for _, figures in runs for k in _ks(figures)})
    rows = max(1, math.ceil(len(ks) / PANELS_A_ROW))
    labels = [_wrapped(f"{label}", 30, 3) for label, _ in runs]
    counts = [_of_run(figures) for _, figures in runs]
    lines = sum(max(2, label.count("\n") + 2) for label in labels)
    figure = _blank(1.1 + rows * (0.55 + 0.21 * max(3, lines)))
    figure.suptitle(
        "pass^k of this run beside earlier ones", x=0.01, ha="left", fontsize=15, color=INK, parse_math=False
    )
    if not ks:
        axes = figure.add_subplot()
        _empty(axes, "nothing to compare")
        return figure
    columns = min(len(ks), PANELS_A_ROW)
    grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place >= len(ks):
            axes.set_visible(False)
            continue
        _draw_panel(axes, [figures for _, figures in runs], ks[place])
        if place % columns == 0:
            names = [f"{label}\n{count}" for label, count in zip(labels, counts, strict=True)]
            axes.set_yticks(range(len(runs)), names, fontsize=9.5, color=INK, parse_math=False)
            for number, name in enumerate(axes.get_yticklabels()):
                name.set_weight("bold" if number == 0 else "normal")
    return figure


def words(figures: Figures, heading: str) -> str:
    """The same in Markdown, for the description of a run."""
    ks = _ks(figures)
    lines = [
        f"### {_escaped(heading)}",
        "",
        f"**{_heading(figures)}**: {_below(figures)}; 95 % intervals, by resampling tasks",
        "",
    ]
    if not any(_one(figures, "pass_hat", k) for k in ks):
        return "\n".join([*lines[:2], f"No figures: {_below(figures)}"]) + "\n"
    lines += ["| k | tasks | pass^k | pass@k |", "|---:|---:|---:|---:|"]
    for k in ks:
        cells = [_with_interval(_one(figures, how, k)) for how in ("pass_hat", "pass_at")]
        lines.append(f"| {k} | {_number(figures, 'pass_hat', k):,} | {cells[0]} | {cells[1]} |")
    shown = sorted({1, ks[-1]})
    for grouping in ("by_domain", "by_kind", "by_num_calls"):
        groups: Mapping[str, Figures] = figures.get(grouping) or {}
        if len(groups) < 2:  # one group alone says what all tasks say
            continue
        head = " | ".join(f"pass^{k}" for k in shown)
        lines += ["", f"| {GROUPINGS[grouping]} | tasks | {head} |", "|---|---:|" + "---:|" * len(shown)]
        for name in sorted(groups, key=_call_order)[:MAX_ROWS]:
            cells = [_with_interval(_one(groups[name], "pass_hat", k)) for k in shown]
            number = _number(groups[name], "pass_hat", 1)
            lines.append(f"| {_escaped(_wrapped(name, 40, 1))} | {number:,} | {' | '.join(cells)} |")
        if len(groups) > MAX_ROWS:
            lines.append(f"| … {len(groups) - MAX_ROWS} more | |" + " |" * len(shown))
    return "\n".join(lines) + "\n"


def _draw_bars(groups: Mapping[str, Figures], title: str) -> Figure:
    names = sorted(groups, key=lambda name: (-_value(groups[name], "pass_hat", 1, -1), name))
    labels = [_wrapped(name.replace("_", " "), 28, 2) for name in names]
    figure = _blank(1.75 + 0.46 * max(2, len(names)))
    axes = figure.add_subplot()
    largest = max((k for group in groups.values() for k in _ks(group)), default=1)
    for place, name in enumerate(names):
        axes.barh(place, 1, height=0.66, color="#f4f6f8", zorder=1)
        first, last = _one(groups[name], "pass_hat", 1), _one(groups[name], "pass_hat", largest)
        if first:
            axes.barh(place, first["value"], height=0.66, color=HAT_FILL, zorder=2)
            axes.hlines(place, first["low"], first["high"], color=HAT, linewidth=2, zorder=3)
            axes.plot(first["value"], place, "|", color=HAT, markersize=14, markeredgewidth=2, zorder=4)
        if last and largest > 1:
            axes.plot(last["value"], place, "D", color=LARGEST, markersize=7, markeredgecolor="white", zorder=5)
        marks = [(0, _percent(first["value"]) if first else "-")]
        marks += [(1, _percent(last["value"]) if last else "-")] * (largest > 1)
        for column, mark in [*marks, (2, f"{_number(groups[name], 'pass_hat', 1):,}")]:
            _cell(axes, column, place, mark, 11)
    for column, head in ((0, "pass^1"), (1, f"pass^{largest}" if largest > 1 else ""), (2, "tasks")):
        _cell(axes, column, -0.72, head if names else "", 10)
    axes.set_yticks(range(len(names)), labels, fontsize=11, color=INK, parse_math=False)
    axes.set_ylim(max(1, len(names)) - 0.4, -1)
    _shares(axes, "x", (0, 1))
    _title(axes, title, f"bars: pass^1 with 95 % intervals{_largest_words(largest, 'diamonds')}")
    if not names:
        _empty(axes, "no task")
    return figure


def _draw_calls(groups: Mapping[str, Figures], title: str) -> Figure:
    names = sorted(groups, key=_call_order)
    figure = _blank(4.6)
    axes = figure.add_subplot()
    largest = max((k for group in groups.values() for k in _ks(group)), default=1)
    series = [(1, HAT, "o-", -0.07), (largest, LARGEST, "D--", 0.07)][: 1 if largest == 1 else 2]
    for k, colour, style, shift in series:
        points = [(place, one) for place, name in enumerate(names) if (one := _one(groups[name], "pass_hat", k))]
        if not points:
            continue
        xs = [place + (shift if len(series) > 1 else 0) for place, _ in points]
        axes.vlines(xs, [one["low"] for _, one in points], [one["high"] for _, one in points], color=colour, alpha=0.45)
        axes.plot(xs, [one["value"] for _, one in points], style, color=colour, linewidth=1.8, label=f"pass^{k}")
        for x, (_, one) in zip(xs, points, strict=True):
            offset, side = ((5, 9), "left") if k == 1 else ((-5, -10), "right")
            _note(axes, x, one["value"], _percent(one["value"], 0), offset, side=side, colour=colour, size=9)
    counts = [_number(groups[name], "pass_hat", 1) for name in names]
    axes.set_xticks(range(len(names)), [f"{name}\n{count:,}" for name, count in zip(names, counts, strict=True)])
    axes.set_xlim(-0.6, max(1, len(names)) - 0.4)
    axes.set_xlabel("number of calls of the task's reference, and how many tasks have it", color=FAINT, fontsize=10.5)
    _shares(axes, "y", (-0.07, 1.09))
    _title(axes, title, f"line: pass^1 with 95 % intervals{_largest_words(largest, 'dashed')}")
    if not names:
        _empty(axes, "no task")
    return figure


def _draw_panel(axes: Axes, runs: Sequence[Figures], k: int) -> None:
    here = _one(runs[0], "pass_hat", k)
    if here:
        axes.axvline(here["value"], color=HAT, linewidth=1, linestyle=":", zorder=1)
    for place, figures in enumerate(runs):
        colour = HAT if place == 0 else OTHER
        one = _one(figures, "pass_hat", k)
        if not one:
            _note(axes, 0.5, place, f"no pass^{k}", (0, 0), colour=FAINT, size=9.5)
            continue
        axes.hlines(place, one["low"], one["high"], color=colour, alpha=0.4, linewidth=7, zorder=2)
        axes.plot(one["value"], place, "o", color=colour, markersize=5, zorder=3)
        value = one["value"]  # a number at the edge keeps out of the names, and of the next panel
        left, side = (-7, "left") if value < 0.15 else (7, "right") if value > 0.85 else (0, "center")
        _note(axes, value, place, _percent(value), (left, 11), side=side, colour=INK if place else HAT, size=10)
    axes.set_title(f"pass^{k}", fontsize=12, color=INK, parse_math=False)
    axes.set_ylim(len(runs) - 0.4, -0.65)
    axes.set_yticks([])
    _shares(axes, "x", (-0.08, 1.08))
    axes.set_xticks(SHARES[::2], ["0", "50", "100 %"])  # nothing that meets the next panel's


def _ks(figures: Figures) -> list[int]:
    return sorted(int(k) for k in figures.get("pass_hat") or {})


def _one(figures: Figures, how: str, k: int) -> Mapping[str, Any] | None:
    """None where there is no such figure, or it is of no task."""
    one = (figures.get(how) or {}).get(str(k))
    return one if one and one.get("value") is not None else None


def _value(figures: Figures, how: str, k: int, otherwise: float) -> float:
    one = _one(figures, how, k)
    return one["value"] if one else otherwise


def _number(figures: Figures, how: str, k: int) -> int:
    one = _one(figures, how, k)
    return int(one["tasks"]) if one else 0


def _call_order(name: str) -> tuple[int, str]:
    """Natural order for buckets, which a reader of JSON may have sorted as words; names after them as they come."""
    return (CALL_BUCKETS.index(name) if name in CALL_BUCKETS else len(CALL_BUCKETS), name)


def _heading(figures: Figures) -> str:
    ks = [k for k in _ks(figures) if _one(figures, "pass_hat", k)]
    shown = sorted({ks[0], ks[-1]}) if ks else []
    return ", ".join(f"pass^{k} {_percent(_value(figures, 'pass_hat', k, 0))}" for k in shown) or "no figures"


def _below(figures: Figures) -> str:
    tasks, finished, passed = (int(figures.get(name) or 0) for name in ("tasks", "finished", "passed"))
    said = f"{_count(tasks, 'task')}, {passed:,} of {_count(finished, 'finished trial')} passed"
    ks = _ks(figures)
    missing = tasks - _number(figures, "pass_hat", ks[-1]) if ks else 0
    if missing > 0:
        said += f"; {_count(missing, 'task')} with {f'fewer than {ks[-1]}' if ks[-1] > 1 else 'none'} finished"
    return said


def _of_run(figures: Figures) -> str:
    ks = _ks(figures)
    if not ks:
        return "no figures"
    return f"{_count(int(figures.get('tasks') or 0), 'task')}, {_count(ks[-1], 'trial')}"


def _largest_words(largest: int, mark: str) -> str:
    return f"; {mark}: pass^{largest}, solved in all of {largest} trials" if largest > 1 else ""


def _with_interval(one: Mapping[str, Any] | None) -> str:
    return f"{_percent(one['value'])} [{100 * one['low']:.1f}, {100 * one['high']:.1f}]" if one else "-"


def _percent(share: float, digits: int = 1) -> str:
    """Rounding makes no 0 % and no 100 % of what is neither."""
    text = f"{100 * share:.{digits}f}"
    step = 10**-digits
    if 0 < share < 1 and float(text) in (0, 100):
        text = f"< {step:g}" if share < 0.5 else f"> {100 - step:g}"
    return f"{text} %"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _wrapped(name: str, width: int, lines: int) -> str:
    """In so many lines at most; the end is cut, in the place of which stands a mark."""
    found = textwrap.wrap(" ".join(name.split()), width, max_lines=lines, placeholder=" …") if name.strip() else []
    return "\n".join(found) or "(no name)"


def _escaped(name: str) -> str:
    return "".join(f"\\{sign}" if sign in "\\|*_`<[]#" else sign for sign in " ".join(name.split()))


def _blank(height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def _shares(axes: Axes, which: Literal["x", "y"], limits: tuple[float, float]) -> None:
    """An axis of shares from 0 to 100 %."""
    set_limits, set_ticks = (axes.set_xlim, axes.set_xticks) if which == "x" else (axes.set_ylim, axes.set_yticks)
    set_limits(*limits)
    set_ticks(SHARES, [f"{100 * share:.0f} %" for share in SHARES])
    axes.grid(axis=which, color="#e5e7eb", zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _title(axes: Axes, title: str, *lines: str) -> None:
    """At the left edge of the figure, however long the names beside the axes are. The other lines are smaller, and written into the
    room that the title's empty lines leave."""
    head = axes.get_figure(root=True).suptitle(  # pyright: ignore[reportOptionalMemberAccess]
        _wrapped(title, 48, 2) + "\n" * len(lines), x=0.01, ha="left", fontsize=15, color=INK, parse_math=False
    )
    note = axes.annotate("\n".join(lines), (0, 0), (0, 6), xycoords=head, textcoords="offset points")
    note.set(fontsize=10.5, color=FAINT, linespacing=1.3, in_layout=False, annotation_clip=False)


def _note(
    axes: Axes,
    x: float,
    y: float,
    words: str,
    offset: tuple[float, float],
    *,
    side: str = "center",
    colour: str = INK,
    size: float = 11,
    weight: str = "normal",
) -> None:
    from matplotlib.patheffects import withStroke

    note = axes.annotate(words, (x, y), offset, textcoords="offset points", ha=side, va="center", zorder=6)
    note.set(fontsize=size, color=colour, weight=weight, path_effects=[withStroke(linewidth=3, foreground="white")])


def _cell(axes: Axes, column: int, row: float, words: str, size: float) -> None:
    """Right of the bars, in columns of a fixed width: however wide the axes have become beside long names."""
    offset, colour = ((58, HAT), (116, LARGEST), (160, FAINT))[column]
    note = axes.annotate(words, (1, row), (offset, 0), xycoords=("axes fraction", "data"), textcoords="offset points")
    note.set(fontsize=size, color=colour, ha="right", va="center")


def _empty(axes: Axes, words: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.text(
        0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", fontsize=13, color=FAINT, parse_math=False
    )
