"""What tasks are to be like: the mix of kinds, and how long, how branched and how tricky.

Frozen, and part of what shapes a folder of tasks. Dials that no task could satisfy are an error that names the dial; nothing here
knows whether a given world can satisfy them.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agentscaler.canonical import digest
from agentscaler.tasks.task import Kind

MIX: dict[Kind, float] = {
    Kind.WRITE: 0.15,
    Kind.MULTI_GOAL: 0.32,
    Kind.CHANGED_MIND: 0.08,
    Kind.READ_ONLY: 0.09,
    Kind.MISSING_PARAMETER: 0.08,
    Kind.REFUSAL: 0.07,
    Kind.IRRELEVANT: 0.05,
    Kind.RECOVERY: 0.07,
    Kind.AMBIGUOUS: 0.09,
}

MOST_GOALS = 9


class Dials(BaseModel):
    """`mix`: weights, not shares; a kind that is not named has none. `min_calls` is for kinds that act, `min_writes` and `max_writes` for
    those that write: a refusal may be said at once, and must not write."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mix: dict[Kind, float] = MIX
    goals: tuple[int, ...] = Field(
        default=(2, 3, 4, 4, 5, 5), min_length=1, description="of a multi_goal task: one of these numbers"
    )
    min_calls: int = Field(default=1, ge=1)
    max_calls: int = Field(default=16, ge=1)
    min_writes: int = Field(default=1, ge=1)
    max_writes: int = Field(default=6, ge=0)
    extra_reads: float = Field(default=0.8, ge=0, le=1, description="how likely a look at what is going to be changed")
    near_misses: float = Field(default=0.3, ge=0, le=1, description="how likely a case that is nearly another one")

    @model_validator(mode="after")
    def _can_be_satisfied(self) -> Dials:
        if negative := sorted(kind.value for kind, weight in self.mix.items() if not 0 <= weight < float("inf")):
            raise ValueError(f"mix.{negative[0]}: must be 0 or more")
        kinds = self.kinds
        if not kinds:
            raise ValueError("mix: sums to 0: no kind is asked for")
        if self.min_calls > self.max_calls:
            raise ValueError(f"min_calls: {self.min_calls} is more than max_calls={self.max_calls}")
        if min(self.goals) < 2:
            raise ValueError(f"goals: {min(self.goals)} is not several")
        if max(self.goals) > MOST_GOALS:
            raise ValueError(f"goals: {max(self.goals)} is more than {MOST_GOALS}, more than anybody says at once")
        if writing := [kind.value for kind in kinds if not kind.must_not_write]:
            if not self.max_writes:
                raise ValueError(f"max_writes: 0, but mix asks for {', '.join(writing)}, which write")
            if self.min_writes > self.max_writes:
                raise ValueError(f"min_writes: {self.min_writes} is more than max_writes={self.max_writes}")
            if self.min_writes > self.max_calls:
                raise ValueError(f"min_writes: {self.min_writes} is more than max_calls={self.max_calls}")
        for kind, needed in (
            (Kind.MULTI_GOAL, max(self.goals)),
            (Kind.RECOVERY, 2),
        ):  # a call refused, and one instead of it
            if kind in kinds and self.max_calls < needed:
                raise ValueError(f"max_calls: {self.max_calls}, but a {kind.value} task takes at least {needed}")
        return self

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Those that are asked for, in the order of `Kind`."""
        return tuple(kind for kind in Kind if self.mix.get(kind, 0) > 0)

    @property
    def shares(self) -> dict[Kind, float]:
        """The mix as parts of one."""
        total = sum(self.mix[kind] for kind in self.kinds)
        return {kind: self.mix[kind] / total for kind in self.kinds}

    @property
    def dials_digest(self) -> str:
        """Equal for dials that ask for the same."""
        shares = {kind.value: round(share, 9) for kind, share in self.shares.items()}
        return digest([shares, self.model_dump(mode="json", exclude={"mix"})])
