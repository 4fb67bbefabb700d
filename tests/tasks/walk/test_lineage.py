"""Promises: values are followed through whatever SQLite takes (WITH, recursion, windows, upserts, UPDATE FROM, json_each, views); what
cannot be followed tells nothing and raises nothing."""

from __future__ import annotations

import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentscaler.domain.store import load_domain
from agentscaler.tasks.walk.lineage import Catalogue, Lineage
from agentscaler.tasks.walk.provenance import statements_of
from agentscaler.tasks.walk.value import MAX_LEAVES
from agentscaler.world.program import compile_domain

CATALOGUE = Catalogue(
    {"People": ["id", "Name", "boss"], "visits": ["person", "day", "place", "notes"]},
    {
        "todays": "CREATE VIEW todays(who, place) AS SELECT p.name, v.place FROM visits v JOIN people p ON p.id = v.person WHERE v.day = 1",
        "loop": "CREATE VIEW loop AS SELECT * FROM loop",
        "odd": "CREATE VIEW odd AS this is no SQL",
    },
)


def follow(sql: str) -> Lineage:
    lineage = Lineage(CATALOGUE)
    assert lineage.follow(sql), sql
    return lineage


def columns(sql: str) -> list[str]:
    """Of each column of the result: what it plainly is, and in brackets what it is worked out from."""
    shown = []
    for _, value in follow(sql).result:
        plain = " ".join(sorted(f"{table}.{column}" for table, column in value.columns))
        computed = " ".join(sorted(f"{table}.{column}" for table, column in value.touches - value.columns))
        shown.append(plain + (f"[{computed}]" if computed else ""))
    return shown


def compared(sql: str) -> dict[str, str]:
    matched = follow(sql).matched
    return {".".join(path): " ".join(sorted(c for _, c in matched[path])) for path in sorted(matched) if matched[path]}


def stored(sql: str) -> dict[str, str]:
    found = follow(sql).stored
    return {".".join(path): " ".join(sorted(f"{t}.{c}" for t, c in found[path])) for path in sorted(found)}


RESULTS = {
    "SELECT name, p.boss AS b FROM people p": ["People.Name", "People.boss"],
    'SELECT "Name", PEOPLE.ID FROM People': ["People.Name", "People.id"],
    "SELECT p.*, 1 FROM people p": ["People.id", "People.Name", "People.boss", ""],
    "SELECT lower(trim(name)), coalesce(boss, id), upper(name) || id FROM people": [
        "People.Name",
        "People.boss People.id",
        "[People.Name People.id]",
    ],
    "SELECT iif(boss IS NULL, NULL, name), iif(boss IS NULL, 'none', name) FROM people": [
        "People.Name",
        "[People.Name People.boss]",
    ],
    "SELECT CASE id WHEN :x THEN name ELSE boss END, count(*), max(day) FROM people, visits": [
        "People.Name People.boss",
        "",
        "[visits.day]",
    ],
    "SELECT (SELECT name FROM people WHERE id = v.person) FROM visits v": ["People.Name"],
    "SELECT who FROM todays": ["People.Name"],
    "SELECT * FROM people JOIN visits ON visits.person = people.id": [
        *("People.id", "People.Name", "People.boss", "visits.person", "visits.day", "visits.place", "visits.notes"),
    ],
    "SELECT * FROM visits v JOIN visits w USING (person, day, place)": [
        *("visits.person", "visits.day", "visits.place", "visits.notes", "visits.notes"),
    ],
    "SELECT * FROM (visits v NATURAL JOIN visits w) CROSS JOIN (SELECT name FROM people)": [
        *("visits.person", "visits.day", "visits.place", "visits.notes", "People.Name"),
    ],
    "WITH a(x) AS MATERIALIZED (SELECT name FROM people), b AS (SELECT x AS y FROM a) SELECT y FROM b": ["People.Name"],
    "WITH RECURSIVE up(who, num) AS (SELECT id, 0 FROM people WHERE id = :id UNION ALL "
    "SELECT p.boss, num + 1 FROM up JOIN people p ON p.id = up.who) SELECT who, num FROM up": [
        "People.boss People.id",
        "",
    ],
    "SELECT name FROM people UNION SELECT place FROM visits EXCEPT SELECT 'x' ORDER BY 1": ["People.Name visits.place"],
    "SELECT row_number() OVER (PARTITION BY person ORDER BY day), lag(day) OVER w, person FROM visits WINDOW w AS (ORDER BY day)": [
        "[visits.day visits.person]",
        "[visits.day]",
        "visits.person",
    ],
    "VALUES ((SELECT name FROM people), 2), (:x, 3)": ["People.Name", ""],
    "SELECT value FROM json_each((SELECT notes FROM visits))": ["[visits.notes]"],
    "SELECT notes ->> 'a', json_extract(notes, '$.b.c') FROM visits": ["[visits.notes]", "[visits.notes]"],
    "SELECT j.value ->> 'n' FROM json_each((SELECT json_group_array(json_object('n', name)) FROM people)) j": [
        "People.Name"
    ],
    "SELECT atom FROM json_tree(:x), loop, odd, nowhere": [""],
    "SELECT unknown, rowid FROM people": ["", ""],
}


