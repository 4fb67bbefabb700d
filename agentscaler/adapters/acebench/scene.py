"""ACEBench's normal and special tasks as scenes: one message of the agent, calls or words, against the benchmark's answer.

No tool is run: the benchmark has none. Calls that a model writes as text, in the benchmark's own form, count as calls.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from agentscaler.adapters.acebench.agent_scene import AgentScene
from agentscaler.adapters.acebench.call_text import Call, NotCalls, read_arguments, read_calls
from agentscaler.adapters.acebench.functions import Offer, offer
from agentscaler.adapters.acebench.history import read_history
from agentscaler.adapters.acebench.load import answers_of
from agentscaler.adapters.acebench.match import match_calls, tool_of
from agentscaler.adapters.acebench.prompts import answer_prompt
from agentscaler.adapters.acebench.special import Truth, check_words, right_words
from agentscaler.benchmark import BenchmarkDomain, BenchmarkTask
from agentscaler.canonical import canonical_json, digest
from agentscaler.messages import Message, Outcome, ToolCall
from agentscaler.rollout.limits import StopReason
from agentscaler.rollout.scene import Actor, End, Scene, Toolbox
from agentscaler.verify.verdict import Stage, Verdict, VerdictOutcome
from agentscaler.world.environment import CallResult

NOT_RUN = '"The call is noted. It is not run."'


def open_scene(task: BenchmarkTask, domain: BenchmarkDomain) -> Scene:
    return AgentScene(task, domain) if task.domain == "agent" else AnswerScene(task)


class AnswerScene:
    hidden_tools: frozenset[str] = frozenset()

    def __init__(self, task: BenchmarkTask):
        self.task = task
        self.is_over = False
        self._offer: Offer = offer(task.data["function"])
        history, self._asks = read_history(task.data["question"], self._offer.offered_names)
        self.opening = (Message("system", answer_prompt(task.kind, task.data)), *history)
        schemas = list(self._offer.schemas)
        self.recorded_tools = canonical_json(schemas)
        self.toolbox = Toolbox(digest(schemas), self._offer.schemas)

    def call(self, actor: Actor, tool: str, arguments: str) -> CallResult:
        self.is_over = True
        if tool not in self._offer.own_names:
            return CallResult(Outcome.INVALID_CALL, orjson.dumps(f"There is no tool {tool}.").decode())
        if read_arguments(arguments) is None:
            return CallResult(Outcome.INVALID_CALL, '"The arguments are no JSON object."')
        return CallResult(Outcome.OK, NOT_RUN)

    def scripted_person(self, seed: int) -> OneRequest:
        return OneRequest(self._asks)

    def role(self) -> None:
        return None

    def reference_agent(self) -> OneAnswer:
        return OneAnswer(self.reference())

    def reference(self, alternative: int = 0) -> Message:
        """The benchmark's own answer; of a normal task, one of several."""
        data = self.task.data
        if self.task.domain == "special":
            return Message("assistant", right_words(self.task.kind, self._truth()))
        names, calls = self._offer.offered_names, []
        for number, (name, arguments) in enumerate(answers_of(data)[alternative].items(), 1):
            function = tool_of(data["function"], name)
            own = name if function is None else function["name"]
            calls.append(ToolCall(f"call_{number}", names.get(own, own), orjson.dumps(arguments).decode()))
        return Message("assistant", tool_calls=tuple(calls))

    def judge(self, messages: Sequence[Message], stop_reason: StopReason) -> End:
        said = [message for message in messages[len(self.opening) :] if message.role == "assistant"]
        if not said:
            verdict = Verdict(VerdictOutcome.REJECTED, Stage.VALIDITY, (f"no answer: stopped by {stop_reason.value}",))
        elif self.task.domain == "special":
            verdict = self._judge_words(said[0])
        else:
            verdict = self._judge_calls(said[0])
        return End(verdict, canonical_json({}))

    def _judge_words(self, answer: Message) -> Verdict:
        if answer.tool_calls:
            called = ", ".join(call.name for call in answer.tool_calls)
            return _rejected(f"called {called}, where words were asked for")
        return _rejected(*check_words(self.task.kind, answer.content, self._truth()))

    def _truth(self) -> Truth:
        """With the tools by the names that they are offered by."""
        truth: Truth = self.task.data["ground_truth"]
        names = self._offer.offered_names
        return truth if isinstance(truth, str) else {names.get(name, name): values for name, values in truth.items()}

    def _judge_calls(self, answer: Message) -> Verdict:
        try:
            calls = self._calls(answer)
        except NotCalls as error:
            return _rejected(f"no calls: {error}")
        match = match_calls(self.task.data["function"], calls, answers_of(self.task.data))
        if match.reasons:
            return _rejected(*match.reasons)
        # What the benchmark lets pass stays visible in the record.
        return Verdict(VerdictOutcome.ACCEPTED, reasons=match.unchecked)

    def _calls(self, answer: Message) -> list[Call]:
        if not answer.tool_calls:
            return read_calls(answer.content)
        calls = []
        for call in answer.tool_calls:
            arguments = read_arguments(call.arguments)
            if arguments is None:
                raise NotCalls(f"the arguments of {call.name} are no JSON object")
            calls.append((self._offer.own_names.get(call.name, call.name), arguments))
        return calls

    def close(self) -> None:
        pass


def _rejected(*reasons: str) -> Verdict:
    """Accepted where there is no reason against it."""
    if not reasons:
        return Verdict(VerdictOutcome.ACCEPTED)
    return Verdict(VerdictOutcome.REJECTED, Stage.CALL_MATCH, reasons)


class OneRequest:
    """A person that says one thing and has nothing to add."""

    unmatched_questions = 0

    def __init__(self, asks: str):
        self._asks = asks

    async def opening(self, messages: Sequence[Message]) -> Message:
        return Message("user", self._asks)

    async def reply(self, messages: Sequence[Message]) -> Message | None:
        return None

    def ends(self, message: Message) -> bool:
        return False

    def close(self) -> None:
        pass


class OneAnswer:
    def __init__(self, answer: Message):
        self._answer = answer

    async def reply(self, messages: Sequence[Message]) -> Message:
        return self._answer

    def close(self) -> None:
        pass
