"""Promises: what is played from a mark is what a fresh environment would have played; and an end that differs is rejected by the verifier,
so that what must fail can be looked at by its end alone."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from agentscaler.domain.domain import Domain
from agentscaler.domain.store import load_domain
from agentscaler.tasks.compile import compile_task, load_shipped
from agentscaler.tasks.task import Call, Task, WrittenTask
from agentscaler.verify.soundness.ground import ground_of
from agentscaler.verify.soundness.judge import Judge, Played
from agentscaler.verify.soundness.mutant import arranged
from agentscaler.verify.soundness.rehearsal import Numbered, Rehearsal
from agentscaler.verify.verdict import Stage
from agentscaler.world.compare import same
from agentscaler.world.drawing import other_values
from agentscaler.world.world import World
from tests.world.graph_domain import DOMAIN as GRAPH

NOTES = load_domain("notes")


def mutants(rehearsal: Rehearsal, number: int, random: Random) -> list[Call]:
    """What may stand in the call's place."""
    call = rehearsal.calls[number]
    properties = rehearsal.world.program.tools[call.call].tool.parameters["properties"]
    found: list[Call] = []
    for name, value in call.arguments.items():
        for other in other_values(properties[name], value, ground_of(rehearsal.world).texts, random):
            found.append(Call(call=call.call, arguments={**call.arguments, name: other}))
    return found


def play_anew(judge: Judge, steps: list[Numbered], closing: str | None = None) -> Played:
    return judge.play(arranged(steps), closing)


@pytest.mark.parametrize(("name", "every"), [("notes", 1), ("airline", 6), ("retail", 6)])
def test_both_ways(name: str, every: int) -> None:
    domain = load_domain(name)
    num_rejected = num_equal = num_last = 0
    for written in load_shipped(name)[::every]:
        task = compile_task(domain, written)
        random = Random(task.task_digest)
        with Rehearsal(World.of(domain, task.world_seed), task) as rehearsal:
            judge, places = rehearsal.judge, list(range(len(rehearsal.calls)))
            random.shuffle(places)  # forward too
            assert rehearsal.reference == play_anew(judge, rehearsal.rest(0))
            assert rehearsal.play(0, [], "Done.") == play_anew(judge, [], "Done.")
            for number in places:
                later = rehearsal.rest(number + 1)
                ways = [(later, rehearsal.ends_alike(number, later)), (later, rehearsal.ends_alike_without(number))]
                for mutant in mutants(rehearsal, number, random):
                    in_place: list[Numbered] = [(number, mutant), *later]
                    ways.append((in_place, rehearsal.ends_alike(number, in_place)))
                    is_alike = rehearsal.ends_alike_instead(number, mutant)
                    ways.append((rehearsal.instead(number, mutant), is_alike))
                    num_last += ways[-1][0] != in_place
                for steps, is_alike in ways:
                    anew = play_anew(judge, [*rehearsal.rest(0)[:number], *steps])
                    assert rehearsal.play(number, steps) == anew
                    assert same(task.expected_diff, anew.diff) is is_alike
                    if is_alike:
                        num_equal += 1
                    else:
                        assert judge.verdict(anew).stage is Stage.STATE_MATCH
                        num_rejected += 1
            for stray in ground_of(rehearsal.world).strays:
                anew = play_anew(judge, [*rehearsal.rest(0), (None, stray)])
                answered = len(anew.results) and anew.results[-1].outcome == "ok"
                wanted = same(task.expected_diff, anew.diff) if answered else None
                assert rehearsal.ends_alike_after(stray) is wanted
                assert rehearsal.play(len(rehearsal.calls), [(None, stray)]) == anew
                num_rejected += wanted is False
    assert num_rejected > 50
    assert num_equal > 20  # reads left out
    assert num_last > 5


def rehearsed(domain: Domain, *reference: dict[str, Any]) -> tuple[World, Task]:
    written = WrittenTask.model_validate({"id": "one", "kind": "write", "intent": "x", "reference": reference})
    return World.of(domain, 1), compile_task(domain, written)


def call(name: str, /, **arguments: Any) -> dict[str, Any]:
    return {"call": name, "arguments": arguments}


