"""The chat-completions protocol from the side of the models: what they were asked, how they stream, call tools and refuse."""

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
    def register(behaviour: Behaviour) -> Behaviour:
        MODELS[name] = behaviour
        return behaviour

    return register


def asked(request: Request) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(request.body)
    return found


def said(request: Request, role: str = "user") -> list[str]:
    return [message["content"] for message in asked(request)["messages"] if message["role"] == role]


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
    """As a model streams it: in pieces that know nothing of words, with what it took at the end."""
    pieces = [whole[start : start + 4] for start in range(0, len(whole), 4)]
    first = delta({"role": "assistant", "content": ""})
    return [first, *(delta({"content": piece}) for piece in pieces), delta({}, reason), usage(), event("[DONE]")]


def calls(wanted: list[dict[str, Any]]) -> list[bytes]:
    """Tool calls, their arguments in two pieces."""
    found = [delta({"role": "assistant", "content": None})]
    for index, call in enumerate(wanted):
        arguments = call["arguments"] if isinstance(call["arguments"], str) else json.dumps(call["arguments"])
        function = {"name": call["name"], "arguments": arguments[:5]}
        tool_call = {"index": index, "id": f"call_{index}", "type": "function", "function": function}
        rest = {"index": index, "function": {"arguments": arguments[5:]}}
        found += [delta({"tool_calls": [tool_call]}), delta({"tool_calls": [rest]})]
    return [*found, delta({}, "tool_calls"), usage(), event("[DONE]")]


def refuse(writer: Writer, status: str, message: str, code: str | None = None, **headers: str) -> None:
    body = {"error": {"message": message, "type": "error", "param": None, "code": code}}
    answer(writer, json.dumps(body).encode(), status, **headers)
