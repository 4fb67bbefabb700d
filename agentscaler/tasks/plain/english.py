"""English out of names: what people call a table, a column or a parameter, and what a tool does as a verb phrase.

Rules of thumb over words, no model and no dictionary. Nothing here knows of worlds. Invariant: no result has an underscore in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from agentscaler.tasks.plain.vocabulary import EMPTY, SAME, VERBS

_SHORT = {
    "addr": "address", "amt": "amount", "avg": "average", "cat": "category", "desc": "description", "descr": "description",
    "dob": "birth date", "dept": "department", "doc": "document", "docs": "documents", "email": "e-mail address",
    "mail": "e-mail address", "emails": "e-mail addresses", "fname": "first name", "lname": "last name",
    "firstname": "first name", "lastname": "last name", "fullname": "full name", "iban": "IBAN", "id": "ID", "ids": "IDs",
    "img": "image", "info": "information", "isbn": "ISBN", "max": "maximum", "min": "minimum", "msg": "message",
    "num": "number", "org": "organisation", "pct": "percentage", "phone": "phone number", "pkg": "package",
    "prio": "priority", "qty": "quantity", "ref": "reference", "sku": "SKU", "tel": "phone number", "txt": "text",
    "uri": "URL", "url": "URL", "usr": "user", "vat": "VAT", "vin": "VIN", "zip": "postcode", "zipcode": "postcode",
}  # fmt: skip
_UNITS = {
    "minutes": "minute", "mins": "minute", "hours": "hour", "hrs": "hour", "days": "day", "weeks": "week", "months": "month",
    "years": "year", "seconds": "second", "secs": "second", "grams": "gram", "litres": "litre", "liters": "litre", "metres": "metre",
    "meters": "metre", "miles": "mile", "mg": "mg", "ml": "ml", "kg": "kg", "km": "km", "cm": "cm", "mm": "mm", "percent": "percent",
    "pct": "percent", "kb": "kB", "mb": "MB", "gb": "GB", "kw": "kW", "kwh": "kWh",
}  # fmt: skip
MINOR_UNITS = frozenset({"cents", "cent", "pence"})
_KEYS = frozenset({"id", "ids", "uuid", "guid", "key", "pk"})
_IRREGULAR = {
    "people": "person", "persons": "person", "children": "child", "men": "man", "women": "woman", "feet": "foot",
    "teeth": "tooth", "mice": "mouse", "geese": "goose", "criteria": "criterion", "phenomena": "phenomenon",
    "analyses": "analysis", "bases": "base", "diagnoses": "diagnosis", "theses": "thesis", "crises": "crisis",
    "indices": "index", "indexes": "index", "vertices": "vertex", "matrices": "matrix", "appendices": "appendix",
    "media": "medium", "data": "data", "quizzes": "quiz", "lives": "life", "knives": "knife", "wives": "wife",
    "leaves": "leaf", "shelves": "shelf", "halves": "half", "loaves": "loaf", "wolves": "wolf", "selves": "self",
    "heroes": "hero", "potatoes": "potato", "tomatoes": "tomato", "movies": "movie", "cookies": "cookie",
    "zombies": "zombie", "calories": "calorie", "pies": "pie", "ties": "tie", "species": "species", "series": "series",
    "caches": "cache", "statuses": "status", "aliases": "alias", "buses": "bus", "viruses": "virus", "bonuses": "bonus",
    "lenses": "lens", "gases": "gas", "campuses": "campus", "menus": "menu", "shoes": "shoe", "axes": "axis",
}  # fmt: skip
_PLURALS = {one: many for many, one in _IRREGULAR.items()}
_NOUN_ENDS = (
    r"(?=\s*(?:$|[,.;:]|\s(?:to|in|from|of|for|with|on|at|by|as|into|onto|out|off|and|or|so|back|over|under|until|is|are|has|"
    r"that|which|within|between|after|before|again|permanently|completely|immediately|now|up|down|away|done|through|via|about|"
    r"against|without|including|using|if|when|once)\b))"
)
_BEFORE = (
    r"\b(?:an?|the|this|that|one|another|any|some|its|his|her|their|your|my|existing|each)\s+"
    r"(?:(?:existing|given|specific|specified|particular|single|certain|new|other|different|current|whole|entire|open|draft|own|old|"
    r"public|private|live|\w+(?:ed|ing|ive|able))\s+)*"
)
_NEW_BEFORE = r"\b(?:an?|the|one|another|new)\s+(?:(?:brand[- ])?(?:new|additional|further|fresh|empty|single)\s+)*"
_KEY_WORDS = "id|identifier|uuid|key|name|title|number|code|e-?mail|sku|slug|reference"
_LINKS = ("to", "into", "from", "for", "with", "of", "on", "in", "at", "by")
_TAILS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\s*\([^()]*\)",
        r"\s*(?:[:;]|\s[-–—]\s).*$",
        rf"\s+(?:by|with|using|via|for|from|given|matching|having)\s+(?:\w+\s+){{0,3}}(?:{_KEY_WORDS})s?\b(?!\s+(?:and|or|to)\b).*$",
        r",?\s+(?:with|and)\s+(?:an?\s+)?optional(?:ly)?\b.*$",
        r",\s+(?:for|as|so|such as|e\.g\.|or else)\b.*$",
        r",\s+\w+ing\b.*$",
        r"\s+and\s+(?:charges?|returns?|pays?|notif(?:y|ies)|sends?|logs?|records?|recalculates?|refunds?|emails?)\b.*$",
        r",?\s+optionally\b.*$",
        r"\s+that\s+(?:is|are|has|have|was|were|can|may)\b.*$",
        r",?\s+(?:which|unless|if|once|only|based on|identified|specified|including|so that|in order to|using|where|provided|"
        r"and returns?|and gets?|returning|in the (?:system|database|account)|for the (?:current|authenticated) user)\b.*$",
    )
)


def words_of(name: str) -> list[str]:
    """Of a name in snake case, camel case or with hyphens; lower case."""
    apart = re.sub(r"([a-z0-9])([A-Z])|([A-Z])([A-Z][a-z])", r"\1\3 \2\4", name)
    return [word.lower() for word in re.split(r"[^A-Za-z0-9]+", apart) if word]


def label_of(name: str) -> str:
    """What a value is called: `due_on` "due date", `assignee_id` "assignee", `delay_minutes` "delay"."""
    words = words_of(name)
    if len(words) > 1 and words[-1] in _KEYS:
        words = words[:-1]
    if len(words) > 1 and words[0] in ("is", "has"):
        words = words[1:]
    if len(words) > 1 and words[0] in ("num", "nr", "no", "count") and words[-1] != "number":
        return f"number of {_spoken([*words[1:-1], plural(words[-1])])}"
    if len(words) > 1 and words[-1] in MINOR_UNITS:
        return _spoken(words[:-1])
    if unit_of(name):
        return _spoken(words[:-1])
    if len(words) > 1 and words[-1] in ("on", "at"):
        return f"{_spoken([*words[:-2], _stem(words[-2])])} {'date' if words[-1] == 'on' else 'time'}"
    return _spoken(words) or "value"


def unit_of(name: str) -> str:
    """What a number counts, by the last word of its name: `delay_minutes` "minute"; empty where that says nothing."""
    words = words_of(name)
    return _UNITS.get(words[-1], "") if len(words) > 1 else ""


def is_plural(label: str) -> bool:
    return (
        label.endswith("s") and not label.startswith("number of") and singular(label.split()[-1]) != label.split()[-1]
    )


def noun_of(table: str) -> str:
    """One row of a table: `order_lines` "order line"."""
    words = words_of(table)
    return _spoken([*words[:-1], singular(words[-1])]) if words else "entry"


def singular(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word in SAME or len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    if word.endswith(("sses", "ches", "shes", "xes", "zzes")):
        return word[:-2]
    return word[:-1]


def plural(word: str) -> str:
    head, _, last = word.rpartition(" ")
    if head:
        return f"{head} {plural(last)}"
    if word in _PLURALS:
        return _PLURALS[word]
    if word in SAME and not word.endswith("ss"):
        return word
    if word.endswith("s") and singular(word) != word:
        return word
    if re.search(r"[^aeiou]y$", word):
        return f"{word[:-1]}ies"
    return f"{word}es" if word.endswith(("s", "x", "z", "ch", "sh")) else f"{word}s"


def with_article(noun: str) -> str:
    return f"{'an' if re.match(r'[aeiou](?!ni|se|ser)', noun, re.IGNORECASE) else 'a'} {noun}"


def listed(parts: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else list(parts))


def content_words(texts: Iterable[str]) -> frozenset[str]:
    """Words that carry meaning, cut to their stems, so that "orders" and "ordering" meet."""
    found = {word for text in texts for word in words_of(text) if len(word) > 2 and word not in EMPTY}
    return frozenset(re.sub(r"(?:ings?|ed|es|e|s|ies|y|ments?|ations?)$", "", word)[:7] for word in found)


def verb_phrase(description: str, name: str) -> str:
    """What a tool does, as it stands after "please": the description's first sentence, or the tool's name where that is no order."""
    sentence = re.split(r"(?<=[\w)\"'])[.!?](?:\s|$)", description.strip(), maxsplit=1)[0]
    phrase = " ".join(sentence.split())
    for tail in _TAILS:
        phrase = tail.sub("", phrase)
    phrase = re.sub(rf",[^,]+,\s+(?=(?:{'|'.join(_LINKS)})\b)", " ", phrase)
    head, comma, tail = phrase.partition(", ")
    if comma and len(head.split()) > 2 and (len(phrase.split()) > 10 or tail.split(" ", 1)[0] in _FORMS):
        phrase = head
    first, _, rest = phrase.partition(" ")
    verb = _FORMS.get(first.lower().strip(",.")) or (first.lower() if words_of(name)[:1] == [first.lower()] else None)
    if verb is None or not rest or len(phrase.split()) > 16 or "_" in phrase:
        return _from_name(name)
    return f"{verb} {rest.rstrip(' ,.')}"


def find_noun(phrase: str, noun: str, new: bool = False) -> tuple[int, int] | None:
    """Where "a task" or "the given task" stands, for noun "task"; of several the first. `new`: "a new task" alone counts."""
    pattern = rf"{_NEW_BEFORE if new else _BEFORE}{re.escape(noun)}\b{_NOUN_ENDS}"
    match = re.search(pattern, phrase, re.IGNORECASE)
    return None if match is None else match.span()


def find_owner(phrase: str, noun: str) -> tuple[int, int, str] | None:
    """Where "a task's due date" stands, and what is the task's."""
    match = re.search(rf"{_BEFORE}{re.escape(noun)}['’]s\s+([^,.;]+?){_NOUN_ENDS}", phrase, re.IGNORECASE)
    return None if match is None else (*match.span(), match.group(1))


def _spoken(words: Iterable[str]) -> str:
    return re.sub(r"\b(\w+) \1\b", r"\1", " ".join(_SHORT.get(word, word) for word in words))


def _stem(word: str) -> str:
    """ "starts" "start"."""
    return word[:-1] if re.search(r"[a-z]{3}s$", word) and not word.endswith("ss") else word


def _from_name(name: str) -> str:
    """`archive_project`, `projects_archive`: "archive a project"."""
    words = words_of(name) or ["do"]
    place = next((n for n in (0, len(words) - 1) if words[n] in VERBS), None)
    if place is None:
        return f"do the {_spoken(words)}"
    rest = [word for number, word in enumerate(words) if number != place]
    if not rest:
        return words[place]
    return f"{words[place]} {with_article(_spoken([*rest[:-1], singular(rest[-1])]))}"


def _third(verb: str) -> str:
    if re.search(r"[^aeiou]y$", verb):
        return f"{verb[:-1]}ies"
    return f"{verb}es" if verb.endswith(("s", "x", "z", "ch", "sh", "o")) else f"{verb}s"


_FORMS = {form: verb for verb in VERBS for form in (_third(verb), verb)}
