"""A teacher behind an OpenAI-compatible chat endpoint: what is asked, and how the answer becomes a `Message`.

Owns the request and the reading of the answer; `http.py` carries them. Invariants: the model's argument text is never repaired; a
message is turned into JSON once a rollout, tools and everything else that does not change once a domain, so a request is joined from
bytes that are there already.

It executes no call, and knows no server.
"""

from __future__ import annotations

import copy
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, model_validator

from agentscaler.canonical import canonical_json
from agentscaler.errors import ConfigError
from agentscaler.messages import Message, Outcome, ToolCall, Usage, to_chat
from agentscaler.teachers.chat import TeacherIdentity, ToolSchema
from agentscaler.teachers.few_shot import FOREIGN_EXAMPLES, ToolExample, build_shots
from agentscaler.teachers.http import ChatEndpoint

if TYPE_CHECKING:
    from agentscaler.rollout.scene import Scene, Toolbox

REPLY_TOOL = "reply_to_user"
_MAX_TOOLBOXES = 2048  # whose requests are kept ready


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
    # Whether reasoning goes back to the model: never, that of all turns, or that of the turns since the user last spoke (the chain of
    # thought behind a row of calls).
    keep_reasoning: Literal["never", "since_user", "always"] = "never"
    reasoning_field: Literal["reasoning", "reasoning_content"] = (
        "reasoning"  # as sent; vLLM before 0.11 took the second
    )
    parallel_tool_calls: bool = True
    system_suffix: str = ""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    return_token_ids: bool = False
    logprobs: bool = False

    @model_validator(mode="after")
    def _leaves_messages_alone(self) -> EndpointTeacherConfig:
        for name, extra in (("sampling", self.sampling), ("extra_body", self.extra_body), ("speaking", self.speaking)):
            if "messages" in extra:
                raise ValueError(f"{name} may not hold messages: those are the conversation")
        return self


def identity_of(config: EndpointTeacherConfig) -> TeacherIdentity:
    """Known before any server is: where a model is served is no part of it."""
    asked = config.model_dump(mode="json", exclude={"model", "revision"})
    return TeacherIdentity(model=config.model, revision=config.revision, sampling=canonical_json(asked))


@dataclass(frozen=True, slots=True)
class Asked:
    """What every request about a domain's tools has in common, as JSON text: `ends` by tool choice (the empty one where there are no
    tools), each the request without its messages and seed. `own_seed`: the configuration names a seed itself."""

    ends: dict[str, bytes]
    own_seed: bool
    examples: tuple[ToolExample, ...] = ()
    shots: dict[frozenset[str], tuple[bytes, ...]] = field(default_factory=dict)  # by the tools that may not be shown


def prepare(config: EndpointTeacherConfig, tools: Sequence[ToolSchema], examples: Sequence[ToolExample] = ()) -> Asked:
    always: dict[str, Any] = {"model": config.model}
    if config.logprobs:
        always["logprobs"] = True
    if config.return_token_ids:
        always["return_token_ids"] = True
    offered = engine_tools(tools, config)
    ends = {}
    for choice in ("auto", "required", "none") if offered else ("",):
        with_tools = {"tools": offered, "tool_choice": choice, "parallel_tool_calls": config.parallel_tool_calls}
        speaking = config.speaking if choice == "none" else {}
        full = always | (with_tools if offered else {}) | config.sampling | config.extra_body | speaking
        ends[choice] = orjson.dumps(full)[1:]
    own_seed = any("seed" in extra for extra in (config.sampling, config.extra_body))
    return Asked(ends, own_seed, tuple(examples))


class EndpointTeacher:
    """The Teacher over an endpoint; many rollouts share it."""

    def __init__(self, config: EndpointTeacherConfig, endpoint: ChatEndpoint):
        self.config = config
        self.endpoint = endpoint
        self.identity = identity_of(config)
        self._asked: dict[str, Asked] = {}

    def start(self, scene: Scene, seed: int, session: str) -> EndpointAgent:
        return EndpointAgent(self, scene, seed, session)

    def asked(self, toolbox: Toolbox) -> Asked:
        """What requests about these tools have in common, made once."""
        asked = self._asked.get(toolbox.key)
        if asked is None:
            if len(self._asked) >= _MAX_TOOLBOXES:
                self._asked.clear()
            examples = toolbox.examples if self.config.shot_tools == "domain" else FOREIGN_EXAMPLES
            asked = self._asked[toolbox.key] = prepare(self.config, toolbox.schemas, examples)
        return asked

    def shots(self, asked: Asked, hidden: frozenset[str]) -> tuple[bytes, ...]:
        """Without those of hidden tools."""
        if not self.config.shots:
            return ()
        if hidden not in asked.shots:
            built = build_shots(asked.examples, hidden, self.config.shots)
            asked.shots[hidden] = tuple(_encode(shot, self.config, f"shot_{place}") for place, shot in enumerate(built))
        return asked.shots[hidden]

    async def close(self) -> None:
        await self.endpoint.close()


