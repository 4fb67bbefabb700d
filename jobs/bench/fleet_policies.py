"""What our router is compared with: the four policies of common load balancers, behind the router's own protocol.

All but `consistent_hash` choose anew for every request. They are given the same views as our router, as stale, and `least_loaded` counts
what they count everywhere: requests in flight, those of others as of the last view.
"""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Protocol

from agentscaler.teachers.routing import Load, Router


class Policy(Protocol):
    """The part of `Router` that the bench calls. `answered` is for those that count requests, not sessions."""

    def update(self, replicas: Mapping[str, Load]) -> None: ...
    def route(self, session: str) -> str: ...
    def spent(self, session: str, tokens: int) -> None: ...
    def end(self, session: str) -> None: ...
    def answered(self, session: str) -> None: ...
    def loads(self) -> dict[str, Load]: ...


class Sticky(Router):
    """Ours. Sessions are what it counts, so the end of a request means nothing to it."""

    def answered(self, session: str) -> None:
        pass


class _EachRequest:
    def __init__(self, seed: int):
        self._random = random.Random(seed)
        self._urls: list[str] = []

    def update(self, replicas: Mapping[str, Load]) -> None:
        self._urls = list(replicas)

    def spent(self, session: str, tokens: int) -> None:
        pass

    def end(self, session: str) -> None:
        pass

    def answered(self, session: str) -> None:
        pass

    def loads(self) -> dict[str, Load]:
        return {}


class RoundRobin(_EachRequest):
    def __init__(self, seed: int):
        super().__init__(seed)
        self._turn = self._random.randrange(1 << 20)  # workers do not march in step

    def route(self, session: str) -> str:
        self._turn += 1
        return self._urls[self._turn % len(self._urls)]


class Random(_EachRequest):
    def route(self, session: str) -> str:
        return self._random.choice(self._urls)


class ConsistentHash(_EachRequest):
    """A ring with 160 points a replica, as in ketama."""

    POINTS = 160

    def update(self, replicas: Mapping[str, Load]) -> None:
        if list(replicas) != self._urls:
            super().update(replicas)
            ring = sorted((_hash(f"{url}#{i}"), url) for url in replicas for i in range(self.POINTS))
            self._keys, self._owners = [key for key, _ in ring], [url for _, url in ring]

    def route(self, session: str) -> str:
        return self._owners[bisect(self._keys, _hash(session)) % len(self._owners)]


class LeastLoaded(_EachRequest):
    """The replica with the fewest requests in flight; among equals, at random."""

    def __init__(self, seed: int):
        super().__init__(seed)
        self._flying: dict[str, str] = {}
        self._counts: list[int] = []
        self._index: dict[str, int] = {}

    def update(self, replicas: Mapping[str, Load]) -> None:
        super().update(replicas)
        self._index = {url: i for i, url in enumerate(self._urls)}
        self._counts = [load.sessions for load in replicas.values()]
        for url in self._flying.values():
            self._counts[self._index[url]] += 1

    def route(self, session: str) -> str:
        counts = self._counts
        least = min(counts)
        first = self._random.randrange(len(counts))
        try:
            best = counts.index(least, first)
        except ValueError:
            best = counts.index(least)
        counts[best] += 1
        self._flying[session] = self._urls[best]
        return self._urls[best]

    def answered(self, session: str) -> None:
        self._counts[self._index[self._flying.pop(session)]] -= 1

    def loads(self) -> dict[str, Load]:
        sums = dict.fromkeys(self._urls, 0)
        for url in self._flying.values():
            sums[url] += 1
        return {url: Load(sessions=count) for url, count in sums.items()}


POLICIES: dict[str, Callable[[int], Policy]] = {
    "sticky_least_loaded": lambda seed: Sticky(seed=seed),
    "round_robin": RoundRobin,
    "random": Random,
    "consistent_hash": ConsistentHash,
    "least_loaded": LeastLoaded,
    "sticky_by_sessions": lambda seed: Sticky(seed=seed, token_share=0.0),
    "sticky_by_tokens": lambda seed: Sticky(seed=seed, token_share=1.0),
}
OURS = "sticky_least_loaded"


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
