"""Ray started with patience, from Python and (`python -m cluster.ray_start start …`) as a command.

Ray gives a node that it starts 30 s to register and has no setting for that (`ray/_private/node.py`). Before it registers, half a dozen
Python processes beside it are imported, which takes longer on a machine that is full.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

START_S = 180.0
LOOK_S = 0.2


@contextmanager
def patient_start(seconds: float = START_S) -> Iterator[None]:
    """A node started by this process within is waited for so long: what asks for it (again for 30 s) waits itself."""
    from ray._private import services

    ask: Any = services.get_node

    def get_node(*where: Any, **named: Any) -> Any:
        deadline = time.monotonic() + seconds
        while True:
            try:
                return ask(*where, **named)
            except RuntimeError:  # not there yet
                if time.monotonic() > deadline:
                    raise
                time.sleep(LOOK_S)

    services.get_node = get_node
    try:
        yield
    finally:
        services.get_node = ask


if __name__ == "__main__":  # the command `ray`
    from ray.scripts.scripts import main

    with patient_start():
        main()
