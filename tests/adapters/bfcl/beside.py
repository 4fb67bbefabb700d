"""The package's own checker beside ours, and calls damaged at random to try both on.

The checker evaluates text and keeps its instances among its module's globals, so each run gets a name of its own and is cleared away.
It also leaks: extension data of long contexts and default lists are shared and written to. Those are put back before each run, or what one
run did would change the verdict of the next.
"""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from random import Random
from typing import Any

from bfcl_eval.eval_checker.multi_turn_eval import multi_turn_utils
from bfcl_eval.eval_checker.multi_turn_eval.func_source_code import long_context, posting_api
from bfcl_eval.eval_checker.multi_turn_eval.multi_turn_checker import multi_turn_checker

from agentscaler.adapters.bfcl.calls import Call
from agentscaler.adapters.bfcl.environment import functions_of, is_long_context, signature_of
from agentscaler.adapters.bfcl.load import load
from agentscaler.adapters.bfcl.package import bfcl
from agentscaler.adapters.bfcl.score import reference_of
from agentscaler.benchmark import BenchmarkDomain, BenchmarkTask

Turns = list[list[list[Call]]]
LOADED = load()
TASKS: list[BenchmarkTask] = LOADED.tasks
DOMAINS: dict[str, BenchmarkDomain] = {domain.name: domain for domain in LOADED.domains}
_SHARED = ("CREDIT_CARD_EXTENSION", "BOOKING_RECORD_EXTENSION")
_AS_LOADED = {name: deepcopy(getattr(long_context, name)) for name in _SHARED}


def task_named(name: str) -> BenchmarkTask:
    return next(task for task in TASKS if task.name == f"multi_turn_{name}")


def sample() -> list[BenchmarkTask]:
    """A tenth of each category."""
    return TASKS[3::10]


def all_in_one_step(reference: list[list[Call]]) -> Turns:
    return [[turn] if turn else [] for turn in reference]


def without_last_call(reference: list[list[Call]]) -> list[list[Call]]:
    last = max(number for number, turn in enumerate(reference) if turn)
    return [turn[:-1] if number == last else turn for number, turn in enumerate(reference)]


def package_accepts(task: BenchmarkTask, turns: Turns) -> bool:
    _put_back()
    before = set(vars(multi_turn_utils))
    written = [[[spell(call) for call in step] for step in turn] for turn in turns]
    try:
        found = multi_turn_checker(written, task.data["ground_truth"], task.data, task.kind, "beside")
    finally:
        _clear(before)
    return found["valid"]


def package_answers(task: BenchmarkTask, calls: list[Call]) -> list[str]:
    _put_back()
    before = set(vars(multi_turn_utils))
    try:
        answers, _ = multi_turn_utils.execute_multi_turn_func_call(
            [spell(call) for call in calls],
            task.data["initial_config"],
            task.data["involved_classes"],
            "beside",
            task.name,
            is_long_context(task.data),
        )
    finally:
        _clear(before)
    return answers


def spell(call: Call) -> str:
    parts = [repr(value) for value in call.positional]
    return f"{call.name}({', '.join([*parts, *(f'{key}={value!r}' for key, value in call.arguments.items())])})"


def _put_back() -> None:
    for name, loaded in _AS_LOADED.items():
        shared = getattr(long_context, name)
        shared.clear()
        shared.update(deepcopy(loaded))
    posting_api.TwitterAPI.post_tweet.__defaults__ = ([], [])


def _clear(before: set[str]) -> None:
    for name in set(vars(multi_turn_utils)) - before:
        delattr(multi_turn_utils, name)


@cache
def _pool() -> tuple[dict[str, list[Call]], list[Any]]:
    """Reference calls by function, and all their arguments."""
    by_name: dict[str, list[Call]] = {}
    for task in TASKS:
        for turn in reference_of(task):
            for call in turn:
                by_name.setdefault(call.name, []).append(call)
    values = [value for calls in by_name.values() for call in calls for value in call.arguments.values()]
    return by_name, values


def damaged(task: BenchmarkTask, random: Random) -> Turns:
    """The reference with one to three things done to it; some do no harm."""
    turns = [list(turn) for turn in reference_of(task)]
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        _damage(task, turns, random)
    return [
        [[call] for call in turn] if random.random() < 0.5 and len(turn) < 20 else ([turn] if turn else [])
        for turn in turns
    ]


def _damage(task: BenchmarkTask, turns: list[list[Call]], random: Random) -> None:
    by_name, values = _pool()
    turn = random.choice(turns)
    place = random.randrange(len(turn)) if turn else None
    functions = {
        name: bfcl().classes[c] for c in task.data["involved_classes"] for name in functions_of(bfcl().classes[c])
    }
    what = random.choice(
        ["drop", "double", "argument", "shuffle", "move", "empty", "extra", "extra", "drawn", "unknown"]
    )
    if what == "extra":
        if known := [name for name in functions if name in by_name]:
            turn.insert(random.randint(0, len(turn)), random.choice(by_name[random.choice(known)]))
    elif what == "drawn":
        name = random.choice(list(functions))
        names = [name for name in signature_of(functions[name], name).parameters if random.random() < 0.9]
        turn.insert(random.randint(0, len(turn)), Call(name, {key: random.choice(values) for key in names}))
    elif what == "unknown":
        turn.insert(random.randint(0, len(turn)), Call(random.choice(["no_such_thing", "kill", "run"]), {"x": 1}))
    elif place is None:
        return
    elif what == "drop":
        del turn[place]
    elif what == "empty":
        turn.clear()
    elif what == "double":
        turn.insert(place, turn[place])
    elif what == "shuffle":
        random.shuffle(turn)
    elif what == "move":
        call, other = turn.pop(place), random.choice(turns)
        other.insert(random.randint(0, len(other)), call)
    elif arguments := dict(turn[place].arguments):
        key = random.choice(list(arguments))
        arguments[key] = random.choice(values)
        if random.random() < 0.2:
            del arguments[key]
        turn[place] = Call(turn[place].name, arguments, turn[place].positional)
