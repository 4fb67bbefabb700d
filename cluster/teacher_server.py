"""One replica of a model: a vLLM server process, owned by this part from start to stop.

As a Ray actor it holds the GPUs that Ray gave it; on CPU, none. The process dies with the actor, whatever kills the actor.
"""

from __future__ import annotations

from pathlib import Path

from agentscaler.errors import ConfigError
from cluster.engine import EngineConfig, EngineError, EngineProcess, preflight


class TeacherServer:
    def __init__(self, config: EngineConfig, name: str, log_folder: str, across_nodes: bool):
        self._config = config.model_copy(update={"host": _node_address()}) if across_nodes else config
        self._process = EngineProcess(self._config, Path(log_folder) / f"{name}.log")

    def start(self) -> str:
        """Blocks until the engine answers; its URL. ConfigError for what cannot work here."""
        preflight(self._config)
        try:
            self._process.start()
        except EngineError as error:
            raise ConfigError(f"teacher.engine: {error}") from None
        return self._process.url

    def healthy(self) -> bool:
        return self._process.healthy()

    def stop(self) -> None:
        self._process.stop()


def _node_address() -> str:
    import ray

    return ray.util.get_node_ip_address()
