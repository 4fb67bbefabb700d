"""Chat completions over HTTP: the only retry code of the library.

Owns `ChatEndpoint`: which failure is which (`errors.FaultClass`), and the remedies of `errors.RULES` for one request. Where a request
goes is the router's word (`routing.py`), how it travels that of `connections.py`. Invariants: a request is a whole turn, never streamed,
and the same bytes at each try; every failure leaves as `RolloutFault` or `ContextOverflow`, each within a bound; a cancelled request
leaves nothing behind. Time is monotonic throughout.

It starts no engine, and knows nothing of what is in a request or an answer but that it is a chat completion.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from agentscaler.errors import RULES, ConfigError, ContextOverflow, FaultClass, Remedy, RolloutFault
from agentscaler.teachers.connections import Broken, Connections, NoConnection, NoHttp
from agentscaler.teachers.routing import Load, NoReplica, Router

_BACKOFF_S, _BACKOFF_MAX_S = 0.25, 8.0
_RETRY_AFTER_MAX_S = 30.0  # a server's own wish counts up to this
_LOOK_AGAIN_S, _LOOK_AGAIN_MAX_S = 0.05, 1.0  # while no server lives
_CONNECT_S = 20.0  # a node that is gone answers nothing at all
_TOO_LONG = re.compile(r"context[ _](?:length|window)|max_model_len|prompt is too long|too many tokens", re.IGNORECASE)


class EndpointConfig(BaseModel):
    """Where the servers are, and how long to be patient with them. Nothing here shapes what a model says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_urls: tuple[str, ...] = ()  # empty where a router is given: the fleet says which servers live
    api_key_env: str | None = None
    timeout_s: float = Field(default=120.0, gt=0)  # of one request
    max_retries: int = Field(default=4, ge=0)  # of one request, after overload or lost connections
    no_server_s: float = Field(default=300.0, ge=0)  # how long a request waits for a server to live


class _Failed(Exception):
    """One try of a request that failed. `answered`: the server had begun to answer; `reached`: it had taken the connection."""

    def __init__(
        self,
        fault: FaultClass,
        words: str,
        *,
        reached: bool = True,
        answered: bool = True,
        retry_after_s: float | None = None,
    ):
        super().__init__(words)
        self.fault, self.words = fault, words
        self.reached, self.answered, self.retry_after_s = reached, answered, retry_after_s

    def as_fault(self) -> RolloutFault:
        return RolloutFault(self.fault, self.words)


@dataclass(slots=True)
class _Tries:
    """What one request has been through."""

    failures: Counter[FaultClass] = field(default_factory=Counter)
    num_cut: int = 0  # connections lost after they were made
    gone_since: float | None = None  # no server has lived since
    num_looks: int = 0


