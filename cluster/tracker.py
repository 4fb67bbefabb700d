"""A job as an MLflow run: parameters, metrics, the data's lineage, sampled rollouts as traces, figures, the summary.

Invariants: tracking never stops or delays a job for long. Where MLflow cannot be reached at the start, one warning says
so and every call does nothing; where it goes away later, one warning, then nothing for a while, then another try.
Metrics that could not be written are kept and written with the next ones. All writes go through clients with an
explicit URI, experiment and run id: nothing here sets MLflow's global tracking URI, active run or tracing provider.

`Tracker` is synchronous and not thread-safe: one caller (an actor, or the job's own process). MLflow is imported at
`start` (4 to 10 s), so that nobody else waits for it. It gets redacted text and never looks for secrets.
"""

from __future__ import annotations

import getpass
import json
import logging
import math
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentscaler.rollout.record import Rollout

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import Metric

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 30.0, 300.0
MAX_KEPT_METRICS = 5_000
MAX_BATCH_METRICS, MAX_BATCH_PARAMS, MAX_PARAM_CHARS, MAX_TAG_CHARS, MAX_NAME_CHARS = 1_000, 100, 6_000, 8_000, 250
# At the start: refused is known in about 2 s, a host that swallows packets in about 10. Later a busy server gets more
# time. MLflow's own defaults (7 retries of 120 s) would hold a job for many minutes. What the user set stands.
AT_START = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "4", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
LATER = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
ALWAYS = {
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_ASYNC_TRACE_LOGGING_RETRY_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # stdout is the job's own
}


