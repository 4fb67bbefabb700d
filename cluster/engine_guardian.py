"""Between a TeacherServer and its engine: `python -m cluster.engine_guardian <command>` runs the command and leaves nothing of it behind.

An engine is a tree of processes (server, EngineCore, workers), and the lower ones outlive a server that is killed, with their memory and
their GPU. So: when the command ends, when our parent dies (the kernel then sends SIGTERM), or on SIGTERM, the whole tree gets `GRACE_S`
and is then killed. Orphans of the tree come to us (a subreaper), so none is missed, whatever session it made. Should the guardian itself
be killed, the server dies with it, and the TeacherServer kills the process group.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from types import FrameType

import psutil

GRACE_S = 4.0
_PDEATHSIG, _SUBREAPER = 1, 36
# Asks the kernel for a SIGKILL when the guardian dies, then becomes the server. (A `preexec_fn` would be unsafe in a process with threads.)
_DIE_WITH_PARENT = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"


class _Asked(Exception):
    """By SIGTERM or SIGINT: to end."""


def main(command: list[str]) -> int:
    def ask(number: int, frame: FrameType | None) -> None:
        raise _Asked

    parent = os.getppid()
    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    libc = ctypes.CDLL(None)
    libc.prctl(_SUBREAPER, 1)
    libc.prctl(_PDEATHSIG, signal.SIGTERM)
    code = 1
    try:
        if os.getppid() != parent:  # it died before the kernel was asked
            return code
        code = subprocess.Popen([sys.executable, "-c", _DIE_WITH_PARENT, *command]).wait()
    except _Asked:
        pass
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        _end_all()
    return code if code >= 0 else 128 - code


def _end_all() -> None:
    for process in _tree():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(_tree(), GRACE_S)
    while tree := _tree():
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(tree, 1.0)
        time.sleep(0.01)


def _tree() -> list[psutil.Process]:
    return [one for one in psutil.Process().children(recursive=True) if one.status() != psutil.STATUS_ZOMBIE]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
