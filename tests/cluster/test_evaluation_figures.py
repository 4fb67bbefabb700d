"""Promises: every drawing shows the numbers it was given, in their places, and no number where there is none; names of any kind are text;
nothing runs out of the picture; the words carry the same numbers and fit into a description."""

from __future__ import annotations

import re
from collections.abc import Iterator

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

from agentscaler.evaluation.passes import TaskTrials, figures
from cluster.evaluation_figures import Grouping, draw_comparison, draw_groups, draw_passes, words

GROUPINGS: tuple[Grouping, ...] = ("by_domain", "by_kind", "by_num_calls")
# (domain, kind, calls, finished, passed)
ROWS = [
    ("airline", "single_step", 1, 4, 4),
    ("airline", "single_step", 2, 4, 3),
    ("airline", "multi_turn", 10, 4, 1),
    ("retail", "multi_turn", 2, 4, 2),
    ("retail", "single_step", 25, 3, 0),
    ("retail", "refusal", 0, 4, 4),
    ("telecom", "refusal", 0, 0, 0),
]
HOSTILE = [
    "$\\frac{1",
    "a|b",
    "100 % _sure_",
    "<b>x</b>",
    "line\nbreak",
    " ",
    "w" * 300,
    "many words " * 40,
    "*x* `y` [z](u)",
]


def made(rows: list[tuple[str, str, int, int, int]] | None = None, trials: int = 4) -> dict:
    tasks = [TaskTrials(f"t{place}", *row) for place, row in enumerate(ROWS if rows is None else rows)]
    return figures(tasks, trials)


def texts(figure: Figure) -> list[str]:
    """What can be read, once it is drawn (ticks get their words then)."""
    figure.draw_without_rendering()
    found = [one for one in figure.findobj(Text) if isinstance(one, Text) and one.get_visible()]
    return [one.get_text().strip() for one in found if one.get_text().strip()]


def points(axes: Axes) -> list[tuple[float, float]]:
    """All marks, in tenths of a thousandth: line by line."""
    return [
        (round(float(x), 4), round(float(y), 4))
        for line in axes.lines
        if line.get_marker() not in ("None", "", None)
        for x, y in zip(*line.get_data(), strict=True)  # pyright: ignore[reportArgumentType]
    ]


def spans(axes: Axes) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    for collection in axes.collections:
        if isinstance(collection, LineCollection):
            for (x, y), (u, v) in collection.get_segments():
                yield (round(float(x), 4), round(float(y), 4)), (round(float(u), 4), round(float(v), 4))


def test_passes_shows_both_lines() -> None:
    found = made()
    figure = draw_passes(found)
    shown = points(figure.axes[0])
    for how in ("pass_at", "pass_hat"):
        for k in range(1, 5):
            assert (k, found[how][str(k)]["value"]) in shown
    assert len(shown) == 8
    said = texts(figure)
    assert "k = 4\n5 tasks" in said and "k = 3\n6 tasks" in said
    assert f"{100 * found['pass_hat']['4']['value']:.1f} %" in said
    assert any("7 tasks, 14 of 23 finished trials passed; 2 tasks with fewer than 4 finished" in line for line in said)
    bands = [band.get_datalim(figure.axes[0].transData).extents for band in figure.axes[0].collections]
    hat = list(found["pass_hat"].values())
    assert any(
        band[1] == pytest.approx(min(one["low"] for one in hat))
        and band[3] == pytest.approx(max(one["high"] for one in hat))
        for band in bands
    )


def test_one_trial_shows_its_interval_though_a_band_of_one_point_shows_nothing() -> None:
    found = made(trials=1)
    figure = draw_passes(found)
    one = found["pass_hat"]["1"]
    assert ((1, one["low"]), (1, one["high"])) in list(spans(figure.axes[0]))
    assert one["low"] < one["high"]


