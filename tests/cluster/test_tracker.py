"""The tracker against a real MLflow store. Promises:

1. A job becomes a run with its parameters, tags, metrics, dataset, config, figures and summary, beside the sqlite file.
2. A rollout becomes one trace of that run: a root, its turns and calls in order and in time, the verdict as an assessment.
3. Logging a rollout again makes no second trace.
4. A bad metric name, or a value that is no number, costs no other metric of the batch.
5. An MLflow that cannot be reached costs seconds, one warning that names tracking.uri, and nothing else: no exception, ever.
6. An MLflow that goes away and comes back loses no metrics.
7. Nothing of MLflow's global state is touched, and a disabled tracker does not even import it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import pickle
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agentscaler.domain.store import load_domain
from agentscaler.messages import Usage
from agentscaler.rollout.attempt import PlaySettings, play
from agentscaler.rollout.limits import Limits
from agentscaler.rollout.record import Rollout, Timings, work_item
from agentscaler.tasks.compile import compile_shipped
from agentscaler.tasks.task import Kind
from agentscaler.teachers.reference import RandomCallTeacher, ReferenceTeacher
from agentscaler.users.scripted import ScriptedUsers
from agentscaler.verify.funnel import VerifyMode
from agentscaler.verify.verdict import Stage, VerdictOutcome
from cluster.figures import draw_by_kind, draw_funnel
from cluster.tracker import Tracker

FUNNEL = {"planned": 12, "finished": 11, "valid": 10, "state_match": 6, "accepted": 5, "void": 1}


@pytest.fixture(scope="session")
def rollouts() -> dict[str, Rollout]:
    """A rollout with a refused call, and one that ends in a wrong state; with latencies as of a model."""

    async def make() -> dict[str, Rollout]:
        domain, found = load_domain("notes"), {}
        tasks = compile_shipped("notes")
        recovery = next(task for task in tasks if task.kind is Kind.RECOVERY)
        write = next(task for task in tasks if task.kind is Kind.WRITE)
        settings, users = PlaySettings(Limits(), VerifyMode.STATE, "c"), ScriptedUsers()
        for name, teacher, task in (("right", ReferenceTeacher(), recovery), ("wrong", RandomCallTeacher(), write)):
            played = await play(
                work_item(task, 0, teacher.identity, users.identity, 0), domain, teacher, users, settings
            )
            assert played.rollout is not None
            found[name] = slowly(played.rollout)
        return found

    return asyncio.run(make())


def slowly(rollout: Rollout) -> Rollout:
    messages = tuple(
        dataclasses.replace(m, latency_s=0.5, usage=Usage(100, 60, 10)) if m.role == "assistant" else m
        for m in rollout.messages
    )
    teacher_s = 0.5 * sum(m.role == "assistant" for m in messages)
    return dataclasses.replace(rollout, messages=messages, timings=Timings(teacher_s + 0.5, teacher_s, 0.2, 0.2))


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One sqlite store for all tests (its migrations take 4 to 8 s), in a folder that does not exist yet."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/runs/mlflow.db"


def client(uri: str) -> Any:  # MLflow's own types promise None nearly everywhere
    from mlflow import MlflowClient

    return MlflowClient(uri)


def test_a_job_becomes_a_run(store: str, capfd: pytest.CaptureFixture[str]) -> None:
    tracker = pickle.loads(pickle.dumps(Tracker(store, "promise one")))
    run_id = tracker.start(
        "rollout", {"domain": "notes", "limits.max_turns": "20", "long": "x" * 9000}, {"digest": "abc"}
    )
    tracker.config("domain: notes\n")
    tracker.dataset("notes tasks", "f" * 32, "/data/tasks.parquet", 30, "tasks")
    for step in range(3):
        tracker.metrics({"progress/finished": 2.0 * step}, step)
    tracker.funnel(FUNNEL)
    tracker.by_kind({"write": {"accepted": 3, "state_match": 1}, "refusal": {"call_match": 2, "void": 1}})
    tracker.finish({"counts": {"accepted": 5}, "teacher": "reference", "rate": 0.45, "resumed": True})

    run = client(store).get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["domain"] == "notes" and len(run.data.params["long"]) == 6000
    assert run.data.tags["digest"] == "abc" and run.data.tags["mlflow.source.name"] == "jobs.rollout"
    assert "**45 % accepted**" in run.data.tags["mlflow.note.content"]
    history = client(store).get_metric_history(run_id, "progress/finished")
    assert [(m.step, m.value) for m in history] == [(0, 0.0), (1, 2.0), (2, 4.0)]
    assert run.data.metrics["final/counts/accepted"] == 5 and run.data.metrics["final/rate"] == 0.45
    (given,) = run.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("notes tasks", "f" * 32)
    assert json.loads(given.dataset.profile) == {"num_rows": 30}
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    assert folder.is_relative_to(Path(store.removeprefix("sqlite:///")).parent)
    assert {f.name for f in folder.iterdir()} == {"config.yaml", "funnel.png", "by_kind.png", "summary.json"}
    assert json.loads((folder / "summary.json").read_text())["teacher"] == "reference"
    assert (folder / "funnel.png").read_bytes().startswith(b"\x89PNG")
    assert capfd.readouterr().err == ""  # no migration chatter
    tracker.metrics({"late": 1.0}, 9)  # after the end: nothing, quietly


def test_a_rollout_becomes_a_trace(store: str, rollouts: dict[str, Rollout]) -> None:
    tracker = Tracker(store, "promise two")
    run_id = tracker.start("rollout", {}, {})
    for row in rollouts.values():
        tracker.rollout(row)
    tracker.rollout(rollouts["right"])
    tracker.finish({})

    found = client(store).search_traces(locations=[tracker.experiment_id], run_id=run_id)
    traces = {trace.info.client_request_id: trace for trace in found}
    assert len(found) == 2 and set(traces) == {row.rollout_id for row in rollouts.values()}

    row, trace = rollouts["right"], traces[rollouts["right"].rollout_id]
    root, *children = sorted(trace.data.spans, key=lambda span: span.start_time_ns)
    said = [message for message in row.messages if message.role != "system"]
    assert len(children) == len(said) and all(span.parent_id == root.span_id for span in children)
    kinds = {"user": "USER", "assistant": "CHAT_MODEL", "tool": "TOOL"}
    assert [span.span_type for span in children] == [kinds[message.role] for message in said]
    calls = {call.id: call for message in row.messages for call in message.tool_calls}
    for span, message in zip(children, said, strict=True):
        if message.role == "tool":
            call = calls[message.tool_call_id or ""]
            assert (span.name, span.inputs) == (call.name, json.loads(call.arguments))
            assert span.outputs == json.loads(message.content)
            assert span.attributes["outcome"] == message.outcome
            assert (span.status.status_code.value == "ERROR") is (message.outcome != "ok")
        if message.role == "assistant":
            assert span.outputs["choices"][0]["message"]["content"] == message.content
            assert (span.end_time_ns or 0) - span.start_time_ns == pytest.approx(0.5e9, rel=1e-3)
    assert any(message.outcome == "refused" for message in said)

    ends = [span.end_time_ns for span in children]
    assert all(end <= after.start_time_ns + 10 for end, after in zip(ends, children[1:], strict=False))
    assert root.start_time_ns <= children[0].start_time_ns and max(ends) <= root.end_time_ns + len(ends)
    assert trace.info.execution_duration == pytest.approx(1000 * row.timings.total_s, abs=1)
    assert root.inputs["task_id"] == row.task_id and root.inputs["intent"] == said[0].content
    assert root.attributes["stop_reason"] == "user_stop" and root.attributes["rollout_id"] == row.rollout_id
    assert trace.info.tags["kind"] == "recovery" and trace.info.tags["rollout_id"] == row.rollout_id
    assert trace.info.token_usage["output_tokens"] == 10 * sum(m.role == "assistant" for m in said)
    assert [(a.name, a.value) for a in trace.info.assessments if a.name == "verdict"] == [("verdict", "accepted")]

    given = {a.name: a for a in traces[rollouts["wrong"].rollout_id].info.assessments}
    verdict = rollouts["wrong"].verdict
    assert (verdict.outcome, verdict.stage) == (VerdictOutcome.REJECTED, Stage.STATE_MATCH)
    assert given["verdict"].value == "rejected" and given["verdict"].rationale.startswith("state_match: ")
    assert all(line in given["verdict"].rationale for line in verdict.reasons)
    assert given["state_diff"].value == len(verdict.state_diff)
    assert given["state_diff"].rationale == "\n".join(verdict.state_diff)


def test_a_bad_metric_costs_no_other(store: str) -> None:
    tracker = Tracker(store, "promise four")
    run_id = tracker.start("rollout", {"a%b": "1", "a#b": "2"}, {})
    assert run_id is not None
    values = {"good": 1.0, "bad name: 100 %": 2.0, "/a//b/../c": 3.0, "": 4.0, "n" * 400: 5.0, "x%": 6.0, "x#": 7.0}
    tracker.metrics({**values, "nan": float("nan"), "inf": float("inf"), "words": "no"}, 0)  # type: ignore[dict-item]
    run = client(store).get_run(run_id)
    assert sorted(run.data.metrics.values()) == sorted(values.values())
    assert run.data.metrics["good"] == 1.0 and "nan" not in run.data.metrics
    assert sorted(run.data.params.values()) == ["1", "2"]
    tracker.finish({}, "FAILED")
    assert client(store).get_run(run_id).info.status == "FAILED"


@pytest.mark.parametrize("where", ["http://127.0.0.1:9", "silent", "sqlite:////proc/none/mlflow.db"])
def test_unreachable_costs_seconds(where: str, rollouts: dict[str, Rollout], caplog: pytest.LogCaptureFixture) -> None:
    import mlflow  # noqa: F401  (its import is not what is timed)

    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        uri = where if where != "silent" else f"http://127.0.0.1:{silent.getsockname()[1]}"
        check_unreachable(uri, rollouts["wrong"], caplog)


def check_unreachable(uri: str, row: Rollout, caplog: pytest.LogCaptureFixture) -> None:
    tracker = Tracker(uri, "nowhere")
    start = time.monotonic()
    with caplog.at_level(logging.WARNING):
        assert tracker.start("rollout", {"a": "1"}, {}) is None
        assert time.monotonic() - start < 15
        start = time.monotonic()
        use_everything(tracker, row)
        assert time.monotonic() - start < 1
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "cluster.tracker"]
    assert warning.startswith(f"tracking.uri={uri} cannot be reached") and "\n" not in warning


def use_everything(tracker: Tracker, row: Rollout) -> None:
    tracker.metrics({"a": 1.0}, 0)
    tracker.dataset("d", "f" * 32, "/x", 1, "tasks")
    tracker.rollout(row)
    tracker.funnel(FUNNEL)
    tracker.by_kind({"write": {"accepted": 1}})
    tracker.config("a: 1")
    tracker.finish({"accepted": 1})


def test_an_mlflow_that_goes_and_comes_back(
    tmp_path: Path, store: str, rollouts: dict[str, Rollout], caplog: pytest.LogCaptureFixture
) -> None:
    tracker = Tracker(store, "promise six")
    run_id = tracker.start("rollout", {}, {})
    assert run_id is not None
    database = Path(store.removeprefix("sqlite:///"))
    away = tmp_path / "away.db"
    database.rename(away)
    database.mkdir()  # now nothing can be opened there
    try:
        _forget_connections(store)
        with caplog.at_level(logging.WARNING, logger="cluster.tracker"):
            for step in range(3):
                tracker.metrics({"progress": float(step)}, step)
                tracker.rollout(rollouts["wrong"])
        assert len([r for r in caplog.records if "did not take" in r.getMessage()]) == 1
    finally:
        database.rmdir()
        away.rename(database)
    tracker.finish({"accepted": 1})
    history = client(store).get_metric_history(run_id, "progress")
    assert [(m.step, m.value) for m in history] == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert client(store).get_run(run_id).info.status == "FINISHED"


def _forget_connections(uri: str) -> None:
    """MLflow keeps sqlite connections open; a moved file would still be written to."""
    from mlflow.tracking._tracking_service.utils import _get_store

    store = _get_store(uri)
    store.engine.dispose()  # type: ignore[attr-defined]


def test_no_global_state(store: str, rollouts: dict[str, Rollout]) -> None:
    import mlflow

    before = mlflow.get_tracking_uri()
    tracker = Tracker(store, "promise seven")
    tracker.start("rollout", {}, {})
    tracker.rollout(rollouts["right"])
    assert mlflow.active_run() is None and mlflow.get_tracking_uri() == before
    tracker.finish({})


def test_a_disabled_tracker_imports_nothing() -> None:
    code = (
        "import sys; from cluster.tracker import Tracker; t = Tracker('sqlite:///x.db', 'e', enabled=False)\n"
        "assert t.start('rollout', {}, {}) is None; t.metrics({'a': 1.0}, 0); t.finish({})\n"
        "assert not {'mlflow', 'matplotlib', 'ray'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env={**os.environ, "PYTHONPATH": "."})


@pytest.mark.parametrize("counts", [FUNNEL, {}, {"planned": 3_000_000, "finished": 1}])
def test_figures_of_any_counts_can_be_drawn(counts: dict[str, int], tmp_path: Path) -> None:
    draw_funnel(counts).savefig(tmp_path / "a.png")
    draw_by_kind(dict.fromkeys(("write", "refusal"), counts) if counts else {}).savefig(tmp_path / "b.png")
    words = [text.get_text() for text in draw_funnel(counts).axes[0].texts]
    assert f"{counts.get('planned', 0):,}" in words
