"""One text for one value, on the quick way too."""

from __future__ import annotations

import math
from collections import namedtuple
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentscaler.canonical import _normal, canonical_json

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_the_quick_way_and_the_long_one_write_the_same(value: Any):
    assert canonical_json(value) == orjson.dumps(_normal(value), option=orjson.OPT_SORT_KEYS).decode()


def test_what_cannot_be_told_apart_is_one_text():
    assert canonical_json({"b": [-0.0], "a": (1, 2)}) == canonical_json({"a": [1, 2], "b": [0.0]})
    assert canonical_json({"a": 1}) != canonical_json({"a": 1.0})
    assert canonical_json(namedtuple("Pair", "x y")(1, None)) == "[1,null]"


@pytest.mark.parametrize("value", [math.nan, [math.inf], {"a": -math.inf}, {"a": {1, 2}}])
def test_what_has_no_form_is_an_error(value: Any):
    with pytest.raises(TypeError):
        canonical_json(value)
