"""The record in Arrow, written out, never inferred: one row a rollout, and one a failed attempt.

`to_table` and `from_row` are inverses. A file of another schema version, or one that is no shard at all, is a `ShardError` naming it.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized
from itertools import accumulate
from typing import Any

import orjson
import pyarrow as pa

from agentscaler.benchmark import AnyTask, BenchmarkTask
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
        ("split", _TEXT),  # train or held_out, by the domain; null where nobody has parted them
    ],
    metadata={**_META, b"agentscaler": b"tasks"},
)
_ADDED = ("split",)  # columns that files made before them lack, and may


def to_table(rollouts: Sequence[Rollout]) -> pa.Table:
    """Column by column, with no dict in between: 40 us a rollout of nine model calls; `asdict` and `Table.from_pylist` took 435."""
    verdicts = [one.verdict for one in rollouts]
    timings = [one.timings for one in rollouts]
    teachers = [one.teacher for one in rollouts]
    users = [one.user for one in rollouts]
    columns = [
        pa.array([one.rollout_id for one in rollouts], _TEXT),
        pa.array([one.task_id for one in rollouts], _TEXT),
        pa.array([one.task_digest for one in rollouts], _TEXT),
        pa.array([one.kind for one in rollouts], _TEXT),
        pa.array([one.domain for one in rollouts], _TEXT),
        pa.array([one.domain_fingerprint for one in rollouts], _TEXT),
        pa.array([one.world_seed for one in rollouts], _INT),
        pa.array([one.attempt for one in rollouts], _INT),
        pa.array([one.seed for one in rollouts], _INT),
        pa.array([one.benchmark for one in rollouts], _FLAG),
        _structs(
            ROLLOUTS.field("teacher").type,
            [one.model for one in teachers],
            [one.revision for one in teachers],
            [one.sampling for one in teachers],
        ),
        _structs(ROLLOUTS.field("user").type, [one.kind for one in users], [one.model for one in users]),
        pa.array([one.unmatched_questions for one in rollouts], _INT),
        pa.ListArray.from_arrays(
            _offsets([one.messages for one in rollouts]),
            _messages([message for one in rollouts for message in one.messages]),
        ),
        pa.array([one.tools for one in rollouts], _TEXT),
        pa.array([one.state_changes for one in rollouts], _TEXT),
        _lists([one.net_keys for one in rollouts], _TEXT),
        pa.array([one.stop_reason for one in rollouts], _TEXT),
        _structs(
            ROLLOUTS.field("verdict").type,
            [one.outcome for one in verdicts],
            [one.stage for one in verdicts],
            _lists([one.reasons for one in verdicts], _TEXT),
            _lists([one.state_diff for one in verdicts], _TEXT),
            [one.detour for one in verdicts],
        ),
        _structs(
            ROLLOUTS.field("timings").type,
            [one.total_s for one in timings],
            [one.teacher_s for one in timings],
            [one.user_s for one in timings],
            [one.environment_s for one in timings],
        ),
        pa.array([one.created_at for one in rollouts], _TEXT),
        pa.array([one.config_digest for one in rollouts], _TEXT),
        pa.array([one.schema_version for one in rollouts], _INT),
    ]
    return pa.Table.from_arrays(columns, schema=ROLLOUTS)


def _messages(messages: list[Message]) -> pa.StructArray:
    calls = [call for message in messages for call in message.tool_calls]
    call_structs = _structs(
        MESSAGE.field("tool_calls").type.value_type,
        [call.id for call in calls],
        [call.name for call in calls],
        [call.arguments for call in calls],
    )
    no_usage = [message.usage is None for message in messages]
    usages = [message.usage or _NO_USAGE for message in messages]
    usage_structs = _structs(
        MESSAGE.field("usage").type,
        [usage.prompt_tokens for usage in usages],
        [usage.cached_tokens for usage in usages],
        [usage.completion_tokens for usage in usages],
        absent=no_usage,
    )
    return _structs(
        MESSAGE,
        [message.role for message in messages],
        [message.content for message in messages],
        [message.reasoning for message in messages],
        pa.ListArray.from_arrays(_offsets([message.tool_calls for message in messages]), call_structs),
        [message.tool_call_id for message in messages],
        [message.outcome for message in messages],
        _lists([message.changed_keys for message in messages], _TEXT),
        [message.raw for message in messages],
        _lists([message.token_ids for message in messages], pa.int32()),
        _lists([message.logprobs for message in messages], pa.float32()),
        [message.prefix_break for message in messages],
        usage_structs,
        [message.latency_s for message in messages],
    )


_NO_USAGE = Usage()


def _structs(kind: pa.StructType, *columns: list[Any] | pa.Array, absent: list[bool] | None = None) -> pa.StructArray:
    fields = list(kind)
    arrays = [
        pa.array(column, one.type) if isinstance(column, list) else column
        for column, one in zip(columns, fields, strict=True)
    ]
    mask = pa.array(absent, _FLAG) if absent is not None and any(absent) else None
    return pa.StructArray.from_arrays(arrays, fields=fields, mask=mask)


def _lists(values: list[tuple[Any, ...]] | list[tuple[Any, ...] | None], kind: pa.DataType) -> pa.Array:
    return pa.array(values, pa.list_(kind))


def _offsets(values: Sequence[Sized]) -> pa.Array:
    return pa.array(accumulate(map(len, values), initial=0), pa.int32())


def to_row(rollout: Rollout) -> dict[str, Any]:
    return to_table([rollout]).to_pylist()[0]


def attempts_table(failures: Sequence[FailedAttempt]) -> pa.Table:
    return pa.Table.from_pylist([attempt_row(failure) for failure in failures], ATTEMPTS)


def attempt_row(failure: FailedAttempt) -> dict[str, Any]:
    return {name: getattr(failure, name) for name in ATTEMPTS.names}


def to_ipc(table: pa.Table) -> bytes:
    """As it travels between processes: Arrow's stream format, not compressed."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def from_ipc(data: bytes, wanted: pa.Schema) -> pa.Table:
    """Without a copy of the data; `wanted` is checked."""
    table = pa.ipc.open_stream(data).read_all()
    check_schema(table.schema, wanted, "a table from another process")
    return table


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


