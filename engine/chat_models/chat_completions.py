"""LangChain's client of the chat-completions protocol, for every form in which endpoints speak it.

The client reads only what OpenAI sends. Other endpoints put thinking into fields of its own, leave
out the index of a tool call, or send a whole message instead of pieces.
"""

from collections.abc import AsyncIterator
from typing import Any, Self, cast

import orjson
from langchain_core.messages import AIMessageChunk, BaseMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from langchain_openai import ChatOpenAI
from openai import AsyncStream

from engine.chat_models.answer import USAGE_SO_FAR
from engine.chat_models.errors import EndpointError
from engine.chat_models.tool_call_parts import CALL_PIECES


class ChatCompletions(ChatOpenAI):
    """The client of one model. `parts_of` makes it read all forms of a chunk."""

    async def astream(
        self, input: Any, config: Any = None, *, stop: list[str] | None = None, **kwargs: Any
    ) -> AsyncIterator[AIMessageChunk]:
        """Stream the chunks of an answer.

        LangChain's own method keeps all chunks and merges them at the end, in one step that blocks
        the process for seconds after a long answer.
        """
        messages = self._convert_input(input).to_messages()
        async for generation in self._astream(messages, stop=stop, **kwargs):
            message = cast(AIMessageChunk, generation.message)
            if generation.generation_info:
                message.response_metadata = {**generation.generation_info, **message.response_metadata}
            if message.usage_metadata is not None:
                setattr(message, USAGE_SO_FAR, message.usage_metadata)
                message.usage_metadata = None
            yield message

    def _get_request_payload(self, input_: Any, *, stop: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
        payload: dict[str, Any] = super()._get_request_payload(input_, stop=stop, **kwargs)
        if "messages" in payload and (response_format := payload.pop("response_format", None)) is not None:
            # Otherwise the client parses the answer by itself and hides all other fields.
            payload["extra_body"] = {**(payload.get("extra_body") or {}), "response_format": response_format}
        return payload

    def _convert_chunk_to_generation_chunk(
        self, chunk: dict[str, Any], default_chunk_class: type[BaseMessageChunk], base_generation_info: Any
    ) -> ChatGenerationChunk | None:
        choices = chunk.get("choices") or []
        if not choices:
            return super()._convert_chunk_to_generation_chunk(chunk, AIMessageChunk, base_generation_info)
        delta = choices[0]["delta"]
        if _is_only_text(chunk, choices[0]) and not base_generation_info:
            return _text_chunk(delta["content"])
        without_calls = {**chunk, "choices": [{**choices[0], "delta": {**delta, "tool_calls": None}}]}
        generation = super()._convert_chunk_to_generation_chunk(without_calls, AIMessageChunk, base_generation_info)
        if generation is not None:
            more = {"refusal": delta.get("refusal"), "reasoning_content": delta.get("reasoning_content")}
            generation.message.additional_kwargs |= {name: text for name, text in more.items() if text}
            # Not as `tool_call_chunks`, which LangChain parses and repairs whenever chunks are merged.
            setattr(generation.message, CALL_PIECES, [_piece(call) for call in delta.get("tool_calls") or []])
        return generation


def _is_only_text(chunk: dict[str, Any], choice: dict[str, Any]) -> bool:
    """Return whether a chunk has text of the answer, and nothing else that is kept."""
    if chunk.get("usage") or choice["finish_reason"] or choice.get("logprobs"):
        return False
    return not any(value for name, value in choice["delta"].items() if name not in ("role", "content"))


def _text_chunk(text: str) -> ChatGenerationChunk:
    """Make a chunk as LangChain does, which looks for much more in it."""
    metadata = {"model_provider": "openai"}
    message = AIMessageChunk(content=text, additional_kwargs={}, response_metadata=metadata)
    return ChatGenerationChunk(message=message)


def with_all_forms(chat: ChatCompletions) -> ChatCompletions:
    """Let the client receive chunks as `parts_of` returns them."""
    chat.async_client = _Completions(chat.async_client)
    return chat


_JsonStream = AsyncStream[object]
"""A stream of chunks as they are in JSON. To make an instance for every object takes most of the time."""


class _Completions:
    """The resource `chat.completions` of the client library, whose streams give dictionaries."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def create(self, **payload: Any) -> "_ChunkStream":
        response = await self._inner.with_raw_response.create(**payload)
        return _ChunkStream(response.parse(to=_JsonStream))


class _ChunkStream:
    """A stream of chunks."""

    def __init__(self, inner: AsyncStream[Any]) -> None:
        self._inner = inner

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._inner.close()

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        async for chunk in self._inner:
            yield parts_of(chunk)


def parts_of(chunk: dict[str, Any]) -> dict[str, Any]:
    """Return a chunk, or a whole answer, in the form of a chunk of OpenAI.

    Raises:
        EndpointError: It reports an error.
    """
    choices = chunk.get("choices") or []
    if not choices:
        return {**chunk, "choices": []}
    choice = choices[0]
    if choice.get("error"):
        raise EndpointError(choice["error"])
    whole = choice.get("message")
    delta = _delta(choice.get("delta") or whole or {})
    # Each call of a whole answer is whole, also if ids are missing or repeated.
    calls = [_call(call, at if whole else None) for at, call in enumerate(delta["tool_calls"] or ())]
    delta["tool_calls"] = calls or None
    reason = choice.get("finish_reason") or ("stop" if whole else None)
    return {**chunk, "choices": [{**choice, "delta": delta, "finish_reason": reason}]}


def _delta(delta: dict[str, Any]) -> dict[str, Any]:
    text, thinking = _contents(delta.get("content"))
    thinking += _text(delta.get("reasoning_content")) or _text(delta.get("reasoning"))
    return {
        **delta,
        "role": "assistant",
        "content": text,
        "reasoning_content": thinking or None,
        "refusal": _text(delta.get("refusal")) or None,
        "tool_calls": delta.get("tool_calls"),
    }


def _contents(content: Any) -> tuple[str, str]:
    """Return (text, thinking) of a content, which may be a list of blocks."""
    if not isinstance(content, list):
        return _text(content), ""
    blocks = [block for block in content if isinstance(block, dict)]
    text = "".join(_text(block.get("text")) for block in blocks if block.get("type") == "text")
    return text, "".join(_thinking(block.get("thinking")) for block in blocks)


def _thinking(value: Any) -> str:
    if isinstance(value, list):
        return "".join(_text(part.get("text")) for part in value if isinstance(part, dict))
    return _text(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _call(call: dict[str, Any], position: int | None) -> dict[str, Any]:
    function = call.get("function") or {}
    arguments = function.get("arguments")
    if arguments is not None and not isinstance(arguments, str):
        arguments = orjson.dumps(arguments).decode()
    index = call.get("index") if position is None else position
    return {**call, "index": index, "function": {**function, "arguments": arguments}}


def _piece(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return {
        "index": call["index"],
        "id": call.get("id"),
        "name": function.get("name"),
        "args": function.get("arguments"),
    }
