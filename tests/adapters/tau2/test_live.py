"""Promises of the shared database.

1. Any calls, of several environments by turns, answer as in the package's own environment, and end with the same databases.
2. Between calls the live database is as it was loaded, in its order.
3. What a call changed before it failed stays, as in the package.
4. Records that share a part go on sharing it.
5. What the package's tools keep in their class leaks from no environment into another.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentscaler.adapters.tau2.live import LiveWorld
from agentscaler.adapters.tau2.package import load_domain

CRATES = load_domain(str(Path(__file__).parent / "crates"))
WORLD = LiveWorld(CRATES)

keys = st.sampled_from(["c1", "c2", "c3", "n1", "n2"])
words = st.sampled_from(["a", "b", "shared"])
calls = st.one_of(
    st.tuples(st.just("show"), st.just({})),
    st.tuples(st.just("add"), st.fixed_dictionaries({"key": keys, "place": st.sampled_from(["left", "right", "up"])})),
    st.tuples(st.sampled_from(["count", "halfway"]), st.fixed_dictionaries({"key": keys, "number": st.integers(0, 9)})),
    st.tuples(st.just("label"), st.fixed_dictionaries({"key": keys, "label": words, "text": words})),
    st.tuples(st.just("unlabel"), st.fixed_dictionaries({"key": keys, "label": words})),
    st.tuples(st.just("share"), st.fixed_dictionaries({"key": keys, "other": keys})),
    st.tuples(st.just("clone"), st.fixed_dictionaries({"key": keys, "new": keys})),
    st.tuples(st.just("close_all"), st.fixed_dictionaries({"closed": st.booleans()})),
)
unusual = st.one_of(
    st.tuples(st.just("drop"), st.fixed_dictionaries({"key": keys})), st.tuples(st.just("swap_places"), st.just({}))
)


def plain_answer(environment: Any, tool: str, arguments: dict[str, Any]) -> tuple[str, bool]:
    from tau2.data_model.message import ToolCall

    answer = environment.get_response(ToolCall(id="1", name=tool, arguments=arguments, requestor="assistant"))
    return answer.content, answer.error


def check(steps: list[tuple[int, tuple[str, dict[str, Any]]]]) -> list[bool]:
    """Whether each of the three environments is still on the shared database."""
    loaded = WORLD._environment.get_db_hash()
    ours, theirs = [WORLD.open() for _ in range(3)], [CRATES.environment() for _ in range(3)]
    for which, (tool, arguments) in steps:
        assert ours[which].call("assistant", tool, arguments) == plain_answer(theirs[which], tool, dict(arguments))
        assert WORLD._environment.get_db_hash() == loaded
        assert list(WORLD._environment.tools.db.crates) == ["c1", "c2", "c3"]
    shared = [environment.is_shared for environment in ours]
    for one, other in zip(ours, theirs, strict=True):
        assert one.call("assistant", "show", {}) == plain_answer(other, "show", {})
        assert one.take(lambda own: own.get_db_hash()) == other.get_db_hash()
    for one, mine in zip(ours, theirs, strict=True):
        for other, yours in zip(ours, theirs, strict=True):
            assert one.same_end(other) is (mine.get_db_hash() == yours.get_db_hash())
    return shared


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), calls), max_size=14))
def test_environments_on_one_database_do_as_the_package_does(steps: list) -> None:
    assert check(steps) == [True, True, True]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.one_of(calls, calls, unusual)), max_size=14))
def test_changes_that_records_cannot_carry_give_a_database_of_ones_own(steps: list) -> None:
    assert check(steps)[2] is True


def test_a_record_taken_away_is_unusual() -> None:
    assert check([(0, ("drop", {"key": "c2"})), (1, ("count", {"key": "c2", "number": 5}))]) == [False, True, True]


def test_what_a_failed_call_wrote_stays() -> None:
    environment = WORLD.open()
    assert environment.call("assistant", "halfway", {"key": "c1", "number": 9}) == ("Error: broken in the middle", True)
    assert "[9]" in environment.call("assistant", "show", {})[0]
    assert list(environment.changes()) == [("agent", "crates", "c1")]


def test_a_shared_part_is_one() -> None:
    environment = WORLD.open()
    environment.call("assistant", "share", {"key": "c1", "other": "c2"})
    assert list(environment.changes()) == [("agent", "crates", "c1")]
    environment.call("assistant", "label", {"key": "c2", "label": "a", "text": "later"})
    assert environment.changes()["agent", "crates", "c1"].count("later") == 2  # text and tag, through the other record


def test_changes_back_are_none() -> None:
    environment = WORLD.open()
    environment.call("assistant", "close_all", {"closed": True})
    assert len(environment.changes()) == 3
    environment.call("assistant", "close_all", {"closed": False})
    assert environment.changes() == {} and environment.same_end(WORLD.open())


@pytest.mark.parametrize("name", ["airline", "retail", "mock"])
def test_shipped_domains_share_one_database(name: str) -> None:
    world = LiveWorld(load_domain(name))
    assert world.is_shared and world.open().is_shared


def test_telecom_leaks_no_vpn_from_one_conversation_into_the_next() -> None:
    """The package keeps one VPN record in the class of the user's tools, and `break_vpn` writes to it."""
    world = LiveWorld(load_domain("telecom"))
    assert not world.is_shared

    def break_vpn(own: Any) -> str:
        own.user_tools.connect_vpn()
        own.user_tools.break_vpn()
        return own.user_tools.db.device.vpn_details.server_performance.value

    def connect(own: Any) -> str:
        own.user_tools.connect_vpn()
        return own.user_tools.db.device.vpn_details.server_performance.value

    assert world.open().take(break_vpn) == "poor"
    assert world.open().take(connect) == "excellent"