def task_row(task: AnyTask, split: str | None = None) -> dict[str, Any]:
    return {
        "task_id": task.task_id,
        "task_digest": task.task_digest,
        "kind": str(task.kind),
        "domain": task.domain,
        "domain_fingerprint": task.domain_fingerprint,
        "world_seed": task.world_seed,
        "intent": task.intent,
        "task": canonical_json(task.model_dump(mode="json")),
        "split": split,
    }


def parse_task(text: str | bytes) -> AnyTask:
    """One of ours, or a benchmark's. Raises ValueError."""
    data = orjson.loads(text)
    return BenchmarkTask.model_validate(data) if "benchmark" in data else Task.model_validate(data)


def task_from_row(row: dict[str, Any], where: str) -> AnyTask:
    try:
        task = parse_task(row["task"])
    except ValueError as error:
        raise ShardError(f"{where}: task {row.get('task_id')}: {str(error).splitlines()[0]}") from None
    if task.task_digest != row["task_digest"]:
        raise ShardError(
            f"{where}: task {task.task_id} has digest {task.task_digest[:8]}, the row says {row['task_digest'][:8]}"
        )
    return task


def check_schema(schema: pa.Schema, wanted: pa.Schema, where: str) -> None:
    """The same kind of file, the same version, the same columns; extra columns are foreign too. What was added without a new version
    (`_ADDED`) may be missing."""
    kind = (wanted.metadata or {})[b"agentscaler"].decode()
    metadata = schema.metadata or {}
    if metadata.get(b"agentscaler", b"").decode() != kind:
        raise ShardError(f"{where}: not a file of AgentScaler {kind}")
    version = metadata.get(b"schema_version", b"?").decode()
    if version != str(SCHEMA_VERSION):
        raise ShardError(f"{where}: schema version {version}, this program reads {SCHEMA_VERSION}")
    before = pa.schema([field for field in wanted if field.name not in _ADDED or field.name in schema.names])
    if not schema.equals(before):
        missing = sorted(set(before.names) ^ set(schema.names))
        raise ShardError(f"{where}: columns differ: {', '.join(missing) or 'types'}")
