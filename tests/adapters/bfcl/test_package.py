"""What a user is told when the package is not as it must be: one line."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from agentscaler.adapters.bfcl import package
from agentscaler.errors import ConfigError


@pytest.fixture(autouse=True)
def forget() -> object:
    package.bfcl.cache_clear()
    yield
    package.bfcl.cache_clear()


def test_the_installed_one() -> None:
    found = package.bfcl()
    assert set(found.classes) == set(package.WORLDS) == set(found.doc_files)
    assert (found.data / "BFCL_v4_multi_turn_base.json").is_file()
    assert found.step_limit == 20 and "functions" in found.more_tools


def test_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "version", lambda name: "2025.1.1")
    with pytest.raises(ConfigError, match=r"bfcl-eval 2025\.1\.1 is installed, 2026\.3\.23 is needed: pip install"):
        package.bfcl()


def test_none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(package, "version", missing)
    with pytest.raises(ConfigError, match=r"bfcl-eval==2026\.3\.23 is missing: pip install"):
        package.bfcl()
