"""A scene that offers tools, and can do nothing else: for agents that are asked without a rollout around them."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

from agentscaler.canonical import digest
from agentscaler.rollout.scene import Scene, Toolbox
from agentscaler.teachers.chat import ToolSchema


def offering(tools: Sequence[ToolSchema]) -> Scene:
    toolbox = Toolbox(digest(list(tools)), tuple(tools))
    return cast(Scene, SimpleNamespace(toolbox=toolbox, hidden_tools=frozenset()))
