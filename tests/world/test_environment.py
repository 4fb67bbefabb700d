"""Promises of one session.

1. A refused or invalid call changes nothing: no row, no id counter. A write that changes no row is a refusal.
2. Refusals are in words: the tool's own, a trigger's, or the constraint's.
3. Time stands still, whoever asks and however. Same calls, same answers and contents, in any process.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentscaler.domain.domain import Domain
from agentscaler.domain.store import load_domain
from agentscaler.errors import DomainError
from agentscaler.messages import Outcome
from agentscaler.world.drawing import draw_arguments, texts_of
from agentscaler.world.environment import MAX_RESULT_CHARS, MAX_ROWS, CallResult, Environment
from agentscaler.world.new_ids import INTEGER_ID_START
from agentscaler.world.world import World, digest_of
from tests.world.tiny_domain import tiny, tool

NOTES = load_domain("notes")
TEXTS = texts_of(World.of(NOTES, 1))
ANY = {"type": ["string", "number", "integer", "null"]}


def open_notes() -> Environment:
    return World.of(NOTES, 1).open()


def state(environment: Environment, domain: Domain = NOTES) -> tuple[str, dict[str, int], frozenset[tuple[str, Any]]]:
    tables = World.of(domain, 1).program.tables
    return digest_of(environment.connection, tables), environment.id_counts, environment.issued


def error(result: CallResult) -> str:
    return orjson.loads(result.content)["error"]


def once(domain: Domain, name: str, arguments: dict[str, Any] | str = "{}", actor: str = "agent") -> CallResult:
    environment = World.of(domain, 1).open()
    before = state(environment, domain)
    result = environment.call(actor, name, arguments)
    if result.outcome is not Outcome.OK:
        assert state(environment, domain) == before
        assert environment.close() == {}
    return result


def answer(domain: Domain, name: str, arguments: dict[str, Any] | None = None) -> Any:
    result = once(domain, name, arguments or {})
    assert result.outcome is Outcome.OK, result.content
    return orjson.loads(result.content)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(1, 25))
def test_a_failed_call_changes_nothing_and_calls_repeat(seed: int, num_calls: int) -> None:
    random, one, other = Random(seed), open_notes(), open_notes()
    for _ in range(num_calls):
        chosen = random.choice(NOTES.tools)
        arguments = draw_arguments(chosen.parameters, TEXTS, random)
        before = state(one)
        result = one.call("agent", chosen.name, arguments)
        if result.outcome is not Outcome.OK or chosen.name not in World.of(NOTES, 1).program.write_tools:
            assert state(one) == before
            assert result.changed_keys == ()
        else:
            assert state(one) != before
        assert other.call("agent", chosen.name, orjson.dumps(arguments).decode()) == result
    assert state(one) == state(other)
    assert one.net_keys() == other.net_keys()
    assert one.close() == other.close()


def test_outcomes_and_words() -> None:
    environment = open_notes()
    for arguments, words in [
        ('{"note": "Nowhere"}', 'There is no note with the title "Nowhere".'),
        ('{"note": "Wifi codes"}', "This note is locked. It cannot be deleted."),
        ('{"note": "Meeting minutes"}', "This note is shared. Stop sharing it with everyone before deleting it."),
    ]:
        result = environment.call("agent", "delete_note", arguments)
        assert (result.outcome, error(result)) == (Outcome.REFUSED, words)
    for tool_name, arguments, words in [
        ("delete_note", "{", "not valid JSON"),
        ("delete_note", "[1]", "must be a JSON object"),
        ("delete_note", "{}", '"note" is a required property'),
        ("delete_note", '{"note": 5}', "at note"),
        ("delete_note", '{"note": "x", "force": true}', "force"),
        ("remove_note", "{}", "There is no tool 'remove_note'. Tools: list_folders, "),
    ]:
        result = environment.call("agent", tool_name, arguments)
        assert result.outcome is Outcome.INVALID_CALL and words in error(result)
    assert environment.call("agent", "delete_note", '{"note": "Garden plan"}') == CallResult(
        Outcome.OK, '{"done":true}', ("note_tags/note_002,outdoor", "notes/note_002")
    )
    assert environment.net_keys() == ("note_tags/note_002,outdoor", "notes/note_002")


def test_a_write_that_changes_nothing_is_refused() -> None:
    move = tool("left", do=["UPDATE books SET shelf = 'left' WHERE title = 'Emma'"])
    result = once(tiny(move), "left")
    assert result.outcome is Outcome.REFUSED and error(result).startswith("left changed nothing")


@pytest.mark.parametrize(
    ("do", "words"),
    [
        ("UPDATE books SET pages = :x WHERE title = 'Emma'", "A value is missing: books.pages."),
        ("UPDATE books SET title = 'Dune' WHERE title = 'Emma'", "There is already one with the same books.title."),
        ("UPDATE shelves SET room = -1", "Not allowed: room > 0."),
        (
            "INSERT INTO shelves VALUES ('top', 'high')",
            "A value has the wrong type: cannot store TEXT value in INTEGER column shelves.room.",
        ),
        (
            "DELETE FROM shelves WHERE name = 'left'",
            "Something the request refers to does not exist, or something else still refers to it.",
        ),
        (
            "UPDATE books SET shelf = 'nowhere'",
            "Something the request refers to does not exist, or something else still refers to it.",
        ),
        ("UPDATE books SET pages = json_extract('{', '$')", "The request could not be carried out: malformed JSON."),
        (
            "UPDATE books SET pages = abs(-9223372036854775807 - 1)",
            "The request could not be carried out: integer overflow.",
        ),
        ("UPDATE books SET title = canonical_json('{')", "A value is not valid JSON."),
        ("UPDATE books SET title = printf('%70000d', 1)", "A text is too long."),
        (
            "UPDATE books SET title = CAST(x'ff' AS TEXT) WHERE book_id = 1",
            "The request could not be carried out: a text is not valid Unicode.",
        ),
    ],
)
def test_the_databases_refusals_in_words(do: str, words: str) -> None:
    """Foreign keys of the tiny domain are deferred: they speak at the end of the call, after `returns`."""
    parameters = {"x": {"type": "string"}} if ":x" in do else {}
    result = once(tiny(tool("go", do=[do], parameters=parameters, required=[])), "go")
    assert (result.outcome, error(result)) == (Outcome.REFUSED, words)


def test_a_deferred_foreign_key_may_be_broken_within_a_call() -> None:
    swap = tool(
        "swap", do=["UPDATE books SET shelf = 'new' WHERE title = 'Emma'", "INSERT INTO shelves VALUES ('new', 3)"]
    )
    assert once(tiny(swap), "swap").outcome is Outcome.OK


def test_a_refused_call_gives_its_ids_back() -> None:
    environment = World.of(tiny(), 1).open()
    assert environment.call("agent", "add_book", {"title": "Emma", "shelf": "left"}).outcome is Outcome.REFUSED
    assert environment.call("agent", "add_book", {"title": "It", "shelf": "nowhere"}).outcome is Outcome.REFUSED
    assert environment.issued == frozenset() and environment.id_counts == {}
    assert environment.call("agent", "add_book", {"title": "It", "shelf": "left"}).changed_keys == (
        f"books/{INTEGER_ID_START + 1}",
    )
    columns = {"title": "It", "shelf": "left", "pages": 1}
    assert environment.close() == {
        "books": [{"op": "insert", "key": {"book_id": {"$new": "books#1"}}, "columns": columns}]
    }


def test_the_users_tools_are_not_the_agents() -> None:
    domain = tiny(tool("shout", actor="user", do=["UPDATE books SET pages = pages + 1"]))
    assert once(domain, "shout", actor="user").outcome is Outcome.OK
    wrong = once(domain, "shout", actor="agent")
    assert (
        wrong.outcome is Outcome.INVALID_CALL
        and error(wrong) == "There is no tool 'shout'. Tools: list_books, add_book, move_book."
    )
    assert "Tools: shout." in error(once(domain, "list_books", actor="user"))


CLOCK = "2026-03-02 09:00:00"


@pytest.mark.parametrize(
    ("sql", "value", "expected"),
    [
        ("now()", None, "2026-03-02T09:00:00Z"),
        ("CURRENT_TIMESTAMP", None, CLOCK),
        ("current_date", None, CLOCK[:10]),
        ("current_time", None, CLOCK[11:]),
        ("datetime('now')", None, CLOCK),
        ("datetime()", None, CLOCK),
        ("datetime(:x)", "now", CLOCK),
        ("datetime(:x, 'subsec')", "NOW", CLOCK + ".000"),
        ("strftime('%s', :x)", "now", "1772442000"),
        ("datetime('now', :x)", "localtime", CLOCK),
        ("datetime('now', :x)", "utc", CLOCK),
    ],
)
def test_time_stands_still(sql: str, value: str | None, expected: str) -> None:
    domain = tiny(tool("ask", parameters={"x": ANY}, required=[], returns=f"SELECT {sql} AS t, :x AS x", one=True))
    assert answer(domain, "ask", {"x": value})["t"] == expected


def test_worlds_with_other_clocks_do_not_mix() -> None:
    ask = tool("ask", returns="SELECT datetime('now') AS t", one=True)
    one, other = World.of(tiny(ask), 1).open(), World.of(tiny(ask, clock="2001-01-01T00:00:00Z"), 1).open()
    for _ in range(2):
        assert "2026-03-02" in one.call("agent", "ask", "{}").content
        assert "2001-01-01" in other.call("agent", "ask", "{}").content


def test_defaults_are_frozen_too() -> None:
    stamped = "CREATE TABLE stamped (a TEXT PRIMARY KEY, at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP) STRICT;"
    stamp = tool("stamp", do=["INSERT INTO stamped (a) VALUES ('x')"], returns="SELECT at FROM stamped", one=True)
    assert answer(tiny(stamp, also=stamped), "stamp") == {"at": CLOCK}


@pytest.mark.parametrize(
    ("schema", "given", "stored"),
    [
        ({"type": "integer"}, "3.0", 3),
        ({"type": "integer"}, "-0.0", 0),
        ({"type": "number"}, "-0.0", 0.0),
        ({"type": "number"}, "3", 3),
        ({"type": "boolean"}, "true", 1),
        ({"type": "array"}, '[1, {"b": 1, "a": 2}]', '[1,{"a":2,"b":1}]'),
        ({}, "null", None),
    ],
)
def test_arguments_as_sqlite_takes_them(schema: dict[str, Any], given: str, stored: Any) -> None:
    domain = tiny(tool("echo", parameters={"x": schema}, returns="SELECT :x AS x", one=True))
    found = orjson.loads(once(domain, "echo", f'{{"x": {given}}}').content)["x"]
    assert found == stored and type(found) is type(stored)


@pytest.mark.parametrize(
    ("schema", "given", "words"),
    [
        ({"type": "integer"}, str(2**70), "the number is too large"),
        ({"type": "integer"}, {"x": 2**63}, "the number is too large"),
        ({"type": "string"}, '"a\\u0000b"', "NUL"),
        ({"type": "array"}, '["a\\u0000b"]', "NUL"),
        ({"type": "string"}, {"x": "\ud800"}, "Unicode"),
        ({"type": "object"}, {"x": {"\udfff": 1}}, "Invalid arguments"),
        ({"type": "number"}, {"x": float("nan")}, "Invalid arguments"),
        ({}, {"x": float("inf")}, "not a finite number"),
        ({"type": "string"}, {"x": "x" * 33_000}, "too long"),
        ({}, '"' + "x" * 300_000 + '"', "too long"),
        ({"type": "string"}, {"x": b"bytes"}, "Invalid arguments"),
        ({}, {1: 2}, "Invalid arguments"),
    ],
)
def test_values_that_sqlite_cannot_hold_are_invalid(schema: dict[str, Any], given: Any, words: str) -> None:
    domain = tiny(tool("echo", parameters={"x": schema}, required=[], returns="SELECT :x AS x", one=True))
    result = once(domain, "echo", f'{{"x": {given}}}' if isinstance(given, str) else given)
    assert result.outcome is Outcome.INVALID_CALL and words in error(result)


def test_results_are_bounded() -> None:
    count = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :n)"
    rows, wide = f"{count} SELECT i FROM n ORDER BY i", f"{count} SELECT i, printf('%60000d', i) AS x FROM n ORDER BY i"
    number = {"n": {"type": "integer"}}
    domain = tiny(tool("rows", parameters=number, returns=rows), tool("wide", parameters=number, returns=wide))
    assert len(answer(domain, "rows", {"n": MAX_ROWS})) == MAX_ROWS
    assert "More than 200 results" in error(once(domain, "rows", {"n": MAX_ROWS + 1}))
    assert len(answer(domain, "wide", {"n": 4})) == 4 and MAX_RESULT_CHARS < 5 * 60_000
    assert "too long" in error(once(domain, "wide", {"n": 5}))


def test_what_cannot_be_told_is_not_done() -> None:
    deep = "UPDATE books SET title = '" + "[" * 300 + "]" * 300 + "' WHERE book_id = 1"
    broken = "UPDATE books SET title = '[' WHERE book_id = 1"
    show = {"returns": "SELECT title FROM books WHERE book_id = 1", "one": True, "nested": ["title"]}
    domain = tiny(tool("deep", do=[deep], **show), tool("broken", do=[broken], **show))
    assert "nested too deeply" in error(once(domain, "deep"))
    assert "not valid JSON" in error(once(domain, "broken"))


def test_generated_columns_are_no_part_of_the_diff() -> None:
    columns = (
        "a INTEGER PRIMARY KEY, twice INTEGER AS (a * 2) STORED, b INTEGER, thrice INTEGER AS (a * 3) STORED, c TEXT"
    )
    also = f"CREATE TABLE sums ({columns}) STRICT;"
    add = tool("add", do=["INSERT INTO sums (a, b, c) VALUES (7, 8, 'nine')"])
    environment = World.of(tiny(add, also=also), 1).open()
    assert environment.call("agent", "add", {}).outcome is Outcome.OK
    assert environment.close() == {"sums": [{"op": "insert", "key": {"a": 7}, "columns": {"b": 8, "c": "nine"}}]}
    with pytest.raises(DomainError, match="sums: generated column twice must be STORED"):
        World.of(tiny(add, also=also.replace("(a * 2) STORED", "(a * 2)")), 1)


def test_a_closed_environment_is_no_refusal() -> None:
    environment = open_notes()
    environment.close()
    with pytest.raises(RuntimeError, match="closed"):
        environment.call("agent", "list_folders", "{}")


def test_an_environment_left_open_is_collected() -> None:
    environment = open_notes()
    environment.call("agent", "create_folder", {"name": "x"})
    gone = weakref.ref(environment)
    del environment
    gc.collect()
    assert gone() is None


PROBE = """
from agentscaler.domain.store import load_domain
from agentscaler.world.world import World, digest_of
world = World.of(load_domain("notes"), 7)
environment = world.open()
print(world.digest)
for tool, arguments in [
    ("create_note", {"title": "A", "text": "b", "folder": "Work"}), ("create_folder", {"name": "F"}),
    ("find_notes", {"text": "plan"}), ("change_text", {"note": "A", "text": "c"}), ("delete_note", {"note": "?"}),
]:
    print(environment.call("agent", tool, arguments))
print(sorted(environment.issued), digest_of(environment.connection, world.program.tables))
print(environment.net_keys(), environment.close())
"""


def test_the_same_in_every_process() -> None:
    outputs = set()
    for zone, hash_seed in [("UTC", "1"), ("Asia/Tokyo", "2")]:
        environment = {**os.environ, "TZ": zone, "PYTHONHASHSEED": hash_seed}
        outputs.add(
            subprocess.run(
                [sys.executable, "-c", PROBE], env=environment, capture_output=True, check=True, text=True
            ).stdout
        )
    assert len(outputs) == 1 and "notes#1" in outputs.pop()


def test_a_changed_copy_of_a_domain_is_another_domain() -> None:
    domain = tiny()
    copied = domain.model_copy(update={"clock": "2001-01-01T00:00:00Z"})
    assert copied.fingerprint != domain.fingerprint == tiny().fingerprint
