"""Copies of a world's image, each on a connection of its own, used by one environment after another.

Opening a connection on a 1 MB image, parsing its schema and preparing a dozen statements costs more than the calls themselves. So an
environment plays inside one outer savepoint; when it ends, the copy is rolled back to the image and kept, its statements prepared.
Invariants: a copy belongs to one environment at a time; what comes off the shelf holds exactly the image's rows. A copy whose
connection was handed out (`detach`), or whose rollback failed, is never kept.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import ClassVar

import apsw

from agentscaler.world import clock, functions, guard
from agentscaler.world.changeset import ChangeLog
from agentscaler.world.new_ids import NewIds
from agentscaler.world.program import Program

MAX_IDLE_BYTES = (
    128 * 1024 * 1024
)  # of images, in this process; an idle copy takes about as much again for its page cache
STATEMENTS_KEPT = 512  # a domain of 18 tools has about 80


class Copy:
    """One connection. Nothing that it holds may refer to an environment: Python cannot collect a cycle through a connection."""

    def __init__(self, program: Program, seed: int, image: bytes):
        self.size_bytes = len(image)
        self.budget = budget = guard.Budget()
        self.ids = ids = NewIds(program, seed)
        self.db = db = apsw.Connection(":memory:", vfs=clock.VFS_NAME, statementcachesize=STATEMENTS_KEPT)
        db.deserialize("main", image)
        guard.harden(db)
        functions.register_pure(db, budget.spend)
        functions.register_world(db, program.domain.clock, ids)
        self.log = log = ChangeLog(program.tables, budget.charge)
        db.preupdate_hook(log)
        db.set_progress_handler(budget.tick, guard.STEPS_PER_CHECK)
        self.in_savepoint = False

    @property
    def is_lost(self) -> bool:
        """SQLite has ended the savepoint by itself: an interrupted write, or one that ran out of memory, takes the whole transaction
        along."""
        return self.in_savepoint and not self.db.in_transaction

    def begin(self) -> None:
        self.budget.reset()  # it may have lain for long, and time is counted from the last reset
        self.db.execute("SAVEPOINT environment")
        self.in_savepoint = True

    def detach(self) -> None:
        """Write the changes into the database for good: from now on the connection is like any other, and will not be used again."""
        if self.in_savepoint:
            self.db.execute("RELEASE environment")
            self.in_savepoint = False

    def undo(self) -> bool:
        """Back to the image; false where that is not possible."""
        if not self.in_savepoint:
            return False
        self.budget.reset()
        self.db.execute("ROLLBACK TO environment; RELEASE environment")
        self.in_savepoint = False
        self.ids.reset()
        return not self.db.in_transaction


class Shelf:
    """A world's idle copies. All shelves of the process share one bound; the copy that lay longest goes first."""

    _lock: ClassVar = threading.Lock()
    _idle: ClassVar[OrderedDict[Copy, Shelf]] = OrderedDict()
    _idle_bytes: ClassVar = 0

    def __init__(self) -> None:
        self._copies: list[Copy] = []
        self.seeded_offences: dict[str, str | None] = {}  # invariant -> what offends it in the image

    def take(self) -> Copy | None:
        with Shelf._lock:
            if not self._copies:
                return None
            copy = self._copies.pop()
            del Shelf._idle[copy]
            Shelf._idle_bytes -= copy.size_bytes
            return copy

    def put(self, copy: Copy) -> None:
        with Shelf._lock:
            self._copies.append(copy)
            Shelf._idle[copy] = self
            Shelf._idle_bytes += copy.size_bytes
            gone = []
            while Shelf._idle_bytes > MAX_IDLE_BYTES:
                oldest, shelf = Shelf._idle.popitem(last=False)
                shelf._copies.remove(oldest)
                Shelf._idle_bytes -= oldest.size_bytes
                gone.append(oldest)
        for oldest in gone:
            oldest.db.close()
