"""The simulated engines that this process has started."""

from __future__ import annotations

import contextlib

import psutil


def engines() -> list[psutil.Process]:
    """The servers themselves, without their guardians."""
    found = []
    for one in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            line = " ".join(one.cmdline())
            if "-m cluster.sim_engine" in line and "engine_guardian" not in line:
                found.append(one)
    return found
