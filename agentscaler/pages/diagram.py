"""A schema as inline SVG: boxes for tables, edges for foreign keys. Everything that names something is escaped.

Marks: a crow's foot at the child's end (a bar where the child has one row a parent), a bar at the parent's; dashed where the foreign
key may be NULL. Colours come from the page's CSS.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from agentscaler.pages.layout import HEAD, ROW, Box, Link, Point, lay_out

CHAR = 6.7  # width of a monospaced character at 11 px
LONGEST = 30  # characters of a name; the whole one is in the tooltip
CORNER = 6.0
MARGIN = 12.0

# Without it the page is whole: it only lights up a table's edges under the pointer.
HOVER_SCRIPT = """
for (const svg of document.querySelectorAll("svg.diagram")) {
  const edges = [...svg.querySelectorAll(".edge")], boxes = [...svg.querySelectorAll(".box")];
  const light = (on, lit) => {
    svg.classList.toggle("dim", on);
    const near = new Set(lit.flatMap(e => [e.dataset.child, e.dataset.parent]));
    for (const e of edges) e.classList.toggle("lit", lit.includes(e));
    for (const b of boxes) b.classList.toggle("lit", near.has(b.dataset.table));
  };
  for (const box of boxes) {
    const own = edges.filter(e => [e.dataset.child, e.dataset.parent].includes(box.dataset.table));
    box.addEventListener("pointerenter", () => light(true, own.length ? own : [{dataset: {child: box.dataset.table}}]));
    box.addEventListener("pointerleave", () => light(false, []));
  }
  for (const edge of edges) {
    edge.addEventListener("pointerenter", () => light(true, [edge]));
    edge.addEventListener("pointerleave", () => light(false, []));
  }
}
"""


_SVG = Markup(
    '<svg class="diagram" role="img" aria-label="schema" viewBox="{left} {left} {width} {height}" '
    'style="width:100%;max-width:{width}px;min-width:{least}px">{parts}</svg>'
)
_BOX = Markup(
    '<a href="#rows-{number}"><g class="box{exempt}" data-table="{number}" transform="translate({x} {y})">'
    '<title>{title}</title><rect class="frame" width="{width}" height="{height}" rx="5"/>'
    '<path class="head" d="M0 23V5a5 5 0 0 1 5-5h{head}a5 5 0 0 1 5 5v18z"/>'
    '<text class="name" x="10" y="16">{name}</text><text class="count" x="{across}" y="16">{count}</text>'
    "{columns}</g></a>"
)
_COLUMN = Markup(
    '<text class="mark" x="8" y="{y}">{mark}</text><text class="{classes}" x="41" y="{y}">{title}{name}</text>'
    '<text class="type" x="{right}" y="{y}">{note}</text>'
)
_EDGE = Markup(
    '<g class="edge{nullable}" data-child="{child}" data-parent="{parent}"><title>{title}</title>'
    '<path class="near" d="{line}"/><path class="line" d="{line}"/><path class="end" d="{ends}"/></g>'
)


@dataclass(frozen=True, slots=True)
class Column:
    """`marks` are the column's classes and whatever else a reader should know: exempt, semantic, json, new_id, generated."""

    name: str
    type: str
    key: bool = False
    foreign: bool = False
    nullable: bool = False
    marks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entity:
    """A table. `exempt` where the whole table is."""

    name: str
    columns: tuple[Column, ...]
    num_rows: int
    exempt: bool = False


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key by names. `one` where a parent has at most one such child."""

    child: str
    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]
    one: bool = False
    nullable: bool = False
    actions: str = ""


def draw_diagram(entities: Sequence[Entity], references: Sequence[Reference]) -> Markup:
    """One `<svg>`. Tables are numbered in the order given; `#rows-<number>` is where a box leads."""
    numbers = {entity.name: number for number, entity in enumerate(entities)}
    rows = {(e.name, c.name): row for e in entities for row, c in enumerate(e.columns)}
    links = [
        Link(numbers[r.child], rows[r.child, r.columns[0]], numbers[r.parent], rows[r.parent, r.parent_columns[0]])
        for r in references
    ]
    layout = lay_out([(_width(entity), len(entity.columns)) for entity in entities], links)
    parts = [_edge(reference, numbers, path) for reference, path in zip(references, layout.paths, strict=True)]
    parts += [
        _box(number, entity, box) for number, (entity, box) in enumerate(zip(entities, layout.boxes, strict=True))
    ]
    width, height = layout.width + 2 * MARGIN, layout.height + 2 * MARGIN
    joined = Markup("\n").join(parts)
    return _SVG.format(left=_n(-MARGIN), width=_n(width), height=_n(height), least=_n(width * 0.75), parts=joined)


def _width(entity: Entity) -> float:
    names = max((len(_cut(column.name)) for column in entity.columns), default=0)
    notes = max((len(_note(column)) for column in entity.columns), default=0)
    title = len(_cut(entity.name)) * 1.15 + len(_count(entity)) + 3
    return max(150.0, CHAR * max(names + notes + 1, title) + 51)


def _box(number: int, entity: Entity, box: Box) -> Markup:
    columns = [_column(column, box.width, HEAD + (row + 0.7) * ROW) for row, column in enumerate(entity.columns)]
    return _BOX.format(
        number=number,
        exempt=" exempt" if entity.exempt else "",
        x=_n(box.x),
        y=_n(box.y),
        title=entity.name + (" (exempt: not compared)" if entity.exempt else ""),
        width=_n(box.width),
        height=_n(box.height),
        head=_n(box.width - 10),
        across=_n(box.width - 10),
        name=_cut(entity.name),
        count=_count(entity),
        columns=Markup("").join(columns),
    )


def _column(column: Column, width: float, y: float) -> Markup:
    classes = [mark for mark in column.marks if mark in ("exempt", "semantic", "json")] + ["key"] * column.key
    return _COLUMN.format(
        y=_n(y),
        mark="·".join(["PK"] * column.key + ["FK"] * column.foreign),
        classes=" ".join(["column", *classes]),
        title=Markup("<title>{}</title>").format(column.name) if len(column.name) > LONGEST else "",
        name=_cut(column.name),
        right=_n(width - 10),
        note=_note(column),
    )


def _edge(reference: Reference, numbers: dict[str, int], path: Sequence[Point]) -> Markup:
    (x, y), (end_x, end_y) = path[0], path[-1]
    far = _n(x + (11 if path[1][0] > x else -11))
    bar = _n(end_x + (6 if path[-2][0] > end_x else -6))
    foot = f"M{_n(x)} {_n(y - 5)}L{far} {_n(y)}L{_n(x)} {_n(y + 5)}"
    if reference.one:
        foot = f"M{far} {_n(y - 5)}V{_n(y + 5)}"
    notes = [reference.actions] * bool(reference.actions) + ["may be NULL"] * reference.nullable
    words = (
        f"{reference.child}({', '.join(reference.columns)}) → {reference.parent}({', '.join(reference.parent_columns)})"
    )
    return _EDGE.format(
        nullable=" nullable" if reference.nullable else "",
        child=numbers[reference.child],
        parent=numbers[reference.parent],
        title=words + (f": {'; '.join(notes)}" if notes else ""),
        line=" ".join(_rounded(path)),
        ends=f"{foot}M{bar} {_n(end_y - 4)}V{_n(end_y + 4)}",
    )


def _rounded(path: Sequence[Point]) -> Iterator[str]:
    corners = [path[0], *(point for before, point in pairwise(path) if before != point)]
    yield f"M{_n(corners[0][0])} {_n(corners[0][1])}"
    for one, corner, two in zip(corners, corners[1:], corners[2:], strict=False):
        (x, y), (before, after) = corner, (_towards(corner, one), _towards(corner, two))
        yield f"L{_n(before[0])} {_n(before[1])}Q{_n(x)} {_n(y)} {_n(after[0])} {_n(after[1])}"
    yield f"L{_n(corners[-1][0])} {_n(corners[-1][1])}"


def _towards(corner: Point, other: Point) -> Point:
    """On the way to `other`, where the rounding begins; edges run straight along one axis."""
    dx, dy = other[0] - corner[0], other[1] - corner[1]
    share = min(CORNER / (abs(dx) + abs(dy)), 0.5)
    return corner[0] + dx * share, corner[1] + dy * share


def _note(column: Column) -> str:
    kind = column.type.lower().replace("integer", "int")
    return " ".join([kind + ("?" if column.nullable else ""), *column.marks])


def _count(entity: Entity) -> str:
    return f"{entity.num_rows:,}"


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
