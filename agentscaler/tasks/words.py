"""Words with slots: `{new_date:day}` becomes "May 20", "the 20th of May" or "Wednesday, May 20".

Owns the forms a value can be said in, draws by the `Random` given; knows nothing of worlds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date
from functools import cache
from random import Random
from typing import Any

_SLOT = re.compile(r"\{((?:first\.)?\w+)(?::([^{}]+))?\}")
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@cache
def slots_of(words: str) -> frozenset[str]:
    """Asked again and again of the few hundred sentences of a speech."""
    return frozenset(match.group(1) for match in _SLOT.finditer(words))


def check_words(words: str) -> str | None:
    """What is wrong with the pattern; None when nothing is."""
    for match in _SLOT.finditer(words):
        form = (match.group(2) or "plain").split(" ")[0]
        if form not in FORMS:
            return f"there is no form {form!r} ({', '.join(sorted(FORMS))})"
    if re.search(r"[{}]", _SLOT.sub("", words)):
        return "a brace that is no slot"
    return None


def fill(words: str, values: Mapping[str, Any], random: Random) -> str:
    """Every slot filled. Not yet `tidy`: it may become a part of other words. A value that does not have the form stands as it is:
    of worlds that nobody wrote words for, forms are guessed from names."""

    def one(match: re.Match[str]) -> str:
        form, _, rest = (match.group(2) or "plain").partition(" ")
        value = values[match.group(1)]
        try:
            return FORMS[form](value, rest, random)
        except (ValueError, TypeError):
            return str(value)

    return _SLOT.sub(one, words)


def tidy(words: str) -> str:
    """Single spaces, none before a stop, a capital letter where a sentence begins."""
    words = re.sub(r"\s+", " ", words).strip()
    words = re.sub(r"\s+([.,!?;:])(?=\s|$)", r"\1", words)
    words = re.sub(r"([.!?])\.(?=\s|$)", r"\1", words)
    words = re.sub(r",\s*([.!?])(?=\s|$)", r"\1", words)
    return re.sub(
        r"(^|(?<!\b[ap]\.m)(?<!\bno)[.!?]\s+)([a-z])(?![\w.-]*@)(?!\w*-\w*\d)",
        lambda m: m.group(1) + m.group(2).upper(),
        words,
    )


def _plain(value: Any, rest: str, random: Random) -> str:
    return str(value)


def _day(value: Any, rest: str, random: Random) -> str:
    """`day`: in some usual way; `day week` with the day of the week too."""
    when = date.fromisoformat(str(value)[:10])
    month, nth = _MONTHS[when.month - 1], ordinal(when.day)
    if rest == "week":
        return f"{_DAYS[when.weekday()]}, {month} {when.day}"
    often, rarely = f"{month} {when.day}", [f"{month} {nth}", f"the {nth} of {month}"]
    return random.choice([often, often, often, *rarely, f"{_DAYS[when.weekday()]}, {month} {when.day}"])


def _nth(value: Any, rest: str, random: Random) -> str:
    """The day of the month alone: "20th"."""
    return ordinal(date.fromisoformat(str(value)[:10]).day)


def _birthday(value: Any, rest: str, random: Random) -> str:
    when = date.fromisoformat(str(value)[:10])
    month = _MONTHS[when.month - 1]
    return random.choice(
        [
            f"{month} {when.day}, {when.year}",
            f"{month} {when.day}, {when.year}",
            f"{when.day} {month} {when.year}",
            f"the {ordinal(when.day)} of {month} {when.year}",
        ]
    )


def _money(value: Any, rest: str, random: Random) -> str:
    """Minor units; `rest` is the currency: `$` before, a word behind."""
    amount = f"{value // 100}" if value % 100 == 0 and random.random() < 0.7 else f"{value // 100}.{value % 100:02d}"
    return f"{rest}{amount}" if rest in ("$", "€", "£") else f"{amount} {rest or 'euros'}"


def _count(value: Any, rest: str, random: Random) -> str:
    """`count bag`: "one bag", "2 bags"; `rest` is the noun, its plural after a stroke where it is irregular."""
    return f"{_number(value, random)} {_noun(value, rest)}"


def _more(value: Any, rest: str, random: Random) -> str:
    """`more bag`: "one more bag", "another bag", "two extra bags"."""
    noun = _noun(value, rest)
    if value == 1 and random.random() < 0.4:
        return f"another {noun}"
    return f"{_number(value, random)} {random.choice(['more', 'more', 'extra', 'additional'])} {noun}"


def _number(value: Any, random: Random) -> str:
    return (
        _NUMBERS[value]
        if isinstance(value, int) and 0 <= value < len(_NUMBERS) and random.random() < 0.8
        else str(value)
    )


def _noun(value: Any, rest: str) -> str:
    singular, _, plural = rest.partition("/")
    return singular if value == 1 else plural or f"{singular}s"


def _just_number(value: Any, rest: str, random: Random) -> str:
    return _number(value, random)


def _time(value: Any, rest: str, random: Random) -> str:
    """ "14:05": as it stands, or "2:05 p.m."."""
    hour, minute = int(str(value)[:2]), int(str(value)[3:5])
    if random.random() < 0.6:
        return f"{hour:02d}:{minute:02d}"
    return f"{(hour + 11) % 12 + 1}{f':{minute:02d}' if minute else ''} {'a.m.' if hour < 12 else 'p.m.'}"


def _lower(value: Any, rest: str, random: Random) -> str:
    return str(value)[:1].lower() + str(value)[1:]


def _spoken(value: Any, rest: str, random: Random) -> str:
    """A code as a word: underscores are spaces."""
    return str(value).replace("_", " ")


def _spelled(value: Any, rest: str, random: Random) -> str:
    """ "B-r-i-t-n-e-y"."""
    return "-".join(str(value))


def ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


FORMS: dict[str, Callable[[Any, str, Random], str]] = {
    "plain": _plain,
    "day": _day,
    "nth": _nth,
    "birthday": _birthday,
    "money": _money,
    "count": _count,
    "more": _more,
    "number": _just_number,
    "time": _time,
    "lower": _lower,
    "spoken": _spoken,
    "spelled": _spelled,
}
