"""The built-in model `treadle/echo`: no language model, needs no key, and is deterministic.

It repeats its prompt word by word, fills schemas by fixed rules, and calls a tool if the prompt
contains the call. It is for first tries and for tests.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from engine.catalog_file import Price
from engine.chat_models.base import ChatModel, ModelInfo, Sampling
from engine.chat_models.echo_answers import answer
from engine.types import JSON

ECHO = ModelInfo(
    "treadle/echo",
    "treadle",
    "No language model: it repeats its prompt word by word, fills schemas by fixed rules and calls the tools whose calls "
    "its prompt contains. Built in, needs no key, costs nothing; for first tries and tests.",
    None,
    ("text", "structured_output", "tools"),
)
_PIECE = re.compile(r"\s*\S+\s*")


def echo_model(sampling: Sampling) -> ChatModel:
    """Return the model with these parameters. Only `max_tokens` has an effect."""
    return ChatModel(
        ECHO.name, Echo(max_tokens=sampling.max_tokens), "json_schema", Price(input=0, output=0, cached_input=0)
    )


class Echo(BaseChatModel):
    """The LangChain model. A token is a word."""

    max_tokens: int | None = None

    @property
    def _llm_type(self) -> str:
        return "treadle-echo"

    def bind_tools(
        self, tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool], **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        bound = self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)
        return cast(Runnable[LanguageModelInput, AIMessage], bound)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return generate_from_stream(
            iter([ChatGenerationChunk(message=chunk) for chunk in self._chunks(messages, kwargs)])
        )

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._chunks(messages, kwargs):
            generation = ChatGenerationChunk(message=chunk)
            if run_manager is not None:
                await run_manager.on_llm_new_token(chunk.text, chunk=generation)
            yield generation
            await asyncio.sleep(0)

    def _chunks(self, messages: list[BaseMessage], options: dict[str, Any]) -> Iterator[AIMessageChunk]:
        """Return tool calls or words, and at the end the usage."""
        input_words = sum(len(message.text.split()) for message in messages)
        calls = [] if options.get("tool_choice") == "none" else _calls(messages, options.get("tools") or [])
        if calls:
            yield AIMessageChunk(content="", tool_call_chunks=[_chunk(*call) for call in enumerate(calls)])
            yield _end("tool_calls", input_words, sum(len(arguments.split()) for _, arguments in calls))
            return
        words = _PIECE.findall(_text(messages, options.get("response_format")))
        output_words = words[: self.max_tokens]
        for word in output_words:
            yield AIMessageChunk(content=word)
        yield _end("stop" if len(output_words) == len(words) else "length", input_words, len(output_words))


def _text(messages: list[BaseMessage], response_format: JSON) -> str:
    """Return the messages since the last answer; with a schema, JSON from all user messages."""
    if isinstance(response_format, dict) and response_format.get("type") == "json_schema":
        prompt = "\n".join(message.text for message in messages if isinstance(message, HumanMessage))
        return json.dumps(answer(response_format["json_schema"]["schema"], prompt), ensure_ascii=False)
    return "\n".join(message.text for message in _new_messages(messages))


def _new_messages(messages: list[BaseMessage]) -> list[BaseMessage]:
    """Return the messages of users and tools since the last answer."""
    last = max((index for index, message in enumerate(messages) if isinstance(message, AIMessage)), default=-1)
    return [message for message in messages[last + 1 :] if isinstance(message, HumanMessage | ToolMessage)]


def _calls(messages: list[BaseMessage], tools: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return (tool, arguments as JSON) for each `name({...})` in the new user messages.

    `name` must be one of the bound tools.
    """
    names = {tool["function"]["name"] for tool in tools}
    text = "\n".join(message.text for message in _new_messages(messages) if isinstance(message, HumanMessage))
    calls = []
    for match in re.finditer(r"\b(\w+)\((?=\{)", text):
        try:
            arguments, end = json.JSONDecoder().raw_decode(text, match.end())
        except ValueError:
            continue
        if match[1] in names and text[end : end + 1] == ")":
            calls.append((match[1], json.dumps(arguments, ensure_ascii=False)))
    return calls


def _chunk(index: int, call: tuple[str, str]) -> Any:
    return tool_call_chunk(name=call[0], args=call[1], id=f"echo_{index}", index=index)


def _end(reason: str, input_words: int, output_words: int) -> AIMessageChunk:
    total = input_words + output_words
    usage = UsageMetadata(input_tokens=input_words, output_tokens=output_words, total_tokens=total)
    return AIMessageChunk(content="", response_metadata={"finish_reason": reason}, usage_metadata=usage)
