"""What BFCL would say of a conversation: its check after every turn, from our own play of the reference.

The rules are those of the package's multi_turn_checker (bfcl-eval 2026.3.23), turn by turn where the reference makes calls:
the agent made one at all; all public attributes of all instances are equal; every result of the reference's calls of this turn is among
the agent's results so far, each as often as the reference has it. Turns in which the reference makes no call are not checked; what the
agent calls there counts for the turns after. Functions that were withheld, or are described to nobody, can be called, as in the package.

Beyond the package: a turn with more messages with calls than its bound fails wherever it comes. The package stops such a conversation too,
but when it happens in the last turn it goes on to grade it. A call whose arguments are no JSON object is left out alone; the package
leaves out its whole message and ends the turn, which here only the agent's words do.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from agentscaler.adapters.bfcl.calls import Call, parse_call, read_call
from agentscaler.adapters.bfcl.changes import Change, changes, plain, spell
from agentscaler.adapters.bfcl.environment import open_environment
from agentscaler.adapters.bfcl.package import bfcl
from agentscaler.benchmark import BenchmarkTask
from agentscaler.messages import Message
from agentscaler.verify.verdict import Stage

MAX_EXPECTED = 1024  # tasks whose reference stays played
MAX_LINES = 20

State = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class ExpectedTurn:
    """After a turn of the reference: what its calls answered, and all public attributes. `answers` is empty where it makes no call."""

    answers: Counter[str]
    state: State


@dataclass(frozen=True, slots=True)
class Score:
    """`turn` counts from 1; 0 where none failed. `changed`: what the agent's calls changed."""

    passed: bool
    changed: dict[str, Change]
    turn: int = 0
    stage: Stage | None = None
    reason: str = ""
    state_diff: tuple[str, ...] = ()


def reference_of(task: BenchmarkTask) -> list[list[Call]]:
    return [[parse_call(text) for text in turn] for turn in task.data["ground_truth"]]


def turns_of(messages: Sequence[Message]) -> list[list[list[Call]]]:
    """The agent's calls by turn and message. A call whose arguments are no JSON object is none, and so is a message without calls."""
    turns: list[list[list[Call]]] = []
    for message in messages:
        if message.role == "user":
            turns.append([])
        elif message.role == "assistant" and turns:
            calls = [read_call(call.name, call.arguments) for call in message.tool_calls]
            if step := [call for call in calls if call is not None]:
                turns[-1].append(step)
    return turns


def score(task: BenchmarkTask, turns: Sequence[Sequence[Sequence[Call]]]) -> Score:
    """Plays the calls in an environment of their own: a verdict follows from task and calls alone."""
    environment = open_environment(task)
    begun = plain(environment.state())
    failed: tuple[int, Stage, str, tuple[str, ...]] | None = None
    answers: Counter[str] = Counter()
    expected_turns = expected(task)
    for number, steps in enumerate(turns, 1):
        for step in steps:
            answers.update(environment.call(call).text for call in step)
        if failed is None and number <= len(expected_turns):
            found = _check(expected_turns[number - 1], steps, environment.state(), answers)
            failed = (number, *found) if found is not None else None
    changed = changes(begun, plain(environment.state()))
    if failed is None and len(turns) != len(expected_turns):
        words = f"the conversation has {len(turns)} turns of {len(expected_turns)}"
        failed = (min(len(turns), len(expected_turns)) + 1, Stage.VALIDITY, words, ())
    if failed is None:
        return Score(True, changed)
    number, stage, reason, lines = failed
    return Score(False, changed, number, stage, f"turn {number}: {reason}", lines)


def _check(
    expected: ExpectedTurn, steps: Sequence[Sequence[Call]], state: State, answers: Counter[str]
) -> tuple[Stage, str, tuple[str, ...]] | None:
    if len(steps) > bfcl().step_limit:
        return Stage.VALIDITY, f"more than {bfcl().step_limit} messages with calls", ()
    if not expected.answers:
        return None
    if not steps:
        return Stage.CALL_MATCH, "no call was made, the reference makes some", ()
    if parted := [name for name in expected.state if not _same(expected.state[name], state[name])]:
        lines = [spell(path, change) for path, change in changes(plain(expected.state), plain(state)).items()]
        return Stage.STATE_MATCH, f"{', '.join(parted)} is not as the reference leaves it", tuple(lines[:MAX_LINES])
    if missing := expected.answers - answers:
        return (
            Stage.CALL_MATCH,
            f"of the reference's results {missing.total()} are missing: {next(iter(missing))[:200]}",
            (),
        )
    return None


def _same(expected: dict[str, Any], made: dict[str, Any]) -> bool:
    """Attributes that only the agent's instance has do not count, as in the package."""
    try:
        return all(key in made and made[key] == value for key, value in expected.items())
    except RecursionError:  # a directory copied into itself; the package's checker dies of it
        return False


_expected: OrderedDict[str, tuple[ExpectedTurn, ...]] = OrderedDict()


def expected(task: BenchmarkTask) -> tuple[ExpectedTurn, ...]:
    """The reference, played once and kept. States are copies, and are only compared."""
    found = _expected.get(task.task_digest)
    if found is None:
        environment = open_environment(task)
        turns = []
        for calls in reference_of(task):
            answers = Counter(environment.call(call).text for call in calls)
            turns.append(ExpectedTurn(answers, deepcopy(environment.state()) if calls else {}))
        found = _expected[task.task_digest] = tuple(turns)
        if len(_expected) > MAX_EXPECTED:
            _expected.popitem(last=False)
    _expected.move_to_end(task.task_digest)
    return found
