"""One way to speak to a part of the cluster, whether it lives in this process or is a Ray actor.

A part is a plain class. `Here` keeps it in this process, `There` calls it as an actor; `InProcess` and `OnRay` make them. So the
whole orchestration is one code path, and `cluster=in_process` runs the very same work without Ray.
"""

from __future__ import annotations

import contextlib
import inspect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from agentscaler.errors import ConfigError


class PartGone(Exception):
    """The actor died; what it was doing may or may not have happened."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One node's share of a placement group."""

    group: Any
    bundle: int


@dataclass(frozen=True, slots=True)
class Needs:
    """What a part takes of its node, and which node that is: the driver's own, one of a placement group, or any (then parts of a kind
    are spread)."""

    cpus: float = 0
    gpus: float = 0
    near_driver: bool = False
    slot: Slot | None = None


NOTHING = Needs()
NEAR_DRIVER = Needs(near_driver=True)


class Handle(Protocol):
    async def call(self, method: str, *args: Any) -> Any: ...

    def ask(self, method: str, *args: Any) -> Any:
        """As `call`, blocking: for code outside the event loop."""
        ...

    def send(self, method: str, *args: Any) -> None:
        """Start it, wait for nothing."""
        ...

    def lost(self) -> PartGone | None:
        """Why the last thing sent did not arrive, once that is known."""
        ...


class Here:
    def __init__(self, part: Any):
        self._part = part

    async def call(self, method: str, *args: Any) -> Any:
        result = getattr(self._part, method)(*args)
        return await result if inspect.isawaitable(result) else result

    def ask(self, method: str, *args: Any) -> Any:
        return getattr(self._part, method)(*args)

    def send(self, method: str, *args: Any) -> None:
        getattr(self._part, method)(*args)

    def lost(self) -> PartGone | None:
        return None


class There:
    def __init__(self, actor: Any):
        self.actor = actor
        self._sent: Any = None

    async def call(self, method: str, *args: Any) -> Any:
        from ray.exceptions import RayError

        try:
            return await getattr(self.actor, method).remote(*args)
        except RayError as error:
            raise _meaning(error) from None

    def ask(self, method: str, *args: Any) -> Any:
        import ray
        from ray.exceptions import RayError

        try:
            return ray.get(getattr(self.actor, method).remote(*args))
        except RayError as error:
            raise _meaning(error) from None

    def send(self, method: str, *args: Any) -> None:
        self._sent = getattr(self.actor, method).remote(*args)

    def lost(self) -> PartGone | None:
        import ray
        from ray.exceptions import RayActorError, RayError

        if self._sent is None or not ray.wait([self._sent], timeout=0)[0]:
            return None
        try:
            ray.get(self._sent)
        except RayActorError as error:
            return PartGone(str(error).splitlines()[0])
        except RayError as error:
            raise _meaning(error) from None
        return None


def _meaning(error: Exception) -> Exception:
    """Our own exceptions come through as they were raised; an actor that is no more is a PartGone."""
    from ray.exceptions import RayActorError, RayTaskError

    if isinstance(error, RayTaskError):
        cause = error.cause
        return cause if type(cause).__module__.split(".")[0] in ("agentscaler", "cluster") else error
    return PartGone(str(error).splitlines()[0]) if isinstance(error, RayActorError) else error


class Crew(Protocol):
    """Makes parts, and ends those it made."""

    @property
    def shares_memory(self) -> bool:
        """Whether all parts live in this process."""
        ...

    @property
    def spans_nodes(self) -> bool:
        """Whether parts may lie on other machines, now or later."""
        ...

    def spawn(self, part: Callable[..., Any], *args: Any, needs: Needs = NOTHING) -> Handle: ...

    async def reserve(self, num_nodes: int, gpus_each: float) -> list[Slot]:
        """Wait for as many nodes with as many free GPUs each, and hold those."""
        ...

    def dismiss(self, handle: Handle) -> None: ...

    def release(self, slots: list[Slot]) -> None: ...


class InProcess:
    shares_memory, spans_nodes = True, False

    def spawn(self, part: Callable[..., Any], *args: Any, needs: Needs = NOTHING) -> Handle:
        return Here(part(*args))

    async def reserve(self, num_nodes: int, gpus_each: float) -> list[Slot]:
        raise ConfigError(f"engine.num_nodes={num_nodes}: needs Ray, not cluster=in_process")

    def dismiss(self, handle: Handle) -> None:
        pass

    def release(self, slots: list[Slot]) -> None:
        pass


class OnRay:
    """Actors of this job: none is detached, so that they end with the driver, whatever ends it."""

    shares_memory = False

    def __init__(self, spans_nodes: bool = True):
        self.spans_nodes = spans_nodes
        self._placed: Counter[tuple[str, str]] = Counter()  # parts so far, by kind and node

    def spawn(self, part: Callable[..., Any], *args: Any, needs: Needs = NOTHING) -> Handle:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

        options: dict[str, Any] = {"num_cpus": needs.cpus, "num_gpus": needs.gpus, "scheduling_strategy": "SPREAD"}
        if needs.near_driver:  # it writes to the driver's disk
            here = ray.get_runtime_context().get_node_id()
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(here, soft=False)
        elif needs.slot is not None:
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(needs.slot.group, needs.slot.bundle)
        elif not needs.cpus and not needs.gpus and (node := self._emptiest(part.__name__)):
            self._placed[part.__name__, node] += 1
            # Ray puts an actor that asks for nothing on any node, whatever the strategy says; one byte makes it obey.
            options |= {"memory": 1, "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=True)}
        return There(ray.remote(part).options(**options).remote(*args))

    def _emptiest(self, kind: str) -> str | None:
        """The living node that was given the fewest parts of this kind for its cores. Parts that died count too: what replaces one goes
        elsewhere, for its node may be gone unnoticed."""
        import ray

        cores = {one["NodeID"]: one["Resources"].get("CPU", 0.0) for one in ray.nodes() if one["Alive"]}
        free = {node: number for node, number in cores.items() if number}  # a head may have none, to be left alone
        return min(free, key=lambda node: ((self._placed[kind, node] + 1) / free[node], node), default=None)

    async def reserve(self, num_nodes: int, gpus_each: float) -> list[Slot]:
        from ray.util import placement_group

        # A bundle lies on one node as a whole; the bundles must not share one.
        group = placement_group([{"GPU": gpus_each, "CPU": 1}] * num_nodes, strategy="STRICT_SPREAD")
        await group.ready()
        return [Slot(group, bundle) for bundle in range(num_nodes)]

    def dismiss(self, handle: Handle) -> None:
        import ray
        from ray.exceptions import RayError

        assert isinstance(handle, There)
        with contextlib.suppress(RayError):
            ray.kill(handle.actor)

    def release(self, slots: list[Slot]) -> None:
        from ray.util import remove_placement_group

        if slots:
            remove_placement_group(slots[0].group)
