"""What of a text must survive when it is said in other words: names, addresses, quoted words, codes, dates, times, numbers.

`lost` and `invented` compare two texts by these anchors, whatever the spelling of a date or number. They decide whether a model's text
may stand in the place of the grammar's; they judge no style.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from agentscaler.tasks.intent import is_common
from agentscaler.verify.call_match import is_told

_MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
_MONTH = rf"(?P<month{{0}}>{'|'.join(_MONTHS)})"
_NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
_DATES = (
    re.compile(r"\b(?P<year>\d{4})-(?P<number>\d{2})-(?P<day>\d{2})\b"),
    re.compile(
        rf"\b{_MONTH.format('')}\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?:,?\s+(?P<year>\d{{4}}))?\b", re.IGNORECASE
    ),
    re.compile(
        rf"\b(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?:\s+of)?\s+{_MONTH.format('')}(?:,?\s+(?P<year>\d{{4}}))?\b",
        re.IGNORECASE,
    ),
)
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_QUOTED = re.compile(r'"([^"]{1,200})"')
_CODE = re.compile(r"\b(?=\w*[A-Za-z])(?=[\w-]*\d)[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*\b")
_TIME = re.compile(r"\b(\d{1,2}):(\d{2})\s*(a\.?m\.?|p\.?m\.?)?", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.,:-])\d[\d,]*(?:\.\d+)?(?![\w:-])")
_ORDINAL = re.compile(r"\b\d{1,2}(?:st|nd|rd|th)\b")
_ENDING = re.compile(r"['’](s|m|d|ll|ve|re|t)$")
_NAME = re.compile(r"(?<![\w'])[A-Z][\w'’-]*")


@dataclass(frozen=True, slots=True)
class Anchors:
    """`dates` are (month, day); a year that is not said is none. `numbers` as they are said in digits, `words` are numbers in words."""

    emails: frozenset[str]
    quoted: frozenset[str]
    codes: frozenset[str]
    dates: frozenset[tuple[int, int]]
    times: frozenset[tuple[int, int]]
    numbers: frozenset[float]
    names: frozenset[str]

    @classmethod
    def of(cls, text: str) -> Anchors:
        rest, emails = _take(_EMAIL, text)
        rest, quoted = _take(_QUOTED, rest)
        dates = set()
        for pattern in _DATES:
            for match in pattern.finditer(rest):
                parts = match.groupdict()
                month = int(parts["number"]) if parts.get("number") else _MONTHS.index(parts["month"].lower()) + 1
                dates.add((month, int(parts["day"])))
            rest = pattern.sub(" ", rest)
        times = {_hour(match) for match in _TIME.finditer(rest)}
        rest = _TIME.sub(" ", rest)
        rest = _ORDINAL.sub(" ", rest)
        rest, codes = _take(_CODE, rest)
        numbers = {float(match.group().replace(",", "")) for match in _NUMBER.finditer(rest)}
        numbers |= {float(_NUMBERS.index(word)) for word in re.findall(r"[a-z]+", rest.lower()) if word in _NUMBERS}
        names = {_ENDING.sub("", word) for word in _NAME.findall(rest)}
        return cls(
            frozenset(one.casefold() for one in emails),
            frozenset(one.strip('".!? ') for one in quoted),
            frozenset(one.casefold() for one in codes),
            frozenset(dates),
            frozenset(times),
            frozenset(numbers),
            frozenset(word for word in names if len(word) > 1 and not is_common(word)),
        )


def lost(original: str, text: str) -> list[str]:
    """What the original tells and the text does not."""
    want, have = Anchors.of(original), Anchors.of(text)
    low = text.casefold()
    missing = [*sorted(want.emails - have.emails), *sorted(one for one in want.quoted if one.casefold() not in low)]
    missing += sorted(one for one in want.codes if one not in low)
    missing += [f"{month}/{day}" for month, day in sorted(want.dates - have.dates)]
    missing += [f"{hour:02d}:{minute:02d}" for hour, minute in sorted(want.times - have.times)]
    missing += [f"{number:g}" for number in sorted(want.numbers - have.numbers) if not _says(number, text)]
    missing += sorted(name for name in want.names if not re.search(rf"\b{re.escape(name)}\b", text, re.IGNORECASE))
    return missing


def invented(original: str, text: str) -> list[str]:
    """What the text tells and the original does not: a person who reads only the one would be asked for something else by the other."""
    want, have = Anchors.of(original), Anchors.of(text)
    low = original.casefold()
    extra = [*sorted(have.emails - want.emails), *sorted(one for one in have.quoted if one.casefold() not in low)]
    extra += sorted(one for one in have.codes if one not in low)
    extra += [f"{month}/{day}" for month, day in sorted(have.dates - want.dates)]
    extra += [f"{hour:02d}:{minute:02d}" for hour, minute in sorted(have.times - want.times)]
    return extra + [
        f"{number:g}" for number in sorted(have.numbers - want.numbers) if number > 1 and not _says(number, original)
    ]


def _take(pattern: re.Pattern[str], text: str) -> tuple[str, list[str]]:
    return pattern.sub(" ", text), [match.group() for match in pattern.finditer(text)]


def _hour(match: re.Match[str]) -> tuple[int, int]:
    hour, minute, half = int(match.group(1)), int(match.group(2)), (match.group(3) or "").lower()
    if half.startswith("p") and hour < 12:
        hour += 12
    return (0 if half.startswith("a") and hour == 12 else hour), minute


def _says(number: float, text: str) -> bool:
    return number == int(number) and is_told("count", int(number), text)
