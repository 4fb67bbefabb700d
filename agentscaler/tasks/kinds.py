"""One function a kind of task: from a draw to a `Task` whose reference has been walked. What does not come off is `Dropped`.

Each says what makes its kind what it is, and proves it: that a parameter is missing (more than one end fits the words), that a name is
ambiguous (it fits several things that could be meant), that a change of mind ends like the second wish alone.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson

from agentscaler.messages import Outcome
from agentscaler.tasks import intent
from agentscaler.tasks.draft import Dropped
from agentscaler.tasks.intent import Style
from agentscaler.tasks.maker import SPEAKERS_TRIED, Maker
from agentscaler.tasks.proofs import (
    about,
    all_still_named,
    could_be_meant,
    determined,
    draw_other,
    draw_wanted,
    ends_alike,
    parameters_of,
    rename,
)
from agentscaler.tasks.setting import Row
from agentscaler.tasks.speech import Question, Wish
from agentscaler.tasks.task import Answer, Call, Fact, Kind, Task
from agentscaler.tasks.wording import call_of, columns_told, is_determined, name_things, word
from agentscaler.tasks.words import fill, tidy
from agentscaler.world.program import SPEAKER

MAX_DISTRACTORS = 4


def make_write(maker: Maker) -> Task:
    """One wish, told so that one end alone fits it."""
    wish, case, call = draw_wanted(maker)
    draft, style = maker.start(), Style.draw(maker.random)
    things = name_things(wish, case, maker.setting, maker.random)
    request = determined(maker, wish, case, wish.words, things)
    identity = maker.introduce(draft)
    maker.tell(draft, wish, case, request)
    maker.carry_out(draft, wish, case, call)
    opening = intent.open_with([request.words], identity, maker.reason(wish, case, style), style, maker.random)
    return maker.finish(draft, Kind.WRITE, wish.name, opening)


def make_multi_goal(maker: Maker) -> Task:
    """Several wishes of one person, some of them said only once the first are dealt with."""
    number = maker.random.choice(maker.dials.goals)
    first = draw_wanted(maker, lambda wish: not wish.alone)
    goals = [first]
    keys = {about(*first[:2], maker.setting.speech.things)}
    others = [
        wish
        for wish in maker.setting.speech.wishes
        if not wish.alone and wish.forbidden_by is None and wish is not first[0]
    ]
    while len(goals) < number and others:
        wish = maker.choose(others, "wanted")
        others.remove(wish)
        if any(set(wish.apart) & set(one.apart) for one, _, _ in goals):
            continue
        found = maker.draw_case(wish, maker.is_wanted(wish))
        if found is not None and (key := about(wish, found[0], maker.setting.speech.things)) not in keys:
            keys.add(key)
            goals.append((wish, *found))
    if len(goals) < 2:
        raise Dropped("this person has one wish only")
    draft, style = maker.start(), Style.draw(maker.random)
    requests = []
    for wish, case, _ in goals:
        things = name_things(wish, case, maker.setting, maker.random)
        requests.append(determined(maker, wish, case, wish.words, things))
    at_once = maker.random.randint(1, len(goals))
    identity = maker.introduce(draft)
    done: list[int] = []
    for place, ((wish, case, call), request) in enumerate(zip(goals, requests, strict=True)):
        if done and not all_still_named(maker, draft, wish, case, request):
            continue
        if place >= at_once:
            draft.say(intent.done_words(maker.random))
        maker.tell(draft, wish, case, request)
        maker.carry_out(draft, wish, case, call)
        done.append(place)
    if len(done) < 2:
        raise Dropped("a name fits another thing once the wishes before are done")
    reasons = maker.reason(*goals[0][:2], style)
    said = [requests[place].words for place in done if place < at_once]
    opening = intent.open_with(said, identity, reasons, style, maker.random)
    later = intent.say_later([requests[place].words for place in done if place >= at_once], maker.random)
    return maker.finish(draft, Kind.MULTI_GOAL, "_".join(goals[place][0].name for place in done), opening, later)


def make_changed_mind(maker: Maker) -> Task:
    """A wish, then another in its place. Kept where doing the first and then the second ends like the second alone, so that it does not
    matter how quick the agent was."""
    wish, case, call = draw_wanted(maker, lambda wish: bool(wish.changes), purpose="changed")
    change = maker.random.choice(wish.changes)
    found = draw_other(maker, wish, case, change.differ, maker.is_wanted(wish))
    if found is None:
        raise Dropped("there is no other wish to change from")
    before, first_call = found
    if not ends_alike(maker, wish, before, first_call, call):
        raise Dropped("doing the first wish first ends differently")
    draft, style = maker.start(), Style.draw(maker.random)
    things = name_things(wish, case, maker.setting, maker.random)
    first_things = rename(maker, wish, before, case, things)
    request = determined(maker, wish, before, wish.words, first_things)
    if not set(change.differ) <= columns_told(wish, request.slots, maker.setting):
        raise Dropped("the words do not say what changes")
    second = word(wish, case, change.words, maker.setting, maker.random, things, before, first_things)
    identity = maker.introduce(draft)
    maker.tell(draft, wish, before, request)
    draft.look_up(first_call)
    draft.look_around(first_call)
    draft.say(intent.possible_words(maker.random))
    maker.tell(draft, wish, case, second)
    maker.carry_out(draft, wish, case, call)
    opening = intent.open_with([request.words], identity, maker.reason(wish, before, style), style, maker.random)
    return maker.finish(draft, Kind.CHANGED_MIND, wish.name, opening, [second.words])


def make_read_only(maker: Maker) -> Task:
    """A question; its answers stand in the last result, and those of the speaker's other cases must not be given."""
    questions = maker.setting.speech.questions
    if not questions:
        raise Dropped("no questions are written for this world")
    question = maker.random.choices(questions, [one.weight for one in questions])[0]
    for _ in range(SPEAKERS_TRIED):
        maker.turn_to_somebody()
        cases = maker.setting.cases(question.name, question.cases)
        if cases:
            break
    else:
        raise Dropped(f"nobody has a case of {question.name}")
    case = maker.random.choice(cases)
    call = call_of(question, case, maker.setting.speaker, maker.setting)
    draft, style = maker.start(), Style.draw(maker.random)
    things = name_things(question, case, maker.setting, maker.random)
    request = word(question, case, question.words, maker.setting, maker.random, things)
    if not is_determined(question, case, request.slots, maker.setting):
        raise Dropped("the question fits several cases")
    identity = maker.introduce(draft) if _is_about_the_speaker(maker, question) else None
    maker.tell(draft, question, case, request)
    draft.look_up(call)
    if all(made.call != call for made in draft.made):
        draft.do(call)
    answers = [_answer(maker, question, case, number) for number in range(len(question.tells))]
    opening = intent.open_with([request.words], identity, [], style, maker.random)
    return maker.finish(draft, Kind.READ_ONLY, question.name, opening, must_tell=answers)


