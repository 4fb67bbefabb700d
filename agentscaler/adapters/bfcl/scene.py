"""A BFCL multi-turn task as a scene: the package's classes behind our loop, the data's user turns, the check after every turn as verdict.

As in the package's runs with function calling there is no system message: a conversation begins with the user. A turn lasts until the agent
speaks without a call. Withheld functions come into the toolbox with the turn that hands them out; that turn's message is the package's.
The bound of messages with calls in one turn is `Limits.max_turns_in_a_row` (the package stops at the 21st); the verdict knows it too.

The verdict follows from task and messages: the calls are played again in an environment of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from agentscaler.adapters.bfcl.calls import Call, read_call
from agentscaler.adapters.bfcl.environment import ERROR, BfclEnvironment, functions_of, open_environment, signature_of
from agentscaler.adapters.bfcl.functions import chosen, with_note
from agentscaler.adapters.bfcl.package import bfcl
from agentscaler.adapters.bfcl.score import reference_of, score, turns_of
from agentscaler.benchmark import BenchmarkDomain, BenchmarkTask, diff_of
from agentscaler.canonical import canonical_json, digest
from agentscaler.messages import Message, Outcome, ToolCall
from agentscaler.rollout.limits import StopReason
from agentscaler.rollout.scene import Actor, End, Toolbox
from agentscaler.verify.verdict import Stage, Verdict, VerdictOutcome
from agentscaler.world.environment import CallResult

MAX_TOOLBOXES = 4096


def open_scene(task: BenchmarkTask, domain: BenchmarkDomain) -> BfclScene:
    return BfclScene(task, domain)


class BfclScene:
    is_over = False

    def __init__(self, task: BenchmarkTask, domain: BenchmarkDomain):
        self.task, self._domain = task, domain
        self.opening = (user_message(task, 0),)
        self._turn = 0
        self._environment: BfclEnvironment | None = None

    @property
    def toolbox(self) -> Toolbox:
        return toolbox_at(self.task, self._domain, self._turn)

    @property
    def recorded_tools(self) -> str:
        """Those that are handed out later too."""
        toolbox = toolbox_at(self.task, self._domain, len(self.task.data["question"]))
        if toolbox.key not in _recorded:
            _recorded[toolbox.key] = canonical_json(list(toolbox.schemas))
        return _recorded[toolbox.key]

    @property
    def hidden_tools(self) -> frozenset[str]:
        return frozenset(call.name for turn in reference_of(self.task) for call in turn)

    def call(self, actor: Actor, tool: str, arguments: str) -> CallResult:
        call = read_call(tool, arguments)
        if call is None:
            return CallResult(Outcome.INVALID_CALL, f"{ERROR}the arguments are no JSON object")
        if self._environment is None:
            self._environment = open_environment(self.task)
        answer = self._environment.call(call)
        return CallResult(answer.outcome, answer.text)

    def begin_turn(self, number: int) -> None:
        self._turn = number

    def scripted_person(self, seed: int) -> TurnSpeaker:
        return TurnSpeaker(self)

    def role(self) -> None:
        """The benchmark itself says what the person says."""
        return

    def reference_agent(self) -> ReferenceAgent:
        return ReferenceAgent(self.task, reference_of(self.task))

    def judge(self, messages: Sequence[Message], stop_reason: StopReason) -> End:
        found = score(self.task, turns_of(messages))
        if stop_reason is not StopReason.USER_STOP:
            verdict = Verdict(VerdictOutcome.REJECTED, Stage.VALIDITY, (f"stopped by {stop_reason.value}",))
        elif found.passed:
            verdict = Verdict(VerdictOutcome.ACCEPTED)
        else:
            verdict = Verdict(VerdictOutcome.REJECTED, found.stage, (found.reason,), found.state_diff)
        # By class; the path below it is the key: `TradingBot`, `orders.12446.status`.
        changed = {
            (path.partition(".")[0], path.partition(".")[2]): (one.get("before"), one.get("after"))
            for path, one in found.changed.items()
        }
        return End(verdict, canonical_json(diff_of(changed)), tuple(f"{table}/{key}" for table, key in changed))

    def close(self) -> None:
        self._environment = None


class TurnSpeaker:
    """Says the data's user turns, one after another, whatever the agent answers. Which comes next follows from the messages."""

    unmatched_questions = 0

    def __init__(self, scene: BfclScene):
        self._scene = scene

    async def opening(self, messages: Sequence[Message]) -> Message:
        return user_message(self._scene.task, 0)

    async def reply(self, messages: Sequence[Message]) -> Message | None:
        number = sum(message.role == "user" for message in messages)
        if number >= len(self._scene.task.data["question"]):
            return None
        self._scene.begin_turn(number)
        return user_message(self._scene.task, number)

    def ends(self, message: Message) -> bool:
        return False

    def close(self) -> None:
        pass


class ReferenceAgent:
    """Makes a turn's calls in one message, then speaks; where there are none it only speaks. Follows from the messages alone."""

    def __init__(self, task: BenchmarkTask, steps: Sequence[Sequence[Call]]):
        self._task, self._steps = task, steps

    async def reply(self, messages: Sequence[Message]) -> Message:
        number = sum(message.role == "user" for message in messages)
        calls = self._steps[number - 1] if number <= len(self._steps) else ()
        if not calls:
            return Message("assistant", f"I cannot do what you asked for in your message {number}, as things are.")
        if messages[-1].role == "tool":
            return Message("assistant", f"I have done what you asked for in your message {number}.")
        made = sum(len(message.tool_calls) for message in messages)
        return Message("assistant", tool_calls=tuple(self._named(call, made + i) for i, call in enumerate(calls, 1)))

    def _named(self, call: Call, number: int) -> ToolCall:
        """References give some arguments by their place; JSON has none."""
        classes = (bfcl().classes[name] for name in self._task.data["involved_classes"])
        cls = next(cls for cls in classes if call.name in functions_of(cls))
        bound = signature_of(cls, call.name).bind(*call.positional, **call.arguments)
        return ToolCall(f"call_{number}", call.name, orjson.dumps(bound.arguments).decode())

    def close(self) -> None:
        pass


def user_message(task: BenchmarkTask, turn: int) -> Message:
    said = task.data["question"][turn]
    return Message("user", said[0]["content"] if said else bfcl().more_tools)


_toolboxes: dict[str, Toolbox] = {}
_recorded: dict[str, str] = {}  # the same as text, by the same key


def toolbox_at(task: BenchmarkTask, domain: BenchmarkDomain, turn: int) -> Toolbox:
    """The same object while the tools stay the same. What is handed out stands behind the others, without the note on Python."""
    classes, withheld = task.data["involved_classes"], task.data.get("missed_function", {})
    late = [name for names in withheld.values() for name in names]
    given = [name for at, names in withheld.items() if int(at) <= turn for name in names]
    key = digest([domain.fingerprint, classes, sorted(late), given])
    found = _toolboxes.get(key)
    if found is None:
        first = [
            with_note(tool)
            for name in classes
            for tool in chosen(domain.tools, functions_of(bfcl().classes[name]))
            if tool["function"]["name"] not in late
        ]
        later = [dict(tool) for name in given for tool in chosen(domain.tools, [name])]
        if len(_toolboxes) >= MAX_TOOLBOXES:
            _toolboxes.clear()
            _recorded.clear()
        found = _toolboxes[key] = Toolbox(key, (*first, *later))
    return found
