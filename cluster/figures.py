"""The figures of a run, drawn from counts alone.

Pure: each function returns a `Figure` with its own canvas, so that no display, no pyplot and no global state is
touched. Made to be read at the size of a dashboard panel: every bar carries its number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FUNNEL = ("planned", "finished", "valid", "state_match", "accepted")
WORDS = {
    "planned": "planned",
    "finished": "finished",
    "valid": "valid",
    "state_match": "state matches",
    "accepted": "accepted",
}
FUNNEL_COLOURS = ("#d4dbe4", "#b3c6dd", "#86a9d1", "#4f86c0", "#2e8b57")
# Outcomes from the best to the worst, told apart in lightness too.
OUTCOMES = {
    "accepted": ("accepted", "#2e8b57"),
    "call_match": ("rejected: call match", "#f3c969"),
    "state_match": ("rejected: state match", "#e08a3c"),
    "validity": ("rejected: validity", "#b5443a"),
    "void": ("void", "#b8bec7"),
}
INK, FAINT = "#1f2937", "#6b7280"


def draw_funnel(counts: dict[str, int]) -> Figure:
    """Bars from planned to accepted: number, share of what finished (void is in no rate), share of the step before."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3.9), layout="constrained")
    axes = figure.add_subplot()
    numbers = {name: int(counts.get(name, 0)) for name in FUNNEL}
    finished, void = numbers["finished"], int(counts.get("void", 0))
    for place, (name, colour) in enumerate(zip(FUNNEL, FUNNEL_COLOURS, strict=True)):
        number = numbers[name]
        axes.barh(place, 1, height=0.72, color="#f4f6f8", zorder=1)
        axes.barh(place, number / max(1, *numbers.values()), height=0.72, color=colour, zorder=2)
        _write(axes, -0.015, place, WORDS[name], "right", 13)
        _write(axes, 1.21, place, f"{number:,}", "right", 14, weight="bold")
        if place > 1:
            before = numbers[FUNNEL[place - 1]]
            _write(axes, 1.40, place, _percent(number, finished), "right", 12)
            _write(axes, 1.60, place, _percent(number, before), "right", 12, colour=FAINT)
    for x, words in ((1.40, "of finished"), (1.60, "of the step\nbefore")):
        _write(axes, x, 1, words, "right", 10, colour=FAINT)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.62)
    _bare(axes)
    title = f"{numbers['accepted']:,} of {finished:,} finished rollouts accepted"
    axes.set_title(title + (f", {void:,} void" if void else ""), loc="left", fontsize=15, color=INK, pad=12)
    return figure


def funnel_words(counts: dict[str, int]) -> str:
    """The same in one line of Markdown."""
    steps = " → ".join(f"{WORDS[name]} {int(counts.get(name, 0)):,}" for name in FUNNEL)
    share = _percent(int(counts.get("accepted", 0)), int(counts.get("finished", 0)))
    return f"**{share} accepted**: {steps}; void {int(counts.get('void', 0)):,}"


def draw_by_kind(counts: dict[str, dict[str, int]]) -> Figure:
    """One bar a kind of task, in shares: accepted, then rejected by stage, void last and in no rate."""
    from matplotlib.figure import Figure

    kinds = sorted(counts, key=lambda kind: (-_accepted_share(counts[kind]), kind))
    outcomes = dict(OUTCOMES)
    for extra in sorted({name for row in counts.values() for name in row} - set(outcomes)):
        outcomes[extra] = (extra.replace("_", " "), "#9b8bb4")
    figure = Figure(figsize=(8.4, 1.5 + 0.42 * max(2, len(kinds))), layout="constrained")
    axes = figure.add_subplot()
    for name, (words, colour) in outcomes.items():
        if not any(row.get(name) for row in counts.values()):
            continue
        lefts = [_share_before(counts[kind], name, list(outcomes)) for kind in kinds]
        widths = [counts[kind].get(name, 0) / max(1, sum(counts[kind].values())) for kind in kinds]
        axes.barh(
            range(len(kinds)),
            widths,
            left=lefts,
            height=0.74,
            color=colour,
            label=words,
            edgecolor="white",
            linewidth=1,
        )
        for place, (kind, left, width) in enumerate(zip(kinds, lefts, widths, strict=True)):
            if width > 0.035:
                ink = "white" if name in ("accepted", "validity") else INK
                number = f"{counts[kind][name]:,}"
                _write(axes, left + width / 2, place, number, "center", 11, colour=ink)
    for place, kind in enumerate(kinds):
        total = _judged(counts[kind])
        _write(axes, -0.012, place, kind.replace("_", " "), "right", 12)
        _write(axes, 1.015, place, f"{_percent(counts[kind].get('accepted', 0), total)} of {total:,}", "left", 11)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.16)
    _bare(axes)
    axes.set_title("Verdicts by kind of task", loc="left", fontsize=15, color=INK, pad=8)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(
            loc="outside lower center", ncols=5, frameon=False, fontsize=10, handlelength=1.1, columnspacing=1.2
        )
    return figure


def _write(
    axes: Axes, x: float, y: float, words: str, side: str, size: int, colour: str = INK, weight: str = "normal"
) -> None:
    axes.text(x, y, words, ha=side, va="center", fontsize=size, color=colour, weight=weight)


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _percent(part: int, whole: int) -> str:
    """No digit more than the counts bear; never a rounded-up 100 % or a rounded-down 0 %."""
    if not whole:
        return "-"
    share = 100 * part / whole
    if 0 < share < 0.1 or 99.9 < share < 100:
        return "< 0.1 %" if share < 50 else "> 99.9 %"
    return f"{share:.0f} %" if share in (0, 100) or whole < 200 else f"{share:.1f} %"


def _accepted_share(row: dict[str, int]) -> float:
    return row.get("accepted", 0) / max(1, _judged(row))


def _judged(row: dict[str, int]) -> int:
    return sum(row.values()) - row.get("void", 0)


def _share_before(row: dict[str, int], name: str, order: list[str]) -> float:
    return sum(row.get(other, 0) for other in order[: order.index(name)]) / max(1, sum(row.values()))
