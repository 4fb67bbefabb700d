"""Units. Promises: the same order and world seed make the same tasks; a file is read back as it was made; one that was made for something
else, or is no unit, is one line that names it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentscaler.domain.store import load_domain
from agentscaler.errors import ConfigError, ShardError
from agentscaler.shards import schema
from agentscaler.shards.files import read_tasks, write_parquet
from agentscaler.tasks.compile import compile_shipped
from agentscaler.tasks.dials import Dials
from agentscaler.tasks.speech import load_speech
from agentscaler.tasks.task import Kind
from agentscaler.tasks.units import Unit, UnitOrder, make_unit, read_unit

NOTES, SPEECH = load_domain("notes"), load_speech("notes")
assert SPEECH is not None
ORDER = UnitOrder(NOTES, SPEECH, Dials(), 3, 12, "held_out")


@pytest.fixture(scope="module")
def unit() -> Unit:
    return make_unit(ORDER, 2)


@pytest.fixture
def file(unit: Unit, tmp_path: Path) -> Path:
    assert unit.data is not None
    path = tmp_path / "notes-2.parquet"
    path.write_bytes(unit.data)
    return path


def test_the_same_tasks_again(unit: Unit) -> None:
    again = make_unit(ORDER, 2)
    assert again.sketches == unit.sketches and len(unit.sketches) == 12
    assert again.record.world_digest == unit.record.world_digest
    assert again.record.dropped == unit.record.dropped
    assert make_unit(ORDER, 3).sketches != unit.sketches
    assert make_unit(replace(ORDER, seed=4), 2).sketches != unit.sketches


def test_a_file_is_read_as_it_was_made(unit: Unit, file: Path) -> None:
    read = read_unit(file, ORDER, 2)
    assert (read.record, read.sketches) == (unit.record, unit.sketches)
    assert len(read_tasks(file)) == 12
    assert {one.world_seed for one in read_tasks(file)} == {2}


@pytest.mark.parametrize(
    ("order", "seed", "words"),
    [
        ({"domain": NOTES.model_copy(update={"description": "Other"})}, 2, "domain notes has changed since"),
        ({"speech": SPEECH.model_copy(update={"small_talk": ("Hm.",)})}, 2, "the speech of domain notes has changed"),
        ({"dials": Dials(mix={Kind.WRITE: 1})}, 2, "the dials have changed since"),
        ({"seed": 4}, 2, "made for seed=3, not 4"),
        ({"number": 13}, 2, "made for number=12, not 13"),
        ({"split": "train"}, 2, "made for split=held_out, not train"),
        ({}, 3, "made for world_seed=2, not 3"),
    ],
)
def test_what_was_made_for_something_else_is_refused(file: Path, order: dict[str, Any], seed: int, words: str) -> None:
    with pytest.raises(ConfigError, match=f"notes-2.parquet: .*{words}.*: choose another output"):
        read_unit(file, replace(ORDER, **order), seed)


def test_a_world_that_cannot_be_made_is_an_empty_unit(tmp_path: Path) -> None:
    """A recipe may fail with some seeds only."""
    step = "INSERT INTO folders SELECT * FROM folders WHERE rand_int(1, 2, 'any') = 1"
    recipe = NOTES.seed.model_copy(update={"steps": (*NOTES.seed.steps, step)})
    order = replace(ORDER, domain=NOTES.model_copy(update={"seed": recipe}), number=3)
    units = {seed: make_unit(order, seed) for seed in range(1, 9)}
    broken = {seed for seed, unit in units.items() if unit.record.broken}
    assert broken and len(broken) < 8
    for seed, unit in units.items():
        assert len(unit.sketches) == (0 if seed in broken else 3)
        assert unit.data is not None
        (tmp_path / "a.parquet").write_bytes(unit.data)
        assert read_unit(tmp_path / "a.parquet", order, seed).record == unit.record
    assert "UNIQUE constraint" in str(units[min(broken)].record.broken)


def test_another_file_is_no_unit(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", [schema.task_row(compile_shipped("notes")[0])], schema.TASKS)
    with pytest.raises(ShardError, match=r"a\.parquet: is no unit"):
        read_unit(tmp_path / "a.parquet", ORDER, 2)
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    with pytest.raises(ShardError, match=r"b\.parquet: not a readable"):
        read_unit(tmp_path / "b.parquet", ORDER, 2)
