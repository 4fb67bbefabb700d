"""The oracle's reading of what an agent says: which values a text gives, and whether it refuses.

A text is cut into words once, and values are read from the words: numbers, amounts, dates. Whether a text refuses is decided clause
by clause, by counting what the words do, where the verifier has patterns. Written apart from the verifier on purpose.
"""

from __future__ import annotations

import re


def _list(words: str) -> list[str]:
    return words.split()


_UNITS = _list("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen")
_UNITS += _list("seventeen eighteen nineteen")
_TENS = {word: 20 + 10 * n for n, word in enumerate(_list("twenty thirty forty fifty sixty seventy eighty ninety"))}
_MONTHS = _list("january february march april may june july august september october november december")
_AROUND = "\"'“”‘’()[]{}<>*_`.,;:!?…"
_CURRENCY = "$€£¥"
_ORDINAL = re.compile(r"(\d{1,2})(?:st|nd|rd|th)?")
_ISO_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:T.*)?")
_US_DATE = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})")

Date = tuple[int | None, int, int]


def words_of(text: str) -> list[str]:
    """Lower case, without the punctuation around them; what is left of a dash alone is dropped."""
    cut = (word.strip(_AROUND).removesuffix("'s").removesuffix("’s") for word in text.lower().split())
    return [word for word in cut if word.strip("-–—")]


def contains_words(text: str, part: str) -> bool:
    """Whether the words of `part` stand in `text` one after the other."""
    all_words, wanted = words_of(text), words_of(part)
    return any(all_words[n : n + len(wanted)] == wanted for n in range(len(all_words) - len(wanted) + 1))


def tells(text: str, kind: str, value: str | int) -> bool:
    """Whether the text gives the value. Amounts are in minor units; a count of nought may be given as none."""
    if kind == "count" and isinstance(value, int):
        return value in _counts(text)
    if kind == "money" and isinstance(value, int):
        return value in _amounts(text)
    if kind == "date" and (match := _ISO_DATE.fullmatch(str(value))):
        year, month, day = (int(part) for part in match.groups())
        return any(one[1:] == (month, day) and one[0] in (None, year) for one in _dates(text))
    return contains_words(text, str(value))


def _counts(text: str) -> set[int]:
    found = set()
    words = words_of(text)
    for place, word in enumerate(words):
        if (number := _whole(word)) is not None:
            found.add(number)
        elif word == "none" or (word == "no" and _says_nought(words[place + 1 : place + 2])):
            found.add(0)
        elif place and word in _UNITS[1:10] and words[place - 1] in _TENS:
            found.add(_TENS[words[place - 1]] + _UNITS.index(word))
    return found


def _whole(word: str) -> int | None:
    """`12`, `1,200`, `three`, `twenty-two`; a number with a fraction counts nothing."""
    if re.fullmatch(r"\d+|\d{1,3}(,\d{3})+", word):
        return int(word.replace(",", ""))
    if word in _UNITS:
        return _UNITS.index(word)
    tens, _, unit = word.partition("-")
    if tens in _TENS and (not unit or unit in _UNITS[1:10]):
        return _TENS[tens] + (_UNITS.index(unit) if unit else 0)
    return None


def _says_nought(after: list[str]) -> bool:
    return bool(after) and not after[0].startswith(("problem", "worr", "doubt"))


def _amounts(text: str) -> set[int]:
    found = set()
    for word in words_of(text):
        figure = word.strip(_CURRENCY).removesuffix("usd").removesuffix("eur").removeprefix("usd").strip(_CURRENCY)
        if match := re.fullmatch(r"(\d+|\d{1,3}(?:,\d{3})+)(?:\.(\d{1,2}))?", figure):
            cents = (match.group(2) or "").ljust(2, "0")
            found.add(int(match.group(1).replace(",", "")) * 100 + int(cents))
    return found


def _dates(text: str) -> list[Date]:
    words = words_of(text)
    found: list[Date] = []
    for place, word in enumerate(words):
        if match := _ISO_DATE.fullmatch(word):
            found.append((int(match[1]), int(match[2]), int(match[3])))
        elif match := _US_DATE.fullmatch(word):
            found.append((int(match[3]), int(match[1]), int(match[2])))
        elif (month := _month(word)) is not None:
            before = words[max(0, place - 2) : place]
            if before and before[-1] == "of":
                before = before[:-1]
            after = words[place + 1 : place + 3]
            if after and (day := _day(after[0])) is not None:
                found.append((_year(after[1:]), month, day))
            elif before and (day := _day(before[-1])) is not None:
                found.append((_year(after), month, day))
    return found


