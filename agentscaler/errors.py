"""Every way that things go wrong, in four kinds that are never mixed.

1. *A call went wrong.* An invalid or refused tool call is no exception: it is a `CallResult`, which goes to the agent as text.
2. *A rollout went wrong* (`RolloutFault`): teacher, user or infrastructure. Recorded with its attempt, retried up to a bound, then
   VOID; it never enters data or a rate.
3. *The input is wrong* (`ConfigError` and its children): said in one line before any work starts; exit code 2.
4. *We are wrong*: any other exception. It stops the job loudly.

`except Exception` stands at the rollout boundary (`rollout/attempt.py`) and at the edge to a public benchmark's tools
(`adapters/`: tau2's live.py, bfcl's environment.py, acebench's agent.py and checkout.py), which may raise anything: what they raise is
their answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class ConfigError(Exception):
    """Wrong input: one clear line, which names the key or the file. Nothing has been started or written."""


class DomainError(ConfigError):
    """A domain breaks a rule: its schema, recipe, a tool's program or its policy."""


class TaskError(ConfigError):
    """A written task is broken or unsound. Words name the file, the task and the reason."""


class ShardError(ConfigError):
    """A Parquet file is corrupt, foreign, or of another schema version."""


class FaultClass(StrEnum):
    """Where a rollout fault came from; closed. What is done about each stands in `RULES`."""

    ENGINE_GONE = "engine_gone"  # refused, reset, or closed in the middle of a body
    ENGINE_OVERLOADED = "engine_overloaded"  # HTTP 429 and 5xx
    ENGINE_REJECTED = "engine_rejected"  # any other refusal: asking again changes nothing
    CONTEXT_OVERFLOW = "context_overflow"
    MALFORMED_REPLY = "malformed_reply"  # no JSON, no choice, a call without its fields
    USER_FAULT = "user_fault"  # whatever failed the simulated user, after its own requests had their remedies
    TOOL_BUG = "tool_bug"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"  # our own bug


class Remedy(StrEnum):
    """What is done with the one request (or call) that failed. Where it does not help, the fault goes to the rollout boundary."""

    RETRY_ELSEWHERE = "retry_elsewhere"  # the same request at another server, at once; waits for one where none lives
    RETRY_LATER = "retry_later"  # the same request after a pause, at the same server first
    RETRY_ONCE = "retry_once"  # the same request once more
    MOVE_ONCE = "move_once"  # the same request once more, at another server if there is one
    REJECT = "reject"  # no fault of anybody: the rollout ends with a stop reason, and is judged
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Rule:
    """`remedy` is for the request, where the fault is met (`teachers/http.py`); `play_again` for the attempt, at the rollout boundary
    (`rollout/attempt.py`): whether another trial may end otherwise. An attempt with no trial left is VOID."""

    remedy: Remedy
    play_again: bool


RULES: Mapping[FaultClass, Rule] = MappingProxyType(
    {
        FaultClass.ENGINE_GONE: Rule(Remedy.RETRY_ELSEWHERE, True),
        FaultClass.ENGINE_OVERLOADED: Rule(Remedy.RETRY_LATER, True),
        FaultClass.ENGINE_REJECTED: Rule(Remedy.NONE, False),
        FaultClass.CONTEXT_OVERFLOW: Rule(Remedy.REJECT, False),
        FaultClass.MALFORMED_REPLY: Rule(Remedy.RETRY_ONCE, True),
        FaultClass.USER_FAULT: Rule(Remedy.NONE, True),
        FaultClass.TOOL_BUG: Rule(Remedy.NONE, False),
        FaultClass.TIMEOUT: Rule(Remedy.MOVE_ONCE, True),
        FaultClass.CANCELLED: Rule(Remedy.NONE, False),
        FaultClass.UNKNOWN: Rule(Remedy.NONE, False),
    }
)


class RolloutFault(Exception):
    """A fault of the teacher, the user or the infrastructure. `retryable` says whether the same attempt may be tried again: as its class
    says, where it is not given."""

    def __init__(self, fault: FaultClass, words: str, retryable: bool | None = None):
        super().__init__(f"{fault.value}: {words}")
        self.fault = fault
        self.words = words
        self.retryable = RULES[fault].play_again if retryable is None else retryable


class ContextOverflow(Exception):
    """The conversation no longer fits into the model's context. Not a fault: the rollout ends with that stop reason (`Remedy.REJECT`)."""

    fault = FaultClass.CONTEXT_OVERFLOW
