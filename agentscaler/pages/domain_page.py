"""One offline HTML page about a domain: what a person must know to understand a world and to trust it.

`collect` asks the compiled program and a seeded world for every fact (nothing is declared here, calls are really executed);
`render_page` puts them into a template that escapes all of them, since a domain may come from anybody. Same input, same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import jinja2
import orjson
from markupsafe import Markup

from agentscaler.canonical import canonical_json
from agentscaler.domain.domain import Domain, RuleLevel, Tool
from agentscaler.pages.diagram import HOVER_SCRIPT, Column, Entity, Reference, draw_diagram
from agentscaler.pages.executed import Executed, execute_varied
from agentscaler.pages.sql import highlight
from agentscaler.tasks.task import Kind, WrittenTask
from agentscaler.world.program import CompiledTool, Program, Table
from agentscaler.world.world import World

NUM_SAMPLES, NUM_EXAMPLES, NUM_CALLS = 5, 2, 5
MAX_CELL_CHARS, MAX_JSON_LINES, MAX_LINE_CHARS = 64, 26, 200
MAX_FLAT_CHARS = 110
_BOUNDS = (("minLength", "maxLength", "length"), ("minimum", "maximum", "value"), ("minItems", "maxItems", "items"))
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True, slots=True)
class Parameter:
    """`enum` and `limits` are texts as shown."""

    name: str
    type: str
    required: bool
    description: str
    enum: tuple[str, ...]
    limits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ToolFacts:
    """A tool and what SQLite says of it: `reads` and `writes` are columns by table; `*` stands for whole rows."""

    tool: Tool
    is_write: bool
    parameters: tuple[Parameter, ...]
    also: str  # what its parameters demand beside types: anyOf and the like
    reads: dict[str, tuple[str, ...]]
    writes: dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Checked:
    """An invariant on the seeded world: number of offending rows, None where it was too much work to count them."""

    name: str
    sql: str
    num_offending: int | None


@dataclass(frozen=True, slots=True)
class KindFacts:
    kind: str
    num_tasks: int
    examples: tuple[WrittenTask, ...]


@dataclass(frozen=True, slots=True)
class DomainFacts:
    """All of a page. `samples` are the rows of every table, spread evenly over it in the order of its key."""

    domain: Domain
    seed: int
    digest: str
    image_bytes: int
    tables: tuple[Entity, ...]
    references: tuple[Reference, ...]
    samples: tuple[tuple[tuple[Any, ...], ...], ...]
    tools: tuple[ToolFacts, ...]
    invariants: tuple[Checked, ...]
    kinds: tuple[KindFacts, ...]
    calls: tuple[Executed, ...]

    def stored(self, table: Entity) -> list[str]:
        """The columns of a sample's rows: generated ones are not stored."""
        return [column.name for column in table.columns if "generated" not in column.marks]

    @property
    def num_rows(self) -> int:
        return sum(table.num_rows for table in self.tables)

    @property
    def num_writes(self) -> int:
        return sum(tool.is_write for tool in self.tools)

    @property
    def num_enforced(self) -> int:
        return sum(rule.level is RuleLevel.ENFORCED for rule in self.domain.policy)


def collect(domain: Domain, tasks: Sequence[WrittenTask] = (), seed: int = 1) -> DomainFacts:
    """Compile, seed, look, and execute. Raises DomainError or TaskError where domain or tasks are broken."""
    world = World.of(domain, seed)
    program = world.program
    environment = world.open()
    rows = list(environment.tables().values())
    columns = {name: _columns(environment.connection, table) for name, table in program.tables.items()}
    environment.close()
    entities = [
        Entity(table.name, columns[table.name], len(found), table.wholly_exempt)
        for table, found in zip(program.tables.values(), rows, strict=True)
    ]
    of_kind = {kind: [task for task in tasks if task.kind is kind] for kind in Kind}
    return DomainFacts(
        domain=domain,
        seed=seed,
        digest=world.digest,
        image_bytes=len(world.image),
        tables=tuple(entities),
        references=tuple(_references(program, columns)),
        samples=tuple(_spread(found) for found in rows),
        tools=tuple(_tool(compiled, program) for compiled in program.tools.values()),
        invariants=tuple(_check(world, invariant.name, invariant.sql) for invariant in domain.invariants),
        kinds=tuple(KindFacts(k.value, len(t), tuple(t[:NUM_EXAMPLES])) for k, t in of_kind.items() if t),
        calls=execute_varied(world, tasks, NUM_CALLS),
    )


