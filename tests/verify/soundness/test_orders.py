"""Promises: a task is unsound where what the person asks for in one breath can be done in another order, as well, with another end; and
only there."""

from __future__ import annotations

from typing import Any

import pytest

from agentscaler.errors import TaskError
from agentscaler.tasks.compile import compile_task
from agentscaler.tasks.task import WrittenTask
from tests.world.tiny_domain import tiny, tool

ITEM = {"item": {"type": "string", "enum": ["lamp", "sofa", "rug"]}}
SHOP = """
CREATE TABLE prices (item TEXT PRIMARY KEY, cents INTEGER NOT NULL) STRICT;
CREATE TABLE sales (sale_id TEXT PRIMARY KEY, item TEXT NOT NULL, cents INTEGER NOT NULL) STRICT;
CREATE TABLE cart (item TEXT PRIMARY KEY, ordered INTEGER NOT NULL DEFAULT 0) STRICT;
"""
# The first thing that is bought is half the price: nothing that two purchases write is the same row.
PRICE = "iif(EXISTS (SELECT 1 FROM sales), p.cents, p.cents / 2)"
BUY = tool(
    "buy",
    parameters=ITEM,
    do=[f"INSERT INTO sales SELECT new_id('sales'), item, {PRICE} FROM prices p WHERE item = :item"],
    returns="SELECT item, sale_id FROM sales WHERE item = :item",
    one=True,
)
PUT = tool("put", parameters=ITEM, do=["INSERT INTO cart (item) VALUES (:item) ON CONFLICT DO UPDATE SET ordered = 0"])
ORDER = tool(
    "order",
    do=[
        f"INSERT INTO sales SELECT new_id('sales'), item, {PRICE} FROM cart JOIN prices p USING (item) WHERE NOT ordered",
        "UPDATE cart SET ordered = 1 WHERE NOT ordered",
    ],
)
PRAISE = tool(
    "praise",
    parameters={"sale_id": {"type": "string"}},
    require=[{"sql": "SELECT 1 FROM sales WHERE sale_id = :sale_id", "else": "There is no such sale."}],
    do=["UPDATE sales SET item = item || ', fine' WHERE sale_id = :sale_id"],
)
LOOK = tool("look", returns="SELECT item, sale_id FROM sales ORDER BY item")
CHEAPEST = tool("cheapest", returns="SELECT item FROM prices ORDER BY cents, item LIMIT 1", one=True)
CHEAPEST = tool("cheapest", returns="SELECT item FROM prices ORDER BY cents, item LIMIT 1", one=True)
RAISE = tool("raise_price", parameters=ITEM, do=["UPDATE prices SET cents = cents + 500 WHERE item = :item"])
DOUBLE = tool("double_price", parameters=ITEM, do=["UPDATE prices SET cents = cents * 2 WHERE item = :item"])
SEED = "INSERT INTO prices VALUES ('lamp', 4000), ('sofa', 90000), ('rug', 7000)"


def problems(*reference: dict[str, Any], **changes: Any) -> str:
    tools = (BUY, PUT, ORDER, PRAISE, LOOK, CHEAPEST, RAISE, DOUBLE)
    domain = tiny(*tools, also=SHOP, ids={"sales": "S-"}, seed={"steps": [SEED]}, **changes)
    domain = domain.model_copy(update={"tools": domain.tools[3:]})
    kind = {"kind": "multi_goal", "then": ["And then?"]} if any("say" in step for step in reference) else {}
    written = {"id": "one", "kind": "write", "intent": "x", "reference": reference, **kind}
    try:
        compile_task(domain, WrittenTask.model_validate(written))
    except TaskError as error:
        return str(error)
    return ""


def do(name: str, item: str | None = None) -> dict[str, Any]:
    return {"call": name, "arguments": {"item": item} if item else {}}


SAY = {"say": "It is bought."}
PRAISE_FIRST = {"call": "praise", "arguments": {"sale_id": {"$result": [1, "sale_id"]}}}
DOUBLE_CHEAPEST = {"call": "double_price", "arguments": {"item": {"$result": [2, "item"]}}}


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ([do("buy", "lamp"), do("buy", "sofa")], "doing call 1 after call 2 is as good and ends differently"),
        ([do("buy", "lamp"), do("look"), do("buy", "sofa")], "doing call 1 after call 3 is as good"),
        ([do("put", "rug"), do("buy", "lamp"), do("buy", "sofa")], "doing call 2 after call 3 is as good"),
        ([do("buy", "lamp"), do("put", "rug"), do("order")], "doing call 1 after call 3 is as good"),
        ([do("put", "rug"), do("order"), do("buy", "lamp")], "doing call 2 after call 3 is as good"),
        ([do("raise_price", "lamp"), do("double_price", "lamp")], "doing call 1 after call 2 is as good"),
        ([do("buy", "lamp"), PRAISE_FIRST, do("buy", "sofa")], "doing call 1 after call 3 is as good"),
        ([do("raise_price", "lamp"), do("cheapest"), DOUBLE_CHEAPEST], "doing call 1 after call 3 is as good"),
    ],
)
def test_another_order_ends_differently(reference: list[dict[str, Any]], words: str) -> None:
    assert words in problems(*reference)


@pytest.mark.parametrize(
    "reference",
    [
        [do("buy", "lamp")],
        [do("put", "lamp"), do("put", "rug")],
        [do("put", "lamp"), do("order")],
        [do("put", "lamp"), do("put", "rug"), do("look"), do("order")],
        [do("raise_price", "lamp"), SAY, do("double_price", "lamp")],
        [do("buy", "lamp"), SAY, do("put", "rug"), do("order")],
        [do("raise_price", "lamp"), do("raise_price", "rug")],
        [do("buy", "lamp"), PRAISE_FIRST],
        [do("buy", "lamp"), do("buy", "lamp")],
    ],
)
def test_one_end(reference: list[dict[str, Any]]) -> None:
    assert problems(*reference) == ""


def test_an_order_that_a_rule_in_words_forbids_is_not_as_good() -> None:
    rule = {
        "name": "raise first",
        "level": "text_only",
        "text": "The price of 40.00 is not doubled.",
        "forbids": [
            {"tools": ["double_price"], "sql": "SELECT 1 FROM prices WHERE item = :item AND cents = 4000"},
        ],
    }
    assert problems(do("raise_price", "lamp"), do("double_price", "lamp"), policy=[rule]) == ""
    assert "as good" in problems(do("raise_price", "rug"), do("double_price", "rug"), policy=[rule])
    of_the_speaker = {"tools": ["double_price"], "sql": "SELECT 1 WHERE :speaker IS NULL"}
    assert "as good" in problems(
        do("raise_price", "lamp"), do("double_price", "lamp"), policy=[{**rule, "forbids": [of_the_speaker]}]
    )
