"""Result files of τ-bench v1: a list of trajectories, replayed on τ²'s airline and retail worlds by v1's rules (`taubench_tools.py`).

v1 records one of two things, never both. A task without outputs has `r_actions`: whether the databases were equal. A task with outputs
has `r_outputs`: whether all were said; there the databases' verdict is read off the reward, which is 0 if either fails. So with all
outputs said it is the reward, and with one unsaid nothing is known of it: then the outputs are what is compared. Recorded hashes are of
v1's own data and are not looked at. Which of the two worlds was played is not recorded either: it is told by the tools.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from agentscaler.adapters.tau2.lenient import Json, number_of, object_of, objects_of, strings_of
from agentscaler.adapters.tau2.live import Tau2Environment
from agentscaler.adapters.tau2.replay import (
    Answer,
    Cause,
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
from agentscaler.adapters.tau2.taubench_tools import call_v1
from agentscaler.errors import ConfigError

WORLD_OF_TOOLS = {
    "airline": re.compile("reservation|flight|airport|certificate"),
    "retail": re.compile("order|product|address|find_user"),
}
WITHOUT_EFFECT = frozenset({"respond", "transfer_to_human_agents"})  # of a reference: v1 leaves them out
OTHER_FORM = frozenset({"list_all_airports"})  # the same airports, written otherwise: no difference
ACTION = "Action:"  # of agents that write their calls as text
OUTPUT = "API output: "


def rescore_trajectories(
    path: Path, trajectories: Sequence[Json], on_progress: Callable[[int, int], None]
) -> Iterator[Compared]:
    """One for each trajectory of the file, in its order."""
    worlds = [_world_of(one) for one in trajectories]
    usual = Counter(world for world in worlds if world).most_common(1)
    fallback = usual[0][0] if usual else next((world for world in WORLD_OF_TOOLS if world in path.name.lower()), None)
    if fallback is None:
        raise ConfigError(
            f"results: {path}: no call, task or prompt tells whether it is of airline or retail: name it in the file's name"
        )
    graded_both = any(_shows_both(one) for one in trajectories)
    references: dict[str, tuple[Tau2Environment, list[str]]] = {}
    for done, (one, world) in enumerate(zip(trajectories, worlds, strict=True), 1):
        yield _compare(one, world or fallback, graded_both, references)
        on_progress(done, len(trajectories))


def _world_of(trajectory: Json) -> str | None:
    tools = [call.tool for call in _calls(_messages(trajectory))] + [name for name, _ in _reference(trajectory)]
    votes = {world: sum(bool(words.search(tool)) for tool in tools) for world, words in WORLD_OF_TOOLS.items()}
    if votes["airline"] != votes["retail"]:
        return max(votes, key=lambda world: votes[world])
    prompt = next((text_of(one).lower() for one in _messages(trajectory) if one.get("role") == "system"), "")
    named = [world for world in WORLD_OF_TOOLS if f"{world} agent" in prompt]
    return named[0] if len(named) == 1 else None


def _compare(
    trajectory: Json, domain: str, graded_both: bool, references: dict[str, tuple[Tau2Environment, list[str]]]
) -> Compared:
    trial = trajectory.get("trial")
    name = Name(f"{trajectory.get('task_id')}/{trial}", str(trajectory.get("task_id")), trial, domain)
    graded = _graded(trajectory)
    recorded = _recorded(graded)
    messages = _messages(trajectory)
    if recorded is None:
        words = str(object_of(trajectory.get("info")).get("error") or "the conversation was not ended")
        return Compared(name, missing=Missing.NO_CHECK, words=words[:200])
    if not isinstance(trajectory.get("traj"), list):
        return Compared(name, missing=Missing.NO_MESSAGES)
    calls = _calls(messages)
    environment = _open(domain)
    answers = [call_v1(environment, call.tool, call.arguments) for call in calls]
    end, refused = _reference_end(domain, _reference(trajectory), references)
    matches = end.same_end(environment)
    told = all(_is_told(text, _said(messages)) for text in _outputs(trajectory))
    ours = {"db_match": matches, "outputs": told}
    ours = {kind: ours[kind] for kind in recorded}
    asked = "db_match" if "db_match" in recorded else "outputs"
    cause, words = None, ""
    if recorded[asked] != ours[asked]:
        cause, words = _why(calls, answers, refused, asked)
        if cause is Cause.GRADING and asked == "db_match" and "outputs" in recorded and not graded_both and not matches:
            cause, words = (
                Cause.OUTPUTS_ALONE,
                "rewarded for its outputs, and nothing shows that the database was compared",
            )
    return Compared(name, recorded, ours, None, cause, words, number_of(graded.get("reward")), float(matches and told))


def _why(
    calls: Sequence[RecordedCall], answers: Sequence[Answer], refused: Sequence[str], asked: str
) -> tuple[Cause, str]:
    if asked == "outputs":
        return Cause.WORDS, "the outputs found in what the agent said are others"
    return why(calls, answers, refused, True)


def _recorded(graded: Json) -> dict[str, bool] | None:
    info = object_of(graded.get("info"))
    if "r_actions" in info:
        return {"db_match": bool(info["r_actions"])}
    if "r_outputs" not in info:
        return None
    told = bool(info["r_outputs"])
    return {"db_match": bool(graded.get("reward")), "outputs": told} if told else {"outputs": told}


def _shows_both(trajectory: Json) -> bool:
    """All outputs said and no reward: the database was looked at as well. Early versions did not, where a task has outputs."""
    graded = _graded(trajectory)
    return bool(object_of(graded.get("info")).get("r_outputs")) and not graded.get("reward")


def _open(domain: str) -> Tau2Environment:
    world = shipped_world(domain)
    assert world is not None  # both are part of the package
    return world.open()


def _reference_end(
    domain: str, reference: list[tuple[str, Any]], known: dict[str, tuple[Tau2Environment, list[str]]]
) -> tuple[Tau2Environment, list[str]]:
    """Where the reference leads, and which of its actions fail on the way. The same for all trials of a task."""
    key = json.dumps([domain, reference], sort_keys=True)
    if key not in known:
        environment, refused = _open(domain), []
        for tool, arguments in reference:
            if tool not in WITHOUT_EFFECT and (answer := call_v1(environment, tool, arguments_of(arguments))).failed:
                refused.append(f"{tool}: {answer.words}")
        known[key] = environment, refused
    return known[key]


def _graded(trajectory: Json) -> Json:
    return object_of(object_of(trajectory.get("info")).get("reward_info"))


def _reference(trajectory: Json) -> list[tuple[str, Any]]:
    """The actions graded with; those of the task where they are not recorded."""
    task = object_of(object_of(trajectory.get("info")).get("task"))
    graded = _graded(trajectory)
    actions = graded["actions"] if isinstance(graded.get("actions"), list) else task.get("actions")
    return [(str(action.get("name")), action.get("kwargs")) for action in objects_of(actions)]


def _outputs(trajectory: Json) -> list[str]:
    return strings_of(object_of(object_of(trajectory.get("info")).get("task")).get("outputs"))


def _is_told(output: str, said: Sequence[str]) -> bool:
    return any(output.lower() in text.lower().replace(",", "") for text in said)


def _said(messages: Sequence[Json]) -> list[str]:
    """To the user: what stands beside a call reaches nobody."""
    return [text_of(one) for one in messages if one.get("role") == "assistant" and not one.get("tool_calls")]


def _calls(messages: Sequence[Json]) -> list[RecordedCall]:
    def calls_of(message: Json) -> list[RecordedCall]:
        found = [object_of(call.get("function")) for call in objects_of(message.get("tool_calls"))]
        calls = [RecordedCall("assistant", str(one.get("name")), arguments_of(one.get("arguments"))) for one in found]
        firsts.extend([True] + [False] * (len(calls) - 1) if calls else [])
        return calls

    firsts: list[bool] = []
    calls = read_calls(messages, calls_of, lambda result: text_of(result).startswith("Error"))
    made = [
        call for call, first in zip(calls, firsts, strict=True) if first or call.answer is not None
    ]  # v1 makes the first alone
    return [RecordedCall("assistant", call.tool, call.arguments) if call.tool in OTHER_FORM else call for call in made]


def _messages(trajectory: Json) -> list[Json]:
    """Calls written as text made calls, their outputs results."""
    messages = objects_of(trajectory.get("traj"))
    if any(one.get("tool_calls") for one in messages) or not messages or ACTION not in text_of(messages[0]):
        return messages
    return [_spelled_out(one) for one in messages]


def _spelled_out(message: Json) -> Json:
    text = text_of(message)
    if message.get("role") == "user" and text.startswith(OUTPUT):
        return {"role": "tool", "content": text.removeprefix(OUTPUT)}
    if message.get("role") != "assistant":
        return message
    written = text.rpartition(ACTION)[2].strip()
    try:
        action = object_of(orjson.loads(written))
    except orjson.JSONDecodeError:
        return {"role": "assistant", "content": written}
    if action.get("name") == "respond":
        return {"role": "assistant", "content": object_of(action.get("arguments")).get("content")}
    return {"role": "assistant", "tool_calls": [{"function": action}]}