def make_missing_parameter(maker: Maker) -> Task:
    """Something that only the person knows is not said: who they are, or one value of the wish. Without it more than one end fits."""
    person = maker.setting.speech.person
    if person is not None and person.about and maker.random.random() < 0.25:
        return _make_unknown_person(maker)
    wish, case, call = draw_wanted(maker, lambda wish: bool(wish.leave_out), purpose="missing")
    slot = maker.random.choice(list(wish.leave_out))
    left = wish.leave_out[slot]
    hidden = maker.setting.speech.things[wish.things[slot]].key if slot in wish.things else (slot,)
    if any(case.get(column) is None for column in hidden):
        raise Dropped("there is nothing to leave out")
    draft, style = maker.start(), Style.draw(maker.random)
    things = name_things(wish, case, maker.setting, maker.random)
    request = word(wish, case, left.words, maker.setting, maker.random, things)
    told = word(wish, case, left.says, maker.setting, maker.random, things, in_full=False)
    if is_determined(wish, case, request.slots, maker.setting):
        raise Dropped("nothing is missing")
    if not is_determined(wish, case, request.slots | told.slots, maker.setting):
        raise Dropped("the words fit several cases")
    identity = maker.introduce(draft)
    maker.tell(draft, wish, case, request)
    known = {name: value for name, value in call.arguments.items() if name not in parameters_of(wish, hidden)}
    draft.look_up(Call(call=call.call, arguments=known))
    question = tidy(fill(maker.random.choice(left.question), {**maker.setting.speaker, **case}, maker.random))
    draft.ask(slot, Fact(asked=left.asked, about=left.about, question=question, says=told.words), list(told.told))
    maker.carry_out(draft, wish, case, call)
    opening = intent.open_with([request.words], identity, maker.reason(wish, case, style), style, maker.random)
    return maker.finish(draft, Kind.MISSING_PARAMETER, f"{wish.name}_{slot}", opening)


