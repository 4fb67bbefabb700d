"""The record in Arrow, written out, never inferred: one row a rollout, and one a failed attempt.

`to_row` and `from_row` are inverses. A file of another schema version, or one that is no shard at all, is a `ShardError` naming it.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import orjson
import pyarrow as pa

from agentscaler.canonical import canonical_json
from agentscaler.errors import ShardError
from agentscaler.messages import Message, Outcome, ToolCall, Usage
from agentscaler.rollout.limits import StopReason
from agentscaler.rollout.record import SCHEMA_VERSION, FailedAttempt, Rollout, Timings, UserIdentity
from agentscaler.tasks.task import Task
from agentscaler.teachers.chat import TeacherIdentity
from agentscaler.verify.verdict import Stage, Verdict, VerdictOutcome

_TEXT, _INT, _REAL, _FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_TEXTS = pa.list_(_TEXT)

MESSAGE = pa.struct(
    [
        ("role", _TEXT),
        ("content", _TEXT),
        ("reasoning", _TEXT),
        ("tool_calls", pa.list_(pa.struct([("id", _TEXT), ("name", _TEXT), ("arguments", _TEXT)]))),
        ("tool_call_id", _TEXT),
        ("outcome", _TEXT),
        ("changed_keys", _TEXTS),
        ("raw", _TEXT),
        ("token_ids", pa.list_(pa.int32())),
        ("logprobs", pa.list_(pa.float32())),
        ("prefix_break", _FLAG),
        ("usage", pa.struct([("prompt_tokens", _INT), ("cached_tokens", _INT), ("completion_tokens", _INT)])),
        ("latency_s", _REAL),
    ]
)
_META = {b"agentscaler": b"rollouts", b"schema_version": str(SCHEMA_VERSION).encode()}
ROLLOUTS = pa.schema(
    [
        ("rollout_id", _TEXT),
        ("task_id", _TEXT),
        ("task_digest", _TEXT),
        ("kind", _TEXT),
        ("domain", _TEXT),
        ("domain_fingerprint", _TEXT),
        ("world_seed", _INT),
        ("attempt", _INT),
        ("seed", _INT),
        ("benchmark", _FLAG),
        ("teacher", pa.struct([("model", _TEXT), ("revision", _TEXT), ("sampling", _TEXT)])),
        ("user", pa.struct([("kind", _TEXT), ("model", _TEXT)])),
        ("unmatched_questions", _INT),
        ("messages", pa.list_(MESSAGE)),
        ("tools", _TEXT),
        ("state_changes", _TEXT),
        ("net_keys", _TEXTS),
        ("stop_reason", _TEXT),
        (
            "verdict",
            pa.struct(
                [("outcome", _TEXT), ("stage", _TEXT), ("reasons", _TEXTS), ("state_diff", _TEXTS), ("detour", _FLAG)]
            ),
        ),
        ("timings", pa.struct([("total_s", _REAL), ("teacher_s", _REAL), ("user_s", _REAL), ("environment_s", _REAL)])),
        ("created_at", _TEXT),
        ("config_digest", _TEXT),
        ("schema_version", _INT),
    ],
    metadata=_META,
)
ATTEMPTS = pa.schema(
    [
        ("rollout_id", _TEXT),
        ("task_id", _TEXT),
        ("attempt", _INT),
        ("trial", _INT),
        ("fault", _TEXT),
        ("words", _TEXT),
        ("retried", _FLAG),
        ("created_at", _TEXT),
    ],
    metadata={**_META, b"agentscaler": b"attempts"},
)
TASKS = pa.schema(
    [
        ("task_id", _TEXT),
        ("task_digest", _TEXT),
        ("kind", _TEXT),
        ("domain", _TEXT),
        ("domain_fingerprint", _TEXT),
        ("world_seed", _INT),
        ("intent", _TEXT),
        ("task", _TEXT),
    ],
    metadata={**_META, b"agentscaler": b"tasks"},
)


def to_row(rollout: Rollout) -> dict[str, Any]:
    """Enums are strings already; dataclasses become the schema's structs."""
    return asdict(rollout)


def attempt_row(attempt: FailedAttempt) -> dict[str, Any]:
    return asdict(attempt)


def from_row(row: dict[str, Any]) -> Rollout:
    verdict = row["verdict"]
    stage = verdict["stage"]
    return Rollout(
        **{
            **row,
            "teacher": TeacherIdentity(**row["teacher"]),
            "user": UserIdentity(**row["user"]),
            "messages": tuple(_message(message) for message in row["messages"]),
            "net_keys": tuple(row["net_keys"]),
            "stop_reason": StopReason(row["stop_reason"]),
            "verdict": Verdict(
                VerdictOutcome(verdict["outcome"]),
                Stage(stage) if stage else None,
                tuple(verdict["reasons"]),
                tuple(verdict["state_diff"]),
                verdict["detour"],
            ),
            "timings": Timings(**row["timings"]),
        }
    )


def _message(row: dict[str, Any]) -> Message:
    return Message(
        **{
            **row,
            "tool_calls": tuple(ToolCall(**call) for call in row["tool_calls"] or ()),
            "outcome": Outcome(row["outcome"]) if row["outcome"] else None,
            "changed_keys": tuple(row["changed_keys"] or ()),
            "token_ids": None if row["token_ids"] is None else tuple(row["token_ids"]),
            "logprobs": None if row["logprobs"] is None else tuple(row["logprobs"]),
            "usage": Usage(**row["usage"]) if row["usage"] else None,
        }
    )


def task_row(task: Task) -> dict[str, Any]:
    return {
        "task_id": task.task_id,
        "task_digest": task.task_digest,
        "kind": task.kind.value,
        "domain": task.domain,
        "domain_fingerprint": task.domain_fingerprint,
        "world_seed": task.world_seed,
        "intent": task.written.intent,
        "task": canonical_json(task.model_dump(mode="json")),
    }


def task_from_row(row: dict[str, Any], where: str) -> Task:
    try:
        task = Task.model_validate(orjson.loads(row["task"]))
    except ValueError as error:
        raise ShardError(f"{where}: task {row.get('task_id')}: {str(error).splitlines()[0]}") from None
    if task.task_digest != row["task_digest"]:
        raise ShardError(
            f"{where}: task {task.task_id} has digest {task.task_digest[:8]}, the row says {row['task_digest'][:8]}"
        )
    return task


def check_schema(schema: pa.Schema, wanted: pa.Schema, where: str) -> None:
    """The same kind of file, the same version, the same columns; extra columns are foreign too."""
    kind = (wanted.metadata or {})[b"agentscaler"].decode()
    metadata = schema.metadata or {}
    if metadata.get(b"agentscaler", b"").decode() != kind:
        raise ShardError(f"{where}: not a file of AgentScaler {kind}")
    version = metadata.get(b"schema_version", b"?").decode()
    if version != str(SCHEMA_VERSION):
        raise ShardError(f"{where}: schema version {version}, this program reads {SCHEMA_VERSION}")
    if not schema.equals(wanted):
        missing = sorted(set(wanted.names) ^ set(schema.names))
        raise ShardError(f"{where}: columns differ: {', '.join(missing) or 'types'}")