def render_page(facts: DomainFacts) -> str:
    """The whole page. Its content security policy lets no other script run and nothing be loaded."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"sql": highlight, "json": pretty, "cell": cell, "value": value_words}
    return environment.get_template("domain.html.jinja").render(
        facts=facts,
        domain=facts.domain,
        diagram=draw_diagram(facts.tables, facts.references),
        script=Markup(HOVER_SCRIPT),
        script_hash=base64.b64encode(hashlib.sha256(HOVER_SCRIPT.encode()).digest()).decode(),
    )


def overview(facts: DomainFacts) -> str:
    """The same in a few lines for a terminal."""
    domain, width = (
        facts.domain,
        max(len(name) for name in [*(t.name for t in facts.tables), *(t.tool.name for t in facts.tools)]),
    )
    lines = [f"{domain.name}  {domain.fingerprint[:12]}  seed {facts.seed}  clock {domain.clock}", domain.description]
    lines += ["", f"tables ({len(facts.tables)}, {facts.num_rows:,} rows)"]
    lines += [f"  {table.name:{width}}  {table.num_rows:>7,} rows" for table in facts.tables]
    lines += ["", f"tools ({len(facts.tools) - facts.num_writes} read, {facts.num_writes} write)"]
    lines += [
        f"  {t.tool.name:{width}}  {'write' if t.is_write else 'read':5}  {t.tool.description}" for t in facts.tools
    ]
    lines += ["", f"rules ({facts.num_enforced} enforced, {len(domain.policy) - facts.num_enforced} text only)"]
    lines += [f"  {rule.name:{width}}  {rule.level.value:9}  {rule.text}" for rule in domain.policy]
    return "\n".join(_CONTROL.sub(" ", line).rstrip() for line in lines)


def _columns(db: apsw.Connection, table: Table) -> tuple[Column, ...]:
    """As SQLite tells them, generated ones included."""
    foreign = {column for key in table.foreign_keys for column in key.columns}
    query = 'SELECT name, type, "notnull", hidden FROM pragma_table_xinfo(?) WHERE hidden <> 1'
    found: list[Any] = db.execute(query, (table.name,)).fetchall()
    return tuple(
        Column(
            name,
            kind,
            key=name in table.key,
            foreign=name in foreign,
            nullable=not required and name not in table.key and not hidden,
            marks=tuple(_marks(table, name, bool(hidden))),
        )
        for name, kind, required, hidden in found
    )


def _marks(table: Table, column: str, generated: bool) -> Iterable[str]:
    if generated:
        yield "generated"
    if column == table.surrogate:
        yield "new_id"
    if not table.wholly_exempt:
        classes = (("exempt", table.exempt), ("semantic", table.semantic), ("json", table.json_columns))
        yield from (name for name, members in classes if column in members)


def _references(program: Program, columns: Mapping[str, tuple[Column, ...]]) -> Iterable[Reference]:
    for table in program.tables.values():
        nullable = {column.name for column in columns[table.name] if column.nullable}
        for key in table.foreign_keys:
            actions = (("on delete", key.on_delete), ("on update", key.on_update))
            yield Reference(
                table.name,
                key.columns,
                key.parent,
                key.parent_columns,
                one=set(key.columns) >= set(table.key),
                nullable=bool(nullable & set(key.columns)),
                actions=", ".join(f"{when} {what.lower()}" for when, what in actions if what != "NO ACTION"),
            )


def _spread(rows: list[Any]) -> tuple[tuple[Any, ...], ...]:
    if len(rows) <= NUM_SAMPLES:
        return tuple(rows)
    return tuple(rows[index * (len(rows) - 1) // (NUM_SAMPLES - 1)] for index in range(NUM_SAMPLES))


def _tool(compiled: CompiledTool, program: Program) -> ToolFacts:
    schema = compiled.tool.parameters
    usual = ("type", "properties", "required", "additionalProperties")
    also = {key: value for key, value in schema.items() if key not in usual}
    return ToolFacts(
        compiled.tool,
        compiled.is_write,
        tuple(_parameter(n, s, n in schema.get("required", ())) for n, s in schema["properties"].items()),
        canonical_json(also) if also else "",
        *({t: _of(t, pairs) for t in program.tables if _of(t, pairs)} for pairs in (compiled.reads, compiled.writes)),
    )


def _of(table: str, pairs: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(sorted({column or "*" for name, column in pairs if name == table}))


def _parameter(name: str, schema: Any, required: bool) -> Parameter:
    schema = dict(schema) if isinstance(schema, dict) else {}
    kinds = schema.pop("type", "any")
    kind = " | ".join(map(str, kinds)) if isinstance(kinds, list) else str(kinds)
    items = schema.get("items")
    if isinstance(items, dict) and isinstance(items.get("type"), str):
        kind += f" of {items['type']}"
        if set(items) == {"type"}:
            del schema["items"]
    description, enum = schema.pop("description", ""), schema.pop("enum", ())
    limits = []
    for low, high, word in _BOUNDS:
        least, most = schema.pop(low, None), schema.pop(high, None)
        if least is not None and most is not None:
            limits.append(f"{word} {least}–{most}")
        elif least is not None or most is not None:
            limits.append(f"{word} ≤\u00a0{most}" if least is None else f"{word} ≥\u00a0{least}")
    limits += [f"{key} {canonical_json(value)}" for key, value in schema.items()]
    return Parameter(name, kind, required, str(description), tuple(map(value_words, enum)), tuple(limits))


def _check(world: World, name: str, sql: str) -> Checked:
    """Under the budget of a call: the statement is vetted, but nobody vetted how long it takes."""
    with closing(world.open()) as environment:
        try:
            return Checked(name, sql, len(environment.connection.execute(sql).fetchall()))
        except apsw.InterruptError:
            return Checked(name, sql, None)


def pretty(value: Any) -> str:
    """JSON (a value, or the text of one) with indentation, long lines and long ends cut."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    lines = [_cut(line, MAX_LINE_CHARS) for line in _json_lines(value)]
    more = len(lines) - MAX_JSON_LINES
    return "\n".join(lines if more <= 1 else [*lines[:MAX_JSON_LINES], f"… {more} more lines"])


