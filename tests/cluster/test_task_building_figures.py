"""The pictures of built tasks. Promises: every count stands in its picture; of many domains, reasons or tools the rest is said; no task at
all is drawn as well; what comes from outside is never read as a formula."""

from __future__ import annotations

import random
from typing import Any

import pytest

from agentscaler.tasks.dials import Dials
from agentscaler.tasks.task import Kind
from cluster.task_building_figures import DRAWN, draw_drops, draw_lengths, draw_mix, draw_tools, to_png, words


def summary(num_domains: int = 3, tasks_of_a_kind: int = 50, num_tools: int = 6) -> dict[str, Any]:
    drawn = random.Random(1)
    names = [f"domain_{number}" for number in range(num_domains)]
    kinds = {name: {kind.value: drawn.randint(0, tasks_of_a_kind) for kind in Kind} for name in names}
    by_kind = {kind.value: sum(kinds[name][kind.value] for name in names) for kind in Kind}
    tasks = sum(by_kind.values())
    return {
        "tasks": tasks,
        "asked_for": 1000,
        "made": 2 * tasks,
        "tasks_per_s": 61.25 if tasks else None,
        "by_kind": {kind: count for kind, count in by_kind.items() if count},
        "kinds_by_domain": kinds,
        "asked_shares": {kind.value: share for kind, share in Dials().shares.items()},
        "by_split": {"train": tasks, "held_out": 17},
        "lengths": {"2": tasks // 2, "11": tasks - tasks // 2} if tasks else {},
        "median_calls": 2.0,
        "share_8_calls_or_more": 0.5 if tasks else None,
        "dropped": {"surplus: not needed for the balance": 412, "it costs $5 or $6": 7} if tasks else {},
        "yields": {kind.value: {"drawn": 9, "made": 7, "faultless": 5, "tasks": 3} for kind in Kind} if tasks else {},
        "tool_uses": {f"{name}/tool_{number}": number + 1 for name in names for number in range(num_tools)},
        "tools_untouched": ["domain_0/never_called"],
        "tools_touched": num_domains * num_tools,
        "tools": num_domains * num_tools + 1,
    }


def texts(figure: Any) -> str:
    return "\n".join(
        [one.get_text() for axes in figure.axes for one in axes.texts]
        + [figure.get_suptitle()]
        + [one.get_text() for legend in figure.legends for one in legend.get_texts()]
    )


@pytest.mark.parametrize(("domains", "tasks"), [(1, 50), (3, 50), (40, 50), (1, 0), (0, 0)])
@pytest.mark.parametrize("file", DRAWN)
def test_every_picture_is_drawn(file: str, domains: int, tasks: int) -> None:
    assert to_png(DRAWN[file](summary(domains, tasks))).startswith(b"\x89PNG")


def test_the_mix_says_its_counts() -> None:
    found = summary()
    said = texts(draw_mix(found))
    for kind, count in found["by_kind"].items():
        assert f"\n{count:,}\n" in said and kind.replace("_", " ") in said
    assert f"{100 * Dials().shares[Kind.MULTI_GOAL]:.1f} %" in said and "17 held out" in said and "domain_2" in said
    assert "35 others" in texts(draw_mix(summary(40)))


def test_lengths_say_median_and_long_ones() -> None:
    said = texts(draw_lengths(summary()))
    assert "median 2, 50.0 % have 8 or more" in said and "50.0 %" in said


def test_drops_say_the_rest() -> None:
    found = summary()
    said = texts(draw_drops(found))
    assert "412" in said and "it costs $5 or $6" in said
    found["dropped"] = {f"reason {number}": 100 - number for number in range(30)}
    assert "14 other reasons" in texts(draw_drops(found))


def test_tools_say_which_are_never_called() -> None:
    said = texts(draw_tools(summary()))
    assert "domain_0/never_called" in said and "18 of 19 tools" in said
    assert "the 60 in fewest" in texts(draw_tools(summary(40)))


def test_a_kind_without_a_task_has_no_bar() -> None:
    found = summary(1, 0)
    found["by_kind"] = {"write": 0}  # made, and none kept
    assert "0.0 %" in texts(draw_mix(found))


def test_words() -> None:
    said = words(summary())
    assert "61.25 made a second and core" in said and "refusal 3 of 9 draws" in said
    assert "none made" in words(summary(1, 0))
