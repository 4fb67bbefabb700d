"""How a job that can be gone on with ends: its exit code, and one line on stderr where it ends otherwise than well."""

from __future__ import annotations

import sys
from collections.abc import Callable

from agentscaler.errors import ConfigError
from agentscaler.shards.manifest import Fenced
from cluster.committer import OutputError
from cluster.serving import JobFailed, Stopped
from jobs.compose import refuse


def ending(work: Callable[[], int]) -> int:
    try:
        return work()
    except ConfigError as error:
        refuse(str(error))
    except (JobFailed, OutputError, Fenced) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    except (Stopped, KeyboardInterrupt):
        print("stopped: what is done is kept; the same command goes on with the rest", file=sys.stderr)
        return 130
