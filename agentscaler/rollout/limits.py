"""How much a rollout may use, and why it ended: a closed enum, exactly one reason."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class StopReason(StrEnum):
    USER_STOP = "user_stop"  # the person has nothing more to say: the good end
    AGENT_STOP = "agent_stop"  # an empty message of the agent
    MAX_TURNS = "max_turns"
    MAX_CALLS = "max_calls"
    MAX_INVALID_CALLS = "max_invalid_calls"
    REPETITION = "repetition"
    CONTEXT_OVERFLOW = "context_overflow"
    ENVIRONMENT_STOP = "environment_stop"  # a benchmark's scene is over: nothing more can be done in it
    MAX_STEPS = "max_steps"
    MAX_ERRORS = "max_errors"


class Limits(BaseModel):
    """Checked in this order after each assistant message: calls, invalid calls in a row, repetition, errors, steps, turns in a row, turns.
    Those that are null are off: benchmarks bring bounds of their own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_turns: int = Field(default=40, ge=1, description="assistant messages")
    max_calls: int = Field(default=60, ge=1, description="tool calls, whatever became of them")
    max_invalid_calls: int = Field(default=4, ge=1, description="invalid or refused calls in a row")
    max_repeats: int = Field(default=3, ge=2, description="times that the very same message may come in a row")
    max_steps: int | None = Field(default=None, ge=1, description="messages, all results of one message's calls as one")
    max_errors: int | None = Field(default=None, ge=1, description="invalid or refused calls in all")
    max_turns_in_a_row: int | None = Field(
        default=None, ge=1, description="assistant messages between two of the person"
    )
    timeout_s: float = Field(
        default=600.0, gt=0, description="wall clock of one attempt; past it the attempt is a fault"
    )