class ChatEndpoint:
    """One or more servers of the same model. Belongs to the event loop that first uses it."""

    def __init__(self, config: EndpointConfig, router: Router | None = None):
        self.config = config
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if config.api_key_env is not None:
            key = os.environ.get(config.api_key_env)
            if not key:
                raise ConfigError(f"teacher.api_key_env={config.api_key_env}: the environment has no such variable")
            headers["Authorization"] = f"Bearer {key}"
        self._connections = Connections(headers, config.timeout_s, _CONNECT_S)
        if router is None:
            if not config.base_urls:
                raise ConfigError("base_urls: there is no server to ask")
            router = Router()
            router.update({url: Load() for url in config.base_urls})
        self._router = router

    async def complete(self, session: str, body: bytes) -> dict[str, Any]:
        """One chat completion, asked for with `body`. `session` is the conversation: it stays with its server while that lives."""
        tries: _Tries | None = None
        while True:
            try:
                url = self._router.route(session)
            except NoReplica as none:
                tries = tries or _Tries()
                await self._wait_for_one(tries, str(none))
                continue
            try:
                answer = await self._post(url, session, body)
            except _Failed as failed:
                tries = tries or _Tries()
                await self._remedy(failed, url, session, tries)
                continue
            usage = answer.get("usage")
            if usage:
                self._router.spent(session, (usage.get("prompt_tokens") or 0) + (usage.get("completion_tokens") or 0))
            return answer

    def end(self, session: str) -> None:
        """The conversation is over: it weighs on no server any more."""
        self._router.end(session)

    def update(self, replicas: Mapping[str, Load]) -> None:
        """The servers that live now, with what others put on them."""
        self._router.update(replicas)

    async def close(self) -> None:
        self._connections.close()

    async def _remedy(self, failed: _Failed, url: str, session: str, tries: _Tries) -> None:
        """Returns when the request is to be made again; raises where there is no remedy, or no more of it."""
        tries.failures[failed.fault] += 1
        count, router = tries.failures[failed.fault], self._router
        match RULES[failed.fault].remedy:
            case Remedy.RETRY_ELSEWHERE:
                if failed.reached:
                    tries.num_cut, tries.gone_since = tries.num_cut + 1, None  # a server lived
                    if tries.num_cut > self.config.max_retries:  # or a request that kills servers would kill them all
                        raise failed.as_fault() from failed
                if count == 1 and failed.reached and not failed.answered:
                    return  # most likely an idle connection that the server had closed: that says nothing about it
                router.lost(url)
                now = time.monotonic()
                tries.gone_since = tries.gone_since or now
                if now - tries.gone_since > self.config.no_server_s:
                    raise failed.as_fault() from failed
            case Remedy.RETRY_LATER:
                if count > self.config.max_retries:
                    raise failed.as_fault() from failed
                if count >= 2:
                    router.end(session)  # its cache is not worth more waiting: any server may have it
                pause_s = min(_BACKOFF_MAX_S, _BACKOFF_S * 2 ** (count - 1)) * random.uniform(0.5, 1.0)
                await asyncio.sleep(max(pause_s, min(failed.retry_after_s or 0.0, _RETRY_AFTER_MAX_S)))
            case Remedy.RETRY_ONCE if count == 1:
                pass
            case Remedy.MOVE_ONCE if count == 1 and len(router.loads()) > 1:
                router.lost(url)  # what hangs is out like what is dead, and is asked again as soon
                try:
                    router.route(session)
                except NoReplica:
                    raise failed.as_fault() from failed
            case _:
                raise failed.as_fault() from failed

    async def _wait_for_one(self, tries: _Tries, words: str) -> None:
        now = time.monotonic()
        tries.gone_since = tries.gone_since or now
        left_s = tries.gone_since + self.config.no_server_s - now
        if left_s <= 0:
            raise RolloutFault(FaultClass.ENGINE_GONE, f"{words}, for {self.config.no_server_s:g} s")
        pause_s = min(_LOOK_AGAIN_MAX_S, _LOOK_AGAIN_S * 2**tries.num_looks) * random.uniform(0.5, 1.0)
        tries.num_looks = min(tries.num_looks + 1, 10)
        await asyncio.sleep(min(pause_s, left_s))

    async def _post(self, url: str, session: str, body: bytes) -> dict[str, Any]:
        try:
            answer = await self._connections.post(url, session, body)
        except TimeoutError:
            raise _Failed(FaultClass.TIMEOUT, f"{url} took longer than {self.config.timeout_s:g} s") from None
        except NoConnection as error:
            raise _Failed(FaultClass.ENGINE_GONE, str(error), reached=False) from error
        except Broken as error:
            raise _Failed(FaultClass.ENGINE_GONE, f"{url}: {error}", answered=error.answered) from error
        except NoHttp as error:
            raise _Failed(FaultClass.MALFORMED_REPLY, f"{url}: no HTTP answer: {error}") from error
        except ValueError as error:
            raise _Failed(FaultClass.ENGINE_REJECTED, str(error)) from error
        if answer.status != 200:
            raise _refusal(answer.status, answer.body, answer.retry_after)
        return _parse(answer.body)


def _refusal(status: int, text: bytes, retry_after: str | None) -> _Failed | ContextOverflow:
    try:
        body = orjson.loads(text)
        error = body.get("error", body)
        words = str(error.get("message", error) if isinstance(error, dict) else error)
    except (orjson.JSONDecodeError, AttributeError):
        words = text.decode(errors="replace")
    words = " ".join(words.split())[:400]
    if status in (400, 413, 422) and _TOO_LONG.search(words):
        return ContextOverflow(words)
    words = f"HTTP {status}: {words}"
    if status == 429 or status >= 500:
        return _Failed(FaultClass.ENGINE_OVERLOADED, words, retry_after_s=_seconds(retry_after))
    return _Failed(FaultClass.ENGINE_REJECTED, words)


def _seconds(retry_after: str | None) -> float | None:
    """Seconds as they are; a date would need the wall clock, so it counts for nothing."""
    return float(retry_after) if retry_after and re.fullmatch(r"\d{1,6}(\.\d+)?", retry_after.strip()) else None


def _parse(text: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(text)
        said = answer["choices"][0]["message"]
        if not isinstance(said.get("content"), str | None) or not isinstance(answer.get("usage"), dict | None):
            raise TypeError("content is a text, usage an object, or there is none")
        for call in said.get("tool_calls") or ():
            function = call["function"]
            if not (type(call["id"]) is type(function["name"]) is type(function["arguments"]) is str):
                raise TypeError("a call's id, name and arguments are texts")
        return answer
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError) as error:
        words = f"no chat completion in {text[:200].decode(errors='replace')!r}"
        raise _Failed(FaultClass.MALFORMED_REPLY, words) from error
