"""The schema diagram: boxes keep apart, edges go around them, every foreign key is drawn, names are escaped."""

from __future__ import annotations

from itertools import combinations, pairwise
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from agentscaler.pages.diagram import Column, Entity, Reference, draw_diagram
from agentscaler.pages.layout import Link, lay_out

Schema = tuple[list[tuple[float, int]], list[Link]]


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    """Any graph of tables: cycles, self-references, several edges between two tables, tables without any."""
    sizes = draw(st.lists(st.tuples(st.floats(100, 300), st.integers(1, 12)), min_size=1, max_size=16))
    table = st.integers(0, len(sizes) - 1)
    pairs = draw(st.lists(st.tuples(table, table, st.integers(0, 11), st.integers(0, 11)), max_size=30))
    return sizes, [Link(c, cr % sizes[c][1], p, pr % sizes[p][1]) for c, p, cr, pr in pairs]


@given(schemas())
@settings(max_examples=150)
def test_boxes_do_not_overlap(schema: Schema) -> None:
    layout = lay_out(*schema)
    for one, two in combinations(layout.boxes, 2):
        apart_x = one.x + one.width < two.x or two.x + two.width < one.x
        apart_y = one.y + one.height < two.y or two.y + two.height < one.y
        assert apart_x or apart_y
    for box in layout.boxes:
        assert box.x >= 0
        assert box.y >= 0
        assert box.x + box.width <= layout.width
        assert box.y + box.height <= layout.height


@given(schemas())
@settings(max_examples=150)
def test_edges_join_their_rows_and_run_through_no_box(schema: Schema) -> None:
    sizes, links = schema
    layout = lay_out(sizes, links)
    assert len(layout.paths) == len(links)
    for link, path in zip(links, layout.paths, strict=True):
        for (x, y), table in ((path[0], link.child), (path[-1], link.parent)):
            box = layout.boxes[table]
            assert x in (box.x, box.x + box.width)
            assert box.y < y < box.y + box.height
        for (x1, y1), (x2, y2) in pairwise(path):
            assert x1 == x2 or y1 == y2
            for box in layout.boxes:
                beside = max(x1, x2) <= box.x or min(x1, x2) >= box.x + box.width
                assert beside or max(y1, y2) <= box.y or min(y1, y2) >= box.y + box.height


@given(schemas())
@settings(max_examples=60)
def test_edges_of_different_parents_do_not_lie_on_each_other(schema: Schema) -> None:
    sizes, links = schema
    layout = lay_out(sizes, links)
    lines = [
        (link, one, two)
        for link, path in zip(links, layout.paths, strict=True)
        if link.child != link.parent
        for one, two in pairwise(path)
        if one != two
    ]
    for (link, one, two), (other, three, four) in combinations(lines, 2):
        ends = ((link.child, link.child_row), (link.parent, link.parent_row))
        if any(end in ends for end in ((other.child, other.child_row), (other.parent, other.parent_row))):
            continue
        for axis in (0, 1):
            if one[axis] == two[axis] == three[axis] == four[axis]:
                along = 1 - axis
                spans = sorted([sorted((one[along], two[along])), sorted((three[along], four[along]))])
                assert spans[0][1] <= spans[1][0]


def test_a_chain_reads_from_left_to_right() -> None:
    layout = lay_out([(150, 2)] * 3, [Link(2, 1, 1, 0), Link(1, 1, 0, 0)])
    assert [box.x for box in layout.boxes] == sorted({box.x for box in layout.boxes})


def test_every_foreign_key_is_drawn_and_names_are_escaped() -> None:
    evil = '<script>alert("x")</script>'
    tables = [
        Entity("folders", (Column("name", "TEXT", key=True),), 3),
        Entity(evil, (Column("id", "INTEGER", key=True), Column(evil, "TEXT", foreign=True, nullable=True)), 0, True),
    ]
    svg = draw_diagram(tables, [Reference(evil, (evil,), "folders", ("name",), nullable=True, actions=evil)])
    root = ElementTree.fromstring(svg)
    assert [node.get("class") for node in root.iter("g")] == ["edge nullable", "box", "box exempt"]
    assert not list(root.iter("script"))
    assert evil in "".join(root.itertext())


def test_no_tables_no_boxes() -> None:
    assert ElementTree.fromstring(draw_diagram([], [])).tag == "svg"
