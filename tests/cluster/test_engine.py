"""The engine. Promises: what cannot work is one line before anything starts; a dying engine says why at once; nothing is left behind."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from agentscaler.errors import ConfigError
from cluster.engine import EngineConfig, preflight
from cluster.engine_process import EngineError, EngineProcess, last_words


def model_folder(path: Path, size_gib: float = 0.0) -> str:
    path.mkdir(parents=True)
    (path / "config.json").write_text('{"architectures": ["NoSuchForCausalLM"], "model_type": "llama"}')
    with (path / "model.safetensors").open("wb") as weights:
        weights.truncate(int(size_gib * 1024**3))  # sparse: takes no room
    return str(path)


def refusal(**settings: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        preflight(EngineConfig(**{"model": "smollm2", **settings}))
    words = str(caught.value)
    assert "\n" not in words
    return words


@pytest.mark.parametrize("model", ["/no/such/folder", "./here", "qwen3", "org/name/extra", ""])
def test_a_model_that_is_not_there(model: str) -> None:
    assert f"engine.model={model}" in refusal(model=model)


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    assert "no model folder" in refusal(model=str(tmp_path))


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"engine.port={port}" in refusal(port=port)


def test_not_enough_memory(tmp_path: Path) -> None:
    words = refusal(model=model_folder(tmp_path / "big", size_gib=5000))
    assert "weights 5000.0" in words and "available" in words
    assert "KV cache 4000" in refusal(kv_cache_gib=4000)


def test_a_template_that_is_not_there() -> None:
    assert "smollm2_tools.jinja" in refusal(chat_template="none.jinja")


def test_fewer_gpus_than_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.engine._runs_on_cpu", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert "takes 4 GPUs, 2 are visible" in refusal(tensor_parallel_size=4)
    with pytest.raises(ValueError, match="does not divide"):
        EngineConfig(model="m", num_nodes=3)
    preflight(EngineConfig(model="org/name", tensor_parallel_size=4, num_nodes=2))
    preflight(EngineConfig(model="org/name", tensor_parallel_size=2))


def test_last_words_name_the_cause(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "INFO fine\n(Core) ValueError: too little of it\nRuntimeError: failed. See root cause above.\n  bye\n"
    )
    assert last_words(log) == "ValueError: too little of it"
    log.write_text("only this\n\n")
    assert last_words(log) == "only this"


@pytest.mark.slow
def test_an_engine_that_dies_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    engine = EngineProcess(
        EngineConfig(model=model_folder(tmp_path / "m"), start_timeout_s=600), tmp_path / "engine.log"
    )
    started = time.monotonic()
    with pytest.raises(EngineError) as caught:
        engine.start()
    assert time.monotonic() - started < 120
    assert "Error: " in str(caught.value) and "\n" not in str(caught.value)
    assert engine.pid is None and not engine.healthy()
    engine.stop()
