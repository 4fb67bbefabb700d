from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentscaler.adapters.acebench.scores import AGENT, KINDS, NORMAL, SPECIAL, count_dialogues, scores


def counted(normal: int, special: int, agent: int) -> dict[str, tuple[int, int]]:
    """Out of a thousand in every category."""
    return {
        **dict.fromkeys(NORMAL, (normal, 1000)),
        **dict.fromkeys(SPECIAL, (special, 1000)),
        **dict.fromkeys(AGENT, (agent, 1000)),
    }


@pytest.mark.parametrize(
    ("groups", "overall"),
    [
        # rows of the leaderboard in the repository's README
        ((927, 933, 715), 0.896),
        ((887, 740, 685), 0.817),
        ((926, 733, 350), 0.785),
        ((735, 193, 125), 0.496),
        ((187, 13, 75), 0.123),
    ],
)
def test_overall_is_the_published_one(groups, overall):
    assert scores(counted(*groups))["overall"] == pytest.approx(overall, abs=0.0011)


def test_weights_are_the_roots_of_the_sizes():
    figures = scores(counted(1000, 0, 0))
    assert figures["overall"] == pytest.approx(math.sqrt(700) / (math.sqrt(700) + math.sqrt(150) + math.sqrt(50)))
    assert scores(counted(1000, 1000, 1000))["overall"] == 1.0


def test_a_group_is_the_plain_mean_of_its_categories():
    outcomes = {**counted(0, 0, 0), "normal_atom_bool": (1, 1), "special_irrelevant": (3, 4)}
    groups = scores(outcomes)["groups"]
    assert groups["atom"] == pytest.approx(1 / 6)
    assert groups["normal"] == pytest.approx(1 / 12)
    assert groups["special"] == pytest.approx(0.25)
    assert groups["single_turn"] == groups["multi_turn"] == 0


def test_what_was_not_played_is_missing_and_not_zero():
    outcomes = {kind: counts for kind, counts in counted(500, 1000, 0).items() if kind not in AGENT}
    figures = scores({**outcomes, "agent_multi_turn": (0, 0)})
    assert figures["overall"] is None
    assert figures["missing"] == ["agent_multi_turn", "agent_multi_step"]
    assert figures["groups"]["agent"] is None
    wanted = (math.sqrt(700) * 0.5 + math.sqrt(150)) / (math.sqrt(700) + math.sqrt(150))
    assert figures["overall_played"] == pytest.approx(wanted)
    assert scores({})["overall_played"] is None


def test_an_unknown_category_is_refused():
    with pytest.raises(ValueError, match="normal_atom_colour"):
        scores({"normal_atom_colour": (1, 1)})


def test_a_dialogue_counts_once_and_only_if_all_its_steps_are_right():
    kind = "normal_multi_turn_user_adjust"
    played = [
        (kind, f"{kind}_0_0", 1, True),
        (kind, f"{kind}_0_1", 1, False),
        (kind, f"{kind}_1_0", 1, True),
        (kind, f"{kind}_1_1", 1, True),
        (kind, f"{kind}_10_0", 1, True),
        (kind, f"{kind}_0_0", 2, True),
        (kind, f"{kind}_0_1", 2, True),
        ("normal_atom_bool", "normal_atom_bool_0", 1, True),
        ("normal_atom_bool", "normal_atom_bool_1", 1, False),
        ("agent_multi_turn", "agent_multi_turn_0", 1, True),
        ("agent_multi_turn", "agent_multi_turn_1", 1, True),
    ]
    assert count_dialogues(played) == {kind: (3, 4), "normal_atom_bool": (1, 2), "agent_multi_turn": (2, 2)}


@given(
    st.dictionaries(
        st.sampled_from(KINDS), st.integers(1, 99).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
    )
)
def test_figures_lie_between_the_worst_and_the_best_category(outcomes):
    figures = scores(outcomes)
    rates = [accepted / finished for accepted, finished in outcomes.values()]
    for figure in (*figures["groups"].values(), figures["overall_played"]):
        assert figure is None or min(rates) - 1e-9 <= figure <= max(rates) + 1e-9
    assert (figures["overall"] is not None) is (len(outcomes) == len(KINDS))
