"""A teacher behind an OpenAI-compatible chat endpoint: the only HTTP and retry code here.

Owns `ChatEndpoint` (one HTTP session, retries, what each failure is called) and `EndpointTeacher` (what is asked, and how the answer
becomes a `Message`). Invariants: one whole turn a request, never streamed; the model's argument text is never repaired; what cannot
change by asking again is never retried; every failure leaves as `RolloutFault` or `ContextOverflow`.

It starts no engine (`cluster/engine.py`), executes no call, and knows the servers' load from its own requests alone.
"""

from __future__ import annotations

import asyncio
import copy
import os
import random
import re
import time
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
import orjson
from pydantic import BaseModel, ConfigDict, Field

from agentscaler.canonical import canonical_json
from agentscaler.errors import ConfigError, ContextOverflow, FaultClass, RolloutFault
from agentscaler.messages import Message, Outcome, ToolCall, Usage, to_chat
from agentscaler.teachers.chat import TeacherIdentity, ToolSchema
from agentscaler.teachers.few_shot import FOREIGN_EXAMPLES, ToolExample, build_shots

if TYPE_CHECKING:
    from agentscaler.domain.domain import Domain
    from agentscaler.tasks.task import Task

REPLY_TOOL = "reply_to_user"
_OVERLOADED = {429, 500, 502, 503, 504}
_TOO_LONG = re.compile(r"context[ _](?:length|window)|max_model_len|prompt is too long|too many tokens", re.IGNORECASE)
_SHUN_S = 10.0
_BACKOFF_S, _BACKOFF_MAX_S = 0.25, 8.0


class EndpointConfig(BaseModel):
    """Where the servers are. Nothing here shapes what a model says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_urls: tuple[str, ...] = Field(min_length=1)
    api_key_env: str | None = None
    timeout_s: float = Field(default=120.0, gt=0)
    max_retries: int = Field(default=4, ge=0)


class EndpointTeacherConfig(BaseModel):
    """What is asked of the model. All of it shapes the data, so all of it is part of the teacher's identity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    revision: str = ""
    sampling: dict[str, Any] = Field(default_factory=dict)  # temperature, top_p, max_tokens, …: passed on as they are
    tool_choice: Literal["auto", "required"] = "auto"
    strict: bool = False  # vLLM constrains arguments to their schema only where a function says strict
    # Bounds strings that have no bound: one could run to max_tokens.
    max_string_length: int | None = Field(default=None, ge=1)
    max_items: int | None = Field(default=None, ge=1)  # the same for lists
    reply_tool: bool = False  # speak through a tool: `required` could never end a conversation otherwise
    # after_call: the user is answered by a call, a call that went well by words. The smallest models cannot tell when to speak; the
    # price is that they never ask and never refuse.
    speak: Literal["free", "after_call"] = "free"
    speaking: dict[str, Any] = Field(
        default_factory=dict
    )  # after_call: added to the request when the model is to speak
    shots: int = Field(default=0, ge=0)
    shot_tools: Literal["domain", "foreign"] = "domain"  # whose tools the shots show; see few_shot.FOREIGN_EXAMPLES
    keep_reasoning: bool = False
    parallel_tool_calls: bool = True
    system_suffix: str = ""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    return_token_ids: bool = False
    logprobs: bool = False


