"""`treadle/echo`: a model that needs no key and is none. It says its prompt again, word by word, fills schemas by fixed rules,
and calls a tool where the prompt spells out the call. Always the same answer to the same question.
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
    "No language model: it repeats its prompt word by word, fills schemas by fixed rules and calls the tools that its prompt "
    "spells out. Built in, needs no key, costs nothing; for first tries and tests.",
    None,
    ("text", "structured_output", "tools"),
)
_PIECE = re.compile(r"\s*\S+\s*")


def echo_model(sampling: Sampling) -> ChatModel:
    return ChatModel(
        ECHO.name, Echo(max_tokens=sampling.max_tokens), "json_schema", Price(input=0, output=0, cached_input=0)
    )


class Echo(BaseChatModel):
    """A token is a word."""

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
            found = ChatGenerationChunk(message=chunk)
            if run_manager is not None:
                await run_manager.on_llm_new_token(chunk.text, chunk=found)
            yield found
            await asyncio.sleep(0)

    def _chunks(self, messages: list[BaseMessage], asked: dict[str, Any]) -> Iterator[AIMessageChunk]:
        """Tool calls, or words; at the end what it took."""
        given = sum(len(message.text.split()) for message in messages)
        calls = [] if asked.get("tool_choice") == "none" else _calls(messages, asked.get("tools") or [])
        if calls:
            yield AIMessageChunk(content="", tool_call_chunks=[_chunk(*call) for call in enumerate(calls)])
            yield _end("tool_calls", given, sum(len(arguments.split()) for _, arguments in calls))
            return
        said = _PIECE.findall(_text(messages, asked.get("response_format")))
        spoken = said[: self.max_tokens]
        for piece in spoken:
            yield AIMessageChunk(content=piece)
        yield _end("stop" if len(spoken) == len(said) else "length", given, len(spoken))


def _text(messages: list[BaseMessage], wanted: JSON) -> str:
    """What was said since its own last word; or, where a schema is given, JSON about all that people said."""
    if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        people = "\n".join(message.text for message in messages if isinstance(message, HumanMessage))
        return json.dumps(answer(wanted["json_schema"]["schema"], people), ensure_ascii=False)
    return "\n".join(message.text for message in _news(messages))


def _news(messages: list[BaseMessage]) -> list[BaseMessage]:
    own = max((index for index, message in enumerate(messages) if isinstance(message, AIMessage)), default=-1)
    return [message for message in messages[own + 1 :] if isinstance(message, HumanMessage | ToolMessage)]


def _calls(messages: list[BaseMessage], tools: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """(tool, arguments as JSON) for each `name({...})` in what people said last, where `name` is a tool it was given."""
    names = {tool["function"]["name"] for tool in tools}
    said = "\n".join(message.text for message in _news(messages) if isinstance(message, HumanMessage))
    found = []
    for match in re.finditer(r"\b(\w+)\((?=\{)", said):
        try:
            arguments, end = json.JSONDecoder().raw_decode(said, match.end())
        except ValueError:
            continue
        if match[1] in names and said[end : end + 1] == ")":
            found.append((match[1], json.dumps(arguments, ensure_ascii=False)))
    return found


def _chunk(index: int, call: tuple[str, str]) -> Any:
    return tool_call_chunk(name=call[0], args=call[1], id=f"echo_{index}", index=index)


def _end(reason: str, given: int, spoken: int) -> AIMessageChunk:
    usage = UsageMetadata(input_tokens=given, output_tokens=spoken, total_tokens=given + spoken)
    return AIMessageChunk(content="", response_metadata={"finish_reason": reason}, usage_metadata=usage)
