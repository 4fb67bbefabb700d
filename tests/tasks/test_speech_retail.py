"""How people speak of `retail`: it fits the world; every wish, question, name and plea comes to use there; cases do not depend on the
order in which SQLite happens to look; what is said of a cart is all that lies in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest

from agentscaler.domain.store import load_domain
from agentscaler.tasks.dials import Dials
from agentscaler.tasks.generate import generate
from agentscaler.tasks.setting import Setting
from agentscaler.tasks.speech import Naming, Question, Speech, Wish, check_speech, load_speech
from agentscaler.tasks.task import Kind
from agentscaler.tasks.words import slots_of
from agentscaler.world.world import World

DOMAIN = load_domain("retail")
MAX_CASES = 250
FEW = {
    "tracking",
    "exchange_fit",
    "refund",
    "order_changed_cart",
}  # parcels on the way, clothes, returns and full carts are few


def _speech() -> Speech:
    found = load_speech("retail")
    assert found is not None
    return found


SPEECH = _speech()
ENTRIES: dict[str, Wish | Question] = {entry.name: entry for entry in (*SPEECH.wishes, *SPEECH.questions)}
LISTS = {name: thing.rows for name, thing in SPEECH.things.items()} | {
    name: entry.cases for name, entry in ENTRIES.items()
}


@contextmanager
def setting(world_seed: int = 1) -> Iterator[Setting]:
    opened = Setting(World.of(DOMAIN, world_seed), SPEECH)
    try:
        yield opened
    finally:
        opened.close()


@cache
def cases_of(name: str, world_seed: int = 1) -> tuple[tuple[dict[str, Any], ...], ...]:
    """For every fourth speaker."""
    with setting(world_seed) as here:
        found = []
        for speaker in here.people[::4]:
            here.turn_to(speaker)
            found.append(tuple(here.cases(name, ENTRIES[name].cases)))
        return tuple(found)


def test_it_fits_the_world() -> None:
    check_speech(DOMAIN, SPEECH, "speech.yaml")


@pytest.mark.parametrize("name", ENTRIES)
def test_every_wish_and_question_has_cases_for_many(name: str) -> None:
    for world_seed in (1, 2):
        cases = cases_of(name, world_seed)
        with_one = sum(1 for one in cases if one)
        assert with_one / len(cases) >= (0.05 if name in FEW else 0.3)
        assert max(map(len, cases)) <= MAX_CASES


def test_every_writing_tool_is_wished_for() -> None:
    assert {wish.call for wish in SPEECH.wishes} == World.of(DOMAIN, 1).program.write_tools


def test_every_rule_that_forbids_is_pleaded_against_where_it_can_forbid() -> None:
    forbids = {
        rule.name: {tool for one in rule.forbids for tool in one.tools} for rule in DOMAIN.policy if rule.forbids
    }
    pleaded = {(rule, wish.call) for wish in SPEECH.wishes for rule in wish.pleas if rule != wish.forbidden_by}
    assert {rule for rule, _ in pleaded} == set(forbids)
    assert all(call in forbids[rule] for rule, call in pleaded)


@pytest.mark.parametrize("name", SPEECH.things)
def test_every_name_is_used(name: str) -> None:
    """There is somebody with a thing that the name fits: alone, or with others where it is there to be ambiguous."""
    thing = SPEECH.things[name]
    waiting = {
        (naming.by, is_short) for is_short, names in ((False, thing.names), (True, thing.short)) for naming in names
    }
    assert len(waiting) == len(thing.names) + len(thing.short)
    with setting() as here:
        for speaker in here.people[::3] if ":speaker" in thing.rows else here.people[:1]:
            here.turn_to(speaker)
            for is_short, names in ((False, thing.names), (True, thing.short)):
                for naming in names:
                    if (naming.by, is_short) in waiting and any(
                        all(row[column] is not None for column in naming.by)
                        and _fits(here, name, naming, row, is_short)
                        for row in here.rows(name)
                    ):
                        waiting.discard((naming.by, is_short))
            if not waiting:
                break
    assert not waiting


ALWAYS_SEVERAL = {("order", ("shared",)), ("item", ("one_of",)), ("variant", ("name",)), ("variant", ("noun",))}


def _fits(here: Setting, name: str, naming: Naming, row: dict[str, Any], is_short: bool) -> bool:
    alike = len(here.alike(name, naming, row))
    return alike > 1 if (name, naming.by) in ALWAYS_SEVERAL and not is_short else alike == 1


def test_names_that_fit_several_never_fit_one_alone() -> None:
    with setting() as here:
        for speaker in here.people[::3]:
            here.turn_to(speaker)
            for name, by in ALWAYS_SEVERAL:
                if name == "variant" and speaker is not here.people[0]:
                    continue  # the same for everybody
                naming = next(one for one in SPEECH.things[name].names if one.by == by)
                rows = [row for row in here.rows(name) if row[by[0]] is not None]
                assert all(len(here.alike(name, naming, row)) > 1 for row in rows)


@pytest.mark.parametrize("name", LISTS)
def test_rows_do_not_depend_on_the_order_of_looking(name: str) -> None:
    environment = World.of(DOMAIN, 3).open()
    db = environment.connection
    people: list[Any] = db.execute(SPEECH.person.rows if SPEECH.person else "").fetchall()
    budgeted = range(0, len(people), 60)
    found = []
    for reverse in (0, 1):
        db.pragma("reverse_unordered_selects", reverse)
        found.append([_ask(environment, LISTS[name], people[place][0]) for place in budgeted])
    environment.close()
    assert found[0] == found[1]


def _ask(environment: Any, sql: str, speaker: str) -> list[Any]:
    return environment.connection.execute(sql, {"speaker": speaker}).fetchall()


def test_an_order_mentions_all_that_lies_in_the_cart() -> None:
    """The policy has the agent ask about whatever is not mentioned."""
    for name in ("order_cart", "order_with_more", "order_changed_cart"):
        wish = ENTRIES[name]
        assert isinstance(wish, Wish)
        said = [*wish.words, *(words for one in wish.instead for words in one.words)]
        assert all("contents" in slots_of(words) for words in said)
    environment = World.of(DOMAIN, 1).open()
    carts: list[Any] = environment.connection.execute(
        """SELECT k.customer_id, json_group_array(p.name), json_group_array(k.quantity) FROM cart_lines k JOIN variants v USING (sku)
        JOIN products p USING (product_id) WHERE k.quantity > 0 GROUP BY k.customer_id HAVING count(*) > 1"""
    ).fetchall()
    environment.close()
    with setting() as here:
        people = {one["speaker"]: one for one in here.people}
        for customer, names, _ in carts:
            if customer in people:
                here.turn_to(people[customer])
                contents = {case["contents"] for case in here.cases("order_cart", ENTRIES["order_cart"].cases)}
                assert len(contents) == 1
                words = contents.pop()
                assert words.count("the ") == names.count('"') // 2 and " and " in words
                for product in names.strip('[]"').split('","'):
                    assert product.split(" ")[-1].rstrip("fe") in words  # knife, knives


@pytest.mark.parametrize("name", ENTRIES)
def test_words_differ_and_name_no_column(name: str) -> None:
    entry = ENTRIES[name]
    assert len(set(entry.words)) == len(entry.words) >= 3
    values = World.of(DOMAIN, 1).program.tables
    names = {column for table in values.values() for column in table.columns if "_" in column}
    words = " ".join(entry.words)
    for slot in slots_of(words):
        words = words.replace(f"{{{slot}", "{")
    assert not [one for one in names if one in words]


def test_tasks_of_every_kind_come_of_it() -> None:
    mix = dict.fromkeys(Kind, 1.0)
    made = generate(DOMAIN, SPEECH, 1, 4 * len(Kind), Dials(mix=mix), 1)
    kinds = [task.kind for task in made.tasks]
    assert {kind: kinds.count(kind) for kind in Kind} == dict.fromkeys(Kind, 4)
    assert all("_" not in one for task in made.tasks for one in (task.intent, *task.written.then))
