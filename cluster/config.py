"""The validated configuration of a rollout job, and which of it shapes the data.

Hydra composes; these models validate (an unknown key is an error). `shape` is what two runs must share to write into one folder:
cluster size, concurrency, tracking and paths are not in it, and more `attempts` extend.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agentscaler.canonical import digest
from agentscaler.rollout.limits import Limits
from agentscaler.verify.funnel import VerifyMode
from cluster.parts import TeacherSpec, UserSpec


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DomainChoice(_Frozen):
    """A shipped domain by name, or `name` in the store at `path`."""

    name: str
    path: str | None = None


class ClusterConfig(_Frozen):
    kind: Literal["auto", "local", "in_process"] = "auto"
    workers: int = Field(default=1, ge=1, description="environment actors")
    concurrency: int = Field(default=32, ge=1, description="rollouts in flight, over all workers")
    max_trials: int = Field(default=3, ge=1, description="tries of one attempt after retryable faults")
    max_worker_restarts: int = Field(default=3, ge=0)
    shard_rollouts: int = Field(default=512, ge=1)
    shard_age_s: float = Field(default=60.0, gt=0)


class TrackingConfig(_Frozen):
    kind: Literal["mlflow", "none"] = "mlflow"
    uri: str | None = None  # default: sqlite at runs/mlflow.db, under output_root in Ray jobs
    experiment: str = "agentscaler"
    traces: int = Field(default=20, ge=0, description="rollouts shown as traces, half accepted where there are as many")
    tick_s: float = Field(default=5.0, gt=0)


class RolloutConfig(_Frozen):
    domain: DomainChoice | None = None
    tasks: str = "written"
    tasks_sample: int | None = Field(default=None, ge=1)
    tasks_seed: int = 0
    attempts: int = Field(default=1, ge=1)
    run_seed: int = 0
    teacher: TeacherSpec
    user: UserSpec
    limits: Limits = Limits()
    verify: VerifyMode = VerifyMode.STATE
    cluster: ClusterConfig = ClusterConfig()
    tracking: TrackingConfig = TrackingConfig()
    output: str | None = None
    output_root: str | None = None

    @model_validator(mode="after")
    def _tasks_come_from_one_place(self) -> RolloutConfig:
        if self.tasks == "written" and self.domain is None:
            raise ValueError("tasks=written needs domain")
        if self.tasks != "written" and self.domain is not None:
            raise ValueError("domain: is not given with tasks=<file>, whose domains lie beside it")
        return self

    def shape(self) -> dict[str, Any]:
        """What shapes the data, by dotted key."""
        full = self.model_dump(mode="json", exclude={"cluster", "tracking", "output", "output_root", "attempts"})
        serving = ("replicas", "base_urls", "timeout_s", "max_retries", "api_key_env")
        for key in serving:
            full["teacher"].pop(key)
        for key in ("base_urls", "timeout_s", "api_key_env"):
            full["user"].pop(key)
        engine = full["teacher"]["engine"]
        if engine:
            full["teacher"]["engine"] = {
                k: engine[k]
                for k in ("model", "chat_template", "tool_parser", "reasoning_parser", "dtype", "max_model_len")
            }
        return flatten(full)

    def shape_digest(self) -> str:
        return digest(self.shape())


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
