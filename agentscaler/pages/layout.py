"""Where the boxes and edges of a schema diagram go: layers by foreign-key depth, parents to the left of their children.

Invariants, by construction: boxes never overlap; an edge leaves its layer only through the gaps between layers, and crosses a layer
in a slot of its own, so that it never runs through a box. Edges to the same row of the same parent share their way; all others keep
apart (each layer's rows stand on a residue of their own, so that no two lines lie on each other).

Knows nothing of tables: boxes have a width and rows, links join a row of one box to a row of another.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

ROW = 18.0
HEAD = 1.5 * ROW  # above the first row; half a row is left below the last
GAP = 23.0  # between a box and the first track
TRACK = 9.0
ROUNDS = 16

Point = tuple[float, float]
Group = tuple[int, int, bool]  # parent, its row, and whether its children stand to its left (a cycle)


@dataclass(frozen=True, slots=True)
class Link:
    """Boxes and rows by number."""

    child: int
    child_row: int
    parent: int
    parent_row: int


@dataclass(frozen=True, slots=True)
class Box:
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Layout:
    """`paths` has the corners of every link in the order given, the child's end first."""

    boxes: tuple[Box, ...]
    paths: tuple[tuple[Point, ...], ...]
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class _Segment:
    """A way through one gap. Nodes are boxes, or slots (numbered on from the boxes) where an edge crosses a layer."""

    gap: int
    left: int
    left_row: int
    right: int
    right_row: int
    group: Group


def lay_out(sizes: Sequence[tuple[float, int]], links: Sequence[Link]) -> Layout:
    """`sizes` are width and number of rows of each box."""
    if not sizes:
        return Layout((), (), 0.0, 0.0)
    joins = [link for link in links if link.child != link.parent]
    layer = _layers([rows for _, rows in sizes], joins)
    slots, segments = _route(layer, joins)
    rows = [rows for _, rows in sizes]
    levels: list[list[int]] = [[] for _ in range(max(layer) + 1)]
    for node, level in enumerate([*layer, *(level for _, level in slots)]):
        levels[level].append(node)
    levels = _order(levels, segments)
    tops = _heights(levels, segments, rows)

    def port(node: int, row: int) -> float:
        return tops[node] + (_offset(row) if node < len(rows) else ROW / 4)

    tracks = [_tracks([s for s in segments if s.gap == gap], port) for gap in range(len(levels) - 1)]
    lefts, widths, x = [], [], 0.0
    for level, nodes in enumerate(levels):
        lefts.append(x)
        widths.append(max((sizes[node][0] for node in nodes if node < len(rows)), default=0.0))
        x += widths[-1] + (2 * GAP + TRACK * max(len(tracks[level]) - 1, 0) if level < len(tracks) else 0.0)
    boxes = tuple(Box(lefts[layer[i]], tops[i], widths[layer[i]], _tall(rows[i])) for i in range(len(rows)))
    slot_of = {name: len(rows) + number for number, name in enumerate(slots)}
    paths = []
    for link in links:
        child, parent = boxes[link.child], boxes[link.parent]
        start, end = port(link.child, link.child_row), port(link.parent, link.parent_row)
        if link.child == link.parent:
            right = child.x + child.width
            paths.append(((right, start), (right + GAP * 0.6, start), (right + GAP * 0.6, end), (right, end)))
            continue
        near, far = layer[link.child], layer[link.parent]
        back, group = near < far, (link.parent, link.parent_row, near < far)
        y, corners = start, [(child.x + child.width if back else child.x, start)]
        for gap in range(near, far) if back else range(near - 1, far - 1, -1):
            track = lefts[gap] + widths[gap] + GAP + TRACK * tracks[gap].index(group)
            level = gap + 1 if back else gap
            next_y = end if level == far else port(slot_of[group, level], 0)
            corners += [(track, y), (track, next_y)]
            y = next_y
        paths.append((*corners, (parent.x if back else parent.x + parent.width, end)))
    loops = any(link.child == link.parent for link in links)
    height = max([box.y + box.height for box in boxes] + [tops[slot] + ROW for slot in slot_of.values()])
    return Layout(boxes, tuple(paths), x + (GAP if loops else 0.0), height)


