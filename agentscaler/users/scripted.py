"""The scripted user: an agenda, no model.

It opens with the intent. To a message of the agent it answers, in this order: the facts that the message asks for; else, where the
agent wants a yes before it goes on, a yes bound to what was asked for; else, where the message asks something that no fact knows, a
fixed reply, counted; else the next thing on the agenda; else it ends. A closing courtesy ("anything else?") is no question.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from zlib import crc32

from agentscaler.messages import Message
from agentscaler.rollout.record import UserIdentity
from agentscaler.rollout.scene import Person, Scene
from agentscaler.tasks.task import WrittenTask

UNMATCHED_REPLY = "I have told you all I know about that. Please go on with what you have."
CONFIRMING_REPLIES = (
    "Yes, go ahead, as long as it is what I asked for.",
    "Yes please, just as I said.",
    "Fine, go ahead, but only what I asked for.",
    "Okay, do that, if it is what I wanted.",
    "Yes, go on then. Nothing beyond what I asked.",
    "Sure, just what I asked for, nothing else.",
)
MAX_UNMATCHED = 3
MAX_CONFIRMED = 8  # an agent that asks again and again is told so like one that asks what nobody knows
# Within one sentence: "Let me know. Shall I go on?" asks something.
_COURTESY = re.compile(
    r"\b(any(thing)?\s+(else|more|other|further)|some(thing)?\s+(else|more)|(what|how)\s+else|is\s+there\s+anything|"
    r"(how|what)\s+(can|may|could|shall)\s+i\s+(help|assist|do)|can\s+i\s+(help|assist)|further\s+(help|assistance)|"
    r"help\s+you\s+with|would\s+you\s+like\s+(any\s+)?help|let\s+me\s+know|you\s+need\s+(any\s+)?(more|further)|to\s+do\s+next|"
    r"is\s+that\s+(all|everything)(?=\s*\?))\b[^.!?\n]*\?",
    re.IGNORECASE,
)
_WANTS_A_YES = re.compile(
    r"\b(shall|should|may|can)\s+i\b|\b(do|would)\s+you\s+(want|like)\s+(me\s+)?to\b|\b(ok|okay|correct|right|alright|yes)\s*\?|"
    r"\b(proceed|go\s+(ahead|on)|continue|confirm\w*|agree|are\s+you\s+sure|happy\s+with)\b",
    re.IGNORECASE,
)
_CHOICE = re.compile(r"\b(or(?!\s+not\b)|which|what|who|when|where|how)\b", re.IGNORECASE)


class ScriptedUser:
    def __init__(self, task: WrittenTask):
        self._task = task
        self._agenda = list(task.then)
        self._told: set[str] = set()
        self._num_confirmed = 0
        self.unmatched_questions = 0

    async def opening(self, messages: Sequence[Message]) -> Message:
        return Message("user", self._task.intent)

    async def reply(self, messages: Sequence[Message]) -> Message | None:
        words = self.answer(messages[-1].content)
        return None if words is None else Message("user", words)

    def ends(self, message: Message) -> bool:
        return False

    def close(self) -> None:
        pass

    def answer(self, words: str) -> str | None:
        asked = asked_facts(self._task, words)
        fresh = [name for name in asked if name not in self._told]
        is_question = "?" in _COURTESY.sub("", words)
        if fresh or (asked and is_question):
            self._told.update(asked)
            return " ".join(self._task.facts[name].says for name in fresh or asked)
        if is_question and wants_a_yes(words) and self._num_confirmed < MAX_CONFIRMED:
            self._num_confirmed += 1
            return CONFIRMING_REPLIES[(crc32(self._task.id.encode()) + self._num_confirmed) % len(CONFIRMING_REPLIES)]
        if is_question:
            self.unmatched_questions += 1
            return UNMATCHED_REPLY if self.unmatched_questions <= MAX_UNMATCHED else None
        return self._agenda.pop(0) if self._agenda else None


def wants_a_yes(words: str) -> bool:
    """Whether all that is asked can be answered by yes: "Shall I go ahead?", but not "Shall I use the card or the voucher?"."""
    questions = re.findall(r"(?:[^.!?\n]|[.!?](?=\S))*\?", _COURTESY.sub("", words))
    return bool(questions and _WANTS_A_YES.search(questions[-1])) and not any(map(_CHOICE.search, questions))


def asked_facts(task: WrittenTask, words: str) -> list[str]:
    """Names of the facts whose patterns occur in the agent's words, in the task's order."""
    return [name for name, fact in task.facts.items() if any(one.search(words) for one in _compiled(fact.patterns))]


@lru_cache(maxsize=4096)
def _compiled(patterns: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    """Python's own cache of patterns holds 512, fewer than the tasks of one run have."""
    return tuple(re.compile(pattern, re.IGNORECASE) for pattern in patterns)


class ScriptedUsers:
    identity = UserIdentity("scripted")

    def start(self, scene: Scene, seed: int, session: str) -> Person:
        return scene.scripted_person(seed)

    async def close(self) -> None:
        pass
