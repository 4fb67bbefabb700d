"""Every way that things go wrong, in four kinds that are never mixed.

1. *A call went wrong.* An invalid or refused tool call is no exception: it is a `CallResult`, which goes to the agent as text.
2. *A rollout went wrong* (`RolloutFault`): teacher, user or infrastructure. Recorded with its attempt, retried up to a bound, then
   VOID; it never enters data or a rate.
3. *The input is wrong* (`ConfigError` and its children): said in one line before any work starts; exit code 2.
4. *We are wrong*: any other exception. It stops the job loudly.

`except Exception` stands at the rollout boundary alone (`rollout/attempt.py`).
"""

from __future__ import annotations

from enum import StrEnum


class ConfigError(Exception):
    """Wrong input: one clear line, which names the key or the file. Nothing has been started or written."""


class DomainError(ConfigError):
    """A domain breaks a rule: its schema, recipe, a tool's program or its policy."""


class TaskError(ConfigError):
    """A written task is broken or unsound. Words name the file, the task and the reason."""


class ShardError(ConfigError):
    """A Parquet file is corrupt, foreign, or of another schema version."""


class FaultClass(StrEnum):
    """Where a rollout fault came from."""

    ENGINE_GONE = "engine_gone"
    ENGINE_OVERLOADED = "engine_overloaded"
    ENGINE_REJECTED = "engine_rejected"
    MALFORMED_REPLY = "malformed_reply"
    USER_FAULT = "user_fault"
    TOOL_BUG = "tool_bug"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


class RolloutFault(Exception):
    """A fault of the teacher, the user or the infrastructure. `retryable` says whether the same attempt may be tried again."""

    def __init__(self, fault: FaultClass, words: str, retryable: bool = True):
        super().__init__(f"{fault.value}: {words}")
        self.fault = fault
        self.words = words
        self.retryable = retryable


class ContextOverflow(Exception):
    """The conversation no longer fits into the model's context. Not a fault: the rollout ends with that stop reason."""