def _tall(num_rows: int) -> float:
    return HEAD + num_rows * ROW + ROW / 2


def _offset(row: int) -> float:
    return HEAD + row * ROW + ROW / 2


def _layers(rows: list[int], joins: Sequence[Link]) -> list[int]:
    """Depth by foreign keys, an edge that closes a cycle left out; then each box as near to its children as it can be. Boxes
    without links fill the shortest layers."""
    parents: dict[int, list[int]] = defaultdict(list)
    for join in joins:
        parents[join.child].append(join.parent)
    depth: dict[int, int] = {}
    children: dict[int, list[int]] = defaultdict(list)

    def visit(node: int, above: frozenset[int]) -> int:
        if node not in depth:
            found = 0
            for parent in dict.fromkeys(parents[node]):
                if parent not in above:
                    found = max(found, visit(parent, above | {node}) + 1)
                    children[parent].append(node)
            depth[node] = found
        return depth[node]

    linked = {node for join in joins for node in (join.child, join.parent)}
    for node in sorted(linked):
        visit(node, frozenset({node}))
    for node in sorted(linked, key=lambda node: -depth[node]):
        if children[node]:
            depth[node] = min(depth[child] for child in children[node]) - 1
    alone = [node for node in range(len(rows)) if node not in linked]
    heights = [0.0] * max(max(depth.values(), default=0) + 1, min(3, len(alone)))
    for node, level in depth.items():
        heights[level] += _tall(rows[node]) + ROW
    for node in alone:
        depth[node] = heights.index(min(heights))
        heights[depth[node]] += _tall(rows[node]) + ROW
    return [depth[node] for node in range(len(rows))]


def _route(layer: list[int], joins: Sequence[Link]) -> tuple[list[tuple[Group, int]], list[_Segment]]:
    """Slots (group and layer) that edges cross layers in, and the segments between boxes and slots, one layer apart each."""
    groups: dict[Group, list[Link]] = defaultdict(list)
    for join in joins:
        groups[join.parent, join.parent_row, layer[join.child] < layer[join.parent]].append(join)
    slots: list[tuple[Group, int]] = []
    segments: dict[_Segment, None] = {}
    for group, members in groups.items():
        parent, parent_row, back = group
        step = -1 if back else 1  # from the parent towards its children
        node, row, level = parent, parent_row, layer[parent]
        farthest = max((layer[join.child] for join in members), key=lambda one: abs(one - layer[parent]))
        while level != farthest:
            ends = [(join.child, join.child_row) for join in members if layer[join.child] == level + step]
            if level + step != farthest:
                slots.append((group, level + step))
                ends.append((len(layer) + len(slots) - 1, 0))
            for end in ends:
                left, right = (end, (node, row)) if back else ((node, row), end)
                segments[_Segment(min(level, level + step), *left, *right, group)] = None
            node, row, level = *ends[-1], level + step
    return slots, list(segments)


def _order(levels: list[list[int]], segments: list[_Segment]) -> list[list[int]]:
    """Barycenter sweeps to and fro; the order with the fewest crossings is kept."""
    best, fewest = levels, _crossings(levels, segments)
    for sweep in range(ROUNDS):
        if not fewest:
            break
        levels = [list(nodes) for nodes in levels]
        place = {node: index for nodes in levels for index, node in enumerate(nodes)}
        ways = range(1, len(levels)) if sweep % 2 == 0 else range(len(levels) - 2, -1, -1)
        for level in ways:
            pulls: dict[int, list[float]] = defaultdict(list)
            for s in segments:
                if sweep % 2 == 0 and s.gap == level - 1:
                    pulls[s.right].append(place[s.left] + s.left_row / 1000 - s.right_row / 100_000)
                elif sweep % 2 and s.gap == level:
                    pulls[s.left].append(place[s.right] + s.right_row / 1000 - s.left_row / 100_000)
            levels[level].sort(key=lambda n: sum(pulls[n]) / len(pulls[n]) if pulls[n] else place[n])
            place |= {node: index for index, node in enumerate(levels[level])}
        if (crossings := _crossings(levels, segments)) < fewest:
            best, fewest = levels, crossings
    return best


