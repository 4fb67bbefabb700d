"""One replica of a model: an engine's process, owned by this part from start to stop.

As a Ray actor it holds the GPUs that Ray gave it; on CPU, none. The process dies with the actor, whatever kills the actor. It is
started without waiting and then asked for its state, so that many replicas start side by side, in one process too.
"""

from __future__ import annotations

from pathlib import Path

from agentscaler.errors import ConfigError
from cluster.engine import EngineConfig, Rank, preflight
from cluster.engine_process import EngineError, EngineProcess, free_port


class TeacherServer:
    def __init__(self, config: EngineConfig, name: str, log_folder: str, across_nodes: bool):
        self._config = config.model_copy(update={"host": _node_address()}) if across_nodes else config
        self._process = EngineProcess(self._config, Path(log_folder) / f"{name}.log")
        self._warm = False

    def where(self) -> tuple[str, int]:
        """This node's address and a free port on it: where the ranks of a replica over several nodes meet."""
        return _node_address(), free_port("")

    def launch(self, rank: Rank | None = None) -> str:
        """Start the engine and wait for nothing but its weights; its URL. ConfigError for what cannot work here."""
        preflight(self._config)
        self._warm = False
        self._process.launch(rank)
        return self._process.url

    def ready(self) -> bool:
        """Whether it answers, its first request behind it. ConfigError, in its own last words, once it cannot come up."""
        try:
            if self._process.state() != "ready":
                return False
            if not self._warm:
                self._process.warm_up()
                self._warm = True
        except EngineError as error:
            raise ConfigError(f"engine: {error}") from None
        return True

    def start(self) -> str:
        """Launch, and wait until it is ready."""
        preflight(self._config)
        try:
            self._process.start()
            self._process.warm_up()
        except EngineError as error:
            raise ConfigError(f"engine: {error}") from None
        self._warm = True
        return self._process.url

    def alive(self) -> bool:
        return self._process.alive()

    def stop(self) -> None:
        self._process.stop()


def _node_address() -> str:
    import ray

    return ray.util.get_node_ip_address()
