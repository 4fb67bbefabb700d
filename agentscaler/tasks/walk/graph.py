"""The tool graph of a domain: whose results yield whose arguments, and whose writes bear on what others see or may do.

Edges are facts of the SQL (`provenance`): no name of a tool, parameter or result plays a part in them. A `Feed` says that a result
holds values of the class of columns that an argument is looked up in, not that any of them is the one wanted: that is seen by calling.
Agent and user see their own results only, so nothing feeds from one to the other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import wraps
from itertools import product
from typing import Any, Concatenate, ParamSpec, TypeVar

import networkx as nx

from agentscaler.tasks.walk.columns import ColumnClasses
from agentscaler.tasks.walk.prepared import Column
from agentscaler.tasks.walk.provenance import Provenance, is_choice, schema_at, trace
from agentscaler.tasks.walk.value import Path
from agentscaler.world.program import CompiledTool, Program

MAX_READS = 3  # that lead to one argument
MAX_WAYS = 6  # told of one argument

Way = tuple[str, ...]
"""Reading tools, each yielding what a later one asks for."""

_P = ParamSpec("_P")
_T = TypeVar("_T")
_graphs: dict[str, ToolGraph] = {}


def _kept(method: Callable[Concatenate[ToolGraph, _P], _T]) -> Callable[Concatenate[ToolGraph, _P], _T]:
    """Worked out once a graph: half a millisecond each, and asked several times a task."""

    @wraps(method)
    def kept(graph: ToolGraph, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        key = (method.__name__, args, tuple(kwargs.items()))
        if key not in graph._answers:
            graph._answers[key] = method(graph, *args, **kwargs)
        return graph._answers[key]

    return kept


@dataclass(frozen=True, slots=True)
class Feed:
    """`path` leads into the producer's result, `parameter` into the consumer's arguments. `column` names the class that both are of."""

    producer: str
    path: Path
    consumer: str
    parameter: Path
    column: Column


@dataclass(frozen=True, slots=True)
class Preview:
    """A read that tells beforehand what a write would do. `carried`: its parameter -> the write's that holds the value; `missing` are
    parameters that it needs besides."""

    tool: str
    carried: Mapping[str, str]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ToolGraph:
    """`enables`: (writer, other) -> columns that the one writes and the other looks at, (table, "*") where rows come or go."""

    program: Program
    provenance: Mapping[str, Provenance]
    classes: ColumnClasses
    feeds: tuple[Feed, ...]
    enables: Mapping[tuple[str, str], frozenset[Column]]
    _feeding: Mapping[str, tuple[Feed, ...]]
    _yields: Mapping[str, frozenset[Column]]
    _answers: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, program: Program) -> ToolGraph:
        """Kept by fingerprint."""
        key = program.domain.fingerprint
        if key not in _graphs:
            _graphs[key] = _build(program)
        return _graphs[key]

    # Tools

    def is_write(self, tool: str) -> bool:
        return self.program.tools[tool].is_write

    def parameters(self, tool: str) -> tuple[str, ...]:
        return self.program.tools[tool].parameters

    def required(self, tool: str) -> tuple[str, ...]:
        """As the signature says; `provenance.needs` knows of requirements too."""
        return tuple(self.program.tools[tool].tool.parameters.get("required", ()))

    @_kept
    def names_for(self, tool: str, parameter: str) -> tuple[str, ...]:
        """Under which names a value for a parameter may be had: its own, its columns', those of columns that mean the same."""
        facts = self.provenance[tool]
        taken = {name for path in facts.parameters if path[0] != parameter for _, name in facts.meets(path)}
        columns = sorted(facts.meets((parameter,)), key=lambda column: (self.classes.is_home(column), column))
        alike = [name for column in columns for _, name in self.classes.members(column) if name not in taken]
        return tuple(dict.fromkeys((parameter, *(name for _, name in columns), *alike)))

    @property
    def telling_names(self) -> frozenset[str]:
        """Names that no person would say: of tools, parameters, tables and columns with an underscore in them."""
        names = {name for tool in self.program.tools.values() for name in (tool.tool.name, *tool.parameters)}
        for table in self.program.tables.values():
            names.update((table.name, *table.columns))
        return frozenset(name for name in names if "_" in name)

    # What leads to what

    @_kept
    def producers(self, tool: str, parameter: Path) -> tuple[Feed, ...]:
        """Whose results yield this argument, or one inside it; reads before writes."""
        return tuple(feed for feed in self._feeding.get(tool, ()) if feed.parameter[: len(parameter)] == parameter)

    def reads_to(self, tool: str, parameter: Path, known: Collection[Column]) -> tuple[Way, ...]:
        """Ways to come by an argument where values of these columns are known, the shortest first: an empty one where it is known
        itself."""
        return self._reads_to(tool, parameter, self.classes.of_all(known))

    @_kept
    def _reads_to(self, tool: str, parameter: Path, have: frozenset[Column]) -> tuple[Way, ...]:
        wanted = self._classes_of(tool, parameter)
        found: set[Way] = {()} if wanted & have else set()
        for column in wanted & self.classes.identifying:
            found.update(self._ways(column, have, (tool,), MAX_READS))
        order = {name: place for place, name in enumerate(self.program.tools)}
        ranked = sorted(found, key=lambda way: (len(way), self._guesses(way), [order[one] for one in way]))
        return tuple(ranked[:MAX_WAYS])

    @_kept
    def details(self, about: str | Column) -> tuple[str, ...]:
        """Reads that need but one key and show the row that it names; those that show most first. `about` is that key's column, or a
        tool: then all keys that it takes."""
        if isinstance(about, str):
            paths = self.provenance[about].parameters
            given = [column for path in paths for column in sorted(self._classes_of(about, path))]
        else:
            given = [self.classes.of(about)]
        found = {
            name: len(facts.results) + len(facts.computed)
            for name, facts in self.provenance.items()
            for column in dict.fromkeys(given)
            if name != about and self._shows(name, column)
        }
        return tuple(sorted(found, key=lambda name: -found[name]))

    def previews(self, tool: str) -> tuple[str, ...]:
        """Reads that tell what a write would do, the most telling first."""
        return tuple(one.tool for one in self.previews_of(tool))

    @_kept
    def previews_of(self, tool: str) -> tuple[Preview, ...]:
        """A preview asks for what the write asks for (a requirement in the same words, arguments of the same schema or class) and looks
        at what the write works with. Two thirds of what it needs are carried at least. One that does less of all this than another is
        left out."""
        facts, texts = self.provenance[tool], _requirements(self.program.tools[tool])
        worked_with = {column for column in facts.acts_on if not self.classes.naming([column])} | facts.writes
        found: list[tuple[frozenset[str], Preview]] = []
        for name, other in self.program.tools.items():
            shared = texts & _requirements(other)
            looks_at = self.provenance[name].looks_at
            looks_at |= {(table, "*") for table, _ in looks_at}
            if other.is_write or not shared or not looks_at & worked_with:
                continue
            carried = self._carried(name, tool)
            needed = self.provenance[name].needs
            missing = min((sorted(need - carried.keys()) for need in needed), key=len)
            if carried and 3 * len(missing) <= min(map(len, needed)):
                found.append((shared, Preview(name, carried, tuple(missing))))
        kept = [
            (shared, one)
            for shared, one in found
            if not any(shared < more and one.carried.keys() <= other.carried.keys() for more, other in found)
        ]
        kept.sort(key=lambda pair: (len(pair[1].missing), -len(pair[0]), -len(pair[1].carried)))
        return tuple(one for _, one in kept)

    # As a whole

    @property
    def graph(self) -> nx.DiGraph:
        """For pictures and statistics: an edge's `feeds` and `enables` count what it stands for, `weight` both."""
        graph = nx.DiGraph()
        graph.add_nodes_from((name, {"writes": self.is_write(name)}) for name in self.program.tools)
        for pairs, kind in (
            (((feed.producer, feed.consumer) for feed in self.feeds), "feeds"),
            (((pair for pair, columns in self.enables.items() for _ in columns)), "enables"),
        ):
            for one, other in pairs:
                if not graph.has_edge(one, other):
                    graph.add_edge(one, other, feeds=0, enables=0, weight=0)
                graph.edges[one, other][kind] += 1
                graph.edges[one, other]["weight"] += 1
        return graph

    def figures(self) -> dict[str, int]:
        graph = self.graph
        return {
            "tools": graph.number_of_nodes(),
            "writing_tools": len(self.program.write_tools),
            "edges": graph.number_of_edges(),
            "feeds": len({(feed.producer, feed.consumer) for feed in self.feeds}),
            "fed_arguments": len({(feed.consumer, feed.parameter) for feed in self.feeds}),
            "enables": len(self.enables),
            "tools_alone": nx.number_of_isolates(graph),
            "statements_not_followed": sum(facts.unfollowed for facts in self.provenance.values()),
        }

    def _classes_of(self, tool: str, parameter: Path) -> frozenset[Column]:
        return self.classes.of_all(self.provenance[tool].meets(parameter))

    def _schema(self, tool: str, parameter: Path) -> Mapping[str, Any]:
        return schema_at(self.program.tools[tool].tool.parameters, parameter)

    def _asked(self, tool: str, need: Collection[str]) -> Iterator[frozenset[Column]]:
        """For each argument that has to come from somewhere: the classes that its value may be of."""
        for path in self.provenance[tool].parameters:
            if path[0] in need and not is_choice(self._schema(tool, path)):
                yield self._classes_of(tool, path)

    def _ways(self, wanted: Column, have: frozenset[Column], busy: tuple[Any, ...], left: int) -> Iterator[Way]:
        """Ways to a value of class `wanted`. `busy` are tools and classes that are being looked for: no way goes in a circle."""
        for name, facts in self.provenance.items():
            if left == 0 or name in busy or self.is_write(name) or wanted not in self._yields[name]:
                continue
            if self.program.tools[name].tool.actor != self.program.tools[busy[0]].tool.actor:
                continue
            for need in facts.needs:
                before: list[list[Way]] = []
                for classes in self._asked(name, need):
                    if not classes & have:
                        some = sorted((classes & self.classes.identifying).difference(busy))
                        ways = {way for one in some for way in self._ways(one, have, (*busy, name, wanted), left - 1)}
                        before.append(sorted(ways, key=lambda way: (len(way), way))[:MAX_WAYS])
                for several in product(*before):
                    joined = tuple(dict.fromkeys(one for way in several for one in way))
                    if len(joined) < left:
                        yield (*joined, name)

    def _guesses(self, way: Way) -> int:
        """How many of the reads ask for nothing that would lead to the right rows."""
        return sum(not any(list(self._asked(name, need)) for need in self.provenance[name].needs) for name in way)

    def _shows(self, tool: str, column: Column) -> bool:
        facts = self.provenance[tool]
        tables = {home[0] for home in self.classes.homes.get(column, ())}
        shown = {one for columns in facts.results.values() for one in columns if one[0] in tables}
        shows_one_row = self.program.tools[tool].tool.one and not self.is_write(tool)
        if not shows_one_row or not shown.difference(self.classes.members(column)):
            return False
        asked = [list(self._asked(tool, need)) for need in facts.needs if len(need) == 1]
        return any(len(classes) == 1 and column in classes[0] for classes in asked)

    def _carried(self, read: str, write: str) -> dict[str, str]:
        """Parameters of a read -> those of a write that hold the same: of one name and schema, or alone of the same classes."""
        carried: dict[str, str] = {}
        for name in self.parameters(read):
            schema = _bare(self._schema(read, (name,)))
            if name in self.parameters(write) and _bare(self._schema(write, (name,))) == schema:
                carried[name] = name
                continue
            classes = self.classes.naming(self.provenance[read].meets((name,)))
            alike = [
                p
                for p in self.parameters(write)
                if classes and self.classes.naming(self.provenance[write].meets((p,))) == classes
            ]
            if len(alike) == 1:
                carried[name] = alike[0]
        return carried


