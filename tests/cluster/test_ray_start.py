"""Promises: a node that Ray starts is waited for past Ray's own patience, not without end; outside nothing of Ray is changed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ray._private import services

from cluster import ray_start
from cluster.ray_start import patient_start


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What Ray was asked for: the node `late` is there the third time, `never` never."""
    names: list[str] = []

    def get_node(address: str, node: str) -> dict[str, str]:
        names.append(node)
        if node == "never" or len(names) < 3:
            raise RuntimeError("not found")
        return {"node": node}

    monkeypatch.setattr(services, "get_node", get_node)
    monkeypatch.setattr(ray_start, "LOOK_S", 0.01)
    yield names


def test_a_late_node_is_waited_for(asked: list[str]) -> None:
    before = services.get_node
    with patient_start(60):
        assert services.get_node("here", "late") == {"node": "late"}
    assert len(asked) == 3 and services.get_node is before


def test_one_that_never_comes_is_given_up(asked: list[str]) -> None:
    with patient_start(0.05), pytest.raises(RuntimeError, match="not found"):
        services.get_node("here", "never")