def _month(word: str) -> int | None:
    return next((n for n, name in enumerate(_MONTHS, 1) if word in (name, name[:3])), None)


def _day(word: str) -> int | None:
    return int(match[1]) if (match := _ORDINAL.fullmatch(word)) else None


def _year(words: list[str]) -> int | None:
    return int(words[0]) if words and re.fullmatch(r"\d{4}", words[0]) else None


_NO = set(_list("not never cannot no none nothing neither nor unable impossible without"))
_BARS = set(
    _list(
        "forbidden forbid forbids prohibited prohibit prohibits prevented barred disallowed restricted refuse refused decline "
        "declined declining refusing"
    )
)
_BOUNDS = set(_list("outside against beyond"))
_BOUND_BY = set(_list("policy rule rules able can abilities scope what"))
_MAY = set(
    _list(
        "can could able will would may allowed permitted possible authorized authorised supported going do does did have has had am "
        "is are was were be been must should something available way option tool tools ability permission means willing let"
    )
)
_DONE = set(
    _list(
        "done shared deleted removed moved sent booked cancelled canceled refunded changed updated added tagged created ordered "
        "exchanged returned modified bought completed processed taken finished issued printed upgraded arranged requested"
    )
)
_SOON = set(_list("later soon shortly moment moments minute minutes hour hours"))
_TROUBLE = set(_list("problem problems issue issues difficulty difficulties error errors fault faults"))
_HELPING = set(_list("have has been was were is are i've we've it's now i we"))
_ASKS = re.compile(r"\b(shall|should|may|can) i\b|\b(do|would) you (want|like)\b|\bare you sure\b|\bdo you mean\b")
_SAYS_NOTHING = re.compile(
    r"\b(not|no|without|never) (only|longer|problem|worries|doubt|a problem|trouble|delay|extra|any fee|charge|sooner)\b|\bwhy not\b"
    r"|\b(nothing|none) (more|else|further)\b|\b(can|could|do|did|does) not (find|see|say|wait|tell|locate|need|know)\b"
    r"|\b(you|she|he|they) (can|do|will|need|may|could|should) not\b"
)


def refuses(text: str) -> bool:
    """Whether the agent says that it does not do what was asked, and neither says that it did, asks whether to, nor puts it off."""
    if _puts_off(words_of(text)):
        return False
    denied = False
    plain = text.lower().replace("’", "'").replace("can't", "can not").replace("cannot", "can not")
    plain = plain.replace("won't", "will not").replace("n't", " not")
    for clause in re.split(r"(?<=[.!?;:])\s+|\n+|\b(?:but|however|because|since)\b|,\s+(?:and|so|then)\b", plain):
        if clause.rstrip().endswith("?"):
            if _ASKS.search(clause):
                return False
            continue
        words = words_of(_SAYS_NOTHING.sub(" ", clause))
        if _denies(set(words)):
            denied = True
        elif _claims(words):
            return False
    return denied


def _puts_off(words: list[str]) -> bool:
    """For a hitch: "try again in a few minutes", "technical difficulties"."""
    for place, word in enumerate(words):
        near, after = words[place + 1 : place + 4], words[place + 2 : place + 10]
        if word in ("try", "check", "ask") and {"again", "back"} & set(near) and _SOON & set(after):
            return True
        if word == "technical" and _TROUBLE & set(near[:2]):
            return True
    return False


def _denies(words: set[str]) -> bool:
    negated, bounded = _NO & words and _MAY & words, _BOUNDS & words and _BOUND_BY & words
    return bool(negated or bounded or _BARS & words or "unable" in words)


def _claims(words: list[str]) -> bool:
    """A deed told as done: the first word of the clause, or behind a word that says who did it."""
    return any(
        word in _DONE and (n == 0 or any(w in _HELPING for w in words[max(0, n - 3) : n]))
        for n, word in enumerate(words)
    )
