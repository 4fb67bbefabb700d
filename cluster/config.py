"""The validated configuration of a rollout job, and which of it shapes the data.

Hydra composes; these models validate (an unknown key is an error). `shape` is what two runs must share to write into one folder:
cluster size, concurrency, tracking and paths are not in it, and more `attempts` extend.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from agentscaler.canonical import digest
from agentscaler.rollout.limits import Limits
from agentscaler.verify.funnel import VerifyMode
from cluster.parts import TeacherSpec, UserSpec

_ENGINE_SHAPE = (
    "kind",
    "model",
    "chat_template",
    "tool_parser",
    "reasoning_parser",
    "dtype",
    "max_model_len",
    "sim",
    "env",
)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DomainChoice(_Frozen):
    """A shipped domain by name, or `name` in the store at `path`."""

    name: str
    path: str | None = None


class ClusterConfig(_Frozen):
    kind: Literal["auto", "local", "in_process"] = "auto"
    workers: int | Literal["auto"] = Field(default="auto", description="environment actors; auto: by event-loop lag")
    max_workers: int = Field(default=64, ge=1, description="that auto may start")
    concurrency: int | Literal["auto"] = Field(
        default="auto", description="rollouts in flight, over all workers; auto: by the engines' figures"
    )
    concurrency_start: int = Field(default=16, ge=1, description="a replica, where auto begins")
    max_trials: int = Field(default=3, ge=1, description="tries of one attempt after retryable faults")
    max_worker_restarts: int = Field(default=20, ge=0, description="in a row without a rollout finished between")
    lease_s: float = Field(default=60.0, gt=0, description="a worker that is silent for longer loses its work")
    drain_s: float = Field(default=20.0, ge=0, description="after SIGTERM or Ctrl-C: what is in flight may end")
    wedged_s: float = Field(default=30.0, gt=0, description="an engine that answers nothing for longer is replaced")
    stuck_s: float = Field(default=180.0, gt=0, description="one that has requests and makes no token is, too")
    no_engine_s: float = Field(default=900.0, gt=0, description="without any engine the job gives up")
    no_output_s: float = Field(default=300.0, ge=0, description="an output that cannot be written is waited for")
    shard_rollouts: int = Field(default=512, ge=1)
    shard_age_s: float = Field(default=60.0, gt=0)
    engine_targets: str | None = Field(default=None, description="a file that tells Prometheus where the engines are")
    journal: bool = Field(default=False, description="keep turns, so that a killed worker's rollouts go on mid-way")

    @field_validator("workers", "concurrency")
    @classmethod
    def _at_least_one(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("Input should be greater than or equal to 1")
        return value


class SolveRateConfig(_Frozen):
    """Attempts at a task end early once its first `easy_after` finished ones were all accepted, or its first `hopeless_after` all
    rejected. Off where null. What is left out is a row of the attempts sidecar and counted as `skipped`."""

    easy_after: int | None = Field(default=None, ge=1)
    hopeless_after: int | None = Field(default=None, ge=1)


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
    solve_rate: SolveRateConfig = SolveRateConfig()
    quarantine_after: int = Field(default=3, ge=1, description="failed attempts, then a task is played no more")
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

    @property
    def is_benchmark(self) -> bool:
        """Whether the rollouts measure, and are no data."""
        return False

    def shape(self) -> dict[str, Any]:
        """What shapes the data, by dotted key."""
        apart = {"cluster", "tracking", "output", "output_root", "attempts", "quarantine_after"}
        full = self.model_dump(mode="json", exclude=apart)
        serving = ("replicas", "min_replicas", "base_urls", "timeout_s", "max_retries", "api_key_env", "no_server_s")
        for model in (full["teacher"], full["user"]):
            for key in serving:
                model.pop(key)
            if engine := model["engine"]:
                model["engine"] = {key: engine[key] for key in _ENGINE_SHAPE}
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
