"""First stage: is this a conversation that could be trained on at all?

Well-formed turns, an allowed stop reason, no repetition loop. Says nothing about whether the task was solved.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from agentscaler.messages import Message
from agentscaler.rollout.limits import StopReason

# How engines write calls; in an agent's words it is a call that was cut off, or that no parser understood.
_UNPARSED_CALL = re.compile(r"</?tool_call>|<function=|\[TOOL_CALLS\]|<\|python_tag\|>|<\|tool[_▁]call")
ALLOWED_STOPS = frozenset({StopReason.USER_STOP})


def check_validity(messages: Sequence[Message], stop_reason: StopReason) -> list[str]:
    """Reasons, empty when valid."""
    reasons = []
    if stop_reason not in ALLOWED_STOPS:
        reasons.append(f"stopped by {stop_reason.value}")
    reasons += _turns(messages)
    return reasons


def _turns(messages: Sequence[Message]) -> list[str]:
    if len(messages) < 3 or messages[0].role != "system" or messages[1].role != "user":
        return ["turns: a conversation is system, user, then the agent"]
    reasons = []
    waiting: list[str] = []
    before = "system"
    for number, message in enumerate(messages[1:], 1):
        role = message.role
        if role == "tool":
            if message.tool_call_id not in waiting:
                reasons.append(f"turn {number}: a tool result without its call")
            else:
                waiting.remove(message.tool_call_id)
            if message.outcome is None:
                reasons.append(f"turn {number}: a tool result without an outcome")
        else:
            if waiting:
                reasons.append(f"turn {number}: {len(waiting)} calls have no result")
                waiting = []
            if role == "user" and before not in ("system", "assistant"):
                reasons.append(f"turn {number}: the user speaks after {before}")
            if role == "assistant":
                waiting = [call.id for call in message.tool_calls]
                if len(set(waiting)) != len(waiting):
                    reasons.append(f"turn {number}: call ids repeat")
                if _UNPARSED_CALL.search(message.content):
                    reasons.append(f"turn {number}: a tool call left among the words")
                if not message.content.strip() and not waiting:
                    reasons.append(f"turn {number}: an empty message")
        before = role
    if messages[-1].role != "assistant" or messages[-1].tool_calls:
        reasons.append("turns: the agent's last word is missing")
    return reasons
