"""`check_domain`: the shipped domains conform, and each rule catches the smallest domain that breaks it."""

from __future__ import annotations

import time

import pytest

from agentscaler.domain.domain import Domain
from agentscaler.domain.store import load_domain, shipped_domains
from agentscaler.world.conformance import check_domain
from tests.world.tiny_domain import SHELF, STEPS, TITLE, tiny, tool


@pytest.mark.parametrize("name", shipped_domains())
def test_shipped_domains_conform(name: str) -> None:
    domain = load_domain(name)
    start = time.thread_time()
    assert check_domain(domain) == []
    assert time.thread_time() - start < 10


def test_notes_is_checked_in_under_two_seconds() -> None:
    start = time.thread_time()
    check_domain(load_domain("notes"))
    assert time.thread_time() - start < 2


def test_the_tiny_domain_conforms() -> None:
    assert check_domain(tiny()) == []


KEYLESS = "CREATE TABLE loose (a TEXT, b TEXT) STRICT;"
LAX = "CREATE TABLE lax (a TEXT PRIMARY KEY) --) STRICT\n;"
COUNTED = "CREATE TABLE counted (n INTEGER PRIMARY KEY, title TEXT NOT NULL) STRICT;"
TRIGGER = (
    COUNTED + "CREATE TRIGGER count_up AFTER INSERT ON books BEGIN INSERT INTO counted (title) VALUES (new.title); END;"
)
REFERRED = "CREATE TABLE loans (title TEXT PRIMARY KEY, book INTEGER NOT NULL) STRICT;"

