"""A rollout as an MLflow trace: one root span, a span for every turn and every tool call, the verdict as an assessment.

Invariants: the trace's id follows from run and rollout, so logging a rollout twice gives one trace. Spans follow one
another in the order of the messages, lie inside the root, and add up to the recorded timings; where a turn's own time
was not recorded it gets an equal share of its kind's total. The root holds the whole dialogue; a turn holds only what
was new to the agent and its reply, so that a trace grows with the conversation and not with its square.

It writes nothing (see `tracker.py`), and it builds span entities itself rather than through MLflow's tracing provider:
that one keeps global state, follows the global tracking URI, works in threads and hides its failures in debug logs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agentscaler.canonical import digest
from agentscaler.messages import Message, Outcome, Usage, to_chat
from agentscaler.rollout.limits import StopReason
from agentscaler.rollout.record import Rollout
from agentscaler.verify.verdict import Stage

if TYPE_CHECKING:
    from mlflow.entities import Span
    from mlflow.entities.trace_info import TraceInfo

MAX_TEXT_CHARS = 20_000
MAX_PREVIEW_CHARS = 1_000  # MLflow's column


@dataclass(slots=True)
class Piece:
    """A span to be: times in seconds since the rollout's start."""

    name: str
    span_type: str
    start_s: float
    end_s: float
    inputs: Any
    outputs: Any
    attributes: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


def trace_id_of(run_id: str, rollout_id: str) -> str:
    return "tr-" + digest([run_id, rollout_id])


