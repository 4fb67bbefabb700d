"""The query of what could be wished for by one tool.

Each base case takes rows and values that differ from those of the next; beside each stand cases that differ from it in one argument alone,
for changes of mind and second choices. Which rows these are depends on the number of the case and on what stands in the world, so that
other worlds have other cases. A row that another argument refers to brings that one along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

from agentscaler.tasks.plain.facts import Facts, Home, Sort
from agentscaler.tasks.plain.parts import Part, Role
from agentscaler.tasks.plain.values import standing

MAX_ROWS = 380  # setting.MAX_CASES is 400
_STEPS = (7919, 104729, 1299709, 15485863, 6700417, 2147483, 999983, 479001599, 87178291, 13466917, 3021377, 859433)


@dataclass(frozen=True, slots=True)
class Cases:
    """`varied` are the parts of which two values are tried while all others stay as they are."""

    sql: str
    varied: tuple[Part, ...]


def cases_of(facts: Facts, tool: str, parts: Sequence[Part], needs_one: bool) -> Cases:
    """`needs_one`: of the optional parts at least one is there."""
    leads = _leads(facts, tool, parts)
    optional = [part for part in parts if not part.required]
    driving = [part for part in parts if part.column not in leads]
    varied = [part for part in driving if part.sort is not Sort.YES_NO and (part.required or len(optional) <= 4)]
    lists: list[str] = []
    joined: list[str] = []
    base = ["n.i AS i"]
    for number, part in enumerate(driving):
        led = [(one, leads[one.column][1]) for one in parts if leads.get(one.column, ("",))[0] == part.column]
        table = _table(part, [sql for _, sql in led])
        if table:
            lists.append(f"d{number} AS MATERIALIZED ({table})")
        for second in (False, True) if part in varied else (False,):
            place, alias = _place(number, second), f"d{number}{'b' if second else ''}"
            if table:
                join = "JOIN" if part.required else "LEFT JOIN"
                joined.append(f"{join} d{number} {alias} ON {alias}.r = {place} % (SELECT count(*) FROM d{number})")
                values = [(part, f"{alias}.k"), *((one, f"{alias}.x{n}") for n, (one, _) in enumerate(led))]
            else:
                assert part.supply is not None
                values = [(part, part.supply.at(place))]
            if not part.required:
                there = _is_there(optional.index(part), len(optional), needs_one)
                values = [(one, f"iif({there}, {sql}, NULL)") for one, sql in values]
            base += [f'{sql} AS "{one.column}{"/2" if second else ""}"' for one, sql in values]
    stars = [_star(parts, set())]
    for part in varied:
        stars.append(_star(parts, {part.column, *(one for one, (leader, _) in leads.items() if leader == part.column)}))
    for number, part in enumerate(parts):
        if (place := _taken_from(facts, tool, part)) is not None:
            query = standing(facts, place, {})
            lists.append(
                f"e{number} AS MATERIALIZED (SELECT row_number() OVER (ORDER BY v) - 1 AS r, v FROM ({query}))"
            )
            columns = ", ".join(f'e.v AS "{one.column}"' if one is part else f'"{one.column}"' for one in parts)
            stars.append(f"SELECT {columns} FROM base JOIN e{number} e ON e.r = i % (SELECT count(*) FROM e{number})")
    heads = [*_numbers(facts, tool, parts, len(stars)), *lists]
    heads.append(f"base AS MATERIALIZED (SELECT {', '.join(base)} FROM n {' '.join(joined)})")
    leaders = {leader for leader, _ in leads.values()}
    return Cases(_query(heads, stars, parts), tuple(part for part in varied if part.column not in leaders))


def _query(heads: Sequence[str], stars: Sequence[str], parts: Sequence[Part]) -> str:
    """A yes or no has two columns besides, one of them NULL, for the clauses that say it."""
    every = ", ".join(f'"{part.column}"' for part in parts)
    marks = ""
    for part in parts:
        if part.sort is Sort.YES_NO:
            marks += f', iif("{part.column}", 1, NULL) AS "{part.column}_yes"'
            marks += f', iif("{part.column}" = 0, 1, NULL) AS "{part.column}_no"'
    must = " AND ".join(f'"{part.column}" IS NOT NULL' for part in parts if part.required) or "1"
    rows = f"SELECT DISTINCT {every}{marks} FROM ({' UNION ALL '.join(stars)}) WHERE {must} ORDER BY {every}"
    return f"WITH RECURSIVE {', '.join(heads)} {rows}"


def _numbers(facts: Facts, tool: str, parts: Sequence[Part], num_stars: int) -> tuple[str, str]:
    """`n(i)`: the numbers of the base cases. Where they begin depends on the tool and on the world."""
    number = max(10, min(90, MAX_ROWS // num_stars))
    start = crc32(tool.encode()) % 997
    return (
        f"w(o) AS ({_of_the_world(facts, parts)})",
        f"n(i) AS (SELECT o + {start} FROM w UNION ALL SELECT i + 1 FROM n, w WHERE i < o + {start + number - 1})",
    )


def _place(number: int, second: bool) -> str:
    """Which row or value the `number`-th part takes in a case."""
    step, shift = _STEPS[number % len(_STEPS)], _STEPS[(number + 5) % len(_STEPS)] % 1000 + 1
    return f"(n.i * {step} + n.i / 7 * {shift}{' + 1 + n.i % 3' if second else ''})"


def _table(part: Part, led: Sequence[str]) -> str:
    """Rows to choose from, numbered; empty where the values are a list of ours."""
    more = "".join(f", {sql} AS x{number}" for number, sql in enumerate(led))
    if part.role is Role.THING and part.home is not None:
        own = f't."{part.home.column}"'
        return f'SELECT row_number() OVER (ORDER BY {own}) - 1 AS r, {own} AS k{more} FROM "{part.home.table}" t WHERE {own} IS NOT NULL'
    if part.role is Role.STANDING and part.stands_in is not None and led:
        table, column = part.stands_in
        every = ", ".join([f't."{column}" AS k', *(f"{sql} AS x{number}" for number, sql in enumerate(led))])
        names = ", ".join(["k", *(f"x{number}" for number in range(len(led)))])
        return (
            f"SELECT row_number() OVER (ORDER BY {names}) - 1 AS r, {names} "
            f'FROM (SELECT DISTINCT {every} FROM "{table}" t WHERE t."{column}" IS NOT NULL)'
        )
    if part.supply is not None and part.supply.rows:
        return f"SELECT row_number() OVER (ORDER BY v) - 1 AS r, v AS k FROM ({part.supply.rows})"
    return ""


def _leads(facts: Facts, tool: str, parts: Sequence[Part]) -> dict[str, tuple[str, str]]:
    """Column of a part -> the part whose row refers to it, and the SQL over that row `t`: an order brings its customer along. Not where
    the call writes the one into the other, for that is what is to change."""
    matched = facts.graph.provenance[tool].matched
    found: dict[str, tuple[str, str]] = {}
    leaders = [part for part in parts if part.required and part.role in (Role.STANDING, Role.THING)]
    for part in parts:
        if part.role is not Role.THING or part.home is None or not part.required:
            continue
        for leader in sorted(leaders, key=lambda one: one.role is Role.THING):
            table = leader.home.table if leader.home is not None else leader.stands_in[0] if leader.stands_in else ""
            if (
                leader is part
                or not table
                or leader.column in found
                or any(one == part.column for one, _ in found.values())
            ):
                continue
            sql, own = _reference(facts, table, part.home)
            if not sql or (table, own) in facts.graph.provenance[tool].stored.get(part.path, ()):
                continue
            if leader.role is Role.STANDING or (table, own) in matched.get(part.path, ()):
                found[part.column] = (leader.column, sql)
                break
    return found


def _reference(facts: Facts, table: str, home: Home) -> tuple[str, str]:
    """How a row `t` of a table says which of the things it belongs to, and the column that does."""
    classes = facts.graph.classes
    for key in facts.table(table).foreign_keys:
        for own, target in zip(key.columns, key.parent_columns, strict=True):
            if classes.of((table, own)) == classes.of((home.table, home.column)):
                return f't."{own}"', own
            if key.parent == home.table and len(key.columns) == 1:
                return f'(SELECT h."{home.column}" FROM "{home.table}" h WHERE h."{target}" = t."{own}")', own
    return "", ""


def _taken_from(facts: Facts, tool: str, part: Part) -> tuple[str, str] | None:
    """For what has to be new: the column where it may stand already, for a first choice that is refused."""
    if not part.is_fresh or part.role is not Role.FREE:
        return None
    return min(facts.graph.provenance[tool].stored.get(part.path, ()), default=None)


def _is_there(place: int, number: int, needs_one: bool) -> str:
    """Whether an optional argument is there, by the number of the case."""
    if needs_one:
        return f"(n.i % {number} = {place} OR (n.i / {number}) % {number + 2} = {place})"
    return f"(n.i + {place}) % {max(3, number)} = 0"


def _star(parts: Sequence[Part], other: set[str]) -> str:
    columns = (
        f'"{part.column}/2" AS "{part.column}"' if part.column in other else f'"{part.column}"' for part in parts
    )
    return f"SELECT {', '.join(columns)} FROM base"


def _of_the_world(facts: Facts, parts: Sequence[Part]) -> str:
    """A number that differs from world to world: a sum over what stands in the rows that the wish is about."""
    tables = [part.home.table for part in parts if part.home is not None] or sorted(facts.program.tables)
    for name in tables:
        table = facts.table(name)
        texts = [column for column in table.columns if table.types[column] == "TEXT" and column not in table.key][:4]
        if texts:
            sums = " + ".join(f'coalesce(length("{column}") + unicode(substr("{column}", -1)), 0)' for column in texts)
            return f'SELECT coalesce(sum({sums}), 0) AS o FROM "{name}"'
    return "SELECT 0 AS o"
