"""Plays the conversations leased to it: one coroutine a rollout, refilled as soon as there is room, environments in this process.

A handful of Ray calls a batch: lease, hand results to the committer, then tell the dispatcher. In that order: an item is finished
only once the committer has it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping

from agentscaler.domain.domain import Domain
from agentscaler.rollout.attempt import Played, PlaySettings, play
from cluster.dispatcher import Finished
from cluster.handles import Handle
from cluster.parts import TeacherSpec, UserSpec, build_teacher, build_users

log = logging.getLogger(__name__)
IDLE_S = 0.2
BATCH_S = 0.5


class EnvironmentActor:
    def __init__(
        self,
        worker: str,
        domains: Mapping[str, Domain],
        teacher: TeacherSpec,
        user: UserSpec,
        settings: PlaySettings,
        concurrency: int,
        dispatcher: Handle,
        committer: Handle,
        user_actor: Handle | None,
    ):
        self._worker = worker
        self._domains = domains
        self._teacher = build_teacher(teacher)
        self._users = build_users(user, user_actor)
        self._settings = settings
        self._concurrency = concurrency
        self._dispatcher = dispatcher
        self._committer = committer
        self._playing: set[asyncio.Task[Played]] = set()

    async def run(self) -> None:
        """Work until the dispatcher has nothing left."""
        try:
            await self._run()
        finally:
            for task in self._playing:
                task.cancel()
            await asyncio.gather(*self._playing, return_exceptions=True)
            await self._teacher.close()
            await self._users.close()

    async def _run(self) -> None:
        ready: list[Played] = []
        flushed = time.monotonic()
        open_ended = True
        while open_ended or self._playing:
            room = self._concurrency - len(self._playing)
            if open_ended and room >= max(1, self._concurrency // 8):
                items = await self._dispatcher.call("lease", self._worker, room)
                open_ended = items is not None
                for item in items or []:
                    domain = self._domains[item.task.domain_fingerprint]
                    self._playing.add(
                        asyncio.create_task(play(item, domain, self._teacher, self._users, self._settings))
                    )
            if self._playing:
                done, self._playing = await asyncio.wait(
                    self._playing, timeout=BATCH_S, return_when=asyncio.FIRST_COMPLETED
                )
                ready += [task.result() for task in done]
            elif open_ended:
                await asyncio.sleep(IDLE_S)
            if ready and (not self._playing or len(ready) >= 64 or time.monotonic() - flushed > BATCH_S):
                await self._hand_in(ready)
                ready, flushed = [], time.monotonic()

    async def _hand_in(self, ready: list[Played]) -> None:
        await self._committer.call("add", ready)
        await self._dispatcher.call("finished", self._worker, [_finished(played) for played in ready])


def _finished(played: Played) -> Finished:
    rollout = played.rollout
    if rollout is None:
        return Finished(played.rollout_id, "void", None, 0, 0, 0)
    usages = [message.usage for message in rollout.messages if message.usage]
    return Finished(
        played.rollout_id,
        rollout.verdict.outcome.value,
        rollout.verdict.stage.value if rollout.verdict.stage else None,
        sum(usage.completion_tokens for usage in usages),
        sum(usage.prompt_tokens for usage in usages),
        sum(usage.cached_tokens for usage in usages),
    )
