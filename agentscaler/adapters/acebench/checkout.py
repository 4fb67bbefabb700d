"""A user's checkout of the ACEBench repository: the classes that the agent category is played on, and what its two worlds' agents and users
are told. They are in no file of ours.

Invariant: after an import no module is left in `sys.modules` under the checkout's own names, and no file is written into the checkout.
Texts are read off the source by `ast`, never run. Importing runs the code of the classes: it is the user's own choice, by `benchmark.path`.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from agentscaler.errors import ConfigError

REPOSITORY = "github.com/chenchen0103/ACEBench"
NEEDED = f"the agent category is played on the repository's own classes: it needs a checkout of {REPOSITORY}"
PACKAGE = "model_inference"
TREES = MappingProxyType({"agent_multi_step": "multi_step", "agent_multi_turn": "multi_turn"})
MODULES = MappingProxyType(
    {
        "BaseApi": "phone_platform.base_api",
        "MessageApi": "phone_platform.message",
        "ReminderApi": "phone_platform.reminder",
        "FoodPlatform": "phone_platform.food_services",
        "Travel": "travel",
    }
)
_TEXTS = ("BASE_PROMPT_EN", "TRAVEL_PROMPT_EN", "SYSTEM_PROMPT_BASE_EN", "SYSTEM_PROMPT_TRAVEL_EN")


@dataclass(frozen=True, slots=True)
class Checkout:
    """`classes` by category of task and name; `version` is a digest of their sources and of the texts'."""

    root: Path
    classes: MappingProxyType[str, MappingProxyType[str, type[Any]]]
    texts: MappingProxyType[str, str]
    version: str

    def policy(self, involved: list[str]) -> str:
        return self.texts[f"{_world(involved)}_PROMPT_EN"]

    def user_instructions(self, involved: list[str], question: str) -> str:
        return self.texts[f"SYSTEM_PROMPT_{_world(involved)}_EN"].replace("{instruction}", question)


def _world(involved: list[str]) -> str:
    return "TRAVEL" if "Travel" in involved else "BASE"


def find_checkout(folder: Path) -> Path | None:
    """The repository that a folder is, or that it lies in as data_all/data_en."""
    for root in (folder, *list(folder.parents)[:2]):
        if (root / PACKAGE / "multi_turn" / "scenariosen").is_dir():
            return root
    return None


@cache
def load_checkout(root: Path) -> Checkout:
    """Raises ConfigError, in one line, for a class or text that is not there or cannot be imported."""
    texts = _read_texts(root)
    classes = {}
    with _imports_from(root):
        for kind, tree in TREES.items():
            found = {
                name: _import_class(root, f"{PACKAGE}.{tree}.scenariosen.{MODULES[name]}", name) for name in MODULES
            }
            classes[kind] = MappingProxyType(found)
    sources = sorted(file for tree in TREES.values() for file in (root / PACKAGE / tree / "scenariosen").rglob("*.py"))
    seen = hashlib.sha256(b"".join(file.read_bytes() for file in sources))
    seen.update("".join(texts[name] for name in _TEXTS).encode())
    return Checkout(root, MappingProxyType(classes), MappingProxyType(texts), seen.hexdigest()[:16])


@contextmanager
def _imports_from(root: Path) -> Iterator[None]:
    """The checkout's modules import each other as `model_inference…`; afterwards they go by a private name."""
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_theirs(name)}
    wrote, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.insert(0, str(root))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(root))
        sys.dont_write_bytecode = wrote
        private = f"_acebench_{hashlib.sha256(str(root).encode()).hexdigest()[:8]}"
        for name in [name for name in sys.modules if _is_theirs(name)]:
            sys.modules[f"{private}.{name}"] = sys.modules.pop(name)
        sys.modules.update(kept)


def _is_theirs(name: str) -> bool:
    return name.partition(".")[0] == PACKAGE


def _import_class(root: Path, module: str, name: str) -> type[Any]:
    where = f"benchmark.path={root}: {module.replace('.', '/')}.py"
    try:
        return getattr(importlib.import_module(module), name)
    except AttributeError:
        raise ConfigError(f"{where} has no class {name}: {NEEDED}") from None
    except Exception as error:  # noqa: BLE001  (the user's own checkout: its modules may raise anything)
        words = " ".join(str(error).split())[:200]
        raise ConfigError(f"{where} cannot be imported ({type(error).__name__}: {words}): {NEEDED}") from None


def _read_texts(root: Path) -> dict[str, str]:
    """From wherever in the repository they stand, the shortest path first: they have moved between its versions."""
    found: dict[str, str] = {}
    files = (root / PACKAGE).rglob("*.py")
    for file in sorted(files, key=lambda file: (len(file.parts), str(file))):
        source = file.read_text(encoding="utf-8", errors="replace")
        if any(name in source for name in _TEXTS):
            found = {**_constants(source), **found}
    if missing := [name for name in _TEXTS if name not in found]:
        raise ConfigError(f"benchmark.path={root}: no {missing[0]} in {PACKAGE}: {NEEDED}")
    return found


def _constants(source: str) -> dict[str, str]:
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return {}
    return {
        target.id: node.value.value
        for node in body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id in _TEXTS
    }
