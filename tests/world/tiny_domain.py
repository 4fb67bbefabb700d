"""A domain of two tables and three tools, to be broken one way at a time."""

from __future__ import annotations

from typing import Any

from agentscaler.domain.domain import Domain

SCHEMA = """
CREATE TABLE shelves (name TEXT PRIMARY KEY, room INTEGER NOT NULL CHECK (room > 0)) STRICT;
CREATE TABLE books (
  book_id INTEGER PRIMARY KEY, title TEXT NOT NULL UNIQUE,
  shelf TEXT NOT NULL REFERENCES shelves(name) DEFERRABLE INITIALLY DEFERRED, pages INTEGER NOT NULL DEFAULT 1
) STRICT;
CREATE TABLE log (entry INTEGER PRIMARY KEY, words TEXT NOT NULL) STRICT;
"""
STEPS = [
    "INSERT INTO shelves VALUES ('left', 1), ('right', 2)",
    "INSERT INTO books VALUES (1, 'Emma', 'left', 300), (2, 'Ulysses', 'left', 900), (3, 'Dune', 'right', 500)",
    "INSERT INTO log VALUES (1, 'opened')",
]
TITLE, SHELF = {"type": "string", "maxLength": 40}, {"type": "string", "maxLength": 20}


def tool(name: str, /, **parts: Any) -> dict[str, Any]:
    properties = parts.pop("parameters", {})
    required = parts.pop("required", list(properties))
    return {"name": name, "description": name, "parameters": {"properties": properties, "required": required}, **parts}


LIST = tool("list_books", returns="SELECT title, shelf, pages FROM books ORDER BY title")
ADD = tool(
    "add_book",
    parameters={"title": TITLE, "shelf": SHELF},
    do=["INSERT INTO books (book_id, title, shelf) VALUES (new_id('books'), :title, :shelf)"],
    returns="SELECT title, shelf FROM books WHERE title = :title",
    one=True,
)
MOVE = tool(
    "move_book",
    parameters={"title": TITLE, "shelf": SHELF},
    require=[{"sql": "SELECT 1 FROM books WHERE title = :title", "else": 'There is no book "{title}".'}],
    do=["UPDATE books SET shelf = :shelf WHERE title = :title"],
)


def tiny(*extra: dict[str, Any], schema: str = SCHEMA, also: str = "", **changes: Any) -> Domain:
    """The domain with more tools, another or a longer schema, or other keys."""
    return Domain.model_validate(
        {
            "name": "tiny",
            "description": "books on shelves",
            "clock": "2026-03-02T09:00:00Z",
            "instructions": "",
            "schema_sql": schema + also,
            "ids": {"books": ""},
            "columns": {"exempt": ["log.*"]},
            "seed": {"steps": STEPS},
            "tools": [LIST, ADD, MOVE, *extra],
            **changes,
        }
    )
