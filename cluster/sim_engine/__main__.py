"""python -m cluster.sim_engine --host 127.0.0.1 --port 8000 --model sim --config '{"time_scale": 0.1}'

Prints its URL when it listens, and ends on SIGTERM or SIGINT. Wrong input is one line on stderr and exit code 2.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
import sys

import uvloop
from pydantic import ValidationError

from cluster.sim_engine.config import SimConfig
from cluster.sim_engine.server import SimServer


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m cluster.sim_engine", description="A simulated vLLM server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--model", default="sim")
    parser.add_argument("--config", default="{}", help="SimConfig as JSON")
    options = parser.parse_args(arguments)
    try:
        config = SimConfig.model_validate_json(options.config)
    except ValidationError as error:
        first = error.errors()[0]
        sys.stderr.write(f"--config: {'.'.join(map(str, first['loc']))}: {first['msg']}\n")
        return 2
    gc.freeze()
    try:
        uvloop.run(_serve(options.host, options.port, options.model, config))
    except OSError as error:
        sys.stderr.write(f"--port: {error}\n")
        return 2
    return 0


async def _serve(host: str, port: int, model: str, config: SimConfig) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with SimServer(model, config).serve(host, port) as bound:
        sys.stdout.write(f"http://{host}:{bound}/v1\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
