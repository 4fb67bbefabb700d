"""Which scene a task is played on: our own worlds', or a benchmark's by its adapter."""

from __future__ import annotations

from importlib import import_module

from agentscaler.benchmark import AnyDomain, AnyTask, BenchmarkDomain, BenchmarkTask
from agentscaler.domain.domain import Domain
from agentscaler.rollout.scene import Scene
from agentscaler.rollout.world_scene import WorldScene
from agentscaler.tasks.task import Task
from agentscaler.verify.funnel import VerifyMode


def open_scene(task: AnyTask, domain: AnyDomain, mode: VerifyMode = VerifyMode.STATE) -> Scene:
    if isinstance(task, Task) and isinstance(domain, Domain):
        return WorldScene(task, domain, mode)
    assert isinstance(task, BenchmarkTask) and isinstance(domain, BenchmarkDomain)
    return import_module(f"agentscaler.adapters.{domain.benchmark}.scene").open_scene(task, domain)