@pytest.mark.parametrize("grouping", ["by_domain", "by_kind"])
def test_bars_stand_best_first_with_whiskers_and_counts(grouping: Grouping) -> None:
    found = made()
    figure = draw_groups(found, grouping, "Accuracy")
    axes = figure.axes[0]
    figure.draw_without_rendering()
    names = [label.get_text().replace(" ", "_") for label in axes.get_yticklabels()]
    values = [found[grouping][name]["pass_hat"]["1"]["value"] for name in names]
    assert set(names) == set(found[grouping])
    told = [value for value in values if value is not None]
    assert told == sorted(told, reverse=True) and values[: len(told)] == told
    for place, name in enumerate(names):
        first, last = (found[grouping][name]["pass_hat"][k] for k in "14")
        marks = [x for x, y in points(axes) if y == place]
        assert marks == [one["value"] for one in (first, last) if one["value"] is not None]
        if first["value"] is not None:
            assert ((first["low"], place), (first["high"], place)) in list(spans(axes))
        row = [text.get_text() for text in axes.texts if text.xy == (1, place)]  # pyright: ignore[reportAttributeAccessIssue]
        assert row[-1] == str(first["tasks"])
        if first["value"] is None:
            assert row == ["-", "-", "0"]


def test_calls_stand_in_natural_order_even_from_sorted_json() -> None:
    found = made()
    stored = orjson.loads(orjson.dumps(found, option=orjson.OPT_SORT_KEYS))
    figure = draw_groups(stored, "by_num_calls", "Accuracy by number of calls")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0\n1", "1\n1", "2\n2", "9-12\n1", "21+\n1"]
    hat = [found["by_num_calls"][name]["pass_hat"] for name in ("0", "1", "2", "9-12", "21+")]
    solid, dashed = axes.lines
    assert list(solid.get_ydata()) == [one["1"]["value"] for one in hat]  # pyright: ignore[reportArgumentType]
    # "21+" has three finished trials: no pass^4, and no point at zero.
    assert list(dashed.get_ydata()) == [one["4"]["value"] for one in hat[:-1]]  # pyright: ignore[reportArgumentType]


