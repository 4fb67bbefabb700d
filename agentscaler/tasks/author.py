"""A model writes what people say, and a check keeps a text only if it says the same.

The grammar's text is what has been proven; a model's stands in its place where every anchor of the first is in it and no other is, where it
names no tool and asks no other thing: a blind reader, who sees the text and the tools alone, must come to the tools that the
reference writes with. Else the grammar's text stays. Changes a task's words only, never its reference.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from agentscaler.domain.domain import Domain
from agentscaler.errors import ContextOverflow, RolloutFault
from agentscaler.tasks.anchors import invented, lost
from agentscaler.tasks.task import Kind, Task
from agentscaler.teachers.http import ChatEndpoint

PERSONAS = (
    "in a hurry, few words", "polite and a little formal", "chatty, explains too much", "annoyed but fair",
    "not used to computers", "young, casual", "precise, lists things in order", "friendly, jokes once",
    "a non-native speaker with simple sentences", "tired after a long day",
)  # fmt: skip
MODEL_FAULT = "no answer:"  # so begins the reason where it was not the words' fault
MAX_LONGER = 2.5  # a text that is so much longer than the first says something else


class AuthorConfig(BaseModel):
    """What is asked of the model; all of it shapes the tasks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    sampling: dict[str, Any] = Field(default_factory=lambda: {"temperature": 0.8, "max_tokens": 220})
    tries: int = Field(default=2, ge=1, description="texts asked for, before the grammar's stays")
    reader: bool = Field(default=True, description="a blind reader has to find the tools again")


@dataclass(frozen=True, slots=True)
class Authored:
    """`intent` None: the grammar's stays, for `reason`."""

    intent: str | None
    reason: str = ""


class Author:
    def __init__(self, config: AuthorConfig, endpoint: ChatEndpoint):
        self._config, self._endpoint = config, endpoint

    async def write(self, task: Task, domain: Domain) -> Authored:
        """Faults of the model leave the grammar's text; they are no reason to lose a task."""
        reason = ""
        for turn in range(self._config.tries):
            try:
                text = _plain(await self._ask(_writing(task.intent, self._persona(task, turn)), task, turn))
                reason = check_text(task, domain, text) or ""
                if not reason and self._config.reader:
                    reason = await self._read_blind(task, domain, "\n".join([text, *task.written.then]), turn)
            except RolloutFault as error:
                reason = f"{MODEL_FAULT} {error.words}"
                continue
            except ContextOverflow:
                reason = "longer than the model's context"
                continue
            if not reason:
                return Authored(text)
        return Authored(None, reason)

    def _persona(self, task: Task, turn: int) -> str:
        return PERSONAS[(zlib.crc32(task.task_digest.encode()) + turn) % len(PERSONAS)]

    async def _read_blind(self, task: Task, domain: Domain, text: str, turn: int) -> str:
        answer = await self._ask(_reading(domain, text), task, turn + 100)
        found = {tool.name for tool in domain.tools if re.search(rf"\b{tool.name}\b", answer)}
        return "" if _is_understood(task, domain, found, answer) else "a blind reader comes to other tools"

    async def _ask(self, words: str, task: Task, turn: int) -> str:
        seed = zlib.crc32(f"{task.task_digest}:{turn}".encode()) >> 1
        payload = {"model": self._config.model, "messages": [{"role": "user", "content": words}], "seed": seed}
        session = f"author-{task.task_digest}"
        try:
            answer = await self._endpoint.complete(session, orjson.dumps(payload | self._config.sampling))
        finally:
            self._endpoint.end(session)
        return answer["choices"][0]["message"].get("content") or ""


def _is_understood(task: Task, domain: Domain, found: set[str], answer: str) -> bool:
    """Whether the tools that a reader came to are those of the task: what it writes with (or must refuse to), what answers a question,
    none where there is none."""
    writing = {tool.name for tool in domain.tools if tool.do}
    if task.kind is Kind.IRRELEVANT:
        return not found and "none" in answer.lower()
    if task.kind is Kind.READ_ONLY:
        return task.expected_calls[-1].call in found and not found & writing
    return found & writing == task.reference_tools & writing


def check_text(task: Task, domain: Domain, text: str) -> str | None:
    """Why the text may not stand in the place of the task's opening; None where it may."""
    if not text:
        return "nothing was written"
    if len(text) > MAX_LONGER * len(task.intent) + 80:
        return "far longer than what it is to say"
    if gone := lost(task.intent, text):
        return f"leaves out {gone[0]}" if len(gone) == 1 else f"leaves out {gone[0]} and {len(gone) - 1} more"
    if new := invented(task.intent, text):
        return f"adds {new[0]}"
    if any("_" in tool.name and tool.name in text for tool in domain.tools):
        return "names a tool"
    if any(fact.says.strip(" .!").casefold() in text.casefold() for fact in task.written.facts.values()):
        return "tells what is to be asked for"
    return None


def _writing(intent: str, persona: str) -> str:
    return (
        f"Rewrite this message to a service desk as somebody would write it who is {persona}. Keep every name, number, date, address and "
        f"wish exactly; add no new facts, leave nothing out. Answer with the message alone.\n\nMessage: {intent}"
    )


def _reading(domain: Domain, text: str) -> str:
    tools = "\n".join(f"- {tool.name}: {tool.description}" for tool in domain.tools)
    asked = "Which of these tools does the request need? Answer with their names alone, or with none where no tool can do it."
    return f"Tools of a service desk:\n{tools}\n\nA person writes: {text}\n\n{asked}"


def _plain(answer: str) -> str:
    """Without quotation marks around it and lines before it."""
    words = re.sub(r"<think>.*?</think>", "", answer, flags=re.DOTALL).strip()
    words = re.sub(r"^(message|rewritten( message)?)\s*:\s*", "", words, flags=re.IGNORECASE)
    if len(words) > 1 and words[0] == words[-1] == '"' and words.count('"') == 2:
        words = words[1:-1]
    return " ".join(words.split())
