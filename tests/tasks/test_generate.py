"""Tasks made from walks: what each kind promises, played and proven on the world `notes`."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import cache

import pytest

from agentscaler.domain.store import load_domain
from agentscaler.messages import Outcome
from agentscaler.rollout.attempt import PlaySettings, play
from agentscaler.rollout.limits import Limits
from agentscaler.rollout.record import work_item
from agentscaler.tasks.dials import Dials
from agentscaler.tasks.draft import leaves, values_in
from agentscaler.tasks.generate import Made, generate
from agentscaler.tasks.speech import Speech, load_speech
from agentscaler.tasks.task import Ask, Call, Kind, Task
from agentscaler.tasks.walk.graph import ToolGraph
from agentscaler.teachers.reference import NoopTeacher, ReferenceTeacher
from agentscaler.users.scripted import ScriptedUsers, asked_facts
from agentscaler.verify.funnel import VerifyMode
from agentscaler.verify.verdict import VerdictOutcome
from agentscaler.world.program import compile_domain
from agentscaler.world.world import World

NOTES = load_domain("notes")


def speech() -> Speech:
    found = load_speech("notes")
    assert found is not None
    return found


@cache
def made(world_seed: int = 1, number: int = 150, seed: int = 3) -> Made:
    return generate(NOTES, speech(), world_seed, number, Dials(), seed)


def of_kind(kind: Kind) -> list[Task]:
    found = [task for task in made().tasks if task.kind is kind]
    assert found, f"no task of kind {kind}"
    return found


def test_all_kinds_are_made_in_the_mix_that_was_asked_for():
    counts = Counter(task.kind for task in made().tasks)
    assert sum(counts.values()) == 150
    assert set(counts) == set(Kind)
    assert abs(counts[Kind.MULTI_GOAL] - 48) <= 4 and abs(counts[Kind.WRITE] - 22) <= 4


def test_the_same_seed_makes_the_same_tasks_and_another_seed_others():
    again = generate(NOTES, speech(), 1, 40, Dials(), 3)
    other = generate(NOTES, speech(), 1, 40, Dials(), 4)
    first = generate(NOTES, speech(), 1, 40, Dials(), 3)
    assert [task.task_digest for task in first.tasks] == [task.task_digest for task in again.tasks]
    assert not {task.task_digest for task in other.tasks} & {task.task_digest for task in first.tasks}
    assert all(task.source == "walk" for task in first.tasks)


@pytest.mark.parametrize(("teacher", "accepted"), [(ReferenceTeacher(), True), (NoopTeacher(), False)])
def test_the_reference_is_accepted_in_a_whole_conversation_and_doing_nothing_never(teacher, accepted: bool):
    settings = PlaySettings(Limits(), VerifyMode.STATE, config_digest="")

    async def outcomes() -> list[tuple[str, bool]]:
        found = []
        for task in made().tasks:
            item = work_item(task, 0, teacher.identity, ScriptedUsers().identity, 0)
            rollout = (await play(item, NOTES, teacher, ScriptedUsers(), settings)).rollout
            assert rollout is not None
            found.append((task.task_id, rollout.verdict.outcome is VerdictOutcome.ACCEPTED))
        return found

    wrong = [name for name, passed in asyncio.run(outcomes()) if passed is not accepted]
    assert not wrong


def test_what_is_not_told_stands_in_an_earlier_result():
    graph = ToolGraph.of(compile_domain(NOTES))
    for task in made().tasks:
        environment = World.of(NOTES, task.world_seed).open()
        said = " ".join([task.intent, *task.written.then, *(fact.says for fact in task.written.facts.values())])
        seen: list[str] = []
        for step in task.written.reference:
            if not isinstance(step, Call):
                continue
            for path, value in leaves(step.arguments):
                if graph.producers(step.call, path):
                    assert str(value) in said or any(str(value) in one for one in seen), (task.task_id, step)
            result = environment.call("agent", step.call, step.arguments)
            seen.append(result.content)
        environment.close()


def test_a_missing_parameter_and_an_ambiguous_name_are_asked_for_and_not_said_before():
    for task in [*of_kind(Kind.MISSING_PARAMETER), *of_kind(Kind.AMBIGUOUS)]:
        assert any(isinstance(step, Ask) for step in task.written.reference)
        for name, fact in task.written.facts.items():
            assert asked_facts(task.written, fact.question) == [name]
            assert fact.says not in task.intent


def test_a_refusal_asks_for_what_a_rule_forbids_and_the_database_would_do():
    for task in of_kind(Kind.REFUSAL):
        call = task.written.forbidden
        assert call is not None
        environment = World.of(NOTES, task.world_seed).open()
        assert environment.forbidding(call.call, call.arguments, None)
        assert environment.call("agent", call.call, call.arguments).outcome is Outcome.OK
        environment.close()


def test_a_recovery_begins_with_a_refused_call():
    for task in of_kind(Kind.RECOVERY):
        assert len(task.written.expected_refused) == 1
        assert len(values_of(task)) >= 2


def values_of(task: Task) -> list[Call]:
    return [step for step in task.written.reference if isinstance(step, Call)]


def test_words_name_no_tool_and_leave_no_slot():
    names = ToolGraph.of(compile_domain(NOTES)).telling_names
    for task in made().tasks:
        said = " ".join([task.intent, *task.written.then, *(fact.says for fact in task.written.facts.values())])
        assert not any(name in said for name in names)
        assert "{" not in said and "None" not in said and "  " not in said
        assert said[0].isupper() or said[0] in '"0123456789'


def test_a_kind_that_the_world_has_none_of_is_made_up_for_and_counted():
    bare = speech().model_copy(update={"off_topic": (), "questions": ()})
    found = generate(NOTES, bare, 1, 40, Dials(), 3)
    assert len(found.tasks) == 40
    assert not [task for task in found.tasks if task.kind in (Kind.IRRELEVANT, Kind.READ_ONLY)]
    assert found.dropped["irrelevant: nothing off topic is written for this world"]


def test_dials_bound_what_is_made():
    found = generate(NOTES, speech(), 1, 40, Dials(mix={Kind.WRITE: 1, Kind.RECOVERY: 1}, max_calls=2, max_writes=1), 3)
    assert found.tasks
    assert max(task.num_calls for task in found.tasks) <= 2


def test_leaves_and_values_walk_through_lists_and_objects():
    nested = {"a": [{"b": 1}, {"b": "x"}], "c": 2}
    assert list(leaves(nested)) == [(("a", "*", "b"), 1), (("a", "*", "b"), "x"), (("c",), 2)]
    assert list(values_in(nested)) == [1, "x", 2]
