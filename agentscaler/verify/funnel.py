"""The funnel: validity, then state match, then call match. A pure function of task and rollout.

Errors of single calls do not matter where the end is right. A stage that rejects ends the funnel; its reasons are the verdict's.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from agentscaler.messages import Message
from agentscaler.rollout.limits import StopReason
from agentscaler.tasks.task import Task
from agentscaler.verify.call_match import check_calls
from agentscaler.verify.validity import check_validity
from agentscaler.verify.verdict import Stage, Verdict, VerdictOutcome
from agentscaler.world.changeset import Diff
from agentscaler.world.compare import explain, same


class VerifyMode(StrEnum):
    STATE = "state"
    PAPER = "paper"


def verify(
    task: Task,
    messages: Sequence[Message],
    stop_reason: StopReason,
    diff: Diff,
    net_keys: Sequence[str],
    write_tools: frozenset[str],
    mode: VerifyMode = VerifyMode.STATE,
) -> Verdict:
    detour = bool({key for m in messages for key in m.changed_keys} - set(net_keys))
    if reasons := check_validity(messages, stop_reason):
        return _rejected(Stage.VALIDITY, reasons, detour)
    if not same(task.expected_diff, diff):
        lines = explain(task.expected_diff, diff)
        return _rejected(Stage.STATE_MATCH, lines, detour, tuple(lines))
    if reasons := check_calls(task, messages, write_tools, mode is VerifyMode.PAPER):
        return _rejected(Stage.CALL_MATCH, reasons, detour)
    return Verdict(VerdictOutcome.ACCEPTED, detour=detour)


def _rejected(stage: Stage, reasons: list[str], detour: bool, lines: tuple[str, ...] = ()) -> Verdict:
    return Verdict(VerdictOutcome.REJECTED, stage, tuple(reasons), lines, detour)
