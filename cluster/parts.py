"""Teachers and users from their configuration: what a worker builds for itself, from plain values that travel to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agentscaler.messages import Message
from agentscaler.rollout.attempt import Users
from agentscaler.rollout.converse import Person
from agentscaler.rollout.record import UserIdentity
from agentscaler.tasks.task import Task
from agentscaler.teachers.chat import Teacher
from agentscaler.teachers.endpoint import ChatEndpoint, EndpointConfig, EndpointTeacher, EndpointTeacherConfig
from agentscaler.teachers.reference import NoopTeacher, RandomCallTeacher, ReferenceTeacher
from agentscaler.users.scripted import ScriptedUsers
from agentscaler.users.simulated import SimulatedUserConfig, SimulatedUsers
from cluster.engine import EngineConfig
from cluster.handles import Handle

_SCRIPTED = {"reference": ReferenceTeacher, "noop": NoopTeacher, "random_call": RandomCallTeacher}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TeacherSpec(_Frozen):
    """`vllm` starts `replicas` engines of its own; `endpoint` uses servers at `base_urls`; the others need no model."""

    kind: Literal["vllm", "endpoint", "reference", "noop", "random_call"]
    replicas: int = Field(default=1, ge=1)
    engine: EngineConfig | None = None
    chat: EndpointTeacherConfig | None = None
    base_urls: tuple[str, ...] = ()
    api_key_env: str | None = None
    timeout_s: float = Field(default=300.0, gt=0)
    max_retries: int = Field(default=4, ge=0)

    @model_validator(mode="after")
    def _has_its_parts(self) -> TeacherSpec:
        if self.kind == "vllm" and self.engine is None:
            raise ValueError("kind=vllm needs engine")
        if self.kind == "endpoint" and not self.base_urls:
            raise ValueError("kind=endpoint needs base_urls")
        if self.kind in ("vllm", "endpoint") and self.chat is None:
            raise ValueError(f"kind={self.kind} needs chat")
        return self

    def endpoint(self) -> EndpointConfig:
        return EndpointConfig(
            base_urls=self.base_urls,
            api_key_env=self.api_key_env,
            timeout_s=self.timeout_s,
            max_retries=self.max_retries,
        )


class UserSpec(_Frozen):
    """`simulated` asks a model: the teacher's own servers where `base_urls` is empty."""

    kind: Literal["scripted", "simulated"]
    chat: SimulatedUserConfig | None = None
    base_urls: tuple[str, ...] = ()
    api_key_env: str | None = None
    timeout_s: float = Field(default=300.0, gt=0)

    @model_validator(mode="after")
    def _has_its_parts(self) -> UserSpec:
        if self.kind == "simulated" and self.chat is None:
            raise ValueError("kind=simulated needs chat")
        return self


def build_teacher(spec: TeacherSpec) -> Teacher:
    if spec.kind in _SCRIPTED:
        return _SCRIPTED[spec.kind]()
    assert spec.chat is not None
    return EndpointTeacher(spec.chat, ChatEndpoint(spec.endpoint()))


def build_users(spec: UserSpec, user_actor: Handle | None) -> Users:
    if spec.kind == "scripted":
        return ScriptedUsers()
    assert user_actor is not None
    return _UsersElsewhere(user_identity(spec), user_actor)


def user_identity(spec: UserSpec) -> UserIdentity:
    return UserIdentity(spec.kind, spec.chat.model if spec.chat else "")


class UserActor:
    """Simulated users, apart from the environments. Keeps nothing of a conversation: each call brings all that was said."""

    def __init__(self, spec: UserSpec):
        assert spec.chat is not None
        self._users = SimulatedUsers(
            spec.chat,
            ChatEndpoint(
                EndpointConfig(base_urls=spec.base_urls, api_key_env=spec.api_key_env, timeout_s=spec.timeout_s)
            ),
        )

    async def reply(self, task: Task, seed: int, session: str, messages: Sequence[Message]) -> str | None:
        return await self._users.start(task, seed, session).reply(messages)

    async def close(self) -> None:
        await self._users.close()


class _UsersElsewhere:
    def __init__(self, identity: UserIdentity, actor: Handle):
        self.identity = identity
        self._actor = actor

    def start(self, task: Task, seed: int, session: str) -> Person:
        return _PersonElsewhere(self._actor, task, seed, session)

    async def close(self) -> None:
        pass


class _PersonElsewhere:
    unmatched_questions = 0

    def __init__(self, actor: Handle, task: Task, seed: int, session: str):
        self._actor, self._task, self._seed, self._session = actor, task, seed, session

    async def opening(self) -> str:
        return self._task.written.intent

    async def reply(self, messages: Sequence[Message]) -> str | None:
        return await self._actor.call("reply", self._task, self._seed, self._session, messages)
