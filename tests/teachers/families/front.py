"""vLLM's chat front without an engine: the process that `test_families.py` talks to.

Every class that makes an answer out of a model's text is the installed vLLM's: the request model, the tool and reasoning parsers as
`ParserManager` composes them, the message model, the cut to one call, and, where the prompt is not made by a model's own template, the
renderer (harmony for gpt-oss, the encoder of DeepSeek-V3.2). What the model says comes from a script; ids are its text's own: a tokenizer
of bytes with the family's special tokens. A process of its own, because importing vLLM takes many seconds and 1 GB.

    python front.py '{"<preset>": {"tool_parser": …, "reasoning_parser": …, "max_model_len": …}}'

prints its port. POST /<preset>/script takes the turns to come; …/v1/chat/completions, …/seen and …/detokenize are then of that preset.
"""

# ruff: noqa: E402  # the environment is set before vLLM is imported
from __future__ import annotations

import asyncio
import copy
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from aiohttp import web

os.environ |= {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_SYSTEM_START_DATE": "2026-01-01", "HF_HUB_OFFLINE": "1"}
sys.modules["sklearn"] = None  # type: ignore[assignment]  # transformers would import it for nothing: 3 of 16 s

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from vllm.entrypoints.generate.base.protocol import ToolCall
from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionRequest,
    ChatCompletionResponseChoice,
    ChatMessage,
)
from vllm.entrypoints.openai.parser.harmony_utils import (
    build_harmony_preamble,
    extract_instructions_from_messages,
    get_encoding,
    parse_chat_inputs_to_harmony_messages,
    render_for_completion,
)
from vllm.entrypoints.serve.utils.tool_calls_utils import maybe_filter_parallel_tool_calls
from vllm.parser.parser_manager import ParserManager
from vllm.renderers.chat_utils import make_tool_call_id, parse_chat_messages
from vllm.tokenizers.deepseek_v32 import get_deepseek_v32_tokenizer

FOLDER = Path(__file__).parent


class Family:
    """One preset's parsers and tokens, the turns its model will say, and the requests it has seen."""

    def __init__(self, name: str, engine: dict[str, Any]):
        self.tokens = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())["tokens"]
        self.harmony = name == "gpt_oss"
        self.encoder = name == "deepseek"
        self.tokenizer: Any = HarmonyTokenizer() if self.harmony else _tokenizer(self.tokens)
        if self.encoder:
            self.tokenizer = get_deepseek_v32_tokenizer(self.tokenizer)
        parser = ParserManager.get_parser(
            tool_parser_name=engine["tool_parser"],
            reasoning_parser_name=engine["reasoning_parser"],
            enable_auto_tools=True,
            is_harmony=self.harmony,
            tokenizer=self.tokenizer,
        )
        assert parser is not None
        self.parser = parser
        self.script: list[str] = []
        self.seen: list[dict[str, Any]] = []

    def prompt(self, request: ChatCompletionRequest, template_sees: list[dict[str, Any]]) -> list[int] | None:
        """The prompt, for the families whose prompt vLLM writes itself."""
        tools: Any = request.tools
        if self.harmony:
            instructions, rest = extract_instructions_from_messages(list(request.messages))
            preamble = build_harmony_preamble(
                instructions=instructions,
                tools=tools,
                reasoning_effort=request.reasoning_effort,
                with_custom_tools=bool(tools),
            )
            return render_for_completion([*preamble, *parse_chat_inputs_to_harmony_messages(rest)])
        if self.encoder:
            dumped = [tool.model_dump() for tool in tools or ()]
            ids = self.tokenizer.apply_chat_template(
                template_sees, tools=dumped, **(request.chat_template_kwargs or {})
            )
            assert isinstance(ids, list)
            return ids
        return None

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        request = ChatCompletionRequest.model_validate(body)
        template_sees = _as_the_template_sees(request)
        prompt_ids = self.prompt(request, template_sees)
        prompt = None if prompt_ids is None else self.tokenizer.decode(prompt_ids)
        self.seen.append({"template_sees": template_sees, "prompt": prompt})
        tools: Any = request.tools
        parser = self.parser(self.tokenizer, tools, chat_template_kwargs=request.chat_template_kwargs or {})
        request = parser.adjust_request(request)
        ids = self.tokenizer.encode(self.script.pop(0), add_special_tokens=False)
        text = self.tokenizer.decode(ids, request.skip_special_tokens)
        reasoning, content, calls = parser.parse(text, request, enable_auto_tools=True, model_output_token_ids=ids)
        message = ChatMessage(
            role="assistant",
            reasoning=reasoning,
            content=content,
            tool_calls=[ToolCall(id=call.id or make_tool_call_id(), function=call) for call in calls or ()],
        )
        choice = ChatCompletionResponseChoice(index=0, message=message, token_ids=ids)
        choice = maybe_filter_parallel_tool_calls(choice, request)
        return {
            "choices": [choice.model_dump()],
            "prompt_token_ids": prompt_ids,
            "usage": {"completion_tokens": len(ids)},
        }


class HarmonyTokenizer:
    """What vLLM asks of gpt-oss's tokenizer, over the vocabulary that comes with openai_harmony: the same one."""

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return get_encoding().encode(text, allowed_special="all")

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        return get_encoding().decode(ids)

    def get_vocab(self) -> dict[str, int]:
        return {}  # the parsers of this family look no token up


def _as_the_template_sees(request: ChatCompletionRequest) -> list[dict[str, Any]]:
    text_only: Any = SimpleNamespace(
        multimodal_config=None, enable_prompt_embeds=False
    )  # all that is asked of the model's configuration where there is text alone
    conversation, _, _ = parse_chat_messages(copy.deepcopy(list(request.messages)), text_only, "string")
    return [dict(message) for message in conversation]


def _tokenizer(tokens: dict[str, list[str]]) -> PreTrainedTokenizerFast:
    """One token a byte, and the family's special tokens (`special` ones are skipped when vLLM is not told to keep them)."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bare = Tokenizer(models.BPE(vocab={symbol: number for number, symbol in enumerate(alphabet)}, merges=[]))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bare.decoder = decoders.ByteLevel()
    bare.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in tokens["special"]])
    bare.add_tokens([AddedToken(token, special=False, normalized=False) for token in tokens["plain"]])
    return PreTrainedTokenizerFast(tokenizer_object=bare, clean_up_tokenization_spaces=False)


def application(families: dict[str, Family]) -> web.Application:
    async def script(request: web.Request) -> web.Response:
        family = families[request.match_info["family"]]
        family.script, family.seen = await request.json(), []
        return web.json_response({})

    async def completions(request: web.Request) -> web.Response:
        return web.json_response(families[request.match_info["family"]].answer(await request.json()))

    async def seen(request: web.Request) -> web.Response:
        return web.json_response(families[request.match_info["family"]].seen)

    async def detokenize(request: web.Request) -> web.Response:
        return web.json_response(families[request.match_info["family"]].tokenizer.decode(await request.json()))

    app = web.Application()
    app.router.add_post("/{family}/script", script)
    app.router.add_post("/{family}/v1/chat/completions", completions)
    app.router.add_get("/{family}/seen", seen)
    app.router.add_post("/{family}/detokenize", detokenize)
    return app


async def serve(engines: dict[str, dict[str, Any]]) -> None:
    runner = web.AppRunner(application({name: Family(name, engine) for name, engine in engines.items()}))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # until the test closes it, or dies
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