def _make_unknown_person(maker: Maker) -> Task:
    person = maker.setting.speech.person
    assert person is not None
    wish, case, call = draw_wanted(maker)
    draft, style = maker.start(), Style.draw(maker.random)
    things = name_things(wish, case, maker.setting, maker.random)
    request = determined(maker, wish, case, wish.words, things)
    finding = maker.random.choices(person.known_by, [one.weight for one in person.known_by])[0]
    says = tidy(fill(maker.random.choice(finding.says), maker.setting.speaker, maker.random))
    fact = Fact(about=person.about, question=maker.random.choice(person.question), says=says)
    draft.ask("who", fact, [maker.setting.speaker[column] for column in finding.arguments.values()])
    draft.find(finding)
    maker.tell(draft, wish, case, request)
    maker.carry_out(draft, wish, case, call)
    opening = intent.open_with([request.words], None, maker.reason(wish, case, style), style, maker.random)
    return maker.finish(draft, Kind.MISSING_PARAMETER, f"{wish.name}_who", opening)


def make_refusal(maker: Maker) -> Task:
    """A rule in words forbids what the database would do. The person pleads."""
    forbidding = maker.world.program.forbidding
    wishes = [
        one for one in maker.setting.speech.wishes if (one.call in forbidding or one.forbidden_by) and not one.before
    ]
    wishes = [one for one in wishes if one.pleas] or wishes  # those that somebody has thought of being refused
    if not wishes:
        raise Dropped("no rule forbids anything that somebody wishes")
    wish = maker.choose(wishes, "refused")
    broken: list[str] = []

    def fits(case: Row, call: Call) -> bool:
        tried = maker.tries(wish, case, call, forbidden=True)
        broken[:] = tried[1] if tried else ()
        return tried is not None and tried[0] is Outcome.OK

    wish, case, call = maker.draw_wish(wish, fits)
    draft, style = maker.start(), Style.draw(maker.random)
    things = name_things(wish, case, maker.setting, maker.random)
    request = determined(maker, wish, case, wish.words, things)
    pleas = wish.pleas.get(broken[0], ())
    values = {**maker.setting.speaker, **case, **{slot: named.words for slot, named in things.items()}}
    extras = (
        [tidy(fill(maker.random.choice(pleas), values, maker.random))] if pleas and maker.random.random() < 0.8 else []
    )
    identity = maker.introduce(draft)
    maker.tell(draft, wish, case, request)
    draft.look_up(call)
    draft.look_around(call)
    opening = intent.open_with([" ".join([request.words, *extras])], identity, [], style, maker.random)
    return maker.finish(draft, Kind.REFUSAL, f"{wish.name}_{broken[0]}", opening, forbidden=call)


def make_irrelevant(maker: Maker) -> Task:
    """No tool can do it."""
    topics = maker.setting.speech.off_topic
    if not topics:
        raise Dropped("nothing off topic is written for this world")
    number = maker.random.randrange(len(topics))
    topic = topics[number]
    maker.turn_to_somebody()
    draft, style = maker.start(), Style.draw(maker.random)
    values, told = dict(maker.setting.speaker), []
    for slot, thing in topic.things.items():
        rows = maker.setting.rows(thing)
        row = maker.random.choice(rows) if rows else None
        named = None if row is None else maker.setting.name(thing, row, maker.random)
        if row is None or named is None:
            raise Dropped("a thing has no name of its own")
        values[slot] = named.words
        told += named.told
        draft.pool.update(row)
    words = tidy(fill(maker.random.choice(topic.words), values, maker.random))
    identity = maker.introduce(draft) if topic.things or maker.random.random() < 0.6 else None
    draft.told += told
    for thing in topic.things.values():
        for column in maker.setting.speech.things[thing].key:
            if maker.random.random() < maker.dials.extra_reads:
                draft.look_at(column, draft.pool[column])
    if not draft.made:
        draft.look_over()
    opening = intent.open_with([words], identity, [], style, maker.random)
    return maker.finish(draft, Kind.IRRELEVANT, f"topic{number}", opening)


