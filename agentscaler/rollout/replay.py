"""Verify rollouts again, with no model: from what was recorded, or by playing the recorded calls in a fresh environment.

A rollout has changed when its verdict comes out otherwise, or when a replayed call answers otherwise than the record says.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import orjson

from agentscaler.benchmark import AnyDomain, AnyTask
from agentscaler.domain.domain import Domain
from agentscaler.messages import calls_with_results
from agentscaler.rollout.record import Rollout
from agentscaler.rollout.scene import Actor
from agentscaler.rollout.scenes import open_scene
from agentscaler.tasks.task import Task
from agentscaler.verify.funnel import VerifyMode, verify
from agentscaler.verify.verdict import Verdict
from agentscaler.world.program import compile_domain


class ReverifyMode(StrEnum):
    VERDICT = "verdict"
    REPLAY = "replay"


@dataclass(frozen=True, slots=True)
class Reverified:
    """`rollout` carries the new verdict; `parted` says where a replay left the record."""

    rollout: Rollout
    changed: bool
    parted: tuple[str, ...] = ()


def reverify(task: AnyTask, rollout: Rollout, domain: AnyDomain, how: ReverifyMode, mode: VerifyMode) -> Reverified:
    """A benchmark's judge looks at the environment itself: there the calls are always played again."""
    parted: list[str] = []
    if how is ReverifyMode.VERDICT and isinstance(task, Task) and isinstance(domain, Domain):
        verdict = verify_recorded(task, rollout, domain, mode)
    else:
        verdict, parted = verify_replayed(task, rollout, domain, mode)
    return Reverified(rollout.with_verdict(verdict), verdict != rollout.verdict or bool(parted), tuple(parted))


def verify_recorded(task: Task, rollout: Rollout, domain: Domain, mode: VerifyMode) -> Verdict:
    """The verdict from the recorded messages and state changes."""
    diff = orjson.loads(rollout.state_changes)
    return verify(
        task, rollout.messages, rollout.stop_reason, diff, rollout.net_keys, compile_domain(domain).write_tools, mode
    )


def verify_replayed(task: AnyTask, rollout: Rollout, domain: AnyDomain, mode: VerifyMode) -> tuple[Verdict, list[str]]:
    """The verdict after replaying every call, and in what the replay parts from the record (empty when in nothing)."""
    scene = open_scene(task, domain, mode)
    parted = []
    for message, call, recorded in calls_with_results(rollout.messages[len(scene.opening) :]):
        if recorded is None:
            continue  # the conversation was stopped before this call ran
        actor: Actor = "user" if message.role == "user" else "agent"
        made = scene.call(actor, call.name, call.arguments)
        if (made.outcome, made.content, made.changed_keys) != (
            recorded.outcome,
            recorded.content,
            recorded.changed_keys,
        ):
            parted.append(
                f"call {call.id} ({call.name}) answered {made.content[:80]}, recorded {recorded.content[:80]}"
            )
    return scene.judge(rollout.messages, rollout.stop_reason).verdict, parted
