"""Requests that a world's tools have nothing to do with: things to be done elsewhere, or facts of the day.

Nothing that an agent could answer out of its own head, such as a riddle or a recipe.
"""

from __future__ import annotations

from collections.abc import Sequence

from agentscaler.tasks.plain.english import content_words
from agentscaler.tasks.speech import OffTopic
from agentscaler.world.program import Program

TOPICS = (
    ("What will the weather be like on Saturday?", "Is it going to rain in Lisbon this weekend?"),
    ("Can you play some jazz for me?", "Put on some quiet music, please."),
    ("Please wake me at half past six.", "I'd like an alarm for seven tomorrow morning."),
    ("Turn the heating in the kitchen up, please.", "It's cold in here. Could you turn up the radiator?"),
    ("Switch the light in the hall off, would you?", "Please dim the lamps in the living room."),
    ("Who won the football match last night?", "What was the score of the cup final yesterday?"),
    ("Call me a taxi to the railway station, please.", "I need a taxi in twenty minutes."),
    ("What are the lottery numbers of this week?", "Did I win anything in the lottery on Saturday?"),
    (
        "Get me a table for two at the Italian restaurant on the corner.",
        "Could you reserve a table at the sushi bar for eight o'clock?",
    ),
    ("When does the next tram to the zoo leave?", "How late is the bus to the castle running right now?"),
    ("Please water my plants while I'm on holiday.", "Could somebody look after my orchids next week?"),
    ("Take a picture of me in front of the fountain.", "Could you brighten the snapshots on my camera?"),
    ("Walk my dog at noon, please.", "Could somebody feed my cat over Easter?"),
    ("What is the yen worth right now?", "How many euros do I get for a hundred Swiss francs today?"),
    ("Please vacuum the living room carpet.", "Start the dishwasher, please."),
    ("Pick my suit up from the dry cleaner, please.", "Could you take my shirts to the laundry?"),
    ("Bring me a cappuccino, please.", "I'd love a cup of tea. Could you make me one?"),
    ("Mend the flat tyre of my bicycle, please.", "The chain of my bicycle came off. Can you fix it?"),
    ("Open the garage door, please.", "Could you lock the garden gate for the night?"),
    ("What is on at the cinema tonight?", "Is there anything good on television tonight?"),
    ("How bad is the traffic on the motorway right now?", "Is there a jam on the bridge at the moment?"),
    ("Ring my grandmother and put me through to her.", "Could you phone the plumber for me?"),
    ("How many steps have I walked today?", "What was my pulse during my run this morning?"),
    ("Find my sunglasses, I must have left them somewhere.", "I can't find my umbrella. Where is it?"),
    ("Get me two seats for the opera on Friday.", "I'd like to see the circus. Could you get me in?"),
    ("Hang the painting in the hall a little higher.", "Could you carry the piano upstairs?"),
    ("What time is it in Auckland right now?", "Is the sun up in Honolulu yet?"),
    ("Unlock my mobile, I've forgotten the pattern.", "The battery of my watch is flat. Could you charge it?"),
)

OF_THINGS = (
    ("Print all you have on {it} and put it on my desk.", "I need everything about {it} on paper. Could you print it?"),
    ("Fax what you know about {it} to the town hall, please.", "Please fax me the details of {it}."),
    (
        "Ring me tonight and read me everything about {it} over the telephone.",
        "Call my mobile and tell me aloud about {it}.",
    ),
)


def topics_for(program: Program, things: Sequence[str]) -> list[OffTopic]:
    """Those that share no word of meaning with the world. `things` are some that a request may be about."""
    domain = program.domain
    texts = [domain.name, domain.description, *program.tables, *(tool.name for tool in domain.tools)]
    texts += [tool.description for tool in domain.tools] + [
        name for tool in domain.tools for name in tool.parameters["properties"]
    ]
    texts += [column for table in program.tables.values() for column in table.columns]
    known = content_words(texts)
    found = [OffTopic(words=words) for words in TOPICS if not content_words(words) & known]
    about = [words for words in OF_THINGS if not content_words(words) & known]
    return found + [OffTopic(words=words, things={"it": thing}) for words in about for thing in things]
