"""One way to speak to a part of the cluster, whether it lives in this process or is a Ray actor.

A part is a plain class. `Here` keeps it in this process, `There` calls it as an actor; `InProcess` and `OnRay` make them. So the
whole orchestration is one code path, and `cluster=in_process` runs the very same work without Ray.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

from agentscaler.errors import ConfigError


class PartGone(Exception):
    """The actor died; what it was doing may or may not have happened."""


class Handle(Protocol):
    async def call(self, method: str, *args: Any) -> Any: ...

    def ask(self, method: str, *args: Any) -> Any:
        """As `call`, blocking: for code outside the event loop."""
        ...

    def send(self, method: str, *args: Any) -> None:
        """Start it, wait for nothing."""
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


class There:
    def __init__(self, actor: Any):
        self.actor = actor

    async def call(self, method: str, *args: Any) -> Any:
        from ray.exceptions import RayActorError, RayTaskError

        try:
            return await getattr(self.actor, method).remote(*args)
        except RayTaskError as error:
            cause = error.cause
            raise (cause if isinstance(cause, ConfigError) else error) from None
        except RayActorError as error:
            raise PartGone(str(error).splitlines()[0]) from None

    def ask(self, method: str, *args: Any) -> Any:
        import ray

        return ray.get(getattr(self.actor, method).remote(*args))

    def send(self, method: str, *args: Any) -> None:
        getattr(self.actor, method).remote(*args)


class Crew(Protocol):
    """Makes parts, and ends those it made."""

    def spawn(
        self, part: Callable[..., Any], *args: Any, cpus: float = 0, gpus: float = 0, near_driver: bool = False
    ) -> Handle: ...

    def dismiss(self, handle: Handle) -> None: ...


class InProcess:
    def spawn(
        self, part: Callable[..., Any], *args: Any, cpus: float = 0, gpus: float = 0, near_driver: bool = False
    ) -> Handle:
        return Here(part(*args))

    def dismiss(self, handle: Handle) -> None:
        pass


class OnRay:
    """Actors of this job: none is detached, so that they end with the driver, whatever ends it."""

    def spawn(
        self, part: Callable[..., Any], *args: Any, cpus: float = 0, gpus: float = 0, near_driver: bool = False
    ) -> Handle:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        options: dict[str, Any] = {"num_cpus": cpus, "num_gpus": gpus}
        if near_driver:  # it writes to the driver's disk
            here = ray.get_runtime_context().get_node_id()
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(here, soft=False)
        return There(ray.remote(part).options(**options).remote(*args))

    def dismiss(self, handle: Handle) -> None:
        import ray

        assert isinstance(handle, There)
        ray.kill(handle.actor)
