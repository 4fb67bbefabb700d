"""Runs steps as one conversation in a fresh environment, and asks the verifier.

Shared by `check` (may a task be kept?), whose `rehearsal` has an environment of its own, and `rates` (how often does the verifier
err?). Judges nothing itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from agentscaler.errors import TaskError
from agentscaler.messages import Message, Outcome, ToolCall
from agentscaler.rollout.limits import StopReason
from agentscaler.tasks.arguments import resolve
from agentscaler.tasks.task import Call, Say, Task
from agentscaler.teachers.replay import closing_words
from agentscaler.verify.funnel import verify
from agentscaler.verify.soundness.tables import End
from agentscaler.verify.verdict import Verdict, VerdictOutcome
from agentscaler.world.changeset import Diff
from agentscaler.world.environment import CallResult
from agentscaler.world.world import World

NOT_RUN = CallResult(Outcome.INVALID_CALL, "null")


@dataclass(frozen=True, slots=True)
class Played:
    """All that a rollout leaves behind. `results` are those of the calls that ran; `end` is None where it was not asked for."""

    messages: tuple[Message, ...]
    results: tuple[CallResult, ...]
    diff: Diff
    net_keys: tuple[str, ...]
    end: End | None = None
    stop_reason: StopReason = StopReason.USER_STOP


@dataclass(frozen=True, slots=True)
class Made:
    """A call that was made, its arguments in place, and what came of it."""

    name: str
    arguments: dict[str, Any]
    result: CallResult


class Judge:
    def __init__(self, world: World, task: Task):
        self.world, self.task = world, task

    def play(self, steps: Sequence[Call | Say], closing: str | None = None, keep_end: bool = False) -> Played:
        """Execute the steps as one conversation that ends with `closing` (None: the reference's closing words). A call that can no
        longer be resolved is left out; what is said on the way the person answers by asking to go on."""
        environment = self.world.open()
        numbered: list[CallResult] = []  # one for every call, so that `$result` numbers stay right
        made: list[Made | Say] = []
        for step in steps:
            if isinstance(step, Say):
                made.append(step)
                continue
            try:
                arguments = resolve(step.arguments, numbered)
            except TaskError:
                numbered.append(NOT_RUN)
                continue
            numbered.append(environment.call("agent", step.call, arguments))
            made.append(Made(step.call, arguments, numbered[-1]))
        end = End.of(environment) if keep_end else None
        net_keys = environment.net_keys()
        return self.played(made, environment.close(), net_keys, closing, end)

    def played(
        self,
        made: Sequence[Made | Say],
        diff: Diff,
        net_keys: tuple[str, ...],
        closing: str | None = None,
        end: End | None = None,
    ) -> Played:
        """What the rollout leaves behind in which this was done and said, and that ended so."""
        messages = [Message("system", ""), Message("user", self.task.written.intent)]
        results: list[CallResult] = []
        for step in made:
            if isinstance(step, Say):
                messages += [Message("assistant", step.say), Message("user", "Please go on.")]
                continue
            result = step.result
            results.append(result)
            name = f"call_{len(results)}"
            call = ToolCall(name, step.name, orjson.dumps(step.arguments).decode())
            messages.append(Message("assistant", tool_calls=(call,)))
            messages.append(
                Message(
                    "tool", result.content, tool_call_id=name, outcome=result.outcome, changed_keys=result.changed_keys
                )
            )
        messages.append(Message("assistant", closing_words(self.task) if closing is None else closing))
        return Played(tuple(messages), tuple(results), diff, net_keys, end)

    def verdict(self, played: Played) -> Verdict:
        writes = self.world.program.write_tools
        return verify(self.task, played.messages, played.stop_reason, played.diff, played.net_keys, writes)

    def accepts(self, played: Played) -> bool:
        return self.verdict(played).outcome is VerdictOutcome.ACCEPTED