class EndpointAgent:
    """One rollout's side of the teacher. The messages that it is shown only ever grow; it remembers the JSON of those it has seen, and
    the last turn's tokens."""

    __slots__ = (
        "_asked", "_config", "_encoded", "_endpoint", "_last", "_num_seen", "_num_turns", "_scene", "_seed", "_session",
        "_shots", "_teacher", "_thoughts", "_tokens", "_toolbox",
    )  # fmt: skip

    def __init__(self, teacher: EndpointTeacher, scene: Scene, seed: int, session: str):
        self._teacher, self._scene, self._toolbox = teacher, scene, scene.toolbox
        self._config, self._endpoint = teacher.config, teacher.endpoint
        self._asked = teacher.asked(self._toolbox)
        self._shots = teacher.shots(self._asked, scene.hidden_tools)
        self._seed, self._session = seed, session
        self._tokens: list[int] = []  # the last turn's prompt and completion
        self._forget()

    def _forget(self) -> None:
        self._encoded: list[bytes] = []
        self._thoughts: list[tuple[int, Message]] = []  # places that hold reasoning which the user's next words end
        self._num_seen = self._num_turns = 0
        self._last: Message | None = None

    async def reply(self, messages: Sequence[Message]) -> Message:
        started = time.monotonic()
        answer = await self._endpoint.complete(self._session, self._body(messages))
        return self._message(answer, time.monotonic() - started)

    def close(self) -> None:
        self._endpoint.end(self._session)

    def _body(self, messages: Sequence[Message]) -> bytes:
        if (
            self._scene.toolbox is not self._toolbox
        ):  # other tools from here on; the shots stay, so that the prompt goes on
            self._toolbox = self._scene.toolbox
            self._asked = self._teacher.asked(self._toolbox)
        self._see(messages)
        end = self._asked.ends[self._choice(messages)]
        if self._asked.own_seed:
            return b'{"messages":[%b],%b' % (b",".join(self._encoded), end)
        seed = zlib.crc32(b"%d:%d" % (self._seed, self._num_turns)) >> 1  # engines take 31 bits at least
        return b'{"messages":[%b],"seed":%d,%b' % (b",".join(self._encoded), seed, end)

    def _see(self, messages: Sequence[Message]) -> None:
        """Encode what is new. Shots stand right behind the system message, so that they are part of the prefix that rollouts share."""
        if self._num_seen and (self._num_seen > len(messages) or messages[self._num_seen - 1] is not self._last):
            self._forget()  # another conversation
        config, encoded = self._config, self._encoded
        for message in messages[self._num_seen :]:
            role = message.role
            if not encoded:
                if role == "system" and config.system_suffix:
                    message = Message("system", message.content + config.system_suffix)
                if role != "system":
                    encoded += self._shots
            if role == "assistant":
                if message.reasoning and config.keep_reasoning == "since_user":
                    self._thoughts.append((len(encoded), message))
                self._num_turns += 1
            elif role == "user" and self._thoughts:
                for place, thought in self._thoughts:
                    encoded[place] = _encode(thought, config, str(place), bare=True)
                self._thoughts.clear()
            encoded.append(_encode(message, config, str(len(encoded))))
            if role == "system" and len(encoded) == 1:
                encoded += self._shots
        self._num_seen, self._last = len(messages), messages[-1]

    def _choice(self, messages: Sequence[Message]) -> str:
        """Whether the model is to call or to speak now. Words follow a call that went well, and the second failure in a row."""
        if "" in self._asked.ends:
            return ""
        if self._config.speak == "free":
            return self._config.tool_choice
        outcomes = [message.outcome for message in messages[-4:] if message.role == "tool"]
        called = messages[-1].role == "tool"
        failed_twice = len(outcomes) > 1 and Outcome.OK not in outcomes
        return "none" if called and (outcomes[-1] is Outcome.OK or failed_twice) else "required"

    def _message(self, answer: dict[str, Any], latency_s: float) -> Message:
        choice = answer["choices"][0]
        said = choice["message"]
        content, raw = said.get("content") or "", None
        calls = []
        for call in said.get("tool_calls") or ():
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            if self._config.reply_tool and name == REPLY_TOOL:
                content, raw = _reply_text(arguments), arguments
            else:
                calls.append(ToolCall(call["id"], name, arguments))
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
            usage=usage_of(answer),
            latency_s=latency_s,
        )


def usage_of(answer: dict[str, Any]) -> Usage:
    usage = answer.get("usage") or {}
    return Usage(
        usage.get("prompt_tokens") or 0,
        (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
        usage.get("completion_tokens") or 0,
    )


def _encode(message: Message, config: EndpointTeacherConfig, place: str, bare: bool = False) -> bytes:
    """The message as the engine is sent it; `bare` leaves its reasoning out."""
    chat = to_chat(message, config.keep_reasoning != "never" and not bare, config.reasoning_field)
    if config.reply_tool and message.role == "assistant" and message.content:
        arguments = orjson.dumps({"message": message.content}).decode()
        call = {
            "id": f"reply_{place}",
            "type": "function",
            "function": {"name": REPLY_TOOL, "arguments": arguments},
        }
        chat |= {"content": "", "tool_calls": [*chat.get("tool_calls", ()), call]}
    return orjson.dumps(chat)


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
