"""Verify rollouts again, with no model: from what was recorded, or by playing the recorded calls in a fresh environment."""

from __future__ import annotations

import orjson

from agentscaler.domain.domain import Domain
from agentscaler.rollout.record import Rollout
from agentscaler.tasks.task import Task
from agentscaler.verify.funnel import VerifyMode, verify
from agentscaler.verify.verdict import Verdict
from agentscaler.world.program import compile_domain
from agentscaler.world.world import World


def verify_recorded(task: Task, rollout: Rollout, domain: Domain, mode: VerifyMode) -> Verdict:
    """The verdict from the recorded messages and state changes."""
    diff = orjson.loads(rollout.state_changes)
    return verify(
        task, rollout.messages, rollout.stop_reason, diff, rollout.net_keys, compile_domain(domain).write_tools, mode
    )


def verify_replayed(task: Task, rollout: Rollout, domain: Domain, mode: VerifyMode) -> tuple[Verdict, list[str]]:
    """The verdict after replaying every call, and in what the replay parts from the record (empty when in nothing)."""
    environment = World.of(domain, rollout.world_seed).open()
    results = {m.tool_call_id: m for m in rollout.messages if m.role == "tool"}
    parted = []
    for message in rollout.messages:
        for call in message.tool_calls:
            if (recorded := results.get(call.id)) is None:
                continue  # the conversation was stopped before this call ran
            made = environment.call("agent", call.name, call.arguments)
            if (made.outcome, made.content, made.changed_keys) != (
                recorded.outcome,
                recorded.content,
                recorded.changed_keys,
            ):
                parted.append(
                    f"call {call.id} ({call.name}) answered {made.content[:80]}, recorded {recorded.content[:80]}"
                )
    net_keys = environment.net_keys()
    diff = environment.close()
    return verify(
        task, rollout.messages, rollout.stop_reason, diff, net_keys, compile_domain(domain).write_tools, mode
    ), parted
