"""Hostile domains: a tool, schema or recipe that a model may have written is refused at load, or ends in time and changes nothing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from agentscaler.domain.domain import Domain
from agentscaler.errors import DomainError, RolloutFault
from agentscaler.messages import Outcome
from agentscaler.world import guard
from agentscaler.world.program import compile_domain
from agentscaler.world.world import World, digest_of
from tests.world.tiny_domain import STEPS, tiny, tool

TEXT = {"type": "string"}


def reads(sql: str, **parameters: Any) -> Domain:
    return tiny(tool("t", returns=sql, one=True, parameters=parameters))


def writes(sql: str, also: str = "", **parameters: Any) -> Domain:
    return tiny(tool("t", do=[sql], parameters=parameters), also=also)


HOSTILE: dict[str, list[str]] = yaml.safe_load(Path(__file__).with_name("hostile.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("sql", HOSTILE["in_tools"])
def test_what_tools_may_not_hold(sql: str) -> None:
    for domain in (
        reads(sql),
        writes(sql),
        tiny(tool("t", require=[{"sql": sql, "else": "no"}], returns="SELECT 1", one=True)),
    ):
        with pytest.raises(DomainError) as caught:
            compile_domain(domain)
        assert str(caught.value).startswith("tiny.t: ")
    assert not Path("/tmp/agentscaler-escaped.db").exists()


@pytest.mark.parametrize("sql", HOSTILE["in_writes"])
def test_what_writes_may_not_hold(sql: str) -> None:
    with pytest.raises(DomainError):
        compile_domain(writes(sql))


@pytest.mark.parametrize(
    "sql", ["DELETE FROM books", "INSERT INTO log VALUES (9, 'x') RETURNING entry", "SELECT new_id('books')"]
)
def test_reads_may_not_write(sql: str) -> None:
    with pytest.raises(DomainError):
        compile_domain(reads(sql))


@pytest.mark.parametrize("name", ["a'", "a(')", "x::y(z)", "1", "a b"])
def test_odd_parameter_names_cannot_be_bound(name: str) -> None:
    with pytest.raises(DomainError):
        compile_domain(reads(f"SELECT :{name}, ${name}", **{name: TEXT}))


@pytest.mark.parametrize("also", HOSTILE["in_schemas"])
def test_what_schemas_may_not_hold(also: str) -> None:
    start = time.thread_time()
    with pytest.raises(DomainError, match=r"^tiny: "):
        compile_domain(tiny(also=also))
    assert time.thread_time() - start < 6
    assert not Path("/tmp/agentscaler-escaped.db").exists()


@pytest.mark.parametrize("also", HOSTILE["in_tables_that_tools_touch"])
def test_what_a_schema_hides_shows_in_the_tools_that_touch_it(also: str) -> None:
    with pytest.raises(DomainError):
        compile_domain(writes("INSERT INTO x (a) VALUES ('k')", also=also))


@pytest.mark.parametrize("view", HOSTILE["in_views_that_tools_read"])
def test_what_a_view_hides_shows_in_the_tools_that_read_it(view: str) -> None:
    with pytest.raises(DomainError):
        compile_domain(
            tiny(tool("t", returns="SELECT a FROM v", one=True), also=f"CREATE VIEW v AS SELECT {view} AS a;")
        )


@pytest.mark.parametrize("step", HOSTILE["in_recipes"])
def test_what_recipes_may_not_do(step: str) -> None:
    with pytest.raises(DomainError, match=r"^tiny: seed step 4: "):
        World.build(tiny(seed={"steps": [*STEPS, step]}), 1)
    assert not Path("/tmp/agentscaler-escaped.db").exists()


def test_a_recipe_cannot_run_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentscaler.world.world.SEED_STEPS", 3_000_000)
    monkeypatch.setattr("agentscaler.world.world.SEED_CPU_S", 0.5)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
    steps = [
        endless + "SELECT count(*) FROM n",
        endless + "SELECT i FROM n",
        endless + "INSERT INTO log SELECT i + 5, printf('%60000d', i) FROM n",
        endless + "SELECT json_set(printf('%60000d', i), '$[0]', i) FROM n",
        f"SELECT count(*) FROM {JOIN}",
    ]
    for number, step in enumerate(steps):
        start = time.thread_time()
        with pytest.raises(DomainError, match="seed step 4"):
            World.build(tiny(seed={"steps": [*STEPS, step]}, description=str(number)), 1)
        assert time.thread_time() - start < 2


def test_several_statements_make_a_step() -> None:
    steps = [*STEPS, "INSERT INTO log VALUES (2, ';'); -- and\nINSERT INTO log VALUES (3, 'c'); /* that's all */"]
    world = World.build(tiny(seed={"steps": steps}), 1)
    assert world.open().connection.execute("SELECT count(*) FROM log").fetchone() == (3,)


def test_deep_or_wide_statements_are_refused_or_harmless() -> None:
    squared = "".join(f", a{i} AS (SELECT p.x FROM a{i - 1} p, a{i - 1} q)" for i in range(1, 40))
    for sql in [
        "SELECT " + "(" * 20_000 + "1" + ")" * 20_000,
        "SELECT " + " + ".join(["1"] * 5_000),
        "SELECT " + "NOT " * 20_000 + "1",
        "SELECT 1" + " UNION ALL SELECT 1" * 400,
        "SELECT * FROM " + "(SELECT * FROM " * 5_000 + "(SELECT 1)" + ")" * 5_000,
        "SELECT max(" + ", ".join(["1"] * 100) + ")",
        "SELECT " + ", ".join(f"1 AS c{i}" for i in range(500)),
        "SELECT 1 IN (" + "1," * 200_000 + "1)",
        "SELECT 1 WHERE " + "EXISTS (SELECT 1 WHERE " * 900 + "1" + ")" * 900,
        f"WITH a0 AS (SELECT 1 x){squared} SELECT count(*) AS n FROM a39",
    ]:
        start = time.thread_time()
        with pytest.raises(DomainError):
            compile_domain(reads(sql))
        assert time.thread_time() - start < 6


COUNT = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
SMALL = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) "
SETS = ", ".join(["'$[#]', i"] * 30)
GROWING = "WITH RECURSIVE d(s) AS (SELECT {} UNION ALL SELECT {} FROM d) SELECT max(length(s)) AS m FROM d"
JOIN = ", ".join(f"json_each('[1,2,3,4,5,6,7,8]') j{i}" for i in range(12))


def loop(expression: str) -> str:
    """An expression over the 30 KB text :x, for ever; `i` keeps SQLite from computing it once."""
    return f"{COUNT}SELECT sum(length({expression})) AS s FROM n"


READS_FOR_EVER = {
    "endless": COUNT + "SELECT count(*) AS c FROM n",
    "endless rows": COUNT + "SELECT i FROM n ORDER BY i",
    "endless, far limit": COUNT + "SELECT i FROM n LIMIT 1 OFFSET 9000000000",
    "cross join": f"SELECT count(*) AS c FROM {JOIN}",
    "cross join, sorted": f"SELECT j0.value AS v FROM {JOIN} ORDER BY j1.value || j2.value, j3.value",
    "distinct": f"SELECT count(DISTINCT j0.value || j1.value || j2.value || j3.value || j4.value || j5.value || j6.value) AS c FROM {JOIN}",
    "sort of long rows": COUNT + "SELECT i FROM n ORDER BY printf('%60000d', i)",
    "sort of equal long rows": SMALL + "SELECT i FROM n ORDER BY printf('%.*c', 60000, 'x') || i",
    "window": SMALL + "SELECT max(s) AS m FROM (SELECT sum(i) OVER (ORDER BY i % 1000, -i) AS s FROM n)",
    "window of texts": SMALL
    + "SELECT max(s) AS m FROM (SELECT group_concat(i) OVER (ORDER BY i ROWS 9000 PRECEDING) AS s FROM n)",
    "window of json": SMALL
    + "SELECT max(s) AS m FROM (SELECT json_group_array(i) OVER (ORDER BY i ROWS 9000 PRECEDING) AS s FROM n)",
    "doubling": GROWING.format("'x'", "s || s"),
    "doubling, cut": GROWING.format("'x'", "substr(s || s, 1, 30000)"),
    "group_concat": COUNT + "SELECT group_concat(i) AS g FROM n",
    "json_group_array": COUNT + "SELECT json_group_array(json_array(i, i, i)) AS g FROM n",
    "json_group_object": COUNT + "SELECT json_group_object(i, i) AS g FROM n",
    "nested json": GROWING.format("'[]'", "json_array(json(s), json(s))"),
    "deep json": GROWING.format("'[]'", "json_array(json(s))"),
    "wide printf": "SELECT printf('%*d', 2000000000, 1) AS p",
    "precise printf": "SELECT printf('%.*f', 2000000000, 1.5) AS p",
    "printf of many": "SELECT printf(:x, 1, 2, 3) AS p",
    "printf in a loop": loop("printf('%*d', 60000, i)"),
    "format in a loop": loop("format('%,60000d|%!.100f', i, i)"),
    "upper": loop("upper(:x || i)"),
    "hex": loop("hex(:x || i)"),
    "trim": loop("trim(:x || i, 'xyz')"),
    "trim, long set": loop("trim(:x || i, :x)"),
    "ltrim": loop("ltrim(:x || i, printf('%.*c', 5000, 'y') || 'x')"),
    "contains": loop("contains(:x || i, :x || 'y')"),
    "contains, same": loop("contains(:x || :x, :x || i)"),
    "contains, letters that grow": loop("contains(:x || i, 'ßß' || i)"),
    "canonical_json": loop("canonical_json(json_array(:x, i))"),
    "canonical_json of a list": loop("canonical_json(:j || substr(i, 1, 0))"),
    "canonical_json, deep": loop("canonical_json(:d || substr(i, 1, 0))"),
    "strftime": loop("strftime(printf('%.*c', 1, '%') || 'J' || :f || i, '2026-01-01')"),
    "date": loop("date(printf('%60000s', i) || '2026-01-01', i || ' days')"),
    "round": loop("round(printf('%60000d', i), 30)"),
    "cast": loop("CAST(:x || i AS REAL)"),
    "unicode substr": loop("substr(:x || i, -3, 2)"),
    "json parse": loop("json(:j || substr(i, 1, 0))"),
    "json_valid": loop("json_valid(:j || substr(i, 1, 0))"),
    "json_extract": loop("json_extract(:j || substr(i, 1, 0), '$[#-1]')"),
    "json_extract, 60 paths": loop(
        "json_extract(:j || substr(i, 1, 0), " + ", ".join(f"'$[{14000 + i}]'" for i in range(60)) + ")"
    ),
    "json_set, 30 paths": loop("json_set(:j || substr(i, 1, 0), " + ", ".join(["'$[#]', 1"] * 30) + ")"),
    "json_set at every second step": f"{COUNT}SELECT sum({' + '.join([f'(json_set(:j, {SETS}) < 1)'] * 20)}) AS s FROM n",
    "json_remove, 60 paths": loop("json_remove(:j || substr(i, 1, 0), " + ", ".join(["'$[0]'"] * 60) + ")"),
    "json_each": COUNT + "SELECT count(*) AS c FROM n, json_each(:j)",
    "json_each, whole": COUNT + "SELECT sum(length(e.json)) AS c FROM n, json_each(:j) e",
    "json_tree": COUNT + "SELECT sum(length(t.fullkey)) AS c FROM n, json_tree(:d) t",
    "json_tree, long keys": COUNT
    + "SELECT sum(length(t.fullkey)) AS c FROM n, json_tree('{\"' || :x || '\":[1,2,3,4,5,6,7,8,9]}') t",
    "json path": loop("json_extract(:d, printf('%.*c', 1, '$') || :p || substr(i, 1, 0))"),
    "many at once": loop(" || ".join(["upper(substr(:x || i, 1, 3000))"] * 15)),
    "in": COUNT + "SELECT count(*) AS c FROM n WHERE i IN (SELECT value FROM json_each(:j))",
    "correlated": SMALL + "SELECT count(*) AS c FROM n a WHERE (SELECT count(*) FROM n b WHERE b.i < a.i) > 5",
    "ordered aggregate": COUNT + "SELECT group_concat(i, ',' ORDER BY -i) AS g FROM n",
    "except": COUNT + "SELECT count(*) AS c FROM (SELECT i FROM n EXCEPT SELECT i + 1 FROM n)",
}
ARGUMENTS = {
    "x": "x" * 30_000,
    "f": "%W%j%J" * 4_000,
    "j": "[" + ",".join(["1"] * 15_000) + "]",
    "d": "[" * 900 + "]" * 900,
    "p": "[0]" * 890,
}


@pytest.mark.parametrize("name", READS_FOR_EVER)
def test_reads_end_in_time(name: str) -> None:
    sql = READS_FOR_EVER[name]
    used = {key: value for key, value in ARGUMENTS.items() if f":{key}" in sql}
    domain = reads(sql, **dict.fromkeys(used, TEXT))
    ends(domain, used)


def ends(domain: Domain, arguments: dict[str, Any] | None = None) -> str:
    """The call is over within a second of processor time, changes nothing unless ok, and the environment goes on working."""
    world = World.build(domain, 1)
    environment = world.open()
    start = time.thread_time()
    try:
        result = environment.call("agent", "t", arguments or {})
        outcome = result.outcome.value
        assert outcome != Outcome.INVALID_CALL, result.content
        words = result.content
    except RolloutFault as fault:
        outcome, words = "fault", fault.words
    taken_s = time.thread_time() - start
    assert taken_s < 1, (taken_s, outcome, words)
    if outcome != Outcome.OK:
        assert digest_of(environment.connection, world.program.tables) == world.digest
        assert environment.id_counts == {} and environment.diff() == {}
    assert environment.call("agent", "add_book", {"title": "After", "shelf": "left"}).outcome is Outcome.OK
    assert len(orjson.loads(environment.call("agent", "list_books", "{}").content)) >= 4 - (outcome == Outcome.OK)
    environment.close()
    return f"{taken_s:.2f} {outcome} {words[:60]}"


LOOPING = "CREATE TABLE x (a INTEGER PRIMARY KEY, b TEXT) STRICT;"
TRIGGER = LOOPING + "CREATE TRIGGER r AFTER INSERT ON x "
FILLED = LOOPING + COUNT.replace("FROM n)", "FROM n WHERE i < 9000)") + "INSERT INTO x SELECT i, 'y' FROM n;"
ONE = "INSERT INTO x VALUES (1, '')"
WRITES_FOR_EVER = {
    "endless insert": ("", COUNT + "INSERT INTO log SELECT i + 5, 'x' FROM n"),
    "endless long insert": ("", COUNT + "INSERT INTO log SELECT i + 5, printf('%60000d', i) FROM n"),
    "too many rows": (LOOPING, COUNT + "INSERT INTO x SELECT i, 'y' FROM n LIMIT 20000"),
    "ids for ever": ("", COUNT + "INSERT INTO books SELECT new_id('books'), 't' || i, 'left', 1 FROM n"),
    "update of many": (FILLED, "UPDATE x SET b = printf('%60000d', a)"),
    "recursive trigger": (TRIGGER + "BEGIN INSERT INTO x VALUES (new.a + 1, ''); END;", ONE),
    "branching trigger": (
        TRIGGER + "WHEN new.a < 200000 BEGIN INSERT INTO x VALUES (new.a * 2, ''), (new.a * 2 + 1, ''); END;",
        ONE,
    ),
    "two triggers": (
        LOOPING + "CREATE TABLE y (a INTEGER PRIMARY KEY) STRICT;"
        "CREATE TRIGGER r AFTER UPDATE ON x BEGIN INSERT INTO y SELECT count(*) FROM y; END;"
        "CREATE TRIGGER s AFTER INSERT ON y BEGIN UPDATE x SET a = a + 1; END; INSERT INTO x VALUES (1, '');",
        "UPDATE x SET b = 'z'",
    ),
    "trigger that counts": (TRIGGER + f"BEGIN SELECT count(*) FROM {JOIN}; END;", ONE),
    "check": (
        "CREATE TABLE x (a TEXT PRIMARY KEY CHECK (length(printf('%*d', 60000, length(a))) > 0)) STRICT;",
        COUNT + "INSERT INTO x SELECT i || '' FROM n",
    ),
    "generated": (
        "CREATE TABLE x (a TEXT PRIMARY KEY, b TEXT AS (json_array(a, printf('%60000s', a))) STORED) STRICT;",
        COUNT + "INSERT INTO x SELECT i || '' FROM n",
    ),
    "cascade": (
        "CREATE TABLE x (a INTEGER PRIMARY KEY, b INTEGER REFERENCES x(a) ON DELETE CASCADE) STRICT;"
        + COUNT.replace("FROM n)", "FROM n WHERE i < 50000)")
        + "INSERT INTO x SELECT i, i - 1 + (i = 1) FROM n;",
        "DELETE FROM x WHERE a = 1",
    ),
}


@pytest.mark.parametrize("name", WRITES_FOR_EVER)
def test_writes_end_in_time_and_leave_nothing(name: str) -> None:
    also, sql = WRITES_FOR_EVER[name]
    assert " ok " not in ends(writes(sql, also=also))


def test_a_slow_pattern_in_the_parameters_is_cut_short() -> None:
    domain = reads("SELECT :x AS x", x={"type": "string", "pattern": "^(a|aa|a?)+(?=b)$"})
    environment = World.build(domain, 1).open()
    start = time.thread_time()
    assert environment.call("agent", "t", {"x": "a" * 30_000}).outcome is Outcome.INVALID_CALL
    assert time.thread_time() - start < 1


def test_refusals_for_too_much_work_do_not_depend_on_the_machine() -> None:
    domain = reads(READS_FOR_EVER["endless"])
    environment = World.build(domain, 1).open()
    contents = {environment.call("agent", "t", {}).content for _ in range(3)}
    assert contents == {'{"error":"The request needs more work than one call may do; narrow it."}'}


def test_bare_text() -> None:
    assert guard.bare("""SELECT 'a''b', "c""d", [e'f], `g`, 1 -- h\n/* i\n*/ FROM j /* k""").split() == [
        "SELECT",
        ",",
        ",",
        ",",
        ",",
        "1",
        "FROM",
        "j",
    ]
    assert len(guard.masked("SELECT 'ab' /* c */")) == len("SELECT 'ab' /* c */")
