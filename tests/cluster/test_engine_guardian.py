"""Promises: of a tree of processes nothing is left when its root ends, when the guardian is asked to end, or when its parent is killed;
not even one that made a session of its own and ignores SIGTERM."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT

# A server whose child makes a session of its own, ignores SIGTERM and has a child too. Each writes its pid.
TREE = """
    import os, signal, subprocess, sys, time
    child = "import os, signal, subprocess, sys, time; signal.signal(15, 1); os.setsid()\\n" \\
        "below = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\\n" \\
        "open(sys.argv[1], 'w').write(f'{os.getpid()} {below.pid}'); time.sleep(60)"
    subprocess.Popen([sys.executable, "-c", child, sys.argv[1]])
    while not os.path.exists(sys.argv[1]) or not open(sys.argv[1]).read(): time.sleep(0.02)
    if sys.argv[2] == "ends": sys.exit(7)
    time.sleep(60)
"""


def guarded(folder: Path, what: str) -> list[str]:
    return [
        *(sys.executable, "-m", "cluster.engine_guardian", sys.executable, "-c", textwrap.dedent(TREE)),
        *(str(folder / "pids"), what),
    ]


def tree(folder: Path, timeout_s: float = 20.0) -> list[psutil.Process]:
    deadline = time.monotonic() + timeout_s
    while not (folder / "pids").exists() or not (folder / "pids").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    found = []
    for pid in (folder / "pids").read_text().split():
        with contextlib.suppress(psutil.NoSuchProcess):  # gone already, as it should be
            found.append(psutil.Process(int(pid)))
    return found


def gone(processes: list[psutil.Process], timeout_s: float = 10.0) -> bool:
    return not psutil.wait_procs(processes, timeout_s)[1]


def test_the_root_ends(tmp_path: Path) -> None:
    done = subprocess.run(guarded(tmp_path, "ends"), cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 7
    assert gone(tree(tmp_path), 0.5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_is_asked_to_end(tmp_path: Path, number: signal.Signals) -> None:
    guardian = subprocess.Popen(guarded(tmp_path, "stays"), cwd=ROOT)
    below = tree(tmp_path)
    guardian.send_signal(number)
    guardian.wait(60)
    assert gone(below, 0.5)


def test_its_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess; subprocess.run({guarded(tmp_path, 'stays')!r})"], cwd=ROOT
    )
    below = tree(tmp_path) + psutil.Process(parent.pid).children(recursive=True)
    parent.kill()
    parent.wait()
    assert gone(below, 15)


def test_the_server_dies_with_the_guardian(tmp_path: Path) -> None:
    guardian = subprocess.Popen(guarded(tmp_path, "stays"), cwd=ROOT)
    below = tree(tmp_path)
    (server,) = psutil.Process(guardian.pid).children()
    guardian.kill()
    guardian.wait()
    assert gone([server])
    for one in below:  # those are the TeacherServer's, by their group or by hand
        one.kill()
