"""What both sides of `jobs.bench loop` play: one task of reads and writes that the world answers ok, the server's answers that solve it,
and the requests that come of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import orjson

from agentscaler.domain.domain import Domain
from agentscaler.domain.store import load_domain
from agentscaler.tasks.compile import execute
from agentscaler.tasks.task import Call, Kind, Task, WrittenTask
from agentscaler.world.world import World
from cluster.config import DomainChoice
from jobs.bench.world import WorldBench, choose_work

MODEL = "stub"
SAMPLING = {"temperature": 0.7, "max_tokens": 4096}


@dataclass(frozen=True, slots=True)
class LoopWork:
    """`answers` are what the server says, one a turn; `results` are what the world answered the calls in them."""

    domain: Domain
    task: Task
    answers: tuple[dict[str, Any], ...]
    results: tuple[str, ...]

    @property
    def num_calls(self) -> int:
        """Model calls a rollout."""
        return len(self.answers)


def choose(choice: DomainChoice, num_reads: int, num_writes: int) -> LoopWork:
    """A task whose reference is the given number of reads, then of writes, each a turn of its own."""
    domain = load_domain(choice.name, choice.path)
    world = World.of(domain, 1)
    wanted = WorldBench(domain=choice, seed=1, num_reads=num_reads, num_writes=num_writes, rounds=1, rollouts=1)
    calls = choose_work(world, wanted).calls
    written = WrittenTask(
        id="loop",
        kind=Kind.MULTI_GOAL,
        intent="Please look these things up and change what I told you.",
        reference=tuple(Call(call=name, arguments=orjson.loads(text)) for name, text in calls),
    )
    environment = world.open()
    results = tuple(environment.call("agent", name, text).content for name, text in calls)
    environment.close()
    answers = [_answer(turn, None, [(name, text)]) for turn, (name, text) in enumerate(calls)]
    answers.append(_answer(len(calls), "All of it is done.", []))
    return LoopWork(domain, execute(domain, written), tuple(answers), results)


def _answer(turn: int, content: str | None, calls: list[tuple[str, str]]) -> dict[str, Any]:
    """In the form of vLLM's answers."""
    tool_calls = [
        {"id": f"chatcmpl-tool-{turn:032x}", "type": "function", "function": {"name": name, "arguments": text}}
        for name, text in calls
    ]
    message = {
        "role": "assistant",
        "content": content,
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
        "tool_calls": tool_calls,
        "reasoning": None,
    }
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": "tool_calls" if calls else "stop",
        "stop_reason": None,
        "token_ids": None,
    }
    return {
        "id": f"chatcmpl-{turn:032x}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": MODEL,
        "choices": [choice],
        "service_tier": None,
        "system_fingerprint": None,
        "usage": {
            "prompt_tokens": 3000 + 100 * turn,
            "total_tokens": 3040 + 100 * turn,
            "completion_tokens": 40,
            "prompt_tokens_details": {"cached_tokens": 2900 + 100 * turn},
        },
        "prompt_logprobs": None,
        "prompt_token_ids": None,
        "kv_transfer_params": None,
    }
