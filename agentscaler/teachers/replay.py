"""The agent that knows the way: it says and does what a written task's reference says, asking the person for every withheld fact."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from agentscaler.messages import Message, ToolCall, Usage
from agentscaler.tasks.arguments import resolve
from agentscaler.tasks.task import Answer, Ask, Say, Task
from agentscaler.verify.call_match import spell
from agentscaler.world.environment import CallResult


class Replay:
    def __init__(self, task: Task):
        self._task = task
        written = task.written
        asked_in_place = any(isinstance(step, Ask) for step in written.reference)
        asks = [] if asked_in_place else [Ask(ask=name) for name in written.facts]
        self._steps = [*asks, *written.reference]

    async def reply(self, messages: Sequence[Message]) -> Message:
        """The step that comes after those said: nothing is remembered, so that another can go on."""
        said = sum(message.role == "assistant" for message in messages)
        if said < len(self._steps):
            step = self._steps[said]
            if isinstance(step, Ask):
                return Message("assistant", self._task.written.facts[step.ask].question)
            if isinstance(step, Say):
                return Message("assistant", step.say)
            results = [CallResult(m.outcome, m.content) for m in messages if m.role == "tool" and m.outcome]
            arguments = orjson.dumps(resolve(step.arguments, results)).decode()
            return Message(
                "assistant", tool_calls=(ToolCall(f"call_{len(results) + 1}", step.call, arguments),), usage=Usage()
            )
        return Message("assistant", closing_words(self._task))

    def close(self) -> None:
        pass


def closing_words(task: Task) -> str:
    """The last thing a right agent says: the answers, a refusal, or that it is done."""
    words = [_tell(answer) for answer in task.written.must_tell]
    if task.kind.must_decline:
        words.append("I am sorry, I cannot do that.")
    return " ".join(words) or "That is done."


def _tell(answer: Answer) -> str:
    return f"The {answer.type} is {spell(answer.type, answer.value)}."