def _build(program: Program) -> ToolGraph:
    traced = trace(program)
    classes = ColumnClasses.of_tables(program, traced.unique)
    feeds = tuple(_feeds(program, traced.tools, classes))
    feeding: dict[str, list[Feed]] = {}
    for feed in feeds:
        feeding.setdefault(feed.consumer, []).append(feed)
    enables = {}
    for writer, facts in traced.tools.items():
        for name, other in traced.tools.items():
            if writer != name and (columns := frozenset(_bears_on(facts, other))):
                enables[writer, name] = columns
    return ToolGraph(
        program,
        traced.tools,
        classes,
        feeds,
        enables,
        {name: tuple(some) for name, some in feeding.items()},
        {name: classes.of_all(c for _, some in facts.yielded() for c in some) for name, facts in traced.tools.items()},
    )


def _feeds(program: Program, tools: Mapping[str, Provenance], classes: ColumnClasses) -> Iterator[Feed]:
    yielded: dict[Column, list[tuple[str, Path]]] = {}
    for name in sorted(tools, key=lambda name: program.tools[name].is_write):
        for path, columns in tools[name].yielded():
            for column in sorted(classes.naming(columns)):
                yielded.setdefault(column, []).append((name, path))
    for name, facts in tools.items():
        for parameter in facts.parameters:
            if parameter in facts.fresh or is_choice(schema_at(program.tools[name].tool.parameters, parameter)):
                continue
            for column in sorted(classes.naming(facts.meets(parameter))):
                for producer, path in yielded.get(column, ()):
                    if producer != name and program.tools[producer].tool.actor == program.tools[name].tool.actor:
                        yield Feed(producer, path, name, parameter, column)


def _bears_on(writer: Provenance, other: Provenance) -> Iterable[Column]:
    tables = {table for table, _ in other.reads}
    return (pair for pair in writer.writes if pair in other.looks_at or (pair[1] == "*" and pair[0] in tables))


def _requirements(compiled: CompiledTool) -> frozenset[str]:
    return frozenset(" ".join(one.sql.split()) for one in compiled.tool.require)


def _bare(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != "description"}
