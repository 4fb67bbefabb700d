"""The recipes in conf/experiment: each composes and validates, takes as many GPUs as its name says, and lets itself be changed."""

from __future__ import annotations

import re

import pytest

from cluster.config import RolloutConfig
from cluster.engine import EngineConfig
from jobs.compose import CONF, compose

RECIPES = [path.stem for path in sorted((CONF / "experiment").glob("*.yaml"))]
GPU_GIB = 80 * 1e9 / 2**30
ACTIVATIONS_GIB = 5.0  # and CUDA graphs: an allowance, not measured
WEIGHTS_GIB = {  # of the checkpoints, from the parameters on their model cards: two bytes each, one in FP8
    "Qwen/Qwen3-4B-Instruct-2507": 4.0e9 * 2 / 2**30,
    "Qwen/Qwen3-8B": 8.2e9 * 2 / 2**30,
    "Qwen/Qwen3-30B-A3B-Instruct-2507": 30.5e9 * 2 / 2**30,
    "Qwen/Qwen3-30B-A3B-Instruct-2507-FP8": 30.5e9 / 2**30,
}


def recipe(name: str, *overrides: str) -> RolloutConfig:
    return compose("rollout", RolloutConfig, [f"+experiment={name}", "domain=airline", *overrides])


def engines(config: RolloutConfig) -> list[tuple[int, EngineConfig]]:
    """Replicas of each engine: the teacher's, and the user's where it has its own."""
    assert config.teacher.engine is not None
    teacher = (config.teacher.replicas, config.teacher.engine)
    return [teacher] if config.user.engine is None else [teacher, (config.user.replicas, config.user.engine)]


def test_there_is_a_recipe_for_each_model_and_size() -> None:
    models, sizes = ("qwen3_4b", "qwen3_8b", "qwen3_30b_a3b"), (1, 8, 64)
    assert set(RECIPES) == {f"{model}_{size}gpu" for model in models for size in sizes}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_takes_the_gpus_of_its_name(name: str) -> None:
    config = recipe(name)
    size = re.search(r"_(\d+)gpu$", name)
    assert size is not None
    assert sum(replicas * engine.num_ranks for replicas, engine in engines(config)) == int(size[1])
    assert config.shape()
    assert config.user.kind == "simulated"


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_fits_on_its_gpus(name: str) -> None:
    """Weights, one full context, and for every other request that may run at once what is its own: 3,000 tokens of a teacher's rollout
    (system message and tools are a prefix that all share), 1,400 of a person's words."""
    config = recipe(name)
    for role, (_, engine) in zip(("teacher", "user"), engines(config), strict=False):
        assert engine.max_model_len is not None
        assert engine.max_num_seqs is not None
        kib_a_token = 96 if "A3B" in engine.model else 144  # 2 x layers x KV heads x 128 x 2 bytes: 48 x 4, 36 x 8
        memory_gib = GPU_GIB * engine.num_ranks * engine.args["gpu_memory_utilization"]
        room = (memory_gib - WEIGHTS_GIB[engine.model] - ACTIVATIONS_GIB * engine.num_ranks) * 2**20 / kib_a_token
        needed = engine.max_num_seqs * (3_000 if role == "teacher" else 1_400) + engine.max_model_len
        assert needed < room, (role, engine.model, round(room))


@pytest.mark.parametrize("name", RECIPES)
def test_a_person_does_not_think_aloud(name: str) -> None:
    """Qwen3-8B thinks unless told not to, and a user's server has no reasoning parser."""
    user = recipe(name).user
    assert user.chat is not None
    quiet = user.chat.sampling.get("chat_template_kwargs") == {"enable_thinking": False}
    assert quiet or "Instruct" in user.chat.model


def test_a_recipe_can_be_changed_and_carries_its_model_through() -> None:
    config = recipe(
        "qwen3_8b_8gpu", "attempts=4", "teacher=qwen3_thinking", "teacher.replicas=2", "cluster.concurrency=64"
    )
    assert config.teacher.engine is not None
    assert config.teacher.chat is not None
    assert config.user.chat is not None
    assert config.teacher.engine.model == config.teacher.chat.model == config.user.chat.model == "Qwen/Qwen3-8B"
    assert config.teacher.engine.reasoning_parser == "qwen3"
    assert (config.attempts, config.teacher.replicas, config.cluster.concurrency) == (4, 2, 64)


def test_engine_arguments_of_preset_and_recipe_are_both_kept() -> None:
    engine = recipe("qwen3_4b_1gpu").teacher.engine
    assert engine is not None
    assert engine.args == {"enable_prompt_tokens_details": True, "gpu_memory_utilization": 0.9}
