from __future__ import annotations

import re

import jsonschema
import jsonschema_rs
from hypothesis import given
from hypothesis import strategies as st

from agentscaler.adapters.acebench.functions import offer, to_schema
from agentscaler.adapters.acebench.load import load


def test_types_become_those_of_json_schema_and_a_parameter_may_be_called_type():
    described = {
        "type": "dict",
        "properties": {
            "type": {"type": "float", "minimum": 1},
            "items": {"type": "list", "items": {"type": "dict", "properties": {"required": {"type": "int"}}}},
            "mail": {"type": "string", "pattern": "^[\\w-\\.]+@"},
            "code": {"type": "string", "pattern": "^[A-Z]+$"},
        },
        "required": ["type"],
    }
    schema = to_schema(described)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["required"] == ["type"]
    assert schema["properties"] == {
        "type": {"type": "number", "minimum": 1},
        "items": {"type": "array", "items": {"type": "object", "properties": {"required": {"type": "integer"}}}},
        "mail": {"type": "string"},
        "code": {"type": "string", "pattern": "^[A-Z]+$"},
    }


def test_arguments_in_place_of_parameters_and_none_at_all():
    made = offer(
        [
            {"name": "a", "arguments": {"type": "object", "properties": {"x": {"type": "any"}}}},
            {"name": "b", "parameters": {}},
        ]
    )
    parameters = [schema["function"]["parameters"] for schema in made.schemas]
    assert parameters == [
        {"type": "object", "properties": {"x": {"type": "string"}}},
        {"type": "object", "properties": {}},
    ]


@given(st.lists(st.text(alphabet="aB0._- é", min_size=1, max_size=90), unique=True, max_size=12))
def test_offered_names_are_good_ones_each_its_own(names):
    made = offer([{"name": name} for name in names])
    offered = [schema["function"]["name"] for schema in made.schemas]
    assert len(set(offered)) == len(names)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in offered)
    assert [made.own_names[name] for name in offered] == names
    assert [made.offered_names[name] for name in names] == offered


def test_all_functions_of_the_benchmark_are_valid_schemas(real_data):
    for task in load((), real_data, None).tasks:
        for schema in offer(task.data["function"]).schemas:
            jsonschema_rs.meta.validate(schema["function"]["parameters"])
            assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", schema["function"]["name"])
