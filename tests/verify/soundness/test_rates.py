"""Promises of the measured rates.

1. On the shipped world `notes` the verifier makes no error on held-out mutants, and every broken verifier is caught.
2. Every operator contributes, right and wrong mutants are both well represented, and the oracle agrees with what mutants are by making.
3. The figures depend on tasks, minimum and seed alone; an error of the verifier is counted and worded.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from agentscaler.domain.domain import Domain
from agentscaler.domain.store import load_domain
from agentscaler.messages import Outcome
from agentscaler.tasks.compile import compile_shipped, compile_task
from agentscaler.tasks.task import Task, WrittenTask
from agentscaler.verify.soundness.ground import ground_of
from agentscaler.verify.soundness.judge import Judge
from agentscaler.verify.soundness.mutant import Material, Mutant
from agentscaler.verify.soundness.rates import OPERATORS, Rates, draw_mutants, measure, play_mutant
from agentscaler.verify.verdict import VerdictOutcome
from agentscaler.world.world import World
from tests.world.graph_domain import DOMAIN
from tests.world.tiny_domain import SHELF, TITLE, tiny, tool

NOTES = load_domain("notes")


def rates_of(domain: Domain, tasks: list[Task], minimum: int, seed: int = 0, processes: int = 1) -> Rates:
    return measure({domain.fingerprint: domain}, tasks, minimum, seed, processes)


@pytest.fixture(scope="module")
def rates() -> Iterator[Rates]:
    yield rates_of(NOTES, compile_shipped("notes"), 1500)


def test_the_verifier_makes_no_error(rates: Rates) -> None:
    assert rates.mutants >= 1500
    assert [str(one) for one in rates.disagreements] == []
    assert (rates.false_pass, rates.false_fail) == (0, 0)


def test_every_broken_verifier_is_caught(rates: Rates) -> None:
    assert rates.broken_verifiers >= 8
    assert [name for name, count in rates.broken.items() if not count] == []
    assert rates.broken_caught == rates.broken_verifiers


def test_every_operator_contributes_and_both_sides_are_there(rates: Rates) -> None:
    assert [name for name, counts in rates.operators.items() if not counts.mutants] == [
        "inside_a_list"
    ]  # no lists in notes
    assert 0.2 < rates.accepted_mutants / rates.mutants < 0.8


def test_the_oracle_agrees_with_what_mutants_are_by_making(rates: Rates) -> None:
    assert [str(one) for one in rates.oracle_errors] == []


def test_doing_nothing_is_never_accepted_and_a_random_call_hardly_ever(rates: Rates) -> None:
    assert (rates.noop_tried, rates.noop_pass) == (2 * 45, 0)
    assert rates.random_call_tried == 5 * 45
    assert rates.random_call_pass <= rates.random_call_tried / 50


def test_figures_are_flat_and_the_same_again_in_two_processes() -> None:
    tasks = compile_shipped("notes")[::5]
    one, two = rates_of(NOTES, tasks, 100), rates_of(NOTES, tasks, 100, processes=2)
    assert one == two
    assert all(isinstance(value, int) for value in one.figures().values())
    assert rates_of(NOTES, tasks, 100, seed=1) != one


def test_worlds_may_lie_in_any_order_among_the_tasks() -> None:
    other = NOTES.model_copy(update={"description": "Another domain, for all that matters here."})
    mine = compile_shipped("notes")[:4]
    theirs = [task.model_copy(update={"domain_fingerprint": other.fingerprint}) for task in mine]
    domains = {NOTES.fingerprint: NOTES, other.fingerprint: other}
    by_turns = [task for pair in zip(mine, theirs, strict=True) for task in pair]
    one = measure(domains, [*mine, *theirs], 160)
    assert measure(domains, by_turns, 160) == measure(domains, by_turns, 160, processes=2) == one
    assert one.mutants == 160


def test_every_operator_has_its_turn_however_few_mutants_a_task_has() -> None:
    rates = rates_of(NOTES, compile_shipped("notes"), 450)
    assert rates.mutants == 450
    silent = {name for name, counts in rates.operators.items() if not counts.mutants}
    assert len(silent) <= 6 and "other_stop" not in silent
    assert rates.false_pass == rates.false_fail == len(rates.oracle_errors) == 0


def test_an_error_of_the_verifier_is_counted_and_worded() -> None:
    """The verifier is made to expect the end of another task."""
    tasks = {task.written.id: task for task in compile_shipped("notes")}
    wrong = tasks["move_garden_plan"].model_copy(
        update={"expected_diff": tasks["tag_novel_outline"].expected_diff, "expected_calls": ()}
    )
    rates = rates_of(NOTES, [wrong, tasks["tag_novel_outline"]], 150)
    assert rates.false_fail > 0
    assert rates.false_pass > 0
    words = str(rates.disagreements[0])
    assert "notes/move_garden_plan" in words
    assert "verifier: " in words
    assert "oracle: " in words


def test_mutants_are_different_from_each_other_and_the_same_for_a_seed() -> None:
    task = compile_shipped("notes")[0]
    material = Material(task, ground_of(World.of(NOTES, task.world_seed)))
    mutants = draw_mutants(material, 150, Random(1))
    assert len({mutant.content for mutant in mutants}) == 150
    assert mutants == draw_mutants(material, 150, Random(1))
    assert Mutant("reference", material.calls).content not in {mutant.content for mutant in mutants}


def test_what_is_done_and_undone_is_accepted_as_a_detour() -> None:
    done_and_undone = next(operator for operator in OPERATORS if operator.__name__ == "done_and_undone")
    detours = 0
    for task in (task for task in compile_shipped("notes")[:20] if not task.kind.must_not_write):
        judge = Judge(World.of(NOTES, task.world_seed), task)
        mutant = done_and_undone(Material(task, ground_of(judge.world)), Random(3))
        assert mutant is not None
        played = play_mutant(judge, mutant)
        verdict = judge.verdict(played)
        if verdict.outcome is VerdictOutcome.ACCEPTED and all(one.outcome is Outcome.OK for one in played.results):
            assert verdict.detour
            detours += 1
    assert detours >= 5


def test_arguments_inside_lists_are_mutated_too() -> None:
    book = {"type": "object", "properties": {"title": TITLE, "shelf": SHELF}, "required": ["title", "shelf"]}
    add_all = tool(
        "add_all",
        parameters={"books": {"type": "array", "items": book, "minItems": 1, "maxItems": 4}},
        do=[
            "INSERT INTO books (book_id, title, shelf) SELECT new_id('books'), value ->> 'title', value ->> 'shelf' FROM json_each(:books)"
        ],
    )
    domain = tiny(add_all)
    books = [{"title": "It", "shelf": "left"}, {"title": "She", "shelf": "right"}]
    written = {
        "id": "two",
        "kind": "write",
        "intent": "x",
        "reference": [{"call": "add_all", "arguments": {"books": books}}],
    }
    task = compile_task(domain, WrittenTask.model_validate(written))
    rates = rates_of(domain, [task], 300)
    assert [str(one) for one in rates.disagreements] == []
    assert rates.operators["inside_a_list"].accepted >= 1  # the other order
    assert rates.operators["inside_a_list"].mutants > rates.operators["inside_a_list"].accepted
    material = Material(task, ground_of(World.of(domain, 1)))
    assert ((0, ("books", 1, "title"), "She")) in material.literals()


def test_new_rows_that_refer_to_each_other() -> None:
    """Two equal boxes, and one of them linked: only there can a link go wrong while all else is right."""
    written = WrittenTask.model_validate(
        {
            "id": "boxes",
            "kind": "write",
            "intent": "x",
            "reference": [
                {"call": "add_box", "arguments": {"name": "outer"}},
                {"call": "add_box", "arguments": {"name": "inner"}},
                {"call": "link", "arguments": {"box": {"$result": [2, "id"]}, "parent": {"$result": [1, "id"]}}},
                {"call": "add_slot", "arguments": {"box": {"$result": [1, "id"]}, "tag": "left"}},
                {"call": "add_slot", "arguments": {"box": {"$result": [2, "id"]}, "tag": "right"}},
            ],
        }
    )
    rates = rates_of(DOMAIN, [compile_task(DOMAIN, written)], 300)
    assert [str(one) for one in rates.disagreements] == []
    assert rates.broken["ignores links of new rows"] > 0
