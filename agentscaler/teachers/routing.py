"""Which server a session's next request goes to. Pure bookkeeping: no HTTP, no clock of its own, the same for a fleet, a list of URLs
and the simulation of `jobs.bench fleet`.

A session is one rollout's conversation with one model. It stays with its replica, whose KV cache holds its prefix; it starts where there
is least load, and breaks away where its own replica is loaded past a margin. A replica's load counts half by sessions and half by the
tokens of their contexts, which fill its KV cache and slow its steps.

Many routers decide at the same time on views that are half a second old, so none may act as if it were alone: all would run to the same
replica. Each expects the others to start sessions as it does itself, and chooses at random in proportion to what each replica is short of
once all are placed (as water fills a vessel); of the sessions on a crowded replica only about as many leave as are too many.

Invariants: loads are sums over living sessions, taken anew at every view, so they cannot leak: what others put on a replica comes in with
`update` as an absolute figure and is replaced by the next; the end of a session takes all of it away.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

SHUN_S = 10.0  # a replica that was lost is asked again after this, unless a view leaves it out


class NoReplica(Exception):
    """No server lives at the moment."""


@dataclass(frozen=True, slots=True)
class Load:
    """What lies on a replica: sessions pinned to it, and the tokens of their contexts."""

    sessions: int = 0
    tokens: int = 0


@dataclass(slots=True)
class _Pin:
    url: str
    tokens: int = 0


class Router:
    """Sticky, least-loaded, with a margin to break away: past `margin` times the least load and `slack` sessions more.

    `seed` tells the routers of several workers apart. `token_share` is how much tokens count beside sessions.
    """

    def __init__(
        self,
        margin: float = 1.5,
        slack: float = 4.0,
        now: Callable[[], float] = time.monotonic,
        seed: int = 0,
        token_share: float = 0.5,
    ):
        self._margin, self._slack, self._now, self._token_share = margin, slack, now, token_share
        self._random = random.Random(seed)
        self._others: dict[str, Load] = {}
        self._shunned: dict[str, float] = {}
        self._pins: dict[str, _Pin] = {}
        self._started = 0  # sessions, since the last view
        # Taken from the above by `_recount`, and kept up to date in between. Loads are in sessions of average length.
        self._alive: list[str] = []
        self._places: dict[str, int] = {}
        self._loads: list[float] = []
        self._a_session, self._a_token = 1.0, 0.0
        self._expected = 1.0  # sessions that all routers together start before the next view
        self._returns_at = math.inf

    def update(self, replicas: Mapping[str, Load]) -> None:
        """The replicas that live now, and what others (not this router's sessions) put on each."""
        self._others = dict(replicas)
        own = len(self._pins)
        everybody = own + sum(load.sessions for load in replicas.values())
        self._expected = max(1.0, self._started * everybody / max(1, own))
        self._started = 0
        self._recount()

    def route(self, session: str) -> str:
        """The URL for the session's next request; raises NoReplica."""
        if self._returns_at < math.inf and self._now() >= self._returns_at:
            self._recount()
        loads = self._loads
        if not loads:
            raise NoReplica("no server of the model lives")
        pin = self._pins.get(session)
        if pin is None:
            place = self._place()
            self._pins[session] = _Pin(self._alive[place])
            self._started += 1
            loads[place] += self._a_session
            return self._alive[place]
        here = self._places.get(pin.url)
        weight = self._a_session + self._a_token * pin.tokens
        if here is not None:
            load = loads[here]
            if load <= self._margin * min(loads) + self._slack:
                return pin.url
            too_many = load - sum(loads) / len(loads)
            if self._random.random() * load >= too_many:
                return pin.url
        place = self._place()
        if here is not None:
            if loads[place] + weight >= loads[here]:
                return pin.url
            loads[here] -= weight
        loads[place] += weight
        pin.url = self._alive[place]
        return pin.url

    def spent(self, session: str, tokens: int) -> None:
        """The session's context has this many tokens now."""
        if pin := self._pins.get(session):
            if (place := self._places.get(pin.url)) is not None:
                self._loads[place] += self._a_token * (tokens - pin.tokens)
            pin.tokens = tokens

    def lost(self, url: str) -> None:
        """The server did not answer: out at once; its sessions are pinned anew at their next turn."""
        self._shunned[url] = self._now() + SHUN_S
        self._recount()

    def end(self, session: str) -> None:
        pin = self._pins.pop(session, None)
        if pin is not None and (place := self._places.get(pin.url)) is not None:
            self._loads[place] -= self._a_session + self._a_token * pin.tokens

    def loads(self) -> dict[str, Load]:
        """What this router's own sessions put on each replica."""
        own = self._own()
        return {url: Load(*own[url]) if url in own else _NOTHING for url in self._others}

    def _own(self) -> dict[str, list[int]]:
        """Sessions and tokens of this router by URL, wherever they are pinned."""
        sums: dict[str, list[int]] = {}
        for pin in self._pins.values():
            if (counts := sums.get(pin.url)) is not None:
                counts[0] += 1
                counts[1] += pin.tokens
            else:
                sums[pin.url] = [1, pin.tokens]
        return sums

    def _recount(self) -> None:
        now = self._now() if self._shunned else 0.0
        self._shunned = {url: at for url, at in self._shunned.items() if at > now and url in self._others}
        self._returns_at = min(self._shunned.values(), default=math.inf)
        self._alive = [url for url in self._others if url not in self._shunned]
        self._places = {url: place for place, url in enumerate(self._alive)}
        own, others = self._own(), self._others
        loads = [(others[url], own.get(url, (0, 0))) for url in self._alive]
        sessions = [there.sessions + mine[0] for there, mine in loads]
        tokens = [there.tokens + mine[1] for there, mine in loads]
        if all_tokens := sum(tokens):
            self._a_session = 1.0 - self._token_share
            self._a_token = self._token_share * sum(sessions) / all_tokens
        else:
            self._a_session, self._a_token = 1.0, 0.0
        by_session, by_token = self._a_session, self._a_token
        self._loads = [by_session * count + by_token * size for count, size in zip(sessions, tokens, strict=True)]

    def _place(self) -> int:
        """Where a session is to go: the more a replica is short of, the likelier."""
        loads = self._loads
        ascending = sorted(loads)
        level, left, filled = ascending[0], self._expected, 1
        for higher in ascending[1:]:
            step = (higher - level) * filled
            if step >= left:
                break
            left -= step
            level = higher
            filled += 1
        level += left / filled
        missing = [level - load if load < level else 0.0 for load in loads]
        return self._random.choices(range(len(loads)), missing)[0]


_NOTHING = Load()
