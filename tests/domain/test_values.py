"""Promises: values are distinct and the same whenever they are drawn; the shipped ones are what mimesis draws; errors name the list."""

from __future__ import annotations

import orjson
import pytest

from agentscaler.domain.store import SHIPPED, VALUES_FILE, read_seed_file
from agentscaler.domain.values import draw_values
from agentscaler.errors import DomainError


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in SHIPPED.glob(f"*/{VALUES_FILE}")))
def test_shipped_values_are_what_is_drawn(folder: str) -> None:
    drawn = draw_values(read_seed_file(SHIPPED / folder)["values"])
    assert orjson.loads((SHIPPED / folder / VALUES_FILE).read_bytes()) == drawn


def test_values_are_distinct_and_depend_on_name_and_entry_alone() -> None:
    entry = {"draw": "person.last_name", "count": 50}
    one = draw_values({"a": entry, "b": entry})
    assert len(set(one["a"])) == 50
    assert one["a"] != one["b"]
    assert draw_values({"b": entry})["b"] == one["b"]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"draw": "person.shoe", "count": 3}, "values.x: "),
        ({"draw": "nobody.name", "count": 3}, "values.x: "),
        ({"draw": "person", "count": 3}, "values.x: "),
        ({"draw": "person.last_name", "count": 0}, "values.x: "),
        ({"draw": "person.sex", "count": 500}, "values.x: person.sex has only"),
    ],
)
def test_wrong_entries_name_the_list(entry: dict[str, object], words: str) -> None:
    with pytest.raises(DomainError, match=words):
        draw_values({"x": entry})