def test_comparison_has_a_panel_for_each_k_and_a_row_for_each_run() -> None:
    here, there = made(), made([(*row[:4], row[4] // 2) for row in ROWS], trials=2)
    figure = draw_comparison([("this run", here), ("an earlier one", there)])
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == ["pass^1", "pass^2", "pass^3", "pass^4"]
    for k, axes in enumerate(panels, 1):
        one, other = (run["pass_hat"].get(str(k)) for run in (here, there))
        expected = [(one["value"], 0)] + ([(other["value"], 1)] if other else [])
        assert points(axes) == expected
        assert ((one["low"], 0), (one["high"], 0)) in list(spans(axes))
        assert (f"no pass^{k}" in [text.get_text() for text in axes.texts]) == (other is None)
    said = texts(figure)
    assert "this run\n7 tasks, 4 trials" in said and "an earlier one\n7 tasks, 2 trials" in said


def test_comparison_of_many_trials_goes_over_rows_of_panels() -> None:
    run = made([("d", "k", 1, 6, c) for c in (1, 4, 6)], trials=6)
    figure = draw_comparison([("a", run), ("b", run)])
    assert [axes.get_title() for axes in figure.axes if axes.get_visible()] == [f"pass^{k}" for k in range(1, 7)]
    assert len(figure.axes) == 8


@pytest.mark.parametrize("rows", [[], [("airline", "refusal", 0, 0, 0)]])
def test_what_never_finished_is_said_and_no_number_is_drawn(rows: list) -> None:
    found = made(rows)
    drawn = [draw_passes(found), *(draw_groups(found, grouping, "T") for grouping in GROUPINGS)]
    for figure in [*drawn, draw_comparison([("this", found)])]:
        figure.draw_without_rendering()
        assert all(points(axes) == [] and list(spans(axes)) == [] for axes in figure.axes)
    assert "no trial has finished" in texts(drawn[0])
    assert "No figures" in words(found, "h") and "|" not in words(found, "h")
    said = [text for figure in drawn for text in texts(figure)]
    assert not any(re.fullmatch(r"0(\.0)? %", text) for text in said if text != "0 %")


@pytest.mark.parametrize("runs", [[], [("broken", {})], [("this", {}), ("that", {"pass_hat": None})]])
def test_nothing_to_compare_is_said(runs: list) -> None:
    assert "nothing to compare" in texts(draw_comparison(runs))


def test_an_earlier_run_without_figures_stands_beside_this_one() -> None:
    said = texts(draw_comparison([("this", made()), ("broken", {"tasks": 3})]))
    assert "broken\nno figures" in said and said.count("no pass^1") == 1


@pytest.mark.parametrize("name", HOSTILE)
def test_names_from_outside_are_text_and_stay_in_the_picture(name: str) -> None:
    found = made([(name, name, 1, 2, 1), ("other", "other", 2, 2, 2)], trials=2)
    drawn = [draw_groups(found, grouping, name) for grouping in GROUPINGS]
    for figure in [*drawn, draw_comparison([(name, found), (name, found)])]:
        figure.draw_without_rendering()
        width, height = figure.get_size_inches() * 144
        assert 1200 <= width <= 1220 and height < 1200
        canvas = figure.bbox.padded(2)
        for text in figure.findobj(Text):
            if isinstance(text, Text) and text.get_visible() and text.get_text().strip():
                box = text.get_window_extent()
                assert canvas.x0 <= box.x0 and box.x1 <= canvas.x1, text.get_text()
                assert canvas.y0 <= box.y0 and box.y1 <= canvas.y1, text.get_text()
    table = words(found, name)
    assert table.startswith("### ") and table.splitlines()[1] == ""
    for line in table.splitlines()[2:]:
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 5, line
            assert not re.search(r"(?<!\\)[<*`_]", line.replace("pass^", "")), line


def test_words_carry_the_numbers() -> None:
    found = made()
    table = words(found, "τ²-bench, airline and retail")
    lines = table.splitlines()
    assert lines[0] == "### τ²-bench, airline and retail"
    assert "14 of 23 finished trials passed" in lines[2]
    for k in "1234":
        one, at = found["pass_hat"][k], found["pass_at"][k]
        row = next(line for line in lines if line.startswith(f"| {k} | {one['tasks']} |"))
        for each in (one, at):
            assert f"{100 * each['value']:.1f} % [{100 * each['low']:.1f}, {100 * each['high']:.1f}]" in row
    assert "| telecom | 0 | - | - |" in lines
    calls = lines[lines.index("| calls | tasks | pass^1 | pass^4 |") + 2 :]
    assert [line.split(" | ")[0] for line in calls] == ["| 0", "| 1", "| 2", "| 9-12", "| 21+"]


def test_words_fit_into_a_description() -> None:
    rows = [(f"domain_{n}_{'_' * 60}", f"kind_{n}_{'_' * 60}", n % 30, 4, n % 5) for n in range(200)]
    table = words(made(rows), "many")
    assert len(table) < 8_000 and table.count("… 180 more") == 2


def test_rounding_makes_no_perfect_run() -> None:
    rows = [("d", "k", 1, 1, int(n > 0)) for n in range(4_000)]
    assert "> 99.9 %" in words(made(rows, trials=1), "h") and "**pass^1 100.0 %" not in words(made(rows, trials=1), "h")
    assert "pass^1 100.0 %" in words(made(rows[1:], trials=1), "h")


@given(
    rows=st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.integers(0, 30), st.integers(0, 3)), max_size=8
    ),
    data=st.data(),
)
@settings(deadline=None, max_examples=6)
def test_whatever_happened_can_be_drawn(rows: list[tuple[str, str, int, int]], data: st.DataObject) -> None:
    found = made([(*row, data.draw(st.integers(0, row[3]))) for row in rows], trials=3)
    for figure in (draw_passes(found), *(draw_groups(found, grouping, "T") for grouping in GROUPINGS)):
        figure.draw_without_rendering()
        for axes in figure.axes:
            for start, end in spans(axes):
                assert start <= end
    assert words(found, "h").startswith("### h\n")
