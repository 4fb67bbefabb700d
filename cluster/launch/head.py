"""What launch scripts ask of a Ray head: `wait` until its nodes are there and it takes jobs, `drain` its jobs before the head goes.

python -m cluster.launch.head wait --nodes 4
python -m cluster.launch.head drain --timeout-s 150

`drain` stops every job that runs (Ray sends the driver SIGTERM, and SIGKILL after `RAY_JOB_STOP_WAIT_TIME_S` of the head's environment,
3 s by default) and waits until each has ended, so that the driver commits what is played. Exit code 0: done; 1: not in time.
It starts nothing and knows nothing of rollouts. Authentication is Ray's own, by the environment.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time

log = logging.getLogger(__name__)
POLL_S = 0.5


def main(arguments: list[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    parser = argparse.ArgumentParser(prog="python -m cluster.launch.head")
    parser.add_argument("what", choices=["wait", "drain"])
    parser.add_argument("--address", default=os.environ.get("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:8265"))
    parser.add_argument("--nodes", type=int, default=1, help="wait: this many, the head among them")
    parser.add_argument("--timeout-s", type=float, default=300.0)
    chosen = parser.parse_args(arguments)
    # Ray takes the address of these variables before the one that it is given: a drain would hit somebody else's cluster.
    os.environ["RAY_API_SERVER_ADDRESS"] = chosen.address
    deadline = time.monotonic() + chosen.timeout_s
    done = wait(chosen.address, chosen.nodes, deadline) if chosen.what == "wait" else drain(chosen.address, deadline)
    return 0 if done else 1


def wait(address: str, num_nodes: int, deadline: float) -> bool:
    from ray.job_submission import JobSubmissionClient
    from ray.util.state import list_nodes
    from ray.util.state.exception import RayStateApiException
    from requests import RequestException

    seen = words = ""
    while True:
        try:
            alive = len(list_nodes(address=address, filters=[("state", "=", "ALIVE")], limit=10_000))
            words = f"{alive} of {num_nodes} nodes"
            if alive >= num_nodes:
                # A head whose agent is not up yet refuses jobs with a 500: an empty one is let in first.
                JobSubmissionClient(address).submit_job(entrypoint="true")
                log.info("%s", words)
                return True
        except (RayStateApiException, RequestException, ConnectionError, RuntimeError) as error:
            words = f"not ready: {address} ({type(error).__name__})"
        if words != seen:
            log.info("waiting: %s", words)
            seen = words
        if time.monotonic() > deadline:
            log.error("gave up waiting: %s", words)
            return False
        time.sleep(POLL_S)


def drain(address: str, deadline: float) -> bool:
    from ray.job_submission import JobSubmissionClient

    try:
        client = JobSubmissionClient(address)
        running = [
            job.submission_id for job in client.list_jobs() if job.submission_id and not job.status.is_terminal()
        ]
        for job in running:
            log.info("stopping %s", job)
            client.stop_job(job)
        while running and time.monotonic() < deadline:
            running = [job for job in running if not client.get_job_status(job).is_terminal()]
            time.sleep(POLL_S if running else 0)
    except (ConnectionError, RuntimeError) as error:
        log.error("cannot drain %s: %s", address, str(error).splitlines()[0])
        return False
    for job in running:
        log.error("%s has not ended in time", job)
    return not running


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
