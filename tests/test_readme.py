"""README's code runs as it stands, and the commands it names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_library_in_ten_lines(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip() and "import" not in line]) <= 10
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "Packing list" in printed
    assert "False" in printed  # the diff is not the empty one
    assert "notes: unexpected update" in printed


def test_named_jobs_and_targets_exist() -> None:
    for job in set(re.findall(r"jobs\.(\w+)", README)) - {"job"}:
        assert (ROOT / "jobs" / f"{job}.py").is_file() or (ROOT / "jobs" / job / "__main__.py").is_file(), job
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`?make (\w+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
