"""Who makes units: this process, one after the other, or Ray's workers, one task a unit.

The same units come out either way. On Ray a unit whose worker dies is tried again; whatever it raises ends the job. The driver alone
writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from agentscaler.tasks.units import Unit, UnitOrder, make_unit
from cluster.garbage import collect_rarely
from cluster.handles import Crew
from cluster.serving import JobFailed
from cluster.session import num_cpus

Job = tuple[str, int]
"""A domain and a world seed."""
Make = Callable[[UnitOrder, int], Unit]
MakeAll = Callable[[Sequence[Job]], Iterator[tuple[Job, Unit]]]

MAX_RETRIES = 3  # of a unit whose worker died
WAITING = 2  # units a core: one that is being made, one that waits for its worker


def makers(
    hands: Crew, orders: Mapping[str, UnitOrder], workers: int | Literal["auto"], make: Make = make_unit
) -> MakeAll:
    if hands.shares_memory:
        collect_rarely()
        return lambda jobs: ((job, make(orders[job[0]], job[1])) for job in jobs)
    return _OnRay(orders, num_cpus() if workers == "auto" else workers, make)


class _OnRay:
    def __init__(self, orders: Mapping[str, UnitOrder], num_workers: int, make: Make):
        import ray

        self._orders = {name: ray.put(order) for name, order in orders.items()}

        def make_one(order: UnitOrder, world_seed: int) -> Unit:
            collect_rarely()
            return make(order, world_seed)

        self._make = ray.remote(num_cpus=1, max_retries=MAX_RETRIES, scheduling_strategy="SPREAD")(make_one)
        self._most = WAITING * num_workers

    def __call__(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Unit]]:
        import ray
        from ray.exceptions import RayError

        waiting = list(reversed(jobs))
        running: dict[Any, Job] = {}
        while waiting or running:
            while waiting and len(running) < self._most:
                name, seed = job = waiting.pop()
                running[self._make.remote(self._orders[name], seed)] = job
            (ready, *_), _ = ray.wait(list(running))
            job = running.pop(ready)
            try:
                yield job, ray.get(ready)
            except RayError as error:
                raise _meaning(error, job) from None


def _meaning(error: Exception, job: Job) -> Exception:
    """Our own exceptions come through as they were raised."""
    from ray.exceptions import RayTaskError

    if not isinstance(error, RayTaskError):
        words = str(error).splitlines()[0]
        return JobFailed(f"unit {job[0]}-{job[1]}: its worker died {MAX_RETRIES + 1} times: {words}")
    cause = error.cause
    return cause if type(cause).__module__.split(".")[0] in ("agentscaler", "cluster") else error