def _crossings(levels: list[list[int]], segments: list[_Segment]) -> int:
    place = {node: index for nodes in levels for index, node in enumerate(nodes)}
    total = 0
    for gap in range(len(levels) - 1):
        ends = sorted(((place[s.left], s.left_row), (place[s.right], s.right_row)) for s in segments if s.gap == gap)
        total += sum(one[0] < two[0] and one[1] > two[1] for i, one in enumerate(ends) for two in ends[i + 1 :])
    return total


def _heights(levels: list[list[int]], segments: list[_Segment], rows: list[int]) -> list[float]:
    """Tops: every node as near to its neighbours' rows as order and room allow. Residues of a row keep lines apart."""
    num_nodes = sum(len(nodes) for nodes in levels)
    size = [(_tall(rows[node]) if node < len(rows) else 0.0) + ROW for node in range(num_nodes)]
    tops = [0.0] * num_nodes
    for nodes in levels:
        y = 0.0
        for node in nodes:
            tops[node], y = y, y + size[node]
    pulls: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for s in segments:
        left, right = (
            _offset(r) if n < len(rows) else ROW / 4 for n, r in ((s.left, s.left_row), (s.right, s.right_row))
        )
        pulls[s.left].append((s.right, right - left))
        pulls[s.right].append((s.left, left - right))
    for sweep in range(ROUNDS):
        for nodes in levels if sweep % 2 else reversed(levels):
            wanted = [sum(tops[o] + by for o, by in pulls[n]) / len(pulls[n]) if pulls[n] else tops[n] for n in nodes]
            weights = [float(len(pulls[node])) or 0.01 for node in nodes]
            for node, top in zip(nodes, _spread(wanted, weights, [size[node] for node in nodes]), strict=True):
                tops[node] = top
    lowest = min(tops)
    for level, nodes in enumerate(levels):
        for node in nodes:  # all sizes are whole rows, so rounding down keeps them apart
            tops[node] = (tops[node] - lowest + 1e-6) // ROW * ROW + (ROW / 2 if level % 2 else 0.0)
    return tops


def _spread(wanted: list[float], weights: list[float], sizes: list[float]) -> list[float]:
    """The tops nearest to the wanted ones (least squares) that keep the order and do not overlap: neighbours that would are pooled."""
    blocks: list[tuple[float, float, int]] = []  # place, weight, number of members
    starts, start = [], 0.0
    for want, weight, size in zip(wanted, weights, sizes, strict=True):
        starts.append(start)
        blocks.append((want - start, weight, 1))
        start += size
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            (y, w, n), (y2, w2, n2) = blocks[-2:]
            blocks[-2:] = [((y * w + y2 * w2) / (w + w2), w + w2, n + n2)]
    places = [y for y, _, members in blocks for _ in range(members)]
    return [y + start for y, start in zip(places, starts, strict=True)]


def _tracks(segments: list[_Segment], port: Callable[[int, int], float]) -> list[Group]:
    """Groups of one gap from left to right, neighbours swapped as long as that takes crossings away."""
    lefts: dict[Group, list[float]] = defaultdict(list)
    rights: dict[Group, list[float]] = defaultdict(list)
    for s in segments:
        lefts[s.group].append(port(s.left, s.left_row))
        rights[s.group].append(port(s.right, s.right_row))

    def cost(one: Group, two: Group) -> int:
        """Crossings with `one` left of `two`."""
        return _inside(rights[one], lefts[two] + rights[two]) + _inside(lefts[two], lefts[one] + rights[one])

    order = list(lefts)
    for _ in order:
        for i in range(len(order) - 1):
            if cost(order[i], order[i + 1]) > cost(order[i + 1], order[i]):
                order[i], order[i + 1] = order[i + 1], order[i]
    return order


def _inside(ys: Iterable[float], span: list[float]) -> int:
    return sum(min(span) < y < max(span) for y in set(ys))
