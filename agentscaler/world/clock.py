"""Frozen time inside SQLite.

A world's clock stands still. `now()` returns it, and so does everything else in SQLite that asks for the time (`date('now')`,
`CURRENT_TIMESTAMP`): connections are opened on a VFS whose clock is ours. An argument that smuggles 'now' into a date function
therefore gets the frozen time too. A world has no time zone either: SQLite's 'localtime' and 'utc' ask the C library, and those
modifiers may come from an argument or a row, so this process's zone is UTC.
"""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime

import apsw

VFS_NAME = "agentscaler-frozen"
_JULIAN_EPOCH_MS = 210866760000000  # 1970-01-01T00:00:00Z as SQLite's integer: milliseconds since noon, 4714-11-24 BC


os.environ["TZ"] = "UTC"
time.tzset()


class _Now(threading.local):
    julian_ms = _JULIAN_EPOCH_MS


_now = _Now()


class _FrozenVFS(apsw.VFS):
    def __init__(self) -> None:
        super().__init__(VFS_NAME, "")

    def xCurrentTime(self) -> float:
        return _now.julian_ms / 86_400_000

    def xCurrentTimeInt64(self) -> int:
        return _now.julian_ms


_VFS = _FrozenVFS()  # held for the process's life: SQLite keeps a pointer to it


def julian_ms(iso: str) -> int:
    """`2026-03-02T09:00:00Z` as SQLite's integer time."""
    moment = datetime.strptime(iso, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return _JULIAN_EPOCH_MS + int(moment.timestamp() * 1000)


def freeze(time_ms: int) -> None:
    """Set this thread's time; calls do it before they run SQL."""
    _now.julian_ms = time_ms
