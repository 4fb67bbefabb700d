"""Rollouts for tests of shards: hypothesis strategies of any, and a few real ones played by the scripted teachers."""

from __future__ import annotations

import asyncio
from functools import cache

from hypothesis import strategies as st

from agentscaler.canonical import canonical_json
from agentscaler.domain.store import load_domain
from agentscaler.messages import Message, Outcome, ToolCall, Usage
from agentscaler.rollout.attempt import PlaySettings, play
from agentscaler.rollout.limits import Limits, StopReason
from agentscaler.rollout.record import Rollout, Timings, UserIdentity, work_item
from agentscaler.tasks.compile import compile_shipped
from agentscaler.tasks.task import Kind, Task
from agentscaler.teachers.chat import TeacherIdentity
from agentscaler.teachers.reference import RandomCallTeacher, ReferenceTeacher
from agentscaler.users.scripted import ScriptedUsers
from agentscaler.verify.funnel import VerifyMode
from agentscaler.verify.verdict import Stage, Verdict, VerdictOutcome

_WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)  # no lone surrogates: UTF-8 has none
_NAMES = st.text("abcdefgh0123456789", min_size=1, max_size=12)
_COUNTS = st.integers(0, 2**40)
_SECONDS = st.floats(0, 1e6, allow_nan=False)
_SINGLE = st.floats(-100, 0, width=32)  # what a float32 column holds exactly
_TEXTS = st.lists(_WORDS, max_size=3).map(tuple)


def _maybe(strategy: st.SearchStrategy) -> st.SearchStrategy:
    return st.none() | strategy


MESSAGES = st.builds(
    Message,
    role=st.sampled_from(["system", "user", "assistant", "tool"]),
    content=_WORDS,
    reasoning=_maybe(_WORDS),
    tool_calls=st.lists(st.builds(ToolCall, id=_NAMES, name=_NAMES, arguments=_WORDS), max_size=3).map(tuple),
    tool_call_id=_maybe(_NAMES),
    outcome=_maybe(st.sampled_from(Outcome)),
    changed_keys=_TEXTS,
    raw=_maybe(_WORDS),
    token_ids=_maybe(st.lists(st.integers(0, 2**31 - 1), max_size=4).map(tuple)),
    logprobs=_maybe(st.lists(_SINGLE, max_size=4).map(tuple)),
    prefix_break=st.booleans(),
    usage=_maybe(st.builds(Usage, _COUNTS, _COUNTS, _COUNTS)),
    latency_s=_maybe(_SECONDS),
)

ROLLOUTS = st.builds(
    Rollout,
    rollout_id=_NAMES,
    task_id=_NAMES,
    task_digest=_NAMES,
    kind=st.sampled_from(Kind).map(lambda kind: kind.value),
    domain=_NAMES,
    domain_fingerprint=_NAMES,
    world_seed=_COUNTS,
    attempt=_COUNTS,
    seed=_COUNTS,
    benchmark=st.booleans(),
    teacher=st.builds(TeacherIdentity, _NAMES, _WORDS, _WORDS),
    user=st.builds(UserIdentity, _NAMES, _WORDS),
    unmatched_questions=_COUNTS,
    messages=st.lists(MESSAGES, max_size=5).map(tuple),
    tools=_WORDS,
    state_changes=st.just("{}") | _WORDS,
    net_keys=_TEXTS,
    stop_reason=st.sampled_from(StopReason),
    verdict=st.builds(
        Verdict,
        outcome=st.sampled_from(VerdictOutcome),
        stage=_maybe(st.sampled_from(Stage)),
        reasons=_TEXTS,
        state_diff=_TEXTS,
        detour=st.booleans(),
    ),
    timings=st.builds(Timings, _SECONDS, _SECONDS, _SECONDS, _SECONDS),
    created_at=st.just("2026-03-02T09:00:00.000000Z"),
    config_digest=_NAMES,
)


@cache
def played() -> tuple[tuple[Task, Rollout], ...]:
    """Every shipped notes task, by the reference (accepted) and by one random call (mostly rejected)."""

    async def play_all() -> list[tuple[Task, Rollout]]:
        domain, tasks, users = load_domain("notes"), compile_shipped("notes"), ScriptedUsers()
        settings = PlaySettings(Limits(), VerifyMode.STATE, canonical_json({}))
        found = []
        for teacher in (ReferenceTeacher(), RandomCallTeacher()):
            for task in tasks:
                item = work_item(task, 0, teacher.identity, users.identity, 0)
                rollout = (await play(item, domain, teacher, users, settings)).rollout
                assert rollout is not None
                found.append((task, rollout))
        return found

    return tuple(asyncio.run(play_all()))
