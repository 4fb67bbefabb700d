"""What changed, in few words."""

from __future__ import annotations

from agentscaler.adapters.bfcl.calls import Call
from agentscaler.adapters.bfcl.changes import MAX_TEXT, changes, plain, spell
from agentscaler.adapters.bfcl.environment import open_environment
from agentscaler.canonical import canonical_json
from tests.adapters.bfcl.beside import task_named


def test_paths_and_sides() -> None:
    before = {"bot": {"orders": {"1": {"status": "Open"}}, "list": ["A", "B"], "same": [1.0]}}
    after = {"bot": {"orders": {"1": {"status": "Cancelled"}, "2": {}}, "list": ["A"], "same": [1.0]}}
    assert changes(before, after) == {
        "bot.orders.1.status": {"before": "Open", "after": "Cancelled"},
        "bot.orders.2": {"after": {}},
        "bot.list.1": {"before": "B"},
    }
    assert changes(before, before) == {}
    assert changes({"a": 1}, {"a": 1.0}) == {}
    assert changes({"a": None}, {"a": ""}) == {"a": {"before": None, "after": ""}}
    assert spell("a", {"after": 1}) == "a: expected nothing, is 1"


def test_odd_values_have_a_json_form() -> None:
    odd = plain({1: {3, 1, 2}, "x": float("inf"), "y": 2**70, "z": (None, object())})
    assert canonical_json(odd)
    assert odd["1"] == [1, 2, 3] and odd["x"] == "inf" and odd["y"] == str(2**70) and odd["z"] == [None, "(object)"]


def test_long_texts_are_cut_and_still_differ() -> None:
    found = changes({}, {"a": "x" * 5000})["a"]["after"]
    assert len(found) < MAX_TEXT + 60
    assert found != changes({}, {"a": "x" * 4999 + "y"})["a"]["after"]


def test_files_and_a_directory_inside_itself() -> None:
    environment = open_environment(task_named("base_0"))
    before = plain(environment.state())
    environment.call(Call("mkdir", {"dir_name": "loop"}))
    environment.call(Call("cp", {"source": "loop", "destination": "loop"}))
    environment.call(Call("touch", {"file_name": "new.txt"}))
    environment.call(Call("echo", {"content": "words", "file_name": "new.txt"}))
    found = changes(before, plain(environment.state()))
    assert found["GorillaFileSystem.root.new.txt"] == {"after": "words"}
    assert "inside itself" in canonical_json(found["GorillaFileSystem.root.loop"])


def test_directories_that_hold_each_other_over_and_over() -> None:
    environment = open_environment(task_named("base_0"))
    for name in ("one", "two"):
        environment.call(Call("mkdir", {"dir_name": name}))
    for number in range(40):
        source, destination = ("one", "two") if number % 2 else ("two", "one")
        environment.call(Call("cp", {"source": source, "destination": destination}))
        environment.call(Call("mv", {"source": source, "destination": f"old_{number}"}))
        environment.call(Call("cp", {"source": destination, "destination": source}))
        environment.call(Call("cp", {"source": f"old_{number}", "destination": source}))
    assert "too much" in canonical_json(plain(environment.state()))
