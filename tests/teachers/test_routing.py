"""Promises of the router:

1. A session stays; it starts where there is least; it leaves only past the margin, and does not wander.
2. A lost replica gets nothing at once, its sessions go elsewhere, and it is asked again later.
3. Loads are sums over living sessions: after any calls they equal a recount, and after all sessions ended they are zero.
4. Many routers with stale views keep a fleet even, fill a replica that came new, and do not run to it all at once.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentscaler.teachers.routing import SHUN_S, Load, NoReplica, Router

A, B, C = "http://a/v1", "http://b/v1", "http://c/v1"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def router_of(*urls: str, **keys: float) -> Router:
    router = Router(seed=1, **keys)  # type: ignore[arg-type]
    router.update(dict.fromkeys(urls, Load()))
    return router


def test_a_session_stays_and_a_new_one_starts_where_there_is_least() -> None:
    router = router_of(A, B)
    first = router.route("one")
    assert router.route("two") != first
    assert all(router.route("one") == first for _ in range(20))
    router.update({A: Load(30, 1000), B: Load(29, 1000)})
    assert router.route("one") == first
    router.update({A: Load(9, 90_000), B: Load(3, 30_000), C: Load(7, 70_000)})
    assert router.route("three") == B


@pytest.mark.parametrize(("token_share", "goes_to"), [(0.0, A), (0.5, B), (1.0, B)])
def test_tokens_count_beside_sessions(token_share: float, goes_to: str) -> None:
    router = Router(token_share=token_share)
    router.update({A: Load(4, 100_000), B: Load(6, 10_000)})
    assert router.route("new") == goes_to


def test_within_the_margin_nobody_leaves_and_beyond_it_only_those_too_many() -> None:
    router = router_of(A, B)
    sessions = [f"s{i}" for i in range(40)]
    for session in sessions:
        router.route(session)
    on = {session: router.route(session) for session in sessions}
    assert Counter(on.values()) == {A: 20, B: 20}
    router.update({A: Load(10, 0), B: Load()})  # 30 beside 20: inside 1.5 times and 4
    assert {s: router.route(s) for s in sessions} == on
    router.update({A: Load(60, 0), B: Load()})  # 80 beside 20
    moves = 0
    for _ in range(30):  # turns of everybody
        for session in sessions:
            url = router.route(session)
            moves += url != on[session]
            on[session] = url
    assert set(on.values()) <= {A, B}
    assert 8 <= moves <= 20  # out of A at most, never back and forth
    assert router.loads()[B].sessions == 20 + moves


def test_without_replicas_there_is_a_word_for_it() -> None:
    router = Router()
    with pytest.raises(NoReplica):
        router.route("one")
    router.update({A: Load()})
    router.lost(A)
    with pytest.raises(NoReplica):
        router.route("one")


def test_a_lost_replica_is_left_and_asked_again_later() -> None:
    clock = Clock()
    router = Router(now=clock)
    router.update({A: Load(), B: Load(50, 0)})
    assert router.route("one") == A
    router.lost(A)
    assert router.route("one") == B
    assert router.route("two") == B
    router.update({A: Load(), B: Load(50, 0)})  # the view has not heard of it yet
    assert router.route("three") == B
    clock.now += SHUN_S
    assert router.route("four") == A
    router.update({B: Load(50, 0)})  # gone for good
    assert router.route("four") == B
    assert router.loads() == {B: Load(sessions=4)}


def test_sessions_of_a_lost_replica_spread_over_the_others() -> None:
    urls = [f"http://{i}/v1" for i in range(9)]
    router = router_of(*urls)
    for i in range(90):
        router.route(f"s{i}")
        router.spent(f"s{i}", 1000)
    router.lost(urls[0])
    for i in range(90):
        router.route(f"s{i}")
    counts = {url: load.sessions for url, load in router.loads().items()}
    assert counts.pop(urls[0]) == 0
    assert max(counts.values()) - min(counts.values()) <= 2


calls = st.one_of(
    st.tuples(st.just("route"), st.integers(0, 8)),
    st.tuples(st.just("spent"), st.integers(0, 8), st.integers(0, 5000)),
    st.tuples(st.just("end"), st.integers(0, 8)),
    st.tuples(st.just("lost"), st.integers(0, 4)),
    st.tuples(st.just("wait"), st.floats(0, 20)),
    st.tuples(
        st.just("update"), st.dictionaries(st.integers(0, 4), st.tuples(st.integers(0, 9), st.integers(0, 9999)))
    ),
)


@settings(max_examples=150)
@given(st.lists(calls, max_size=60), st.sampled_from([0.0, 0.5, 1.0]))
def test_loads_equal_a_recount_whatever_happens(script: list[tuple], token_share: float) -> None:
    clock = Clock()
    router = Router(now=clock, token_share=token_share)
    where: dict[int, str] = {}
    tokens: dict[int, int] = {}
    urls: set[str] = set()
    lost_until: dict[str, float] = {}
    for name, *given_ in script:
        if name == "route":
            session = given_[0]
            alive = {url for url in urls if lost_until.get(url, 0.0) <= clock.now}
            if not alive:
                with pytest.raises(NoReplica):
                    router.route(str(session))
                continue
            where[session] = router.route(str(session))
            tokens.setdefault(session, 0)
            assert where[session] in alive
        elif name == "spent":
            router.spent(str(given_[0]), given_[1])
            if given_[0] in where:
                tokens[given_[0]] = given_[1]
        elif name == "end":
            router.end(str(given_[0]))
            where.pop(given_[0], None)
            tokens.pop(given_[0], None)
        elif name == "lost":
            router.lost(f"u{given_[0]}")
            if f"u{given_[0]}" in urls:
                lost_until[f"u{given_[0]}"] = clock.now + SHUN_S
        elif name == "wait":
            clock.now += given_[0]
        else:
            view = {f"u{url}": Load(*load) for url, load in given_[0].items()}
            router.update(view)
            urls = set(view)
            lost_until = {url: until for url, until in lost_until.items() if url in urls}
        counted = {url: [s for s, at in where.items() if at == url] for url in urls}
        assert router.loads() == {url: Load(len(on), sum(tokens[s] for s in on)) for url, on in counted.items()}
    for session in list(where):
        router.end(str(session))
    assert set(router.loads().values()) <= {Load()}


class Crowd:
    """Workers with a router each and sessions of random length, which tell each other their loads once a round."""

    def __init__(self, num_workers: int, num_replicas: int, sessions_each: int):
        self.random = random.Random(7)
        self.routers = [Router(seed=i) for i in range(num_workers)]
        self.urls = [f"http://{i}/v1" for i in range(num_replicas)]
        self.where: list[dict[str, str]] = [{} for _ in self.routers]
        self.names = iter(range(10**9))
        self.moves = 0
        self.exchange()
        for worker in range(num_workers):
            for _ in range(sessions_each):
                self.begin(worker)

    def begin(self, worker: int) -> None:
        name = str(next(self.names))
        self.where[worker][name] = self.routers[worker].route(name)
        self.routers[worker].spent(name, self.random.randint(1000, 9000))

    def exchange(self) -> None:
        said = [router.loads() for router in self.routers]
        for router, own in zip(self.routers, said, strict=True):
            others = [one for one in said if one is not own]
            view = {}
            for url in self.urls:
                loads = [one[url] for one in others if url in one]
                view[url] = Load(sum(load.sessions for load in loads), sum(load.tokens for load in loads))
            router.update(view)

    def round(self) -> None:
        """A tenth of all sessions take a turn, one in thirty ends and is followed by another; then the views."""
        for worker, where in enumerate(self.where):
            for name in self.random.sample(list(where), len(where) // 10):
                url = self.routers[worker].route(name)
                self.moves += url != where[name]
                where[name] = url
            for name in self.random.sample(list(where), len(where) // 30):
                self.routers[worker].end(name)
                del where[name]
                self.begin(worker)
        self.exchange()

    def counts(self) -> Counter[str]:
        return Counter(url for where in self.where for url in where.values())


def test_many_routers_keep_a_fleet_even_without_moving_sessions() -> None:
    crowd = Crowd(num_workers=16, num_replicas=32, sessions_each=90)  # 45 a replica
    for _ in range(40):
        crowd.round()
        counts = crowd.counts()
        assert max(counts.values()) <= 1.5 * 45
        assert min(counts[url] for url in crowd.urls) >= 45 / 1.6
    assert crowd.moves <= 0.01 * 40 * 16 * 9


def test_a_new_replica_is_filled_and_not_overrun() -> None:
    crowd = Crowd(num_workers=16, num_replicas=16, sessions_each=60)
    for _ in range(10):
        crowd.round()
    crowd.urls.append("http://new/v1")
    crowd.exchange()
    even = 16 * 60 / 17
    for _ in range(12):
        crowd.round()
        assert crowd.counts()["http://new/v1"] <= 1.5 * even
    assert crowd.counts()["http://new/v1"] >= 0.7 * even
