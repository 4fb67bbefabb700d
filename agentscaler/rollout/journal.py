"""Turns of rollouts in flight, kept in files, so that another process can go on with a conversation whose player was killed.

One file a rollout and player, a line a turn: what the teacher said and, where a model plays the user, what that said. Nothing else is
needed: worlds and scripted users are deterministic, so playing the turns again rebuilds them, at microseconds a call. A line is written
before the turn has any effect. SIGKILL loses at most the turn in progress (a torn last line is left out); there is no fsync, so a power
failure may lose more, which costs turns and nothing else.

Kept turns are used by the first trial only: a trial after a fault begins anew, and so do its turns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from agentscaler.messages import Message, Outcome, ToolCall, Usage
from agentscaler.rollout.scene import Person
from agentscaler.teachers.chat import Agent


class Journal:
    """A player's own. `folder` is shared by the players of a job, on a disk that outlives them."""

    def __init__(self, folder: str, player: str):
        self._folder, self._player = Path(folder), player
        self._kept: dict[str, Kept] = {}
        self.num_resumed = 0

    def begin(self, rollout_id: str) -> Kept:
        """With what an earlier player left, if anything did; that is taken over."""
        place = self._folder / rollout_id[:2]
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"{rollout_id}.{self._player}"
        left = [other for other in place.glob(f"{rollout_id}.*") if other != path]
        turns = max((read_turns(other) for other in left), key=len, default=[])
        kept = self._kept[rollout_id] = Kept(path, turns)
        for other in left:
            other.unlink(missing_ok=True)
        self.num_resumed += bool(turns)
        return kept

    def forget(self, rollout_id: str) -> None:
        """It is committed."""
        if kept := self._kept.pop(rollout_id, None):
            kept.remove()


class Kept:
    """One rollout's turns."""

    def __init__(self, path: Path, turns: list[Message]):
        self._path = path
        self._sink = path.open("wb", buffering=0)
        self._sink.write(b"".join(orjson.dumps(turn) + b"\n" for turn in turns))
        self.past = deque(turns)

    def agent(self, agent: Agent) -> KeptAgent:
        return KeptAgent(agent, self)

    def person(self, person: Person) -> KeptPerson:
        return KeptPerson(person, self)

    def next(self, role: str) -> Message | None:
        return self.past.popleft() if self.past and self.past[0].role == role else None

    def note(self, turn: Message) -> None:
        self._sink.write(orjson.dumps(turn) + b"\n")

    def restart(self) -> None:
        """The trial failed; the next one shares nothing with it."""
        self.past.clear()
        self._sink.truncate(0)
        self._sink.seek(0)

    def remove(self) -> None:
        self._sink.close()
        self._path.unlink(missing_ok=True)


def read_turns(path: Path) -> list[Message]:
    """Up to the first line that is not whole."""
    turns = []
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            turns.append(_message(orjson.loads(line)))
        except (orjson.JSONDecodeError, TypeError, KeyError):
            break
        if not line.endswith(b"\n"):
            turns.pop()
    return turns


class KeptAgent:
    """An agent whose turns are kept; those already known are said again without asking it."""

    def __init__(self, agent: Agent, kept: Kept):
        self._agent, self._kept = agent, kept
        self._goes_on = bool(kept.past)

    async def reply(self, messages: Sequence[Message]) -> Message:
        if known := self._kept.next("assistant"):
            return known
        said = await self._agent.reply(messages)
        if self._goes_on and said.token_ids is not None:
            # The tokens of the prompt before are not kept, so nobody can say that this one begins with them.
            said = replace(said, prefix_break=True)
        self._goes_on = False
        self._kept.note(said)
        return said

    def close(self) -> None:
        self._agent.close()


class KeptPerson:
    """The same for a person whom a model plays. A scripted one is not kept: it says the same again by itself."""

    def __init__(self, person: Person, kept: Kept):
        self._person, self._kept = person, kept

    @property
    def unmatched_questions(self) -> int:
        return self._person.unmatched_questions

    async def opening(self, messages: Sequence[Message]) -> Message:
        if known := self._kept.next("user"):
            return known
        said = await self._person.opening(messages)
        self._kept.note(said)
        return said

    async def reply(self, messages: Sequence[Message]) -> Message | None:
        if known := self._kept.next("user"):
            return known if known.content or known.tool_calls else None
        said = await self._person.reply(messages)
        self._kept.note(said or Message("user"))
        return said

    def ends(self, message: Message) -> bool:
        return self._person.ends(message)

    def close(self) -> None:
        self._person.close()


def _message(row: dict[str, Any]) -> Message:
    return Message(
        **{
            **row,
            "tool_calls": tuple(ToolCall(**call) for call in row["tool_calls"]),
            "outcome": Outcome(row["outcome"]) if row["outcome"] else None,
            "changed_keys": tuple(row["changed_keys"]),
            "token_ids": None if row["token_ids"] is None else tuple(row["token_ids"]),
            "logprobs": None if row["logprobs"] is None else tuple(row["logprobs"]),
            "usage": Usage(**row["usage"]) if row["usage"] else None,
        }
    )
