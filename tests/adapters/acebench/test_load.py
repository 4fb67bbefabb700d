from __future__ import annotations

import json
from collections import Counter

import pytest

from agentscaler.adapters.acebench.load import load
from agentscaler.adapters.acebench.scores import AGENT, KINDS, NORMAL, SPECIAL
from agentscaler.errors import ConfigError


def test_every_category_of_normal_and_special_is_read(data_folder):
    loaded = load((), str(data_folder), None)
    assert [domain.name for domain in loaded.domains] == ["normal", "special"]
    assert {task.kind for task in loaded.tasks} == {*NORMAL, *SPECIAL}
    assert loaded.broken == []
    assert len(loaded.notes) == 1 and "checkout" in loaded.notes[0] and "20 references" in loaded.notes[0]
    by_name = {task.name: task for task in loaded.tasks}
    task = by_name["normal_single_turn_parallel_function_0"]
    assert (task.num_calls, task.domain, task.intent) == (3, "normal", "A trail in Bern, 5 km.")
    assert by_name["special_irrelevant_0"].num_calls == 0
    assert by_name["normal_multi_turn_user_switch_0_1"].intent == "Another,\nin Chur"
    fingerprints = {domain.name: domain.fingerprint for domain in loaded.domains}
    assert all(task.domain_fingerprint == fingerprints[task.domain] for task in loaded.tasks)
    assert len({task.task_id for task in loaded.tasks}) == len(loaded.tasks)


@pytest.mark.parametrize("above", [0, 1, 2])
def test_the_folder_may_lie_deeper(data_folder, above):
    folder = (data_folder, *data_folder.parents)[above]
    assert len(load(("special",), str(folder), None).tasks) == 3


def test_one_domain_or_one_category_alone(data_folder, checkout):
    assert {task.kind for task in load(("special",), str(data_folder), None).tasks} == set(SPECIAL)
    assert {task.kind for task in load((), str(data_folder), "normal_atom_list").tasks} == {"normal_atom_list"}
    assert {task.kind for task in load((), str(checkout), "agent_multi_step").tasks} == {"agent_multi_step"}
    assert {task.kind for task in load((), str(checkout), None).tasks} == set(KINDS)


@pytest.mark.parametrize(
    ("domains", "path", "split", "words"),
    [
        ((), None, None, "benchmark.path is not set"),
        ((), "", None, "data_all/data_en"),
        (
            (),
            "nowhere",
            None,
            "benchmark.path=nowhere: no ACEBench data there; it comes from github.com/chenchen0103/ACEBench",
        ),
        (("weird",), None, None, "domains: ACEBench has no weird"),
        ((), None, "normal_atom_colour", "split=normal_atom_colour"),
    ],
)
def test_wrong_settings_are_one_line(domains, path, split, words):
    with pytest.raises(ConfigError) as error:
        load(domains, path, split)
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("domains", "split"), [(("agent",), None), (("normal", "agent"), None), ((), "agent_multi_turn")]
)
def test_the_agent_category_asks_for_a_checkout(data_folder, domains, split):
    with pytest.raises(
        ConfigError, match=r"the agent category .* needs a checkout of github\.com/chenchen0103/ACEBench"
    ) as error:
        load(domains, str(data_folder), split)
    assert "\n" not in str(error.value)


def test_a_category_in_another_domain(data_folder):
    with pytest.raises(ConfigError, match="none of the domains asked for"):
        load(("special",), str(data_folder), "normal_atom_bool")


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("data_normal_similar_api.json", None, "No such file"),
        ("possible_answer/data_special_irrelevant.json", None, "No such file"),
        ("data_normal_similar_api.json", "{", "line 1 is not JSON"),
        ("data_normal_similar_api.json", "[1]", "line 1 has no id"),
        ("data_normal_similar_api.json", '{"id": "x", "question": "y"}', "line 1 has no function"),
        ("data_normal_similar_api.json", '{"id": "x", "question": "y", "function": []}', "no answer to x"),
        ("possible_answer/data_normal_similar_api.json", '\n{"id": "x"}', "line 2 has no ground_truth"),
        ("data_normal_similar_api.json", "\n", "holds no task"),
    ],
)
def test_a_damaged_file_is_named_in_one_line(data_folder, file, content, words):
    (data_folder / file).unlink() if content is None else (data_folder / file).write_text(content)
    with pytest.raises(ConfigError) as error:
        load((), str(data_folder), None)
    assert file.rpartition("/")[2] in str(error.value) and words in str(error.value) and "\n" not in str(error.value)


def test_tasks_that_nobody_could_pass_are_reported_and_not_played(data_folder):
    file = data_folder / "possible_answer" / "data_normal_similar_api.json"
    row = json.loads(file.read_text())
    for truth in ({"fly": {"place": "Bern"}}, {}, []):
        file.write_text(json.dumps({**row, "ground_truth": truth}))
        loaded = load(("normal",), str(data_folder), None)
        assert len(loaded.broken) == 1 and "normal_similar_api_0" in loaded.broken[0]
        assert "normal_similar_api" not in {task.kind for task in loaded.tasks}


def test_the_fingerprint_follows_the_data_and_not_the_place(data_folder, tmp_path):
    before = load((), str(data_folder), None).domains
    moved = data_folder.rename(tmp_path / "elsewhere")
    again = load((), str(moved), None).domains
    assert [domain.fingerprint for domain in again] == [domain.fingerprint for domain in before]
    file = moved / "possible_answer" / "data_special_irrelevant.json"
    file.write_text(file.read_text().replace("limitations", "limits"))
    changed = load((), str(moved), None).domains
    assert changed[0].fingerprint == before[0].fingerprint
    assert changed[1].fingerprint != before[1].fingerprint


def test_references_that_do_not_reach_their_ground_truth_are_named(checkout):
    loaded = load(("agent",), str(checkout), None)
    assert {task.kind for task in loaded.tasks} == set(AGENT)
    steps = {task.name: task.data for task in loaded.tasks if task.kind == "agent_multi_step"}
    assert [data["reference"] for data in steps.values()] == [1, 0, 0, 0]
    assert [data["reference_reaches"] for data in steps.values()] == [True, True, False, True]
    assert [data["reference_reaches_to_the_letter"] for data in steps.values()] == [True, False, False, True]
    (note,) = loaded.notes
    assert "4 of 8 references do not reach their own ground truth: agent_multi_turn_1, agent_multi_turn_2" in note
    assert "2 of them do not with apostrophes mended" in note


def test_a_milestone_that_holds_no_call_breaks_its_task(checkout):
    file = checkout / "data_all" / "data_en" / "possible_answer" / "data_agent_multi_step.json"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[3]["mile_stone"] = ["[reserve(seat=]"]
    file.write_text("\n".join(map(json.dumps, rows)))
    loaded = load(("agent",), str(checkout), None)
    assert len(loaded.broken) == 1 and "agent_multi_step_3" in loaded.broken[0]


def test_the_benchmarks_own_data(real_data):
    loaded = load(("normal", "special"), real_data, None)
    assert Counter(task.domain for task in loaded.tasks) == {"normal": 823, "special": 150}
    assert loaded.broken == []
