"""What the kinds draw and prove: a wish that is done, another in its place, and that words or names leave open what they should.

Proofs are made on the world: by its rows, or by doing it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from agentscaler.messages import Outcome
from agentscaler.tasks.draft import Draft, Dropped
from agentscaler.tasks.maker import Fits, Maker
from agentscaler.tasks.setting import Named, Row
from agentscaler.tasks.speech import Thing, Wish
from agentscaler.tasks.task import Call
from agentscaler.tasks.wording import Request, call_of, is_determined, word
from agentscaler.world.compare import same
from agentscaler.world.program import SPEAKER

MAX_OTHERS = 8  # cases tried beside one that was drawn


def draw_wanted(
    maker: Maker,
    of: Callable[[Wish], bool] = lambda wish: True,
    and_case: Callable[[Wish, Row], bool] = lambda wish, case: True,
    purpose: str = "wanted",
) -> tuple[Wish, Row, Call]:
    """A wish that the database does and no rule forbids. `and_case` is asked first: it only looks."""
    wishes = [wish for wish in maker.setting.speech.wishes if wish.forbidden_by is None and of(wish)]
    if not wishes:
        raise Dropped("no wish is of this kind")
    wish = maker.choose(wishes, purpose)
    is_wanted = maker.is_wanted(wish)
    return maker.draw_wish(wish, lambda case, call: and_case(wish, case) and is_wanted(case, call))


def draw_other(maker: Maker, wish: Wish, case: Row, differ: Collection[str], fits: Fits) -> tuple[Row, Call] | None:
    """Another case of the same speaker's wish, which differs in these columns only."""
    cases = maker.setting.cases(wish.name, wish.cases)
    others = [
        one
        for one in cases
        if any(one[name] != case[name] for name in differ)
        and all(one[name] == value for name, value in case.items() if name not in differ)
    ]
    for other in maker.random.sample(others, min(MAX_OTHERS, len(others))):
        call = call_of(wish, other, maker.setting.speaker, maker.setting)
        if fits(other, call):
            return other, call
    return None


def determined(maker: Maker, wish: Wish, case: Row, templates: Sequence[str], things: dict[str, Named]) -> Request:
    request = word(wish, case, templates, maker.setting, maker.random, things)
    if not is_determined(wish, case, request.slots, maker.setting):
        raise Dropped(f"the words of {wish.name} fit several cases")
    return request


def rename(maker: Maker, wish: Wish, other: Row, case: Row, things: dict[str, Named]) -> dict[str, Named]:
    """Names of another case's things: the same names where they are the same things."""
    found = dict(things)
    for slot, thing in wish.things.items():
        key = maker.setting.speech.things[thing].key
        if any(other[one] != case[one] for one in key):
            row = maker.setting.row_of(thing, other)
            named = None if row is None else maker.setting.name(thing, row, maker.random)
            if named is None:
                raise Dropped("a thing has no name of its own")
            found[slot] = named
    return found


def ends_alike(maker: Maker, wish: Wish, before: Row, first: Call, second: Call) -> bool:
    """Whether doing the first and then the second ends like the second alone."""
    both, alone = maker.world.open(), maker.world.open()
    try:
        if both.call("agent", first.call, first.arguments).outcome is not Outcome.OK:
            return False
        if both.forbidding(second.call, second.arguments, maker.setting.speaker[SPEAKER]):
            return False
        if both.call("agent", second.call, second.arguments).outcome is not Outcome.OK:
            return False
        alone.call("agent", second.call, second.arguments)
        return same(both.diff(), alone.diff())
    finally:
        both.close()
        alone.close()


def about(wish: Wish, case: Row, things: Mapping[str, Thing]) -> str:
    """What a wish is about: two goals are about different things, or the same wish would be said twice."""
    keys = [str(case[column]) for thing in wish.things.values() for column in things[thing].key]
    return "/".join(keys) or wish.name


def parameters_of(wish: Wish, columns: Collection[str]) -> set[str]:
    """Parameters that are filled from these columns."""
    return {name for name, place in wish.arguments.items() if isinstance(place, str) and place in columns}


def could_be_meant(maker: Maker, wish: Wish, case: Row, key: Sequence[str], alike: Sequence[Row]) -> bool:
    """Whether the wish could be about another of these things as well, and would be done."""
    named = {tuple(row[one] for one in key) for row in alike} - {tuple(case[one] for one in key)}
    others = [one for one in maker.setting.cases(wish.name, wish.cases) if tuple(one[name] for name in key) in named]
    fits = maker.is_wanted(wish)
    return any(
        fits(one, call_of(wish, one, maker.setting.speaker, maker.setting))
        for one in maker.random.sample(others, min(MAX_OTHERS, len(others)))
    )


def all_still_named(maker: Maker, draft: Draft, wish: Wish, case: Row, request: Request) -> bool:
    """Whether the names in a request fit the same things alone, as the world is after the calls made so far: "my last order" is
    another one once something was ordered."""
    for slot, named in request.things.items():
        if slot not in request.slots:
            continue
        thing = maker.setting.speech.things[wish.things[slot]]
        rows = draft.environment.look(thing.rows, {SPEAKER: maker.setting.speaker[SPEAKER]})
        row = next((one for one in rows if all(one[key] == case[key] for key in thing.key)), None)
        before = maker.setting.row_of(wish.things[slot], case)
        if row is None or before is None or any(row.get(one, before[one]) != before[one] for one in named.by):
            return False
        if sum(all(one.get(name, before[name]) == before[name] for name in named.by) for one in rows) > 1:
            return False
    return True