def test_results_follow_their_calls() -> None:
    """With an earlier call left out, a later one finds the answer that it uses all the same."""
    world, task = rehearsed(
        NOTES,
        call("create_folder", name="Trips"),
        call("read_note", note="Garden plan"),
        call("read_note", note={"$result": [2, "title"]}),
        call("list_folders"),
        call("move_note", note={"$result": [3, "title"]}, folder="Archive"),
    )
    with Rehearsal(world, task) as rehearsal:
        assert [number for number in range(5) if rehearsal.bears(number)] == [0, 1, 2, 4]
        assert rehearsal.needed_by([4]) == {1, 2}
        assert rehearsal.writes == [0, 4]
        played = rehearsal.play(0, rehearsal.rest(1))
        assert len(played.results) == 4
        assert list(played.diff) == ["notes"]
        for number in (0, 1, 2, 4):
            assert not rehearsal.ends_alike_without(number)
        assert rehearsal.ends_alike_without(3)
        unresolved = rehearsal.play(1, rehearsal.rest(2))
        assert list(unresolved.diff) == ["folders"]
        assert [message.content for message in unresolved.messages if message.role == "tool"] == [
            rehearsal.results[number].content for number in (0, 3)
        ]


def test_rules_in_words_are_asked_where_a_call_is_made() -> None:
    rule = {
        "name": "no archive",
        "level": "text_only",
        "text": "Nothing is moved while there is no folder Trips.",
        "forbids": [
            {
                "tools": ["move_note"],
                "sql": "SELECT 1 WHERE :folder = 'Archive' AND NOT EXISTS (SELECT 1 FROM folders WHERE name = 'Trips')",
            }
        ],
    }
    json = NOTES.to_json()
    domain = Domain.model_validate({**json, "policy": [*json["policy"], rule]})
    world, task = rehearsed(
        domain, call("create_folder", name="Trips"), call("move_note", note="Garden plan", folder="Archive")
    )
    with Rehearsal(world, task) as rehearsal:
        one, two = rehearsal.rest(0)
        assert not rehearsal.is_forbidden(0, [one, two])
        assert rehearsal.is_forbidden(0, [two, one])
        assert not rehearsal.is_forbidden(1, [two])


def test_a_changed_call_stands_last_where_the_call_itself_could() -> None:
    world, task = rehearsed(
        NOTES,
        call("create_folder", name="Trips"),
        call("move_note", note="Garden plan", folder="Trips"),
        call("add_tag", note="Train times", tag="urgent"),
    )
    with Rehearsal(world, task) as rehearsal:
        one, two, three = rehearsal.rest(0)
        other = Call(call="create_folder", arguments={"name": "Tours"})
        assert rehearsal.instead(0, other) == [(0, other), two, three]
        assert not rehearsal.ends_alike_instead(0, other)
        assert rehearsal.ends_alike_instead(0, one[1])
        elsewhere = Call(call="move_note", arguments={"note": "Garden plan", "folder": "Work"})
        assert rehearsal.instead(1, elsewhere) == [three, (1, elsewhere)]
        assert not rehearsal.ends_alike_instead(1, elsewhere)
        assert rehearsal.ends_alike_instead(1, two[1])
        assert rehearsal.instead(2, elsewhere) == [(2, elsewhere)]


def test_ends_that_only_labels_tell_apart() -> None:
    """Each box is like the other but for its slot; which of them lies in which shows in no row alone."""
    link = {"box": {"$result": [2, "id"]}, "parent": {"$result": [1, "id"]}}
    world, task = rehearsed(
        GRAPH,
        call("add_box", name="n"),
        call("add_box", name="n"),
        call("add_slot", box={"$result": [1, "id"]}, tag="left"),
        call("add_slot", box={"$result": [2, "id"]}, tag="right"),
        call("link", **link),
    )
    with Rehearsal(world, task) as rehearsal:
        assert rehearsal.ends_alike_instead(4, Call(call="link", arguments=link))
        turned = Call(call="link", arguments={"box": link["parent"], "parent": link["box"]})
        assert not rehearsal.ends_alike_instead(4, turned)
