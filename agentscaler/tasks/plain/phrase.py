"""What a tool does as a request, its arguments put where the tool's description speaks of them.

"Move a note to another folder" with a note and a folder becomes "move {the_note} to {the_folder}". An argument that is not told leaves the
description's own words in its place.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from agentscaler.tasks.plain.english import find_noun, find_owner, is_plural, listed, verb_phrase, with_article
from agentscaler.tasks.plain.facts import Facts, Sort
from agentscaler.tasks.plain.parts import Part, Role
from agentscaler.tasks.plain.vocabulary import CHANGING, PREPOSITIONS


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the phrase: `plain` as the description has it, `told` with the part's value."""

    plain: str
    told: str = ""
    part: Part | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """Where a part is spoken of; `plain` is what stands there without it, where that is not the text itself."""

    start: int
    end: int
    told: str
    part: Part
    plain: str = ""


@dataclass(frozen=True, slots=True)
class Phrase:
    """`pieces` in order; `behind` are things that the description does not speak of; `details` values that stand in sentences of their
    own. `clauses` are slots of optional ones."""

    pieces: tuple[Piece, ...]
    behind: tuple[Piece, ...]
    details: tuple[Part, ...]
    clauses: tuple[str, ...]

    def words(self, without: Collection[Part] = (), first: Collection[Part] = ()) -> tuple[str, ...]:
        """Requests. `without` are parts left out, `first` those of the case before."""

        def told(part: Part, words: str) -> str:
            return words.replace("{", "{first.") if part in first else words

        stem = "".join(
            piece.plain if piece.part is None or piece.part in without else told(piece.part, piece.told)
            for piece in self.pieces
        )
        for piece in self.behind:
            if piece.part is not None and piece.part not in without:
                stem += told(piece.part, piece.told)
        details = [part for part in self.details if part not in without]
        pairs = [(part.label, told(part, part.said)) for part in details]
        tail = "".join(f" {{{slot}}}" for slot in self.clauses)
        if len(pairs) == 1 and self._goes_to(details[0]):
            stem, pairs = f"{stem} to {pairs[0][1]}", []
        if not pairs:
            return tuple(f"{one}{tail}" for one in _bare(stem))
        inline = listed([f"{'' if one.is_choice else 'the '}{one.label} {told(one, one.said)}" for one in details])
        verb = "should be" if stem.split(" ", 1)[0] in CHANGING else ""
        should = [f"the {label} {verb or ('are' if is_plural(label) else 'is')} {said}" for label, said in pairs]
        should = f"T{listed(should)[1:]}."
        row = ", ".join(f"{label} {said}" for label, said in pairs)
        joint = "and" if " with the " in stem else "with"
        return tuple(
            f"{one}{tail}"
            for one in (
                f"Please {stem} {joint} {inline}.", f"Could you {stem}? {should}", f"I'd like to {stem}. {should}",
                f"Please {stem}: {row}.", f"I need to {stem}: {row}.", f"Would you please {stem}? {should}",
                f"Can you {stem} for me? {should}",
            )
        )  # fmt: skip

    def _goes_to(self, part: Part) -> bool:
        """ "Change the text of a note": to what?"""
        text = "".join(piece.plain for piece in self.pieces)
        verb = text.split(" ", 1)[0]
        named = re.search(rf"\b(?:the|its|their|new)\s+(?:\w+\s+)?{re.escape(part.label)}\b", text, re.IGNORECASE)
        named = named or (verb == "rename" and part.label in ("name", "title", "new name", "new title"))
        when = verb == "reschedule" and part.sort in (Sort.DATE, Sort.MOMENT)
        return verb in CHANGING and bool(named or when) and not re.search(r"\bto\b", text)


