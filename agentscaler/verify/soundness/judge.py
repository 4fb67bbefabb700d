"""Runs steps as one conversation in a fresh environment, and asks the verifier.

Shared by `check` (may a task be kept?) and `rates` (how often does the verifier err?). Judges nothing itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from agentscaler.errors import TaskError
from agentscaler.messages import Message, Outcome, ToolCall
from agentscaler.rollout.limits import StopReason
from agentscaler.tasks.arguments import resolve
from agentscaler.tasks.task import Call, Say, Task
from agentscaler.teachers.replay import closing_words
from agentscaler.verify.funnel import verify
from agentscaler.verify.soundness.tables import End
from agentscaler.verify.verdict import Verdict
from agentscaler.world.changeset import Diff
from agentscaler.world.environment import CallResult
from agentscaler.world.world import World

_NOT_RUN = CallResult(Outcome.INVALID_CALL, "null")


@dataclass(frozen=True, slots=True)
class Played:
    """All that a rollout leaves behind. `results` are those of the calls that ran; `end` is None where it was not asked for."""

    messages: tuple[Message, ...]
    results: tuple[CallResult, ...]
    diff: Diff
    net_keys: tuple[str, ...]
    end: End | None = None
    stop_reason: StopReason = StopReason.USER_STOP


class Judge:
    def __init__(self, world: World, task: Task):
        self.world, self.task = world, task

    def play(self, steps: Sequence[Call | Say], closing: str | None = None, keep_end: bool = False) -> Played:
        """Execute the steps as one conversation that ends with `closing` (None: the reference's closing words). A call that can no
        longer be resolved is left out; what is said on the way the person answers by asking to go on."""
        environment = self.world.open()
        numbered: list[CallResult] = []  # one for every call, so that `$result` numbers stay right
        results: list[CallResult] = []
        messages = [Message("system", ""), Message("user", self.task.written.intent)]
        for step in steps:
            if isinstance(step, Say):
                messages += [Message("assistant", step.say), Message("user", "Please go on.")]
                continue
            try:
                arguments = resolve(step.arguments, numbered)
            except TaskError:
                numbered.append(_NOT_RUN)
                continue
            result = environment.call("agent", step.call, arguments)
            numbered.append(result)
            results.append(result)
            name = f"call_{len(numbered)}"
            call = ToolCall(name, step.call, orjson.dumps(arguments).decode())
            messages.append(Message("assistant", tool_calls=(call,)))
            messages.append(
                Message(
                    "tool", result.content, tool_call_id=name, outcome=result.outcome, changed_keys=result.changed_keys
                )
            )
        messages.append(Message("assistant", closing_words(self.task) if closing is None else closing))
        keys = environment.net_keys()
        end = End.of(environment) if keep_end else None
        diff = environment.close()
        return Played(tuple(messages), tuple(results), diff, keys, end)

    def verdict(self, played: Played) -> Verdict:
        writes = self.world.program.write_tools
        return verify(self.task, played.messages, played.stop_reason, played.diff, played.net_keys, writes)
