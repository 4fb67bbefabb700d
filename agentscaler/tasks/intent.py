"""The words that a person opens with and says later, put together from sentences that are right by themselves.

Deterministic by the `Random` given. `check_intent` is the last look at what a person says: nothing that is to be found out is in it, and no
name of a tool or column.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from agentscaler.tasks.words import tidy

_GREETINGS = (
    "Hi!", "Hello,", "Hi there,", "Good morning.", "Hey,", "Good day,", "Hello!", "Hi,", "Morning!",
)  # fmt: skip
_FIRST_THEN = (
    "And", "Also,", "On top of that,", "Then", "One more thing:", "Another thing:", "Besides,", "",
)  # fmt: skip
_LATER = (
    "Thanks. One more thing:", "Great.", "Good.", "Thank you.", "Okay.", "While I have you:", "Super, thanks.", "All right.",
    "Thanks! Before I forget:", "Fine.", "Great, thank you.", "Okay, thanks. Also,", "Perfect, thanks.",
)  # fmt: skip
_CLOSINGS = (
    "Thanks!", "Thank you.", "Thanks a lot.", "Many thanks.", "Thanks in advance!", "Cheers.", "That would be great.",
    "I'd appreciate it.",
)  # fmt: skip
_SAYS_DONE = (
    "That is done.", "Done, it is all set.", "I have done that for you.", "That has been taken care of.",
)  # fmt: skip
_SAYS_POSSIBLE = (
    "I have looked at that, and it can be done.", "That is possible.", "I see it here; that can be done.",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Style:
    """How somebody writes."""

    greets: bool
    thanks: bool
    name_last: bool
    explains: bool

    @classmethod
    def draw(cls, random: Random) -> Style:
        chatty = random.random()
        return cls(
            greets=random.random() < 0.25 + chatty / 2,
            thanks=random.random() < chatty / 2,
            name_last=random.random() < 0.35,
            explains=random.random() < 0.15 + chatty / 2,
        )


def open_with(
    requests: Sequence[str], identity: str | None, extras: Sequence[str], style: Style, random: Random
) -> str:
    """The first message: greeting, who speaks, reasons, wishes. Reasons stand beside the first wish, which they are for."""
    starts = random.sample(_FIRST_THEN, len(requests) - 1)
    further = [_further(start, one) for start, one in zip(starts, requests[1:], strict=True)]
    first = [*extras, requests[0]] if random.random() < 0.7 else [requests[0], *extras]
    parts = [*first, *further]
    if identity:
        parts = [*parts, identity] if style.name_last else [identity, *parts]
    if style.greets:
        parts[0] = _greeted(random.choice(_GREETINGS), parts[0])
    if style.thanks:
        parts.append(random.choice(_CLOSINGS))
    return tidy(" ".join(parts))


def _greeted(greeting: str, sentence: str) -> str:
    """After a comma a sentence goes on small, where it can."""
    if not greeting.endswith(",") or _STAYS.match(sentence):
        return f"{greeting} {sentence}"
    small = _uncapital(sentence)
    return f"{greeting} {small}" if small != sentence else f"{greeting[:-1]}. {sentence}"


def _further(start: str, request: str) -> str:
    """A wish beside another. No start is used twice, for people notice that."""
    if start and start[-1] not in ":," and not _can_follow(request):
        start = "And now something else:" if start == "And" else "Next,"
    return _joined(start, request)


def say_later(requests: Sequence[str], random: Random) -> list[str]:
    """Further wishes, each once the one before is dealt with."""
    starts = random.sample(_LATER, len(requests))
    return [tidy(_joined(start, request)) for start, request in zip(starts, requests, strict=True)]


def done_words(random: Random) -> str:
    return random.choice(_SAYS_DONE)


def possible_words(random: Random) -> str:
    return random.choice(_SAYS_POSSIBLE)


def _joined(start: str, sentence: str) -> str:
    if not start:
        return sentence
    return f"{start} {sentence if start[-1] in '.!' else _uncapital(sentence)}"


_STAYS = re.compile(r"I\b|[A-Z][a-z]+ [A-Z]|\S+@")  # "I", a name, an address: they follow a comma as they stand


def _can_follow(sentence: str) -> bool:
    """Whether "And …" reads well before it."""
    return bool(
        re.match(
            r"(?:please|can|could|would|will|I|we|also|cancel|put|add|change|move|book|send|set|take|give|make)\b",
            sentence,
            re.IGNORECASE,
        )
    )


def _uncapital(sentence: str) -> str:
    """A sentence's first word without its capital, where that is no name and no "I"."""
    if is_common(sentence.split(" ", 1)[0].strip(",.!?:")):
        return sentence[:1].lower() + sentence[1:]
    return sentence


def is_common(word: str) -> bool:
    """A word that begins sentences and is no name."""
    return word.lower() in _COMMON


_COMMON = frozenset([
    "please", "can", "could", "would", "will", "may", "might", "is", "are", "do", "does", "did", "have", "has", "had", "was", "were",
    "there", "that", "this", "these", "those", "the", "a", "an", "my", "our", "your", "we", "you", "it", "what", "when", "where",
    "which", "who", "how", "why", "put", "add", "change", "move", "cancel", "book", "send", "set", "take", "give", "make", "get", "let",
    "return", "exchange", "order", "remove", "show", "tell", "if", "in", "on", "at", "for", "from", "to", "with", "about", "after",
    "before", "since", "because", "so", "no", "not", "need", "want", "looking", "just", "also", "another", "one", "two", "three", "any",
    "some", "all", "as", "would've", "we'd", "we'll", "we're", "we've", "it's", "that's", "there's", "what's", "something", "someone",
    "somebody", "nothing", "everything", "today", "tomorrow", "yesterday", "tonight", "rather", "instead", "actually", "sorry",
    "thanks", "thank", "kindly", "correct", "update", "switch", "swap", "upgrade", "downgrade", "refund", "replace", "bring", "push",
    "pass", "leave", "share", "stop", "delete", "tag", "untag", "create", "write", "rename", "find", "look", "read", "keep", "both",
    "whatever", "new", "next", "last", "this's", "once", "while", "until", "during", "lately", "recently", "unfortunately", "sadly",
    "honestly", "frankly", "apparently", "quick", "quickly", "sure", "okay", "ok", "well", "yes", "right", "now", "then", "first",
    "second", "third", "finally",
])  # fmt: skip


def check_intent(words: Iterable[str], withheld: Iterable[Any], names: Iterable[str]) -> str | None:
    """What is wrong with what the person says; None when nothing is. `withheld` are values that must not be told, `names` tools, columns
    and parameters with an underscore in them."""
    said = " ".join(words)
    low = said.casefold()
    for value in withheld:
        if (
            isinstance(value, str)
            and len(value) >= 4
            and re.search(rf"(?<![\w-]){re.escape(value.casefold())}(?![\w-])", low)
        ):
            return "tells what was to be found out"
    for name in names:
        if name in said:
            return "names a tool or column"
    if re.search(r"\{|\}|\bNone\b|\bnull\b|  ", said):
        return "a slot is left in the words"
    return None
