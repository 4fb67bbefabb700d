"""The bare side of `jobs.bench loop`: aiohttp and orjson, the same calls, nothing else.

It keeps the conversation as dicts, dumps the whole request each turn, posts it, reads and parses the answer, appends the assistant's
message and the recorded tool result. No world, no verification, no record, no retry, no routing.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import orjson
import uvloop

from jobs.bench.loop_work import MODEL, SAMPLING, LoopWork


def measure_bare(work: LoopWork, url: str, rollouts: int, in_flight: int) -> tuple[float, float]:
    """Processor and wall seconds of this process for the rollouts."""
    uvloop.run(play_bare(work, url, min(rollouts, 20), in_flight))
    cpu, wall = time.process_time(), time.perf_counter()
    uvloop.run(play_bare(work, url, rollouts, in_flight))
    return time.process_time() - cpu, time.perf_counter() - wall


async def play_bare(work: LoopWork, url: str, rollouts: int, in_flight: int) -> None:
    tools = [tool.schema_for_model() for tool in work.domain.tools_for("agent")]
    opening = [
        {"role": "system", "content": work.domain.system_prompt()},
        {"role": "user", "content": work.task.written.intent},
    ]
    address = f"{url}/chat/completions"
    headers = {"Content-Type": "application/json"}
    left = rollouts
    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as session:

        async def play() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                messages: list[dict[str, Any]] = list(opening)
                for turn in range(work.num_calls):
                    body = orjson.dumps(
                        {
                            "messages": messages,
                            "seed": turn,
                            "model": MODEL,
                            "tools": tools,
                            "tool_choice": "auto",
                            "parallel_tool_calls": True,
                            **SAMPLING,
                        }
                    )
                    async with session.post(address, data=body) as response:
                        answer = orjson.loads(await response.read())
                    said = answer["choices"][0]["message"]
                    calls = said["tool_calls"]
                    messages.append({"role": "assistant", "content": said["content"] or "", "tool_calls": calls})
                    for call in calls:
                        messages.append({"role": "tool", "content": work.results[turn], "tool_call_id": call["id"]})

        await asyncio.gather(*(play() for _ in range(in_flight)))
