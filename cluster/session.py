"""Joining a Ray cluster, or starting one, and leaving it.

`auto` joins the cluster it finds (inside a Ray job that is the job's own), else starts one; `local` always starts its own. Ray's
token authentication stays as Ray has it: on for clusters that it starts.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from cluster.engine import check_answers, preflight
from cluster.handles import Crew, InProcess, OnRay
from cluster.parts import ModelSpec
from cluster.ray_start import patient_start

Choice = Literal["auto", "local", "in_process"]


@contextmanager
def crew(choice: Choice) -> Iterator[Crew]:
    if choice == "in_process":
        yield InProcess()
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    settings = {"log_to_driver": False, "logging_level": logging.WARNING}
    joined = False
    if choice == "auto":
        try:
            ray.init(address="auto", **settings)
            joined = True
        except ConnectionError:
            pass
    if not joined:
        with patient_start():
            ray.init(address="local", include_dashboard=False, **settings)
    try:
        yield OnRay(spans_nodes=joined)
    finally:
        ray.shutdown()


def preflight_here(*specs: ModelSpec) -> None:
    """Find what cannot work on this machine before anything is written. On several nodes each server checks its own."""
    for spec in specs:
        if spec.engine is not None and num_nodes() == 1:
            preflight(spec.engine)
        for url in spec.base_urls:
            check_answers(url)


def num_nodes() -> int:
    import ray

    return sum(bool(node["Alive"]) for node in ray.nodes()) if ray.is_initialized() else 1


def num_cpus() -> int:
    import ray

    return int(ray.cluster_resources().get("CPU", 1)) if ray.is_initialized() else len(os.sched_getaffinity(0))
