"""The server side of the chat-completions protocol: requests, streams, tool calls and errors."""

import json
from collections.abc import Iterable
from typing import Any

from tests.peers.http_protocol import Behaviour, Request, Writer, answer, head

MODELS: dict[str, Behaviour] = {}
USAGE = {
    "prompt_tokens": 1000,
    "completion_tokens": 200,
    "total_tokens": 1200,
    "prompt_tokens_details": {"cached_tokens": 400},
}


def model(name: str) -> Any:
    """Register the behaviour of a test model."""

    def register(behaviour: Behaviour) -> Behaviour:
        MODELS[name] = behaviour
        return behaviour

    return register


def body_of(request: Request) -> dict[str, Any]:
    """Return the JSON body of a request."""
    body: dict[str, Any] = json.loads(request.body)
    return body


def messages_of(request: Request, role: str = "user") -> list[str]:
    """Return the contents of the messages with this role."""
    return [message["content"] for message in body_of(request)["messages"] if message["role"] == role]


def event(data: dict[str, Any] | str) -> bytes:
    return f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()


def delta(changed: dict[str, Any], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": changed, "finish_reason": reason}
    return event({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})


def usage() -> bytes:
    return event(
        {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": USAGE}
    )


def open_stream(writer: Writer, *lines: str) -> None:
    head(writer, "content-type: text/event-stream", "transfer-encoding: chunked", *lines)


def send(writer: Writer, data: bytes) -> None:
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


def stream(writer: Writer, events: Iterable[bytes]) -> None:
    open_stream(writer)
    for data in events:
        send(writer, data)
    send(writer, b"")


def text(whole: str, reason: str = "stop") -> list[bytes]:
    """Return the events of a text: pieces of four characters, and the usage at the end."""
    pieces = [whole[start : start + 4] for start in range(0, len(whole), 4)]
    first = delta({"role": "assistant", "content": ""})
    return [first, *(delta({"content": piece}) for piece in pieces), delta({}, reason), usage(), event("[DONE]")]


def calls(requested: list[dict[str, Any]]) -> list[bytes]:
    """Return the events of tool calls, with the arguments in two pieces."""
    events = [delta({"role": "assistant", "content": None})]
    for index, call in enumerate(requested):
        arguments = call["arguments"] if isinstance(call["arguments"], str) else json.dumps(call["arguments"])
        function = {"name": call["name"], "arguments": arguments[:5]}
        tool_call = {"index": index, "id": f"call_{index}", "type": "function", "function": function}
        rest = {"index": index, "function": {"arguments": arguments[5:]}}
        events += [delta({"tool_calls": [tool_call]}), delta({"tool_calls": [rest]})]
    return [*events, delta({}, "tool_calls"), usage(), event("[DONE]")]


def refuse(writer: Writer, status: str, message: str, code: str | None = None, **headers: str) -> None:
    body = {"error": {"message": message, "type": "error", "param": None, "code": code}}
    answer(writer, json.dumps(body).encode(), status, **headers)
