"""ACEBench's figures: by category, by group, and overall with the paper's weighting.

Sources: ACEBench, model_eval/evaluation_helper.py (generate_result_csv) and the paper (arXiv 2501.12851, evaluation). A group is the plain
mean of its categories. Overall weighs normal, special and agent by the square roots of their sizes, 700, 150 and 50: a dialogue of
normal_multi_turn_* counts once there, and is right when every step of it is (`count_dialogues`). The published code has the weights
rounded (0.578, 0.2676, 0.1545); here they add up to 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

ATOM = tuple(f"normal_atom_{kind}" for kind in ("bool", "enum", "number", "list", "object_deep", "object_short"))
SINGLE_TURN = ("normal_single_turn_single_function", "normal_single_turn_parallel_function")
MULTI_TURN = ("normal_multi_turn_user_switch", "normal_multi_turn_user_adjust")
NORMAL = (*SINGLE_TURN, *MULTI_TURN, "normal_similar_api", "normal_preference", *ATOM)
SPECIAL = ("special_incomplete", "special_error_param", "special_irrelevant")
AGENT = ("agent_multi_turn", "agent_multi_step")
KINDS = (*NORMAL, *SPECIAL, *AGENT)
GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "atom": ATOM,
        "single_turn": SINGLE_TURN,
        "multi_turn": MULTI_TURN,
        "normal": NORMAL,
        "special": SPECIAL,
        "agent": AGENT,
    }
)
SIZES: Mapping[str, int] = MappingProxyType({"normal": 700, "special": 150, "agent": 50})
"""Samples as the paper counts them."""


def scores(outcomes: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    """`outcomes`: accepted and finished by category. A group that lacks a category has the mean of those there; `overall` is None unless
    every category is there, and `overall_played` weighs the groups that are there alone (no figure of the paper's)."""
    unknown = sorted(set(outcomes) - set(KINDS))
    if unknown:
        raise ValueError(f"no category of ACEBench: {', '.join(unknown)}")
    accuracy = {kind: accepted / finished for kind, (accepted, finished) in outcomes.items() if finished}
    groups = {name: _mean([accuracy[kind] for kind in kinds if kind in accuracy]) for name, kinds in GROUPS.items()}
    missing = [kind for kind in KINDS if kind not in accuracy]
    weighed = {name: groups[name] for name in SIZES if groups[name] is not None}
    played = _weigh({name: figure for name, figure in weighed.items() if figure is not None})
    return {
        "by_category": {
            kind: {"accuracy": accuracy[kind], "accepted": outcomes[kind][0], "finished": outcomes[kind][1]}
            for kind in KINDS
            if kind in accuracy
        },
        "groups": groups,
        "overall": None if missing else played,
        "overall_played": played,
        "missing": missing,
    }


def _mean(figures: Sequence[float]) -> float | None:
    return math.fsum(figures) / len(figures) if figures else None


def _weigh(groups: Mapping[str, float]) -> float | None:
    weights = {name: math.sqrt(SIZES[name]) for name in groups}
    if not weights:
        return None
    return math.fsum(weights[name] * figure for name, figure in groups.items()) / math.fsum(weights.values())


def count_dialogues(attempts: Iterable[tuple[str, str, int, bool]]) -> dict[str, tuple[int, int]]:
    """From kind, task name, attempt number and whether it was accepted, the counts that `scores` takes: the steps of one dialogue, in the
    same attempt, are one sample, which is right when all of them are."""
    samples: dict[tuple[str, str, int], bool] = {}
    for kind, name, attempt, accepted in attempts:
        sample = (kind, dialogue_of(kind, name), attempt)
        samples[sample] = samples.get(sample, True) and accepted
    counts: dict[str, tuple[int, int]] = {}
    for (kind, _, _), accepted in samples.items():
        before = counts.get(kind, (0, 0))
        counts[kind] = (before[0] + accepted, before[1] + 1)
    return counts


def dialogue_of(kind: str, name: str) -> str:
    """`normal_multi_turn_user_adjust_7_2` is step 2 of dialogue 7; every other task stands alone."""
    return name.rpartition("_")[0] if kind in MULTI_TURN else name
