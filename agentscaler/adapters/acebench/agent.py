"""The agent category's world: instances of the benchmark's classes, where a conversation ended, and which milestones it passed.

The rules are those of ACEBench (multi_step_utils.py, apimodel_inference.py, eval_main.py, checker.py). A call goes to every instance that
has a method of that name, and the last one's answer counts. The end is right when the saved attributes of every class are as the ground
truth has them, and some call was made. As published, a class that the ground truth spells wrongly (`ReminderAPI`) is not compared at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from copy import deepcopy
from io import StringIO
from types import MappingProxyType
from typing import Any

from agentscaler.adapters.acebench.call_text import Call, NotCalls, read_calls, read_milestone, write_calls

SAVED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "BaseApi": ("wifi", "logged_in"),
        "MessageApi": ("inbox",),
        "ReminderApi": ("reminder_list",),
        "FoodPlatform": ("users", "logged_in_users", "orders"),
        "Travel": ("users", "reservations"),
    }
)
State = list[dict[str, dict[str, Any]]]


class AgentWorld:
    """Of one conversation. `num_calls` counts those that reached a method."""

    def __init__(self, classes: Mapping[str, type[Any]], involved: Sequence[str], start: Mapping[str, Any]):
        self._instances: dict[str, Any] = {}
        self.num_calls = 0
        for name in involved:
            instance = classes[name]()
            for part in (name, "BaseApi"):
                instance._load_scenario(deepcopy(start.get(part, {})), long_context=False)
            self._instances[name] = instance

    def has(self, tool: str) -> bool:
        return bool(self._methods(tool))

    def call(self, tool: str, arguments: Mapping[str, Any]) -> tuple[str, bool]:
        """The words that come back, and whether they tell of an error."""
        self.num_calls += 1
        result: Any = None
        try:
            with redirect_stdout(StringIO()):  # some print what they do
                for method in self._methods(tool):
                    result = method(**deepcopy(dict(arguments)))
        except Exception as error:  # noqa: BLE001  (foreign code: what it raises is its answer)
            return _text(f"Error during execution: {error}"), True
        return _text(result), False

    def state(self) -> State:
        """Through JSON, as the ground truth went: numbers that are keys become texts."""
        found = [
            {name: {key: value for key, value in vars(instance).items() if key in SAVED.get(name, ())}}
            for name, instance in self._instances.items()
        ]
        return json.loads(json.dumps(found, default=str))

    def _methods(self, tool: str) -> list[Any]:
        if tool.startswith("_"):
            return []
        methods = [getattr(instance, tool, None) for instance in self._instances.values()]
        return [method for method in methods if callable(method)]


def _text(result: Any) -> str:
    return json.dumps(result, default=str, ensure_ascii=False)


def check_end(state: State, truth: Sequence[Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """Where the end parts from the ground truth, empty where it does not."""
    if len(state) != len(truth):
        return [f"the ground truth has {len(truth)} classes, the end {len(state)}"]
    found = _by_class(state)
    reasons = []
    for one in truth:
        for name, wanted in one.items():
            reasons += _check_class(name, found[name], wanted) if name in found else []
    return reasons


def same_end(state: State, truth: Sequence[Mapping[str, Any]]) -> bool:
    """To the letter: every class, by its right name, with the very same attributes."""
    return _by_class(state) == _by_class(truth)


def _by_class(classes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: attributes for one in classes for name, attributes in one.items()}


def _check_class(name: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    reasons = []
    for attribute, value in found.items():
        where = f"{name}.{attribute}"
        if attribute not in wanted:
            reasons.append(f"{where} is in no ground truth")
        elif not isinstance(wanted[attribute], dict):
            if wanted[attribute] != value:
                reasons.append(f"{where} is {_short(value)}, not {_short(wanted[attribute])}")
        else:
            parts = value if isinstance(value, dict) else {}
            reasons += [
                f"{where}.{key} is {_short(parts.get(key))}, not {_short(part)}"
                for key, part in wanted[attribute].items()
                if key not in parts or parts[key] != part
            ]
    return reasons


def _short(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:300]


Milestones = Sequence[str] | Sequence[Sequence[str]]


def ways(milestones: Milestones) -> list[list[str]]:
    """Milestones are one list of calls, or several lists that are equally good."""
    if any(isinstance(one, str) for one in milestones):
        return [[str(one) for one in milestones]]
    return [[str(stone) for stone in way] for way in milestones]


def process_accuracy(made: Sequence[Sequence[Call]], milestones: Milestones) -> float:
    """The share of milestones that were passed in order, of the best way; `made`: the calls, message by message. One that was missed uses
    up all messages, as published: those after it are missed too. A right end counts as 1, whatever the way: the caller's to know."""
    texts = [write_calls(calls) for calls in made]
    return max((_passed(texts, way) for way in ways(milestones)), default=1.0)


def _passed(texts: Sequence[str], way: Sequence[str]) -> float:
    if not way:
        return 1.0
    rest = iter(texts)
    return sum(any(text == _plain(stone) for text in rest) for stone in way) / len(way)


def _plain(stone: str) -> str:
    """In one spelling, where it reads as calls."""
    try:
        return write_calls(read_milestone(stone))
    except NotCalls:
        return stone.strip()


def read_way(way: Sequence[str], mended: bool = True) -> list[list[Call]]:
    """The calls of a way; raises NotCalls for a milestone that holds none. `mended`: apostrophes inside quotes are taken for what they are,
    else only what is Python as it is written."""
    return [read_milestone(stone) if mended else read_calls(stone) for stone in way]


def play_way(world: AgentWorld, way: Sequence[Sequence[Call]]) -> State:
    for calls in way:
        for name, arguments in calls:
            world.call(name, arguments)
    return world.state()
