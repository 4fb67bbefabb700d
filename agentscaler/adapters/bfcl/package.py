"""The installed BFCL package (`bfcl-eval`): found, checked and imported when it is first asked for.

Of the package only its data and the classes behind the multi-turn categories are used. Those need mpmath and nothing else; its model
handlers, and the classes for web search and memory, are never imported.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from agentscaler.errors import ConfigError

VERSION = "2026.3.23"
NEEDED = f"pip install 'agentscaler[benchmarks]' && pip install --no-deps bfcl-eval=={VERSION}"
WORLDS = (
    "GorillaFileSystem",
    "MathAPI",
    "MessageAPI",
    "TicketAPI",
    "TradingBot",
    "TravelAPI",
    "TwitterAPI",
    "VehicleControlAPI",
)


@dataclass(frozen=True, slots=True)
class BfclPackage:
    """`data`: the folder of its data. `doc_files`: where in `multi_turn_func_doc/` a class's functions are described. `json_types`: its
    names of types, and those of JSON schema. `more_tools`: what the user says when withheld functions are handed out. `step_limit`:
    messages with calls that a turn may have."""

    data: Path
    classes: Mapping[str, type]
    stateless: frozenset[str]
    doc_files: Mapping[str, str]
    json_types: Mapping[str, str]
    more_tools: str
    step_limit: int


@cache
def bfcl() -> BfclPackage:
    """Raises ConfigError in one line that says what to install."""
    try:
        found = version("bfcl-eval")
    except PackageNotFoundError:
        raise ConfigError(f"benchmark=bfcl: the package bfcl-eval=={VERSION} is missing: {NEEDED}") from None
    if found != VERSION:
        raise ConfigError(f"benchmark=bfcl: bfcl-eval {found} is installed, {VERSION} is needed: {NEEDED}")
    try:
        backends = importlib.import_module("bfcl_eval.constants.executable_backend_config")
        wording = importlib.import_module("bfcl_eval.constants.default_prompts")
        types = importlib.import_module("bfcl_eval.constants.type_mappings")
        classes = {
            name: getattr(importlib.import_module(backends.CLASS_FILE_PATH_MAPPING[name]), name) for name in WORLDS
        }
    except ModuleNotFoundError as error:
        raise ConfigError(f"benchmark=bfcl: bfcl-eval needs {error.name}: {NEEDED}") from None
    assert backends.__file__ is not None
    return BfclPackage(
        data=Path(backends.__file__).parent.parent / "data",
        classes=classes,
        stateless=frozenset(backends.STATELESS_CLASSES),
        doc_files={name: backends.MULTI_TURN_FUNC_DOC_FILE_MAPPING[name] for name in WORLDS},
        json_types=types.GORILLA_TO_OPENAPI,
        more_tools=wording.DEFAULT_USER_PROMPT_FOR_ADDITIONAL_FUNCTION_FC,
        step_limit=wording.MAXIMUM_STEP_LIMIT,
    )