class Tracker:
    """One job's run. `enabled=False` makes every call do nothing."""

    def __init__(self, uri: str, experiment: str, enabled: bool = True):
        self.uri = uri
        self.experiment = experiment
        self.enabled = enabled
        self.run_id: str | None = None
        self.experiment_id: str | None = None
        self._mlflow: MlflowClient | None = None
        self._kept: list[Metric] = []
        self._warned: set[str] = set()
        self._pause_s = FIRST_PAUSE_S
        self._silent_until = 0.0

    # -- the run

    def start(self, job: str, params: dict[str, str], tags: dict[str, str]) -> str | None:
        """Open a run; its id, or None where MLflow cannot be reached."""
        if not self.enabled:
            return None
        _set_environment({**ALWAYS, **AT_START})
        try:
            self._open(job, tags)
        except _failures() as error:
            self.run_id = self._mlflow = None
            log.warning(
                "tracking.uri=%s cannot be reached, so this job is not tracked in MLflow: %s",
                _without_secrets(self.uri),
                _line(error),
            )
            return None
        _set_environment(LATER)
        self._guarded("params", lambda client, run_id: self._log_params(client, run_id, params))
        return self.run_id

    def go_on(self, run_id: str) -> None:
        """In place of a tracker that died: write into its run."""
        _set_environment({**ALWAYS, **LATER})
        try:
            from mlflow import MlflowClient

            self._mlflow = client = MlflowClient(self.uri)
            self.experiment_id = client.get_run(run_id).info.experiment_id
            self.run_id = run_id
        except _failures() as error:
            self._mlflow = None
            log.warning("tracking.uri=%s: %s", _without_secrets(self.uri), _line(error))

    def _open(self, job: str, tags: dict[str, str]) -> None:
        for name in ("alembic", "mlflow.store.db.utils"):  # a new store's migrations, one line each
            logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # "Retrying …"; our own warning says it
        _make_parent_folder(self.uri)
        from mlflow import MlflowClient

        self._mlflow = client = MlflowClient(self.uri)
        self.experiment_id = _experiment_id(client, self.experiment, artifact_location(self.uri, self.experiment))
        name = f"{job} {datetime.now(UTC).strftime('%Y-%m-%d %H:%M:%S')}"
        own = {"mlflow.source.name": f"jobs.{job}", "mlflow.source.type": "JOB", "mlflow.user": _user(), "job": job}
        all_tags = {_name(key): str(value)[:MAX_TAG_CHARS] for key, value in {**own, **tags}.items()}
        run = client.create_run(self.experiment_id, tags=all_tags, run_name=all_tags.get("mlflow.runName", name))
        self.run_id = run.info.run_id

    def finish(self, summary: dict[str, Any], status: str = "FINISHED") -> None:
        """The last figures (every number of the summary as `final/…`), the summary itself, and the end of the run."""
        self._silent_until = 0.0  # one last try, whatever happened before
        self.metrics(flatten(summary, "final"), 0)

        def end(client: MlflowClient, run_id: str) -> None:
            text = json.dumps(summary, indent=2, ensure_ascii=False, default=str)
            client.log_text(run_id, text, "summary.json")
            client.set_terminated(run_id, status)

        self._guarded("the end of the run", end)
        self.run_id = self._mlflow = None

    # -- what is logged

    def metrics(self, values: dict[str, float], step: int) -> None:
        """One batch. Names are made fit, for one bad name rejects them all; what is no finite number is left out."""
        if self.run_id is None:
            return
        from mlflow.entities import Metric

        at_ms = int(time.time() * 1000)
        for key, value in _distinct({key: value for key, value in values.items() if _is_finite(value)}).items():
            self._kept.append(Metric(key, float(value), at_ms, step))
        del self._kept[:-MAX_KEPT_METRICS]

        def write(client: MlflowClient, run_id: str) -> None:
            batch, self._kept = self._kept, []
            try:
                for rows in _chunks(batch, MAX_BATCH_METRICS):
                    client.log_batch(run_id, metrics=rows)
            except _failures() as error:
                if not _is_refusal(error):
                    self._kept = batch  # writing a metric again does no harm
                raise

        if self._kept:
            self._guarded("metrics", write)

    def dataset(self, name: str, digest: str, source: str, num_rows: int, context: str) -> None:
        """Lineage alone: name, our own digest and where it lies. No data is copied."""
        from_ = json.dumps({"uri": source})
        profile = json.dumps({"num_rows": num_rows})

        def write(client: MlflowClient, run_id: str) -> None:
            from mlflow.entities import Dataset, DatasetInput, InputTag

            data = Dataset(name[:500], digest[:36], "agentscaler", from_, profile=profile)
            client.log_inputs(run_id, [DatasetInput(data, [InputTag("mlflow.data.context", context[:500])])])

        self._guarded("the dataset", write)

    def rollout(self, row: Rollout) -> None:
        """One trace: its head with the assessments, then the spans; repeating it does no harm. 25 to 50 ms: sample."""

        def write(client: MlflowClient, run_id: str) -> None:
            from mlflow.tracing.client import TracingClient

            from cluster.traces import build_trace

            assert self.experiment_id is not None
            info, spans = build_trace(row, run_id, self.experiment_id)
            tracing = TracingClient(self.uri)
            tracing.start_trace(info)
            tracing.log_spans(self.experiment_id, spans)

        self._guarded("a trace", write)

    def funnel(self, counts: dict[str, int]) -> None:
        """The figure, and the same in words as the run's description."""
        from cluster.figures import draw_funnel, funnel_words

        self._figure("funnel.png", lambda: draw_funnel(counts))
        note = funnel_words(counts)
        self._guarded("the description", lambda client, run_id: client.set_tag(run_id, "mlflow.note.content", note))

    def by_kind(self, counts: dict[str, dict[str, int]]) -> None:
        from cluster.figures import draw_by_kind

        self._figure("by_kind.png", lambda: draw_by_kind(counts))

    def evaluation(self, key: str, heading: str, figures: dict[str, Any]) -> None:
        """An evaluation's figures, its words as the run's description, and a comparison with earlier runs under the same `key`."""
        from cluster import evaluation_report

        def write(client: MlflowClient, run_id: str) -> None:
            assert self.experiment_id is not None
            evaluation_report.log(client, self.experiment_id, run_id, key, heading, figures)

        self._guarded("the evaluation's figures", write)

    def pictures(self, drawn: Mapping[str, Callable[[], Figure]], note: str) -> None:
        """Figures by file name, and the run's description in words."""
        for file, draw in drawn.items():
            self._figure(file, draw)
        self._guarded("the description", lambda client, run_id: client.set_tag(run_id, "mlflow.note.content", note))

    def config(self, text: str) -> None:
        self._guarded("config.yaml", lambda client, run_id: client.log_text(run_id, text, "config.yaml"))

    def _figure(self, file: str, draw: Callable[[], Figure]) -> None:
        def write(client: MlflowClient, run_id: str) -> None:
            client.log_figure(run_id, draw(), file, save_kwargs={"dpi": 144})

        self._guarded(file, write)

    def _log_params(self, client: MlflowClient, run_id: str, params: dict[str, str]) -> None:
        from mlflow.entities import Param

        rows = [Param(key, str(value)[:MAX_PARAM_CHARS]) for key, value in _distinct(params).items()]
        for some in _chunks(rows, MAX_BATCH_PARAMS):
            client.log_batch(run_id, params=some)

    # -- failing softly

    def _guarded(self, what: str, work: Callable[[MlflowClient, str], Any]) -> None:
        """Run `work`. A refusal of one thing is warned of once a thing; MLflow gone is warned of once, then paused."""
        if self._mlflow is None or self.run_id is None or time.monotonic() < self._silent_until:
            return
        try:
            work(self._mlflow, self.run_id)
        except _failures() as error:
            refused = _is_refusal(error)
            if (key := what if refused else "gone") not in self._warned:
                self._warned.add(key)
                log.warning(
                    "MLflow at tracking.uri=%s %s %s (said once; the job goes on): %s",
                    _without_secrets(self.uri),
                    "refused" if refused else "did not take",
                    what,
                    _line(error),
                )
            if not refused:
                self._silent_until = time.monotonic() + self._pause_s
                self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        else:
            self._pause_s = FIRST_PAUSE_S