@pytest.mark.parametrize("sql", RESULTS)
def test_results_are_followed_to_their_columns(sql: str) -> None:
    assert columns(sql) == RESULTS[sql]


COMPARED = {
    "SELECT 1 FROM people WHERE lower(name) = lower(trim(:x)) AND boss IS :y AND id <> :z": {"x": "Name", "y": "boss"},
    "SELECT 1 FROM people WHERE id IN (:a, :b) AND (name, boss) IN (SELECT :c, place FROM visits WHERE day = @d)": {
        "a": "id",
        "b": "id",
        "c": "Name",
        "d": "day",
    },
    "SELECT 1 FROM visits WHERE day = $from AND place = coalesce(:to, place)": {"from": "day", "to": "place"},
    "SELECT 1 FROM people WHERE id IN (SELECT value FROM json_each(:ids))": {"ids.*": "id"},
    "SELECT 1 FROM json_each(:list) l JOIN visits v ON v.person = l.value ->> 'who' AND v.day = l.value ->> '$.when.day'": {
        "list.*.when.day": "day",
        "list.*.who": "person",
    },
    "SELECT 1 FROM json_each(:deep, '$.rows') l JOIN people p ON p.id = l.value": {"deep.rows.*": "id"},
    "WITH given AS (SELECT :day AS day) SELECT 1 FROM visits JOIN given USING (day)": {"day": "day"},
    "SELECT 1 FROM todays WHERE place = :p AND who = :q": {"p": "place", "q": "Name"},
    "SELECT CASE place WHEN :p THEN 1 END FROM visits": {"p": "place"},
    "DELETE FROM visits WHERE person = :p AND EXISTS (SELECT 1 FROM people WHERE id = visits.person AND name = :n)": {
        "n": "Name",
        "p": "person",
    },
    "SELECT day AS d FROM visits WHERE d = :d": {"d": "day"},
    "SELECT 1 FROM people WHERE id > :x AND id + 1 = :y AND name = 'a ' || :z": {},
}


@pytest.mark.parametrize("sql", COMPARED)
def test_arguments_are_followed_to_what_they_are_compared_with(sql: str) -> None:
    assert compared(sql) == COMPARED[sql]


STORED = {
    "INSERT INTO people VALUES (:id, trim(:name), NULL)": {"id": "People.id", "name": "People.Name"},
    "INSERT INTO visits (day, person) SELECT :day, id FROM people WHERE name = :n": {"day": "visits.day"},
    "WITH x AS (SELECT :a AS a) INSERT INTO people (name) SELECT a FROM x": {"a": "People.Name"},
    "REPLACE INTO people (id, name) VALUES (:id, :name)": {"id": "People.id", "name": "People.Name"},
    "INSERT INTO people (id, name) VALUES (:id, :n) ON CONFLICT (id) DO UPDATE SET name = excluded.name, boss = :b": {
        "b": "People.boss",
        "id": "People.id",
        "n": "People.Name",
    },
    "UPDATE visits SET place = n.value ->> 'p', (day, notes) = (SELECT :d, :t) FROM json_each(:new) n WHERE person = :p": {
        "d": "visits.day",
        "new.*.p": "visits.place",
        "t": "visits.notes",
    },
    "UPDATE visits AS v SET day = iif(day > 3, coalesce(:d, day), day) FROM people p WHERE p.id = v.person RETURNING day": {
        "d": "visits.day"
    },
    "UPDATE visits SET day = day + :d": {},
    "INSERT INTO nowhere (a) VALUES (:a)": {},
    "INSERT INTO people DEFAULT VALUES": {},
}