class ChatEndpoint:
    """One or more servers of the same model. Belongs to the event loop that first uses it."""

    def __init__(self, config: EndpointConfig):
        self.config = config
        self._headers: dict[str, str] = {"Content-Type": "application/json"}
        if config.api_key_env is not None:
            key = os.environ.get(config.api_key_env)
            if not key:
                raise ConfigError(f"teacher.api_key_env={config.api_key_env}: the environment has no such variable")
            self._headers["Authorization"] = f"Bearer {key}"
        self._in_flight = dict.fromkeys(config.base_urls, 0)
        self._shunned_until = dict.fromkeys(config.base_urls, 0.0)
        self._session: aiohttp.ClientSession | None = None

    def route(self) -> str:
        """The URL with the fewest requests in flight; one that was gone a moment ago only if all were."""
        now = time.monotonic()
        return min(self._in_flight, key=lambda url: (self._shunned_until[url] > now, self._in_flight[url]))

    async def complete(self, url: str, payload: dict[str, Any], session: str = "") -> dict[str, Any]:
        """One chat completion. Retries overload with backoff, a lost connection once (the server may have closed an idle one)."""
        body = orjson.dumps(payload)
        attempt = lost = 0
        while True:
            try:
                return await self._post(url, body, session)
            except RolloutFault as fault:
                if fault.fault is FaultClass.ENGINE_OVERLOADED and attempt < self.config.max_retries:
                    await asyncio.sleep(min(_BACKOFF_MAX_S, _BACKOFF_S * 2**attempt) * random.uniform(0.5, 1.0))
                    attempt += 1
                elif fault.fault is FaultClass.ENGINE_GONE and lost < min(1, self.config.max_retries):
                    lost += 1
                else:
                    if fault.fault is FaultClass.ENGINE_GONE:
                        self._shunned_until[url] = time.monotonic() + _SHUN_S
                    raise

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _post(self, url: str, body: bytes, session: str) -> dict[str, Any]:
        if self._session is None:
            # No limit: admission bounds what is in flight, and a second queue here would hide the wait from it.
            self._session = aiohttp.ClientSession(
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=self.config.timeout_s),
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=4),  # uvicorn closes idle ones after 5 s
            )
        self._in_flight[url] += 1
        try:
            headers = {"X-Session-ID": session} if session else {}
            async with self._session.post(
                f"{url.rstrip('/')}/chat/completions", data=body, headers=headers
            ) as response:
                status, text = response.status, await response.read()
        except TimeoutError as error:  # before ClientError: aiohttp's own timeouts are both
            raise RolloutFault(FaultClass.TIMEOUT, f"{url} took longer than {self.config.timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise RolloutFault(FaultClass.ENGINE_GONE, f"{url}: {error or type(error).__name__}") from error
        finally:
            self._in_flight[url] -= 1
        if status != 200:
            raise _refusal(status, text)
        return _parse(text)


class EndpointTeacher:
    """The Teacher over an endpoint; many rollouts share it."""

    def __init__(self, config: EndpointTeacherConfig, endpoint: ChatEndpoint):
        self.config = config
        self._endpoint = endpoint

    @property
    def identity(self) -> TeacherIdentity:
        asked = self.config.model_dump(mode="json", exclude={"model", "revision"})
        return TeacherIdentity(model=self.config.model, revision=self.config.revision, sampling=canonical_json(asked))

    def start(self, task: Task, domain: Domain, seed: int, session: str) -> EndpointAgent:
        tools = domain.tools_for("agent")
        own = [ToolExample(tool.name, **dict(tool.example)) for tool in tools if tool.example]
        examples = own if self.config.shot_tools == "domain" else FOREIGN_EXAMPLES
        shots = build_shots(examples, task.reference_tools, self.config.shots)
        offered = engine_tools([tool.schema_for_model() for tool in tools], self.config)
        return EndpointAgent(self.config, self._endpoint, offered, shots, seed, session)

    async def close(self) -> None:
        await self._endpoint.close()


class EndpointAgent:
    """One rollout's side of the teacher: stays with one server, and remembers the last turn's tokens."""

    def __init__(
        self,
        config: EndpointTeacherConfig,
        endpoint: ChatEndpoint,
        tools: list[ToolSchema],
        shots: tuple[Message, ...],
        seed: int,
        session: str,
    ):
        self._config = config
        self._endpoint = endpoint
        self._tools = tools
        self._shots = shots
        self._seed = seed
        self._session = session
        self._url: str | None = None
        self._tokens: list[int] = []  # the last turn's prompt and completion

    async def reply(self, messages: Sequence[Message]) -> Message:
        self._url = self._url or self._endpoint.route()
        payload = self._payload(messages)
        started = time.monotonic()
        answer = await self._endpoint.complete(self._url, payload, self._session)
        return self._message(answer, time.monotonic() - started)

    def _payload(self, messages: Sequence[Message]) -> dict[str, Any]:
        config = self._config
        turn = sum(message.role == "assistant" for message in messages)
        payload: dict[str, Any] = {
            "model": config.model,
            "messages": self._chat(messages),
            "seed": zlib.crc32(f"{self._seed}:{turn}".encode()) >> 1,  # engines take 31 bits at least
        }
        if self._tools:
            payload |= {
                "tools": self._tools,
                "tool_choice": self._choice(messages),
                "parallel_tool_calls": config.parallel_tool_calls,
            }
        if config.logprobs:
            payload["logprobs"] = True
        if config.return_token_ids:
            payload["return_token_ids"] = True
        speaking = config.speaking if payload.get("tool_choice") == "none" else {}
        return payload | config.sampling | config.extra_body | speaking

    def _choice(self, messages: Sequence[Message]) -> str:
        """Whether the model is to call or to speak now. Words follow a call that went well, and the second failure in a row."""
        if self._config.speak == "free":
            return self._config.tool_choice
        outcomes = [message.outcome for message in messages[-4:] if message.role == "tool"]
        called = messages[-1].role == "tool"
        failed_twice = len(outcomes) > 1 and Outcome.OK not in outcomes
        return "none" if called and (outcomes[-1] is Outcome.OK or failed_twice) else "required"

    def _chat(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """Shots stand right behind the system message, so that they are part of the prefix that rollouts share."""
        lead = 1 if messages and messages[0].role == "system" else 0
        turns = [
            to_chat(message, self._config.keep_reasoning)
            for message in (*messages[:lead], *self._shots, *messages[lead:])
        ]
        if self._config.system_suffix and lead:
            turns[0]["content"] += self._config.system_suffix
        if self._config.reply_tool:
            for index, turn in enumerate(turns):
                if turn["role"] == "assistant" and turn["content"]:
                    arguments = orjson.dumps({"message": turn["content"]}).decode()
                    call = {
                        "id": f"reply_{index}",
                        "type": "function",
                        "function": {"name": REPLY_TOOL, "arguments": arguments},
                    }
                    turn |= {"content": "", "tool_calls": [*turn.get("tool_calls", ()), call]}
        return turns

    def _message(self, answer: dict[str, Any], latency_s: float) -> Message:
        choice = answer["choices"][0]
        said, usage = choice["message"], answer.get("usage") or {}
        content, raw = said.get("content") or "", None
        calls = []
        for call in said.get("tool_calls") or ():
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            if self._config.reply_tool and name == REPLY_TOOL:
                content, raw = _reply_text(arguments), arguments
            else:
                calls.append(ToolCall(id=call["id"], name=name, arguments=arguments))
        prompt_ids, token_ids = answer.get("prompt_token_ids"), choice.get("token_ids")
        prefix_break = False
        if prompt_ids is not None and token_ids is not None:
            prefix_break = prompt_ids[: len(self._tokens)] != self._tokens
            self._tokens = prompt_ids + token_ids
        logprobs = (choice.get("logprobs") or {}).get("content")
        return Message(
            role="assistant",
            content=content,
            reasoning=said.get("reasoning") or said.get("reasoning_content"),
            tool_calls=tuple(calls),
            raw=raw,
            token_ids=tuple(token_ids) if token_ids is not None else None,
            logprobs=tuple(entry["logprob"] for entry in logprobs) if logprobs is not None else None,
            prefix_break=prefix_break,
            usage=Usage(
                prompt_tokens=usage.get("prompt_tokens") or 0,
                cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
                completion_tokens=usage.get("completion_tokens") or 0,
            ),
            latency_s=latency_s,
        )


def engine_tools(tools: Sequence[ToolSchema], config: EndpointTeacherConfig) -> list[ToolSchema]:
    """The tools as the engine is told of them: bounded, marked strict, and with the reply tool where the model speaks through it."""
    offered = [copy.deepcopy(tool) for tool in tools]
    if config.reply_tool:
        if any(tool["function"]["name"] == REPLY_TOOL for tool in offered):
            raise ConfigError(f"chat.reply_tool: the domain has a tool named {REPLY_TOOL} itself")
        offered.append(_reply_tool())
    for tool in offered:
        function = tool["function"]
        _bound(function.get("parameters"), config)
        if config.strict:
            function["strict"] = True
    return offered


def _reply_tool() -> ToolSchema:
    parameters = {"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]}
    return {
        "type": "function",
        "function": {"name": REPLY_TOOL, "description": "Say something to the user.", "parameters": parameters},
    }


def _bound(schema: Any, config: EndpointTeacherConfig) -> None:
    """Give every string and list in a JSON Schema that has no bound the configured one, in place."""
    if isinstance(schema, list):
        for item in schema:
            _bound(item, config)
    if not isinstance(schema, dict):
        return
    kind = schema.get("type")
    if (
        config.max_string_length is not None
        and kind == "string"
        and not {"enum", "const", "format", "pattern"} & schema.keys()
    ):
        schema.setdefault("maxLength", config.max_string_length)
    if config.max_items is not None and kind == "array":
        schema.setdefault("maxItems", config.max_items)
    for key, value in schema.items():
        if key in ("properties", "$defs", "definitions"):  # names chosen by authors: a property may be called "enum"
            for item in value.values():
                _bound(item, config)
        elif key not in ("enum", "const", "default", "examples"):
            _bound(value, config)


def _reply_text(arguments: str) -> str:
    try:
        return str(orjson.loads(arguments)["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return arguments  # cut off by max_tokens, or malformed: the text as it is, unrepaired


def _refusal(status: int, text: bytes) -> RolloutFault | ContextOverflow:
    try:
        body = orjson.loads(text)
        error = body.get("error", body)
        words = str(error.get("message", error) if isinstance(error, dict) else error)
    except (orjson.JSONDecodeError, AttributeError):
        words = text.decode(errors="replace")
    words = " ".join(words.split())[:400]
    if status in (400, 413, 422) and _TOO_LONG.search(words):
        return ContextOverflow(words)
    if status in _OVERLOADED:
        return RolloutFault(FaultClass.ENGINE_OVERLOADED, f"HTTP {status}: {words}")
    return RolloutFault(FaultClass.ENGINE_REJECTED, f"HTTP {status}: {words}", retryable=False)


def _parse(text: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(text)
        said = answer["choices"][0]["message"]
        for call in said.get("tool_calls") or ():
            _ = call["id"], call["function"]["name"], call["function"]["arguments"]
        return answer
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError) as error:
        words = f"no chat completion in {text[:200].decode(errors='replace')!r}"
        raise RolloutFault(FaultClass.MALFORMED_REPLY, words) from error