def phrase_of(facts: Facts, tool: str, parts: Sequence[Part], clauses: Sequence[str]) -> Phrase:
    """`parts` are those that are always there."""
    one = facts.program.tools[tool].tool
    text = verb_phrase(one.description, one.name)
    created = sorted(table for table, column in facts.program.tools[tool].writes if column == "*")
    spans: list[Span] = []
    for part in parts:
        if part.role is Role.THING and part.home is not None:
            found = _place_thing(facts, text, part, part.home.table in created)
        else:
            found = _place_value(facts, text, part, created)
        if found is not None and not any(found.start < one.end and one.start < found.end for one in spans):
            spans.append(found)
    pieces, end = [], 0
    for span in sorted(spans, key=lambda span: span.start):
        pieces += [
            Piece(text[end : span.start]),
            Piece(span.plain or text[span.start : span.end], span.told, span.part),
        ]
        end = span.end
    pieces.append(Piece(text[end:]))
    placed = [span.part for span in spans]
    rest = [part for part in parts if part not in placed and part.sort is not Sort.YES_NO]
    last = [
        part
        for part in rest
        if part.role is Role.THING or {part.label.split()[0], part.label.split()[-1]} & PREPOSITIONS
    ]
    behind = [Piece("", _behind(facts, part, part is last[0]), part) for part in last]
    rest = [part for part in rest if part not in last]
    return Phrase(tuple(pieces), tuple(behind), tuple(rest), tuple(clauses))


def _place_thing(facts: Facts, text: str, part: Part, is_created: bool) -> Span | None:
    assert part.home is not None
    noun = facts.noun(part.home.table)
    for name in dict.fromkeys((part.label, noun, noun.split()[-1])):
        if is_created and name != part.label and not text.startswith(("delete", "remove", "cancel")):
            continue
        if (owner := find_owner(text, name)) is not None:
            start, end, what = owner
            if re.search(r",|\b(?:and|or)\b", text[start:]):  # "a task's title, priority or due date"
                return Span(start, len(text), part.said, part, re.split("['’]s", text[start:])[0])
            return Span(start, end, f"the {what} of {part.said}", part)
        if (found := find_noun(text, name)) is not None:
            is_known = re.match(r"(?:the|this|that|its|existing)\b|an? existing\b", text[found[0] :], re.IGNORECASE)
            return Span(*found, part.said, part, with_article(name) if is_known else "")
    return None


def _place_value(facts: Facts, text: str, part: Part, created: Sequence[str]) -> Span | None:
    for table in created if part.role is Role.FREE else ():
        if _is_name(facts, table, part) and part.sort is not Sort.PERSON:
            noun = facts.noun(table)
            for name in dict.fromkeys((noun, noun.split()[-1])):
                if (found := find_noun(text, name, new=True)) is not None:
                    return Span(*found, f"{text[found[0] : found[1]]} called {part.said}", part)
    found = find_noun(text, part.label, new=True)
    if found is not None and text[found[0]] in "ao":
        article = "" if part.sort is Sort.NUMBER else "the "
        return Span(*found, part.said if part.sort is Sort.PERSON else f"{article}{part.label} {part.said}", part)
    return None


def _is_name(facts: Facts, table: str, part: Part) -> bool:
    """Whether the value becomes the name of a new row."""
    names = facts.name_columns(table)
    return names == (part.path[-1],) or names == (part.column,)


def _behind(facts: Facts, part: Part, is_first: bool) -> str:
    words = part.label.split()
    if words[0] in PREPOSITIONS:
        return f" {words[0]} {part.said}"
    if part.home is None:
        return f" and {part.label} {part.said}"  # "refund to", "pay with"
    noun = facts.noun(part.home.table)
    if (
        part.label in (noun, noun.split()[-1])
        or noun.endswith(part.label)
        or part.label.isupper()
        or part.label in ("code", "number")
    ):
        return f" {'for' if is_first else 'with'} {part.said}"
    return f" with {part.said} as the {part.label}"


def _bare(stem: str) -> tuple[str, ...]:
    return (
        f"Please {stem}.", f"Could you {stem}?", f"I'd like to {stem}.", f"Would you kindly {stem}?", f"Can you {stem}, please?",
        f"I need to {stem}.", f"Would you {stem}?", f"I want to {stem}.",
    )  # fmt: skip
