"""What agents are told: the benchmark's rules (ACEBench, model_inference/prompt_en.py) in our words, for native calls.

The sentences that the special category looks for are the benchmark's own, word for word. The rules of the agent category's two worlds come
from the user's checkout (`checkout.py`) and are no part of this project.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from agentscaler.adapters.acebench.special import INCORRECT, MISSING

FINISHED = "finish conversation"

_VALUES = """- A parameter is optional unless its tool requires it. Give the parameters that {sources} speaks of, and leave out the others.
- Where a parameter's description asks for no format, its value is what {sources} says, in the same words.
- Invent no parameters. A tool without parameters is called without any."""

_NORMAL = """You are an assistant that works with tools. Read the conversation and make the calls that the user's last message asks \
for: all of them in one message, with no words beside them.
{values}"""

_SPECIAL = f"""You are an assistant that works with tools. Read the conversation first, then do one of two things.

1. The request is clear and complete, and your tools can do it: make all calls that it needs in one message, with no words beside them. \
Where a parameter's description asks for no format, its value is what the user says, in the same words.

2. Something is wrong with the request: make no call, and say what is wrong in exactly one of these sentences, with the names and values \
filled in. Look for the first case first, then the second, then the third.
(1) The details are there, but a value's type or form is not what the tool asks for: "{INCORRECT} (value) for the parameters (key) in the \
conversation history."
(2) Details that the tool needs are missing: "{MISSING} (key1, key2, ...) for the api (ApiName)"
(3) No tool of yours can do what is asked: "Due to the limitations of the function, I cannot solve this problem.\""""

_MULTI_TURN = """You are an assistant that works with tools, in a conversation with a user.
When you know what a call needs, make it, with no words beside it. When something is missing, ask the user; never answer in the \
user's place.
{values}

Your rules:

{policy}"""

_MULTI_STEP = """You are an assistant that works with tools, on a task that a user has given you.
Carry it out step by step, one call at a time, and let each result decide what comes next. Nobody answers questions: use what you know.
{values}
When the task is done, say "{finished}"."""


def answer_prompt(kind: str, record: Mapping[str, Any]) -> str:
    """Of the categories that take one answer: normal and special."""
    if kind.startswith("special"):
        prompt = _SPECIAL
    else:
        has_profile = bool(record.get("profile"))
        sources = "the user or the user's profile" if has_profile else "the user"
        prompt = _NORMAL.format(values=_VALUES.replace("{sources}", sources))
        if has_profile:
            prompt += f"\n\nThe user's profile:\n{record['profile']}"
    time = str(record.get("time") or "").strip()
    return f"{prompt}\n\n{time}" if time else prompt


def agent_prompt(kind: str, policy: str) -> str:
    values = _VALUES.replace("{sources}", "the user")
    if kind == "agent_multi_step":
        return _MULTI_STEP.format(values=values, finished=FINISHED)
    return _MULTI_TURN.format(values=values, policy=for_native_calls(policy))


def for_native_calls(policy: str) -> str:
    """A world's rules without what they say about writing calls as text."""
    policy = re.sub(r",? in the format \[ApiName.*?\)\]", "", policy)
    lines = [line for line in policy.splitlines() if "[ApiName(" not in line and line.strip() != "Function Calls:"]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
