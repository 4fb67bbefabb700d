"""Held-out mutation operators on what an agent says, and faults of whole conversations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, timedelta
from random import Random

from agentscaler.messages import Message
from agentscaler.rollout.limits import StopReason
from agentscaler.tasks.task import Answer, Say
from agentscaler.teachers.replay import closing_words
from agentscaler.verify.soundness.mutant import Material, Mutant, Operator
from agentscaler.verify.soundness.wordings import CHATTER, NO_REFUSALS, REFUSALS

_LEADS = ("", "Here you are: ", "I checked. ", "As far as I can see, ", "Certainly! ")
_TAILS = ("", " Anything else?", " Let me know if you need more.")
_NUMBER_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty", "twenty-one"),
)


def wrong_answer(material: Material, random: Random) -> Mutant | None:
    """One answer told wrong: a distractor, or another value of its type; the others right."""
    return _told(material, random, "wrong_answer", wrong=True)


def answer_and_another(material: Material, random: Random) -> Mutant | None:
    """The right answers and beside them a wrong one."""
    if not (answers := material.task.written.must_tell):
        return None
    answer = random.choice(answers)
    words = f"{closing_words(material.task)} Or perhaps {_spelled(answer, _wrong(answer, random), random)}."
    return Mutant("answer_and_another", material.calls, words)


def other_spelling(material: Material, random: Random) -> Mutant | None:
    """The right answers, spelt in another way."""
    return _told(material, random, "other_spelling", wrong=False)


def answer_not_looked_up(material: Material, random: Random) -> Mutant | None:
    """The right words after no call, or after the first few."""
    if not material.task.written.must_tell:
        return None
    calls = material.calls[: random.randrange(len(material.calls) or 1)]
    return Mutant("answer_not_looked_up", calls, closing_words(material.task), expected=None if calls else False)


def answer_before_looking(material: Material, random: Random) -> Mutant | None:
    if not material.task.written.must_tell:
        return None
    steps = (Say(say=closing_words(material.task)), *material.calls)
    return Mutant("answer_before_looking", steps, random.choice(CHATTER), expected=False)


def guess_before_looking(material: Material, random: Random) -> Mutant | None:
    """A wrong guess, then a look, then the right answer: what was said before is not held against it."""
    if not (answers := material.task.written.must_tell):
        return None
    answer = random.choice(answers)
    guess = f"My guess is {_spelled(answer, _wrong(answer, random), random)}, let me see."
    return Mutant(
        "guess_before_looking", (Say(say=guess), *material.calls), closing_words(material.task), expected=True
    )


def no_answer(material: Material, random: Random) -> Mutant | None:
    if not (material.task.written.must_tell or material.task.kind.must_decline):
        return None
    return Mutant("no_answer", material.calls, random.choice(CHATTER), expected=False)


def one_answer_missing(material: Material, random: Random) -> Mutant | None:
    answers = list(material.task.written.must_tell)
    if len(answers) < 2:
        return None
    answers.remove(random.choice(answers))
    return Mutant("one_answer_missing", material.calls, _sentence(answers, random), expected=False)


def refusal_worded(material: Material, random: Random) -> Mutant | None:
    """A refusal in other words, where one is due."""
    if not material.task.kind.must_decline:
        return None
    steps = material.calls[: random.randint(0, len(material.calls))]
    words = random.choice(_LEADS[:3]) + random.choice(REFUSALS)
    return Mutant("refusal_worded", steps, words, expected=True)


def claimed_instead(material: Material, random: Random) -> Mutant | None:
    """Something else said where a refusal is due: that it was done, a question, small talk."""
    if not material.task.kind.must_decline:
        return None
    steps = material.calls[: random.randint(0, len(material.calls))]
    words = random.choice(NO_REFUSALS) + random.choice(_TAILS[:2])
    return Mutant("claimed_instead", steps, words, expected=False)


def refused_after_failures(material: Material, random: Random) -> Mutant | None:
    """A refusal that follows look-ups alone that failed or found nothing: the agent gave up, whatever it says."""
    if not material.task.kind.must_decline or (call := material.vain_read(random)) is None:
        return None
    return Mutant("refused_after_failures", (call,) * random.randint(1, 2), random.choice(REFUSALS), expected=False)


def refused_instead(material: Material, random: Random) -> Mutant | None:
    """A refusal said where the task can be done: with nothing done, with part of it, with all."""
    if material.task.kind.must_decline:
        return None
    steps = material.calls[: random.randint(0, len(material.calls))]
    return Mutant("refused_instead", steps, random.choice(REFUSALS))


def other_closing(material: Material, random: Random) -> Mutant | None:
    """All done, and told in other words."""
    if material.task.written.must_tell or material.task.kind.must_decline:
        return None
    return Mutant("other_closing", material.calls, random.choice(_LEADS) + random.choice(CHATTER), expected=True)


def said_twice(material: Material, random: Random) -> Mutant | None:
    """The right last words come before the calls end as well, and the person says to go on."""
    place = random.randint(0, len(material.calls))
    steps = (*material.calls[:place], Say(say=closing_words(material.task)), *material.calls[place:])
    return Mutant("said_twice", steps, expected=True)


def other_stop(material: Material, random: Random) -> Mutant | None:
    reason = random.choice([reason for reason in StopReason if reason is not StopReason.USER_STOP])
    return Mutant("other_stop", material.calls, stop_reason=reason, expected=False)


def faulty_conversation(material: Material, random: Random) -> Mutant | None:
    return Mutant("faulty_conversation", material.calls, fault=random.choice(sorted(FAULTS)), expected=False)


def _told(material: Material, random: Random, name: str, wrong: bool) -> Mutant | None:
    answers = material.task.written.must_tell
    if not answers:
        return None
    chosen = random.choice(answers) if wrong else None
    values = [_spelled(a, _wrong(a, random) if a is chosen else a.value, random) for a in answers]
    words = f"{random.choice(_LEADS)}It is {' and '.join(values)}.{random.choice(_TAILS)}"
    return Mutant(name, material.calls, words, expected=not wrong)


def _sentence(answers: Sequence[Answer], random: Random) -> str:
    return f"It is {' and '.join(_spelled(a, a.value, random) for a in answers)}."


def _wrong(answer: Answer, random: Random) -> str | int:
    """A distractor, or a value near the right one; of dates none a year off, for the year may go unsaid."""
    if answer.distractors and random.random() < 0.7:
        return random.choice(answer.distractors)
    if isinstance(answer.value, int):
        return answer.value + random.choice([1, 2, 10, 100] if answer.type == "count" else [1, 100, 1000, 12345])
    if answer.type == "date":
        try:
            return (date.fromisoformat(answer.value) + timedelta(days=random.choice([1, -1, 7, 30]))).isoformat()
        except ValueError:
            return f"{answer.value} x"
    return f"{answer.value}{random.choice(['s', 'x', '2', '-b'])}"


def _spelled(answer: Answer, value: str | int, random: Random) -> str:
    """A spelling of the value that a person would take for it."""
    if answer.type == "count" and isinstance(value, int):
        forms = [str(value), f"**{value}**", f"{value:,}", f"({value})", *_NUMBER_WORDS[value : value + 1]]
    elif answer.type == "money" and isinstance(value, int):
        major, minor = divmod(value, 100)
        forms = [
            f"{major}.{minor:02d}",
            f"{major:,}.{minor:02d}",
            f"${major:,}.{minor:02d}",
            f"{major}.{minor:02d} USD",
        ]
        forms += [f"${major:,}", f"{major} dollars"] if minor == 0 else []
        forms += [f"${major:,}.{minor // 10}"] if minor % 10 == 0 else []
    elif answer.type == "date":
        try:
            day = date.fromisoformat(str(value))
        except ValueError:
            return str(value)
        month, nth = day.strftime("%B"), f"{day.day}{_suffix(day.day)}"
        forms = [str(value), f"{month} {day.day}", f"{month} {nth}, {day.year}", f"the {nth} of {month} {day.year}"]
        forms += [
            f"{month[:3]} {day.day}, {day.year}",
            f"{day.day} {month} {day.year}",
            f"{day.month}/{day.day}/{day.year}",
        ]
    else:
        forms = [str(value), f'"{value}"', f"**{value}**", f"`{value}`", str(value).upper(), str(value).lower()]
    return random.choice(forms)


def _suffix(day: int) -> str:
    return "th" if 11 <= day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")


Messages = Sequence[Message]


def _call_among_the_words(messages: Messages) -> list[Message]:
    cut_off = Message("assistant", '<tool_call>\n{"name": "find", "arguments": {"text": "a')
    return [*messages[:-1], cut_off, Message("user", "Please go on."), messages[-1]]


def _result_without_call(messages: Messages) -> list[Message]:
    stray = Message("tool", "{}", tool_call_id="call_of_nobody", outcome=messages[-1].outcome)
    return [*messages[:-1], stray, messages[-1]]


def _call_without_result(messages: Messages) -> list[Message]:
    """The last result is lost."""
    place = max((n for n, m in enumerate(messages) if m.role == "tool"), default=None)
    return [m for n, m in enumerate(messages) if n != place] if place is not None else list(messages[:-1])


def _ids_repeat(messages: Messages) -> list[Message]:
    return [replace(m, tool_calls=m.tool_calls * 2) for m in messages]


FAULTS: dict[str, Callable[[Messages], list[Message]]] = {
    "empty last message": lambda messages: [*messages[:-1], replace(messages[-1], content="  ")],
    "no last message": lambda messages: list(messages[:-1]),
    "no system message": lambda messages: list(messages[1:]),
    "no opening": lambda messages: [messages[0], *messages[2:]],
    "an empty message on the way": lambda messages: [*messages[:2], Message("assistant", ""), *messages[2:]],
    "a call among the words": _call_among_the_words,
    "the user speaks last": lambda messages: [*messages, Message("user", "Thank you.")],
    "the user speaks twice": lambda messages: [*messages[:2], Message("user", "Hello?"), *messages[2:]],
    "nothing but an opening": lambda messages: list(messages[:2]),
    "a result without its call": _result_without_call,
    "a call without its result": _call_without_result,
    "call ids repeat, or the last word is missing": lambda messages: (
        _ids_repeat(messages) if any(m.tool_calls for m in messages) else list(messages[:-1])
    ),
    "a result without an outcome, or no system message": lambda messages: (
        [replace(m, outcome=None) for m in messages] if any(m.role == "tool" for m in messages) else list(messages[1:])
    ),
}

WORD_OPERATORS: tuple[Operator, ...] = (
    wrong_answer,
    answer_and_another,
    other_spelling,
    answer_not_looked_up,
    answer_before_looking,
    guess_before_looking,
    no_answer,
    one_answer_missing,
    refusal_worded,
    claimed_instead,
    refused_after_failures,
    refused_instead,
    other_closing,
    said_twice,
    other_stop,
    faulty_conversation,
)