_ours: set[str] = set()  # variables that this module set; of the process, as the environment is


def _set_environment(settings: dict[str, str]) -> None:
    for name, value in settings.items():
        if name in _ours or name not in os.environ:
            _ours.add(name)
            os.environ[name] = value


def artifact_location(uri: str, experiment: str) -> str | None:
    """For an sqlite store a folder beside it, as a file URI; None (the server decides) for anything else."""
    path = _sqlite_path(uri)
    if path is None:
        return None
    folder = re.sub(r"[^\w.-]+", "_", experiment).strip(".") or "experiment"
    return (path.parent / f"{path.stem}_artifacts" / folder).as_uri()


def flatten(values: dict[str, Any], prefix: str) -> dict[str, float]:
    """Numbers of a nested dictionary under joined names; everything else is left out."""
    found: dict[str, float] = {}
    for key, value in values.items():
        name = f"{prefix}/{key}"
        if isinstance(value, dict):
            found |= flatten(value, name)
        elif isinstance(value, int | float):
            found[name] = float(value)
    return found


def _sqlite_path(uri: str) -> Path | None:
    match = re.fullmatch(r"sqlite(?:\+\w+)?:///([^?]+)(?:\?.*)?", uri)
    return Path(match[1]).absolute() if match and match[1] != ":memory:" else None


def _make_parent_folder(uri: str) -> None:
    if (path := _sqlite_path(uri)) is not None:
        path.parent.mkdir(parents=True, exist_ok=True)


def _experiment_id(client: MlflowClient, name: str, location: str | None) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, location, tags={"mlflow.experimentKind": "genai_development"})
        except MlflowException:  # another job made it meanwhile
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return found.experiment_id


def _distinct(values: dict[str, Any]) -> dict[str, Any]:
    """The same values under names that MLflow takes; two names that become one get a number."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name, count = _name(key), 1
        while name in found:
            count += 1
            name = f"{_name(key)[: MAX_NAME_CHARS - 5]}_{count}"
        found[name] = value
    return found


def _name(text: str) -> str:
    """MLflow takes letters, digits and `_-./: ` and no name that reads as an unclean path."""
    parts = [part for part in re.sub(r"[^\w\-./: ]", "_", str(text)).split("/") if part.strip(". ")]
    return "/".join(parts)[:MAX_NAME_CHARS].rstrip("/") or "unnamed"


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _failures() -> tuple[type[BaseException], ...]:
    """What MLflow raises when the store or the server fails it. Anything else is our bug and is not caught here."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, SQLAlchemyError, OSError, NotImplementedError)


def _is_refusal(error: BaseException) -> bool:
    """The server is there and does not want this: no reason to pause, nor to try the same again."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, NotImplementedError):
        return True
    return isinstance(error, MlflowException) and 400 <= int(error.get_http_status_code()) < 500


def _line(error: BaseException) -> str:
    """The innermost words, one line."""
    text = " ".join(str(error).split())
    if "Max retries exceeded" in text and (match := re.search(r"\(Caused by (.*)\)", text)):
        text = match[1]
    return f"{type(error).__name__}: {text[:300]}"


def _without_secrets(uri: str) -> str:
    return re.sub(r"//[^/@]*@", "//***@", uri)


def _user() -> str:
    with suppress(OSError, KeyError):  # a container's user may have no name
        return getpass.getuser()
    return "unknown"


def _chunks(rows: list[Any], size: int) -> Iterable[list[Any]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