BROKEN: dict[str, tuple[Domain, str]] = {
    "not strict": (tiny(also=LAX), "lax is not STRICT"),
    "no key": (tiny(also=KEYLESS), "loose has no primary key"),
    "any": (tiny(also="CREATE TABLE x (a TEXT PRIMARY KEY, b ANY) STRICT;"), "column b is ANY"),
    "autoincrement": (tiny(also="CREATE TABLE x (a INTEGER PRIMARY KEY AUTOINCREMENT) STRICT;"), "AUTOINCREMENT"),
    "virtual table": (tiny(also="CREATE VIRTUAL TABLE x USING fts5(a);"), "not authorized"),
    "nocase key": (tiny(also="CREATE TABLE x (a TEXT PRIMARY KEY COLLATE NOCASE) STRICT;"), "compares as NOCASE"),
    "nocase key, no rowid": (
        tiny(also="CREATE TABLE x (a TEXT COLLATE NOCASE, b TEXT, PRIMARY KEY (a, b)) STRICT, WITHOUT ROWID;"),
        "compares as NOCASE",
    ),
    "invariant, seeded": (
        tiny(invariants=[{"name": "few books", "sql": "SELECT count(*) FROM books HAVING count(*) > 2"}]),
        "seed 1: invariant few books: 3",
    ),
    "invariant, after a call": (
        tiny(invariants=[{"name": "thick books", "sql": "SELECT title, pages FROM books WHERE pages < 100"}]),
        "invariant thick books: ",
    ),
    "invariant that writes": (
        tiny(invariants=[{"name": "none", "sql": "DELETE FROM books RETURNING title"}]),
        "invariant none: writes; it may only look",
    ),
    "money": (tiny(also="CREATE TABLE x (a TEXT PRIMARY KEY, unit_price REAL) STRICT;"), "unit_price looks like money"),
    "trigger rows numbered": (tiny(also=TRIGGER), "a trigger writes it and SQLite numbers its rows"),
    "rows numbered": (
        tiny(
            tool("note", parameters={"title": TITLE}, do=["INSERT INTO counted (title) VALUES (:title)"]),
            also=COUNTED,
        ),
        "SQLite numbers its new row of counted",
    ),
    "exempt key": (tiny(columns={"exempt": ["log.*", "books.book_id"]}), "books.book_id is part of the key"),
    "semantic key": (
        tiny(columns={"exempt": ["log.*"], "semantic": ["shelves.name"]}),
        "shelves.name is part of the key",
    ),
    "unknown column": (tiny(columns={"exempt": ["log.*", "books.colour"]}), "there is no books.colour"),
    "foreign key to nowhere": (tiny(also="CREATE TABLE x (a TEXT PRIMARY KEY REFERENCES y(z)) STRICT;"), "refers to y"),
    "dangling seed": (tiny(seed={"steps": STEPS[1:]}), "FOREIGN KEY constraint failed"),
    "unfilled": (tiny(seed={"steps": STEPS[:1]}), "books: tools read it, and no seed fills it"),
    "high seeded key": (
        tiny(seed={"steps": [*STEPS, "INSERT INTO books VALUES (1000000007, 'It', 'left', 1)"]}),
        "seeded keys must stay below 1000000000",
    ),
    "never ok": (
        tiny(tool("burn", do=["DELETE FROM books"], require=[{"sql": "SELECT 1 WHERE 0", "else": "No fire here."}])),
        "tool burn was never ok",
    ),
    "partial order": (
        tiny(tool("titles", returns="SELECT title FROM books ORDER BY shelf")),
        "its ORDER BY leaves rows",
    ),
    "partial order, with a limit": (
        tiny(tool("titles", returns="SELECT title FROM books -- ORDER BY title\nORDER BY shelf LIMIT 1;")),
        "its ORDER BY leaves rows",
    ),
    "write by partial order": (
        tiny(
            tool("drop", do=["DELETE FROM tags WHERE tag = (SELECT tag FROM tags ORDER BY length(tag) LIMIT 1)"]),
            also="CREATE TABLE tags (tag TEXT PRIMARY KEY) STRICT; INSERT INTO tags VALUES ('b'), ('a');",
        ),
        "depends on an order that no ORDER BY settles",
    ),
    "no order by": (tiny(tool("titles", returns="SELECT 'ORDER BY', title FROM books")), "needs a total ORDER BY"),
    "one of many": (
        tiny(tool("any_book", returns="SELECT title FROM books", one=True)),
        "an order that no ORDER BY settles",
    ),
    "write by order": (
        tiny(
            tool(
                "drop_one",
                do=["DELETE FROM books WHERE title = (SELECT title FROM books WHERE shelf = 'left' LIMIT 1)"],
            )
        ),
        "depends on an order that no ORDER BY settles",
    ),
    "id without foreign key": (
        tiny(
            tool(
                "lend",
                parameters={"title": TITLE},
                do=["INSERT INTO loans VALUES (:title, new_id('books'))"],
            ),
            also=REFERRED,
        ),
        "a new id of table books into a column that no foreign key ties",
    ),
    "a read takes an id": (
        tiny(tool("next", returns="SELECT new_id('books') AS n", one=True)),
        "function new_id is not allowed",
    ),
    "new_id of an argument": (
        tiny(tool("add", parameters={"t": TITLE}, do=["INSERT INTO books VALUES (new_id(:t), :t, 'left', 1)"])),
        "new_id needs the name of a table",
    ),
    "example": (
        tiny(
            tool(
                "find",
                parameters={"title": TITLE},
                returns="SELECT title FROM books WHERE title = :title ORDER BY 1",
                example={"say": "?", "arguments": {"name": "x"}, "result": [], "reply": "."},
            )
        ),
        "the example's arguments do not fit",
    ),
    "nested": (tiny(tool("t", returns="SELECT title FROM books ORDER BY 1", nested=["tags"])), "nested names tags"),
    "column twice": (tiny(tool("t", returns="SELECT title, title FROM books ORDER BY 1")), "has column title twice"),
    "unused parameter": (
        tiny(tool("t", parameters={"shelf": SHELF}, returns="SELECT title FROM books ORDER BY 1")),
        "no statement uses parameter shelf",
    ),
    "words": (
        tiny(
            tool("t", require=[{"sql": "SELECT 1", "else": "No {book}."}], returns="SELECT title FROM books ORDER BY 1")
        ),
        "name {book}, no parameter",
    ),
    "required": (
        tiny(tool("t", required=["x"], returns="SELECT title FROM books ORDER BY 1")),
        "required parameter x is no property",
    ),
    "open parameters": (
        tiny(
            {
                "name": "t",
                "description": "t",
                "parameters": {"properties": {}, "additionalProperties": True},
                "returns": "SELECT title FROM books ORDER BY 1",
            }
        ),
        "takes parameters that it does not name",
    ),
    "reference": (
        tiny(tool("t", parameters={"x": {"$ref": "http://example.org/schema"}}, returns="SELECT :x AS x", one=True)),
        "$ref is not allowed",
    ),
    "no schema": (
        tiny(tool("t", parameters={"x": {"type": "strnig"}}, returns="SELECT :x AS x", one=True)),
        "parameters:",
    ),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_each_rule_catches_its_breach(rule: str) -> None:
    domain, words = BROKEN[rule]
    problems = check_domain(domain)
    assert any(words in problem for problem in problems), problems
    assert all("\n" not in problem for problem in problems)


def test_names_in_other_letter_case_and_with_clauses_are_no_breach() -> None:
    counted = tool("count", returns="WITH few AS (SELECT 1 FROM Books) SELECT count(*) AS n FROM few", one=True)
    also = (
        "CREATE TABLE Marks (title TEXT PRIMARY KEY REFERENCES BOOKS(TITLE), at TEXT DEFAULT CURRENT_TIMESTAMP) STRICT;"
    )
    assert (
        check_domain(tiny(counted, tool("all", returns="SELECT count(*) AS n FROM BOOKS", one=True), also=also)) == []
    )
