"""A bench run as a user runs it, in a process and a folder of its own: it starts its own Ray, and leaves its picture there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson

from tests.conftest import ROOT


def run_bench(name: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """The figures on its last line."""
    command = [sys.executable, "-m", "jobs.bench", name, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return orjson.loads(done.stdout.splitlines()[-1])
