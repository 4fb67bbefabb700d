"""Our processes on this machine, told by the titles that Ray gives them: what they use of processor and memory.

Ray's own processes (GCS, raylets and their agents) are `ray`; workers that hold no actor are counted with them. The process that asks
is `driver`. Only what this process started, or its children did, is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import psutil

DRIVER, RAY = "driver", "ray"
OURS = ("EnvironmentActor", "Dispatcher", "Committer")
_MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Use:
    """Of all processes of a part. `rss_mib` holds shared pages, `private_mib` leaves them out (Ray's object store is shared)."""

    processes: int = 0
    cpu_s: float = 0.0
    rss_mib: float = 0.0
    private_mib: float = 0.0

    def __add__(self, other: Use) -> Use:
        return Use(
            self.processes + other.processes,
            self.cpu_s + other.cpu_s,
            self.rss_mib + other.rss_mib,
            self.private_mib + other.private_mib,
        )


class ActorProcesses:
    """Remembers which process is which: a title may be gone for a moment while a process starts."""

    def __init__(self) -> None:
        self._me = psutil.Process()
        self._part_of: dict[int, str] = {}

    def use(self) -> dict[str, Use]:
        """By part: driver, ray, and the names of `OURS`."""
        used: dict[str, Use] = {part: Use() for part in (DRIVER, RAY, *OURS)}
        for process, part in self._all():
            try:
                with process.oneshot():
                    times, memory = process.cpu_times(), process.memory_info()
                one = Use(1, times.user + times.system, memory.rss / _MIB, (memory.rss - memory.shared) / _MIB)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            used[part] += one
        return used

    def nodes_of(self, part: str) -> int:
        """How many raylets have a process of this part under them."""
        parents = set()
        for process, its in self._all():
            if its == part:
                try:
                    parents.add(process.ppid())
                except psutil.NoSuchProcess:
                    continue
        return len(parents)

    def _all(self) -> Iterator[tuple[psutil.Process, str]]:
        yield self._me, DRIVER
        for process in self._me.children(recursive=True):
            part = self._part_of.get(process.pid)
            if part is None:
                try:
                    title = (process.cmdline() or [""])[0]
                except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                    continue
                part = next((name for name in OURS if title.startswith(f"ray::{name}")), None)
                if part is None:
                    if not _is_rays(title):
                        continue
                    yield process, RAY
                    continue
                self._part_of[process.pid] = part
            yield process, part


def _is_rays(title: str) -> bool:
    return title.startswith("ray::") or "/ray/" in title or "raylet" in title or "gcs_server" in title
