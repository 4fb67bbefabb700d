"""Random conversations on a τ² domain: calls of agent and user, right and wrong, and words, as the package's own messages.

Arguments come from the references of the domain's tasks, from keys of its databases, and from values of the wrong type. The same seed,
the same conversation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from random import Random
from typing import Any

from agentscaler.adapters.tau2.live import Requestor
from agentscaler.adapters.tau2.score import Said

ODD_VALUES: tuple[Any, ...] = (None, 0, 1, -3, 2.5, True, "x", "", [], {}, ["x"], {"a": 1})


@dataclass(frozen=True, slots=True)
class Draw:
    requestor: Requestor
    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Material:
    tasks: list[Any]
    tools: dict[Requestor, dict[str, list[str]]]  # requestor → tool → names of its parameters
    values: dict[str, list[Any]]  # parameter → values that references give it
    keys: list[str]  # of records

    @classmethod
    def of(cls, environment: Any, tasks: list[Any]) -> Material:
        tools: dict[Requestor, dict[str, list[str]]] = {}
        keys: list[str] = []
        kits: list[tuple[Requestor, Any]] = [("assistant", environment.tools), ("user", environment.user_tools)]
        for requestor, kit in kits:
            if kit is None:
                continue
            tools[requestor] = {
                name: list(tool.params.model_json_schema().get("properties", {}))
                for name, tool in sorted(kit.get_tools().items())
            }
            for records in kit.db.__dict__.values() if kit.db is not None else ():
                keys += list(records) if isinstance(records, dict) else []
        values: dict[str, list[Any]] = {}
        for action in (action for task in tasks for action in _actions(task)):
            for name, value in action.arguments.items():
                values.setdefault(name, []).append(value)
        return cls(tasks, tools, values, keys)

    def draw(self, task: Any, random: Random) -> Draw:
        """Half of them calls of a reference (mostly the task's own), changed now and then; the rest any tool with drawn arguments."""
        if random.random() < 0.5 and (
            actions := _actions(task if random.random() < 0.7 else random.choice(self.tasks))
        ):
            action = random.choice(actions)
            arguments = deepcopy(action.arguments)
            if arguments and random.random() < 0.3:
                name = random.choice(list(arguments))
                arguments[name] = self._value(name, random)
            return Draw(action.requestor, action.name, arguments)
        requestor = random.choice(list(self.tools))
        if random.random() < 0.05:
            return Draw(requestor, "no_such_tool", {})
        tool = random.choice(list(self.tools[requestor]))
        names = [name for name in self.tools[requestor][tool] if random.random() < 0.9]
        arguments = {name: self._value(name, random) for name in names}
        if random.random() < 0.03:
            arguments["unknown"] = "x"
        return Draw(requestor, tool, arguments)

    def _value(self, name: str, random: Random) -> Any:
        choice = random.random()
        if choice < 0.7 and name in self.values:
            return deepcopy(random.choice(self.values[name]))
        if choice < 0.9 and self.keys:
            return random.choice(self.keys)
        return deepcopy(random.choice(ODD_VALUES))


def _actions(task: Any) -> Sequence[Any]:
    criteria = task.evaluation_criteria
    return (criteria.actions or ()) if criteria is not None else ()


Answer = tuple[str, bool]


def play(
    task: Any, draws: Sequence[Draw | str], call: Callable[[Draw], Answer]
) -> tuple[list[Answer], list[Any], Said]:
    """The results, the conversation as the package's messages (the task's history first), and what ours needs of it."""
    from tau2.data_model.message import AssistantMessage, ToolCall, ToolMessage, UserMessage

    history = (task.initial_state.message_history if task.initial_state else None) or []
    messages: list[Any] = list(history)
    answers: list[Answer] = []
    for number, draw in enumerate(draws):
        if isinstance(draw, str):
            messages.append(AssistantMessage(role="assistant", content=draw))
            continue
        answers.append(call(draw))
        made = ToolCall(
            id=str(number),
            name=draw.tool,
            arguments=deepcopy(draw.arguments),
            requestor=draw.requestor,
        )
        if draw.requestor == "assistant":
            messages.append(AssistantMessage(role="assistant", content=None, tool_calls=[made]))
        else:
            messages.append(UserMessage(role="user", content=None, tool_calls=[made]))
        content, error = answers[-1]
        messages.append(
            ToolMessage(id=str(number), role="tool", content=content, error=error, requestor=draw.requestor)
        )
    return answers, messages, said_in(messages)


def said_in(messages: Sequence[Any]) -> Said:
    words = [m.content for m in messages if m.role == "assistant" and m.has_text_content()]
    calls = [(c.name, c.arguments) for m in messages if m.role in ("assistant", "user") for c in m.tool_calls or ()]
    return Said(words, calls)


def draws_of(material: Material, seed: int) -> tuple[Any, list[Draw | str]]:
    """A task and what is called and said in it. Some do the whole reference, some of them with a call more or less."""
    random = Random(seed)
    task = random.choice(material.tasks)
    draws: list[Draw | str]
    if random.random() < 0.3:
        draws = [Draw(a.requestor, a.name, deepcopy(a.arguments)) for a in _actions(task)]
        if draws and random.random() < 0.4:
            del draws[random.randrange(len(draws))]
        if random.random() < 0.3:
            draws.insert(random.randint(0, len(draws)), material.draw(task, random))
    else:
        draws = [material.draw(task, random) for _ in range(random.randint(0, 10))]
    criteria = task.evaluation_criteria
    for text in (criteria.communicate_info or ()) if criteria is not None else ():
        if random.random() < 0.7:
            draws.insert(random.randint(0, len(draws)), f"That is {text}.")
    return task, draws