def build_trace(rollout: Rollout, run_id: str, experiment_id: str) -> tuple[TraceInfo, list[Span]]:
    """The trace's head (with assessments) and its spans, root first."""
    from mlflow.entities import Span
    from mlflow.entities.trace_info import TraceInfo
    from mlflow.entities.trace_location import TraceLocation
    from mlflow.entities.trace_state import TraceState

    trace_id = trace_id_of(run_id, rollout.rollout_id)
    pieces = list(lay_out(rollout))
    total_s = max(rollout.timings.total_s, pieces[-1].end_s if pieces else 0.0)
    ended_ns = int(datetime.fromisoformat(rollout.created_at).timestamp() * 1e9)
    started_ns = ended_ns - int(total_s * 1e9)
    opening, final = opening_words(rollout), final_words(rollout)
    root = Piece(
        name=rollout.task_id,
        span_type="AGENT",
        start_s=0.0,
        end_s=total_s,
        inputs={
            "intent": opening,
            "task_id": rollout.task_id,
            "kind": rollout.kind,
            "messages": [chat(m) for m in _before_last_reply(rollout)],
        },
        outputs=_reply(final) if final else {"final_words": ""},
        attributes=_root_attributes(rollout),
    )
    spans = []
    for number, piece in enumerate([root, *pieces]):
        spans.append(Span.from_dict(_span_row(piece, number, trace_id, started_ns)))
    info = TraceInfo(
        trace_id=trace_id,
        trace_location=TraceLocation.from_experiment_id(experiment_id),
        request_time=started_ns // 1_000_000,
        execution_duration=max(1, int(total_s * 1000)),
        state=TraceState.OK,
        request_preview=opening[:MAX_PREVIEW_CHARS],
        response_preview=(final.content if final else "")[:MAX_PREVIEW_CHARS],
        client_request_id=rollout.rollout_id,
        trace_metadata={
            # No `mlflow.trace.session`: a rollout is a whole conversation, and where there are sessions MLflow groups a
            # run's traces by them and hides the verdicts ("1 value") until each group is opened.
            "mlflow.sourceRun": run_id,
            "mlflow.trace.user": rollout.user.kind,
        },
        tags={
            "mlflow.traceName": rollout.task_id,
            "attempt": str(rollout.attempt),
            "domain": rollout.domain,
            "kind": rollout.kind,
            "rollout_id": rollout.rollout_id,
            "stage": rollout.verdict.stage.value if rollout.verdict.stage else "none",
            "stop_reason": rollout.stop_reason.value,
            "teacher": rollout.teacher.model,
            "verdict": rollout.verdict.outcome.value,
        },
        assessments=_assessments(rollout, trace_id, run_id, ended_ns // 1_000_000),
    )
    return info, spans


def lay_out(rollout: Rollout) -> Iterator[Piece]:
    """The turns and calls one after the other."""
    messages = rollout.messages
    share = _shares(rollout)
    called = {call.id: call for message in messages for call in message.tool_calls}
    now, turns = 0.0, 0
    unseen: list[Message] = []
    for message in messages:
        end = now + share(message)
        if message.role == "user":
            yield Piece("user", "USER", now, end, None, message.content, {"user": rollout.user.kind})
        elif message.role == "assistant":
            turns += 1
            yield _turn(rollout, message, turns, unseen, now, end)
            unseen = []
        elif message.role == "tool":
            call = called.get(message.tool_call_id or "")
            outcome = message.outcome or Outcome.OK
            attributes: dict[str, Any] = {"outcome": outcome.value, "tool_call_id": message.tool_call_id}
            if message.changed_keys:
                attributes["changed_keys"] = list(message.changed_keys)
            error = None if outcome is Outcome.OK else f"{outcome.value}: {cut(message.content)}"
            name = call.name if call else "tool"
            yield Piece(
                name,
                "TOOL",
                now,
                end,
                _parsed(call.arguments if call else ""),
                _parsed(message.content),
                attributes,
                error,
            )
        if message.role != "assistant":
            unseen.append(message)
        now = end


def _turn(
    rollout: Rollout, message: Message, number: int, unseen: list[Message], start_s: float, end_s: float
) -> Piece:
    attributes: dict[str, Any] = {"mlflow.llm.model": rollout.teacher.model, "mlflow.message.format": "openai"}
    if message.usage:
        attributes["mlflow.chat.tokenUsage"] = _usage(message.usage)
    if number == 1:
        attributes["mlflow.chat.tools"] = json.loads(rollout.tools)
    if message.reasoning:
        attributes["reasoning"] = cut(message.reasoning)
    if message.raw is not None:
        attributes["raw"] = cut(message.raw)
    if message.prefix_break:
        attributes["prefix_break"] = True
    inputs = {"messages": [chat(m) for m in unseen]}
    return Piece(f"turn {number}", "CHAT_MODEL", start_s, end_s, inputs, _reply(message), attributes)


def _shares(rollout: Rollout):
    """How long each message took: recorded latencies as they are, the rest of a kind's time in equal parts."""
    timings, messages = rollout.timings, rollout.messages
    num_users = sum(m.role == "user" for m in messages) + (rollout.stop_reason is StopReason.USER_STOP)
    num_tools = sum(m.role == "tool" for m in messages)
    known = [m.latency_s for m in messages if m.role == "assistant" and m.latency_s is not None]
    num_unknown = sum(m.role == "assistant" and m.latency_s is None for m in messages)
    seconds = {
        "user": timings.user_s / max(1, num_users),
        "tool": timings.environment_s / max(1, num_tools),
        "assistant": max(0.0, timings.teacher_s - sum(known)) / max(1, num_unknown),
        "system": 0.0,
    }

    def share(message: Message) -> float:
        return message.latency_s if message.latency_s is not None else seconds[message.role]

    return share


def _span_row(piece: Piece, number: int, trace_id: str, started_ns: int) -> dict[str, Any]:
    """MLflow's span as a dictionary; attribute values are JSON texts."""
    start_ns = started_ns + int(piece.start_s * 1e9) + number  # spans of no length keep their order
    attributes = {
        "mlflow.traceRequestId": trace_id,
        "mlflow.spanType": piece.span_type,
        "mlflow.spanOutputs": piece.outputs,
        **({} if piece.inputs is None else {"mlflow.spanInputs": piece.inputs}),
        **piece.attributes,
    }
    return {
        "trace_id": trace_id,
        "span_id": _span_id(trace_id, number),
        "parent_span_id": _span_id(trace_id, 0) if number else None,
        "name": piece.name,
        "start_time_unix_nano": start_ns,
        "end_time_unix_nano": max(start_ns, started_ns + int(piece.end_s * 1e9) + number),
        "events": _error_event(piece, start_ns),
        "status": {
            "code": "STATUS_CODE_OK" if piece.error is None else "STATUS_CODE_ERROR",
            "message": piece.error or "",
        },
        "attributes": {key: json.dumps(value, ensure_ascii=False, default=str) for key, value in attributes.items()},
        "links": [],
    }


def _error_event(piece: Piece, at_ns: int) -> list[dict[str, Any]]:
    """MLflow's UI marks a span red by such an event, not by its status."""
    if piece.error is None:
        return []
    kind, _, words = piece.error.partition(": ")
    attributes = {"exception.type": kind, "exception.message": words}
    return [{"name": "exception", "time_unix_nano": at_ns, "attributes": attributes}]


def _span_id(trace_id: str, number: int) -> str:
    return digest([trace_id, number], 16)


def _root_attributes(rollout: Rollout) -> dict[str, Any]:
    verdict = rollout.verdict
    found = {
        "rollout_id": rollout.rollout_id,
        "task_digest": rollout.task_digest,
        "domain": rollout.domain,
        "domain_fingerprint": rollout.domain_fingerprint,
        "world_seed": rollout.world_seed,
        "attempt": rollout.attempt,
        "seed": rollout.seed,
        "teacher": rollout.teacher.model,
        "teacher_revision": rollout.teacher.revision,
        "stop_reason": rollout.stop_reason.value,
        "verdict": verdict.outcome.value,
        "stage": verdict.stage.value if verdict.stage else None,
        "detour": verdict.detour,
        "unmatched_questions": rollout.unmatched_questions,
        "state_changes": _parsed(rollout.state_changes),
        "teacher_s": rollout.timings.teacher_s,
        "user_s": rollout.timings.user_s,
        "environment_s": rollout.timings.environment_s,
        "mlflow.message.format": "openai",
    }
    return {key: value for key, value in found.items() if value is not None}


def _assessments(rollout: Rollout, trace_id: str, run_id: str, at_ms: int) -> list[Any]:
    from mlflow.entities import AssessmentSource, Feedback

    verdict = rollout.verdict
    source = AssessmentSource(source_type="CODE", source_id="agentscaler.verify")
    metadata = {"mlflow.assessment.sourceRunId": run_id}
    stage = f"{verdict.stage.value}: " if verdict.stage else ""
    rationale = stage + "\n".join(verdict.reasons) + ("\ndetour" if verdict.detour else "")

    def feedback(name: str, value: Any, words: str) -> Any:
        found = Feedback(
            name=name,
            value=value,
            source=source,
            trace_id=trace_id,
            rationale=words.strip() or None,
            metadata=metadata,
            create_time_ms=at_ms,
            last_update_time_ms=at_ms,
        )
        found.assessment_id = "a-" + digest([trace_id, name])  # else a trace written twice has each of them twice
        return found

    found = [feedback("verdict", verdict.outcome.value, cut(rationale))]
    # A number for every rollout whose end was compared: MLflow's column has no holes, its average a meaning.
    if verdict.state_diff or verdict.stage is not Stage.VALIDITY:
        found.append(feedback("state_diff", len(verdict.state_diff), cut("\n".join(verdict.state_diff))))
    return found


def opening_words(rollout: Rollout) -> str:
    return next((m.content for m in rollout.messages if m.role == "user"), "")


def final_words(rollout: Rollout) -> Message | None:
    """The agent's last message; None where it never said or did anything."""
    return next((m for m in reversed(rollout.messages) if m.role == "assistant"), None)


def _before_last_reply(rollout: Rollout) -> list[Message]:
    """The dialogue but for the agent's last message, which is the output. What came after it (results) stays in."""
    last = final_words(rollout)
    return [m for m in rollout.messages if m is not last]


def chat(message: Message) -> dict[str, Any]:
    found = to_chat(message, keep_reasoning=True)
    found["content"] = cut(found["content"])
    return found


def _reply(message: Message) -> dict[str, Any]:
    return {
        "choices": [
            {"index": 0, "message": chat(message), "finish_reason": "tool_calls" if message.tool_calls else "stop"}
        ]
    }


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
    }


def _parsed(text: str) -> Any:
    """JSON where it is JSON; the text itself otherwise."""
    if len(text) > MAX_TEXT_CHARS:
        return cut(text)
    try:
        return json.loads(text)
    except ValueError:
        return text


def cut(text: str) -> str:
    if len(text) <= MAX_TEXT_CHARS:
        return text
    return f"{text[:MAX_TEXT_CHARS]} … ({len(text) - MAX_TEXT_CHARS} more characters)"
