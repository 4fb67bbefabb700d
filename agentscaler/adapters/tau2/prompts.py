"""What τ²'s agents and simulated users are told, as it stands in the installed package.

The modules that hold the prompts import litellm; so their texts are read from the source files instead of being imported.
"""

from __future__ import annotations

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from agentscaler.errors import ConfigError


def greeting() -> str:
    """The agent's first words, the same in every conversation (tau2/orchestrator/orchestrator.py)."""
    return "Hi! How can I help you today?"


def agent_prompt(policy: str) -> str:
    instruction = _text("tau2.agent.llm_agent", "AGENT_INSTRUCTION")
    return _text("tau2.agent.llm_agent", "SYSTEM_PROMPT").format(domain_policy=policy, agent_instruction=instruction)


def user_instructions(task: Any, has_tools: bool) -> str:
    """The published guidelines of the user simulator, with the task's scenario."""
    prompt = _text("tau2.user.user_simulator", "SYSTEM_PROMPT")
    return prompt.format(global_user_sim_guidelines=_guidelines(has_tools), instructions=str(task.user_scenario))


@cache
def _guidelines(has_tools: bool) -> str:
    name = "simulation_guidelines_tools.md" if has_tools else "simulation_guidelines.md"
    return (_folder("tau2") / "data" / "tau2" / "user_simulator" / name).read_text(encoding="utf-8")


@cache
def _text(module: str, name: str) -> str:
    """A module's constant `name = \"…\"` or `name = \"…\".strip()`."""
    package, _, file = module.rpartition(".")
    path = _folder(package) / f"{file}.py"
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [name]:
            value = node.value
            if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr == "strip":
                value = value.func.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                return value.value.strip()
    raise ConfigError(f"benchmark=tau2: {module} has no text {name}")


def _folder(package: str) -> Path:
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent
