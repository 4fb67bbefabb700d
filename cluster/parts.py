"""Teachers and users from their configuration: what a worker builds for itself, from plain values that travel to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agentscaler.rollout.attempt import Users
from agentscaler.rollout.record import UserIdentity
from agentscaler.teachers.chat import Teacher, TeacherIdentity
from agentscaler.teachers.endpoint import EndpointTeacher, EndpointTeacherConfig, identity_of
from agentscaler.teachers.http import ChatEndpoint, EndpointConfig
from agentscaler.teachers.reference import NoopTeacher, RandomCallTeacher, ReferenceTeacher
from agentscaler.teachers.routing import Router
from agentscaler.users.scripted import ScriptedUsers
from agentscaler.users.simulated import SimulatedUserConfig, SimulatedUsers
from cluster.engine import EngineConfig

_SCRIPTED = {"reference": ReferenceTeacher, "noop": NoopTeacher, "random_call": RandomCallTeacher}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSpec(_Frozen):
    """Where a model is served: by `replicas` engines of our own, or at `base_urls`, which somebody else runs."""

    replicas: int = Field(default=1, ge=1)
    min_replicas: int = Field(default=1, ge=1, description="play as soon as this many are ready")
    engine: EngineConfig | None = None
    base_urls: tuple[str, ...] = ()
    api_key_env: str | None = None
    timeout_s: float = Field(default=300.0, gt=0, description="of one request")
    max_retries: int = Field(default=4, ge=0, description="of one request, while the server is overloaded")
    no_server_s: float = Field(default=300.0, gt=0, description="a request waits this long for any server to live")

    def endpoint(self) -> EndpointConfig:
        return EndpointConfig(
            base_urls=self.base_urls,
            api_key_env=self.api_key_env,
            timeout_s=self.timeout_s,
            max_retries=self.max_retries,
            no_server_s=self.no_server_s,
        )


class TeacherSpec(ModelSpec):
    """`engine` starts engines of its own (vLLM's, or simulated ones); `endpoint` uses servers at `base_urls`; the others need no model."""

    kind: Literal["engine", "endpoint", "reference", "noop", "random_call"]
    chat: EndpointTeacherConfig | None = None

    @model_validator(mode="after")
    def _has_its_parts(self) -> TeacherSpec:
        if self.kind == "engine" and self.engine is None:
            raise ValueError("kind=engine needs engine")
        if self.kind == "endpoint" and not self.base_urls:
            raise ValueError("kind=endpoint needs base_urls")
        if self.kind in ("engine", "endpoint") and self.chat is None:
            raise ValueError(f"kind={self.kind} needs chat")
        if self.min_replicas > self.replicas:
            raise ValueError(f"min_replicas={self.min_replicas} is more than replicas={self.replicas}")
        return self


class UserSpec(ModelSpec):
    """`simulated` asks a model: at `base_urls`, of engines of its own (`engine`), or with neither at the teacher's servers."""

    kind: Literal["scripted", "simulated"]
    chat: SimulatedUserConfig | None = None

    @model_validator(mode="after")
    def _has_its_parts(self) -> UserSpec:
        if self.kind == "simulated" and self.chat is None:
            raise ValueError("kind=simulated needs chat")
        if self.engine is not None and self.base_urls:
            raise ValueError("either engine or base_urls, not both")
        return self

    @property
    def shares_servers(self) -> bool:
        """With the teacher."""
        return self.kind == "simulated" and self.engine is None and not self.base_urls


def build_teacher(spec: TeacherSpec, routers: Mapping[str, Router]) -> Teacher:
    """`routers` by role: a model's sessions go where its role's router says."""
    if spec.kind in _SCRIPTED:
        return _SCRIPTED[spec.kind]()
    assert spec.chat is not None
    return EndpointTeacher(spec.chat, ChatEndpoint(spec.endpoint(), routers["teacher"]))


def build_users(spec: UserSpec, teacher: TeacherSpec, routers: Mapping[str, Router]) -> Users:
    if spec.kind == "scripted":
        return ScriptedUsers()
    assert spec.chat is not None
    served_by, role = (teacher, "teacher") if spec.shares_servers else (spec, "user")
    return SimulatedUsers(spec.chat, ChatEndpoint(served_by.endpoint(), routers[role]))


def roles(teacher: TeacherSpec, user: UserSpec) -> dict[str, ModelSpec]:
    """The models that a job needs served, by role."""
    served: dict[str, ModelSpec] = {}
    if teacher.kind in ("engine", "endpoint"):
        served["teacher"] = teacher
    if user.kind == "simulated" and not user.shares_servers:
        served["user"] = user
    return served


def teacher_identity(spec: TeacherSpec) -> TeacherIdentity:
    """Known before any engine runs: the address of a server is no part of it."""
    if spec.kind in _SCRIPTED:
        return _SCRIPTED[spec.kind]().identity
    assert spec.chat is not None
    return identity_of(spec.chat)


def user_identity(spec: UserSpec) -> UserIdentity:
    return UserIdentity(spec.kind, spec.chat.model if spec.chat else "")
