"""Where a value in SQL comes from: columns and arguments that it plainly is, columns that it is worked out from, parts of a JSON text.

Invariant: a value has at most `MAX_LEAVES` leaves; a larger JSON text is worked out from its columns and followed no further.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from agentscaler.tasks.walk.prepared import Column

Path = tuple[str, ...]
"""Keys into a JSON value; "*" stands for any item of a list, and for any key of an object whose keys are data."""

ANY = "*"
MAX_LEAVES = 400  # the largest result of the shipped worlds has 45


@dataclass(frozen=True, slots=True)
class Value:
    """`columns`: it is the value of one of them, as it stands there or trimmed, in other case or a default in its place.
    `arguments`: or it is one of these arguments of the call. `computed`: columns that it is worked out from (sums, counts, cases).
    `parts`: what lies in a JSON text, by key."""

    columns: frozenset[Column] = frozenset()
    arguments: frozenset[Path] = frozenset()
    computed: frozenset[Column] = frozenset()
    parts: Mapping[str, Value] = field(default_factory=dict)
    num_leaves: int = 1

    @property
    def is_plain(self) -> bool:
        return bool(self.columns or self.arguments or self.parts) and not self.computed

    @property
    def touches(self) -> frozenset[Column]:
        """All columns that have a share in it."""
        return self.columns.union(self.computed, *(part.touches for part in self.parts.values()))

    def inside(self, keys: Iterable[str]) -> Value:
        """What lies at these keys of the JSON text. What lies inside a column is not followed."""
        found = self
        for key in keys:
            below = merge(found.parts.values()) if key == ANY else found.parts.get(key, found.parts.get(ANY, NOTHING))
            arguments = frozenset((*path, key) for path in found.arguments)
            found = Value(below.columns, below.arguments | arguments, below.computed, below.parts, below.num_leaves)
        return found

    def leaves(self, path: Path = ()) -> Iterator[tuple[Path, Value]]:
        if not self.parts:
            yield path, self
        for key, part in self.parts.items():
            yield from part.leaves((*path, key))


NOTHING = Value()


def json_of(parts: Mapping[str, Value]) -> Value:
    num_leaves = sum(part.num_leaves for part in parts.values())
    if num_leaves > MAX_LEAVES:
        return Value(computed=frozenset().union(*(part.touches for part in parts.values())))
    return Value(parts=parts, num_leaves=max(1, num_leaves))


def merge(values: Iterable[Value]) -> Value:
    """It is one of these."""
    found = list({id(value): value for value in values}.values())
    if len(found) == 1:
        return found[0]
    keys = dict.fromkeys(key for value in found for key in value.parts)
    parts = json_of({key: merge(value.parts[key] for value in found if key in value.parts) for key in keys})
    return Value(
        frozenset().union(*(value.columns for value in found)),
        frozenset().union(*(value.arguments for value in found)),
        parts.computed.union(*(value.computed for value in found)),
        parts.parts,
        parts.num_leaves,
    )