def _json_lines(value: Any, before: str = "", indent: str = "") -> list[str]:
    """What fits stays on one line; lists and objects that do not are opened."""
    text = json.dumps(value, ensure_ascii=False)
    opened = isinstance(value, list | dict) and value and len(indent + before + text) > MAX_FLAT_CHARS
    if not opened:
        return [indent + before + text]
    items = value.items() if isinstance(value, dict) else ((None, item) for item in value)
    blocks = [_json_lines(item, "" if name is None else json.dumps(name) + ": ", indent + "  ") for name, item in items]
    for block in blocks[:-1]:
        block[-1] += ","
    first, last = ("{", "}") if isinstance(value, dict) else ("[", "]")
    return [indent + before + first, *(line for block in blocks for line in block), indent + last]


def cell(value: Any) -> str:
    """A value of a row, cut."""
    return (
        "NULL"
        if value is None
        else _cut(f"x'{value.hex()}'" if isinstance(value, bytes) else str(value), MAX_CELL_CHARS)
    )


def value_words(value: Any) -> str:
    """A value on one line: JSON, but for labels of new rows, which read as `new notes#1`."""
    if isinstance(value, dict) and set(value) == {"$new"}:
        return f"new {value['$new']}"
    return _cut(canonical_json(value), MAX_LINE_CHARS)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