def make_recovery(maker: Maker) -> Task:
    """The first choice is refused by the database; the person has said what to do then."""
    wish, case, call = draw_wanted(maker, lambda wish: bool(wish.instead) and not wish.before, purpose="instead")
    instead = maker.random.choice(wish.instead)

    def is_refused(other: Row, other_call: Call) -> bool:
        tried = maker.tries(wish, other, other_call, forbidden=False)
        return tried is not None and tried[0] is Outcome.REFUSED

    found = draw_other(maker, wish, case, instead.differ, is_refused)
    if found is None:
        raise Dropped("no first choice is refused")
    first, first_call = found
    draft, style = maker.start(), Style.draw(maker.random)
    things = name_things(wish, case, maker.setting, maker.random)
    first_things = rename(maker, wish, first, case, things)
    request = word(wish, case, instead.words, maker.setting, maker.random, things, first, first_things)
    plain = frozenset(slot for slot in request.slots if not slot.startswith("first."))
    if not is_determined(wish, case, plain, maker.setting):
        raise Dropped("the words fit several cases")
    identity = maker.introduce(draft)
    maker.tell(draft, wish, first, request)
    draft.look_up(first_call)
    draft.look_around(first_call)
    draft.do(first_call, Outcome.REFUSED)
    maker.tell(draft, wish, case, request)
    maker.carry_out(draft, wish, case, call)
    opening = intent.open_with([request.words], identity, maker.reason(wish, case, style), style, maker.random)
    return maker.finish(draft, Kind.RECOVERY, wish.name, opening)


def make_ambiguous(maker: Maker) -> Task:
    """What the person says fits several things that they could mean; asked, they say which."""
    things_of = maker.setting.speech.things

    def can_be_blurred(wish: Wish, case: Row) -> bool:
        rows = ((name, maker.setting.row_of(name, case)) for name in wish.things.values() if things_of[name].short)
        return any(row is not None and maker.setting.can_be_blurred(name, row) for name, row in rows)

    wish, case, call = draw_wanted(
        maker, lambda wish: any(things_of[one].short for one in wish.things.values()), can_be_blurred, "ambiguous"
    )
    slots = [slot for slot, thing in wish.things.items() if things_of[thing].short]
    slot = maker.random.choice(slots)
    thing = things_of[name := wish.things[slot]]
    row = maker.setting.row_of(name, case)
    blurred = None if row is None else maker.setting.blur(name, row, maker.random)
    short = None if row is None else maker.setting.name(name, row, maker.random, short=True)
    if blurred is None or short is None:
        raise Dropped("the name fits one thing only")
    vague, alike = blurred
    if not could_be_meant(maker, wish, case, thing.key, alike):
        raise Dropped("only one of the things could be meant")
    draft, style = maker.start(), Style.draw(maker.random)
    things = {**name_things(wish, case, maker.setting, maker.random), slot: vague}
    request = determined(maker, wish, case, wish.words, things)
    if slot not in request.slots:
        raise Dropped("the words do not name the thing")
    identity = maker.introduce(draft)
    draft.told += request.told
    maker.fill_pool(draft, wish, case)
    keys = {*thing.key}
    others = {name: value for name, value in call.arguments.items() if name not in parameters_of(wish, keys)}
    draft.look_up(Call(call=call.call, arguments=others))
    draft.look_up_choices(call, parameters_of(wish, keys))
    draft.ask(
        "which",
        Fact(about=thing.about, question=maker.random.choice(thing.which), says=tidy(short.words)),
        list(short.told),
    )
    maker.carry_out(draft, wish, case, call)
    opening = intent.open_with([request.words], identity, maker.reason(wish, case, style), style, maker.random)
    return maker.finish(draft, Kind.AMBIGUOUS, wish.name, opening)


def _is_about_the_speaker(maker: Maker, question: Question) -> bool:
    return f":{SPEAKER}" in question.cases


def _answer(maker: Maker, question: Question, case: Row, number: int) -> Answer:
    """Distractors are the answers of the same question about others of the speaker's."""
    tells = question.tells[number]
    value = case[tells.value]
    if value is None:
        raise Dropped("the question has no answer")
    if tells.distractors is not None:
        others = orjson.loads(case[tells.distractors] or "[]")
    else:
        others = [one[tells.value] for one in maker.setting.cases(question.name, question.cases)]
    wrong = [one for one in dict.fromkeys(others) if one is not None and one != value]
    return Answer(type=tells.type, value=value, distractors=tuple(wrong[:MAX_DISTRACTORS]))


MAKERS: dict[Kind, Callable[[Maker], Task]] = {
    Kind.WRITE: make_write,
    Kind.MULTI_GOAL: make_multi_goal,
    Kind.CHANGED_MIND: make_changed_mind,
    Kind.READ_ONLY: make_read_only,
    Kind.MISSING_PARAMETER: make_missing_parameter,
    Kind.REFUSAL: make_refusal,
    Kind.IRRELEVANT: make_irrelevant,
    Kind.RECOVERY: make_recovery,
    Kind.AMBIGUOUS: make_ambiguous,
}


def make(maker: Maker, kind: Kind) -> Task:
    """Dropped where this draw comes to nothing."""
    kept = False
    try:
        task = MAKERS[kind](maker)
        kept = True
        return task
    finally:
        maker.put_away(kept)
