"""What the verifier says of a rollout.

ACCEPTED, REJECTED at a stage with reasons, or VOID. A rollout on which no check ran is VOID, never accepted; VOID enters neither
data nor a rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class VerdictOutcome(StrEnum):
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    VOID = "void"


class Stage(StrEnum):
    VALIDITY = "validity"
    STATE_MATCH = "state_match"
    CALL_MATCH = "call_match"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`state_diff` says row by row where the end parts from the expected one. `detour`: some row was changed and changed back."""

    outcome: VerdictOutcome
    stage: Stage | None = None
    reasons: tuple[str, ...] = ()
    state_diff: tuple[str, ...] = ()
    detour: bool = False
