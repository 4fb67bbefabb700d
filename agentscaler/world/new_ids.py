"""Surrogate keys: what `new_id(table)` gives out in one environment.

Ids come from seed, table and a counter that rolls back with a failed call. Held apart from the environment, because the connection
holds this object and Python cannot collect a cycle through a connection.
"""

from __future__ import annotations

from copy import copy
from typing import Any

from agentscaler.world.functions import BadValue, surrogate
from agentscaler.world.program import Program

INTEGER_ID_START = 1_000_000_000


class NewIds:
    """`issued` holds (table, id) of every key given out."""

    def __init__(self, program: Program, seed: int):
        self._prefixes = program.domain.ids
        self._integer = program.integer_ids
        self._seed = seed
        self.reset()

    def reset(self) -> None:
        self._counts: dict[str, int] = {}
        self.issued: set[tuple[str, Any]] = set()

    def __call__(self, table: str) -> Any:
        if table not in self._prefixes:
            raise BadValue(f"new_id: there are no ids for table {table!r}.")
        count = self._counts[table] = self._counts.get(table, 0) + 1
        fresh = (
            INTEGER_ID_START + count
            if table in self._integer
            else surrogate(self._seed, table, self._prefixes[table], count)
        )
        self.issued.add((table, fresh))
        return fresh

    def taken_down(self) -> NewIds:
        """As it stands now, for an environment that has ended: this one goes on with the copy."""
        past = copy(self)
        past._counts, past.issued = self.mark()
        return past

    def mark(self) -> tuple[dict[str, int], set[tuple[str, Any]]]:
        return dict(self._counts), set(self.issued)

    def rewind(self, mark: tuple[dict[str, int], set[tuple[str, Any]]]) -> None:
        self._counts, self.issued = mark

    @property
    def counts(self) -> dict[str, int]:
        return dict(self._counts)
