"""How people speak of a world that has no `speech.yaml`: made from schema, tools and the facts of the tool graph, with no model.

Plainer than words written by hand, but as sound: names are proven unique and wishes possible when tasks are made. One nameless person
speaks, for a world made from a specification has one user. Tables give the things, writing tools the wishes, reading tools the questions.
A tool that needs a value of which nothing is known (a list of three objects, a file) gets no wish.
"""

from __future__ import annotations

from typing import TypeVar

from agentscaler.tasks.plain.facts import Facts
from agentscaler.tasks.plain.parts import Role, parts_of
from agentscaler.tasks.plain.questions import questions_of
from agentscaler.tasks.plain.things import homes, key_name, make_thing, thing_name
from agentscaler.tasks.plain.topics import topics_for
from agentscaler.tasks.plain.wishes import wishes_of
from agentscaler.tasks.speech import Question, Speech, Wish
from agentscaler.tasks.walk.graph import ToolGraph
from agentscaler.world.program import Program

MAX_TOLD_OFF_TOPIC = 4  # things
Entry = TypeVar("Entry", Wish, Question)

SMALL_TALK = (
    "I'm going through my list.", "This has been on my mind since yesterday.", "I'd like to get this out of the way.",
    "Busy day today.", "I have a few minutes before my next meeting.", "I hope you can help me with this.",
)  # fmt: skip


def derive_speech(program: Program) -> Speech:
    """Deterministic: the same program, the same speech."""
    facts = Facts(program, ToolGraph.of(program))
    wishes = [wish for tool in facts.writes for wish in wishes_of(facts, tool)]
    asked = [one for tool in facts.reads for one in questions_of(facts, tool)]
    things = {thing_name(facts, home): make_thing(facts, home, key_name(facts, home)) for home in homes(facts)}
    for tool in facts.writes:
        for part in parts_of(facts, tool) or ():
            if part.role is Role.THING and part.home is not None and part.thing not in things:
                things[part.thing] = make_thing(facts, part.home, part.column, part.without)
    things |= {one.name: one.thing for one in asked}
    questions = [one.question for one in asked]
    used = {name for entry in (*wishes, *questions) for name in entry.things.values()}
    things = {name: thing for name, thing in things.items() if name in used}
    return Speech(
        things=things,
        wishes=tuple(_apart(wishes)),
        questions=tuple(_apart(questions)),
        off_topic=tuple(topics_for(program, list(things)[:MAX_TOLD_OFF_TOPIC])),
        small_talk=SMALL_TALK,
    )


def _apart(entries: list[Entry]) -> list[Entry]:
    """Names that were cut to their bound may be the same: numbered."""
    found: dict[str, Entry] = {}
    for entry in entries:
        name, number = entry.name, 1
        while name in found:
            number += 1
            name = f"{entry.name[: 30 - len(str(number))]}_{number}"
        found[name] = entry.model_copy(update={"name": name})
    return list(found.values())