@pytest.mark.parametrize("sql", STORED)
def test_arguments_are_followed_to_where_they_are_stored(sql: str) -> None:
    assert stored(sql) == STORED[sql]


def test_upserts_tell_which_columns_may_be_there_already() -> None:
    sql = "INSERT INTO people (id, name) VALUES (:id, :n) ON CONFLICT (id) DO UPDATE SET name = excluded.name"
    assert follow(sql).existing == {("People", "id")}
    assert follow("INSERT OR REPLACE INTO people (id, name) VALUES (1, 2)").existing == {
        ("People", "id"),
        ("People", "Name"),
    }
    assert not follow("INSERT INTO people (id, name) VALUES (1, 2)").existing


def test_a_column_that_holds_the_argument_is_given_back() -> None:
    assert follow("SELECT name, p.id, boss FROM people p WHERE p.id = lower(:id) AND boss > 1").given_back == {1}
    assert follow("SELECT p.id, b.id FROM people p JOIN people b ON b.id = p.boss WHERE p.id = :id").given_back == {0}
    assert not follow("SELECT id FROM people WHERE :id IS NULL OR id = :id").given_back
    assert not follow("SELECT id FROM people WHERE id = coalesce(:id, boss)").given_back


def test_the_conditions_of_a_view_have_a_share_in_what_is_seen_through_it() -> None:
    assert ("visits", "day") in follow("SELECT place FROM todays").touched
    assert ("People", "boss") not in follow("SELECT place FROM todays").touched


def test_json_that_is_too_large_is_followed_no_further() -> None:
    inner, outer = (", ".join(f"'k{n}', {name}" for n in range(30)) for name in ("name", "j"))
    sql = f"WITH a AS (SELECT json_object({inner}) AS j FROM people) SELECT json_object({outer}) FROM a"
    value = follow(sql).result[0][1]
    assert value.num_leaves <= MAX_LEAVES and value.touches == {("People", "Name")}


@pytest.mark.parametrize(
    "sql",
    [
        *("", ";", "SELECT", "PRAGMA x", "not SQL at all", "SELECT * FROM", "CREATE TABLE a (b)", "SELECT 'open"),
        "SELECT " + "(" * 400 + "1" + ")" * 400,
        "SELECT " + "1 + " * 3000 + "1",
    ],
)
def test_what_is_not_understood_raises_nothing(sql: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="sqlglot")
    lineage = Lineage(CATALOGUE)
    lineage.follow(sql)
    assert not lineage.stored


_SHIPPED = [
    re.findall(r":\w+|<>|<=|>=|\|\||->>|\w+|'[^']*'|\S", sql)
    for name in ("notes", "airline", "retail")
    for tool in compile_domain(load_domain(name)).tools.values()
    for sql in statements_of(tool)
]


@given(st.sampled_from(_SHIPPED), st.sampled_from(_SHIPPED), st.data())
def test_no_statement_raises(one: list[str], other: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(one) - 1))
    how = data.draw(st.sampled_from(["drop", "put", "insert"]))
    words = other[data.draw(st.integers(0, len(other) - 1)) :][: data.draw(st.integers(1, 8))]
    mixed = one[:place] + ([] if how == "drop" else words) + one[place + (how != "insert") :]
    logging.getLogger("sqlglot").setLevel(logging.CRITICAL)
    assert Lineage(CATALOGUE).follow(" ".join(mixed)) in (True, False)
