"""What speaks the chat-completions protocol on loopback, at `{peer.url}/v1`. The name of the model says how it behaves."""

import asyncio
import gzip
import json
from collections.abc import Iterable
from typing import Any

from tests.peers.http import MIB, Behaviour, Peer, Request, Writer, answer, at, head

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


@at("/v1/chat/completions")
async def chat_completions(peer: Peer, request: Request, writer: Writer) -> None:
    await MODELS[asked(request)["model"]](peer, request, writer)


@at("/v1/models")
async def models(_: Peer, request: Request, writer: Writer) -> None:
    if request.headers.get("authorization") == "Bearer wrong":
        refuse(writer, "401 Unauthorized", "no such key")
    else:
        answer(writer, json.dumps({"data": [{"id": name} for name in ["pulled:latest", *MODELS]]}).encode())


@model("repeats")
async def repeats(_: Peer, request: Request, writer: Writer) -> None:
    stream(writer, text(said(request)[-1]))


@model("fenced")
async def fenced(_: Peer, request: Request, writer: Writer) -> None:
    stream(writer, text(f"```json\n{said(request)[-1]}\n```"))


@model("second-try")
async def second_try(_: Peer, request: Request, writer: Writer) -> None:
    """Gives the second line of the prompt once it has been told that the first one does not fit."""
    lines = said(request)[0].splitlines()
    stream(writer, text(lines[min(len(said(request)) - 1, 1)]))


@model("calls")
async def calls_tools(_: Peer, request: Request, writer: Writer) -> None:
    """The calls that the prompt lists, as JSON; then it says what the tools said, or JSON where it was asked for JSON."""
    results = said(request, "tool")
    wanted = asked(request)
    if "response_format" in wanted:
        stream(writer, text(json.dumps({"said": " | ".join(results)})))
    elif results:
        stream(writer, text(f"They said: {' | '.join(results)}"))
    else:
        stream(writer, calls(json.loads(said(request)[0])))


@model("calls-for-ever")
async def calls_for_ever(_: Peer, request: Request, writer: Writer) -> None:
    stream(writer, calls(json.loads(said(request)[0])))


@model("answers-by-function")
async def answers_by_function(_: Peer, request: Request, writer: Writer) -> None:
    function = asked(request)["tool_choice"]["function"]["name"]
    stream(writer, calls([{"name": function, "arguments": said(request)[-1]}]))


@model("tells-no-usage")
async def tells_no_usage(_: Peer, request: Request, writer: Writer) -> None:
    stream(writer, [data for data in text("hello") if b'"usage"' not in data])


@model("tells-no-usage-and-calls")
async def tells_no_usage_and_calls(_: Peer, request: Request, writer: Writer) -> None:
    stream(writer, [data for data in calls(json.loads(said(request)[0])) if b'"usage"' not in data])


@model("cut-short")
async def cut_short(_: Peer, request: Request, writer: Writer) -> None:
    stream(writer, text(said(request)[-1], "length"))


@model("busy")
async def busy(_: Peer, request: Request, writer: Writer) -> None:
    refuse(writer, "429 Too Many Requests", "slow down", "rate_limit_exceeded", retry_after="7")


@model("busy-once")
async def busy_once(peer: Peer, request: Request, writer: Writer) -> None:
    if peer.count("/v1/chat/completions") == 1:
        refuse(writer, "429 Too Many Requests", "slow down", retry_after_ms="300")
    else:
        stream(writer, text("now"))


@model("poor")
async def poor(_: Peer, request: Request, writer: Writer) -> None:
    refuse(writer, "429 Too Many Requests", "You exceeded your current quota", "insufficient_quota")


@model("locked")
async def locked(_: Peer, request: Request, writer: Writer) -> None:
    """Repeats the key, as some do."""
    key = request.headers["authorization"].removeprefix("Bearer ")
    refuse(writer, "401 Unauthorized", f"Incorrect API key provided: {key}", "invalid_api_key")


@model("gone")
async def gone(_: Peer, request: Request, writer: Writer) -> None:
    refuse(writer, "404 Not Found", "The model `gone` does not exist", "model_not_found")


@model("full")
async def full(_: Peer, request: Request, writer: Writer) -> None:
    told = "This model's maximum context length is 4096 tokens. However, you requested 9000 tokens."
    refuse(writer, "400 Bad Request", told, "context_length_exceeded")


@model("llama-full")
async def llama_full(_: Peer, request: Request, writer: Writer) -> None:
    refuse(writer, "400 Bad Request", "the request exceeds the available context size")


@model("choosy")
async def choosy(_: Peer, request: Request, writer: Writer) -> None:
    refuse(writer, "400 Bad Request", "Unsupported value: 'temperature'", "unsupported_value")


@model("prude")
async def prude(_: Peer, request: Request, writer: Writer) -> None:
    refuse(writer, "400 Bad Request", "The prompt triggered the content management policy", "content_filter")


@model("prude-in-the-middle")
async def prude_in_the_middle(_: Peer, request: Request, writer: Writer) -> None:
    stream(writer, text("Well,", "content_filter"))


@model("refuses")
async def refuses(_: Peer, request: Request, writer: Writer) -> None:
    stream(writer, [delta({"role": "assistant", "refusal": "I cannot"}), delta({}, "stop"), usage(), event("[DONE]")])


@model("sick")
async def sick(_: Peer, request: Request, writer: Writer) -> None:
    refuse(writer, "503 Service Unavailable", "overloaded")


@model("moved")
async def moved(_: Peer, request: Request, writer: Writer) -> None:
    answer(writer, b"", "302 Found", location="/elsewhere")


@model("hangs")
async def hangs(_: Peer, request: Request, writer: Writer) -> None:
    await request.reader.read(1)  # nothing more comes but the end
    raise ConnectionResetError


@model("falls-silent")
async def falls_silent(_: Peer, request: Request, writer: Writer) -> None:
    open_stream(writer)
    send(writer, delta({"role": "assistant", "content": "Once upon"}))
    await writer.drain()
    await request.reader.read(1)
    raise ConnectionResetError


@model("drips")
async def drips(_: Peer, request: Request, writer: Writer) -> None:
    """Keeps the line warm and says nothing."""
    open_stream(writer)
    while True:
        send(writer, b": still here\n\n")
        await writer.drain()
        await asyncio.sleep(0.02)


@model("babbles")
async def babbles(_: Peer, request: Request, writer: Writer) -> None:
    open_stream(writer)
    while True:
        send(writer, delta({"content": "bla "}))
        await writer.drain()
        await asyncio.sleep(0.005)


@model("breaks-off")
async def breaks_off(_: Peer, request: Request, writer: Writer) -> None:
    open_stream(writer)
    send(writer, delta({"role": "assistant", "content": "Once"}))
    await writer.drain()
    writer.close()


@model("ends-early")
async def ends_early(_: Peer, request: Request, writer: Writer) -> None:
    stream(writer, [delta({"role": "assistant", "content": "Once"})])


@model("closes")
async def closes(_: Peer, request: Request, writer: Writer) -> None:
    writer.close()


@model("no-http")
async def no_http(_: Peer, request: Request, writer: Writer) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.0\r\n")
    await writer.drain()
    writer.close()


@model("no-json")
async def no_json(_: Peer, request: Request, writer: Writer) -> None:
    stream(writer, [event("{nope")])


@model("another-json")
async def another_json(_: Peer, request: Request, writer: Writer) -> None:
    stream(writer, [event("[1, 2]")])


@model("a-page")
async def a_page(_: Peer, request: Request, writer: Writer) -> None:
    answer(writer, b"<html>Welcome to nginx</html>", media="text/html")


@model("broken-utf8")
async def broken_utf8(_: Peer, request: Request, writer: Writer) -> None:
    stream(writer, [delta({"content": "a"}), b'data: {"choices": [{"delta": {"content": "\xff\xfe"}}]}\n\n'])


@model("nothing")
async def nothing(_: Peer, request: Request, writer: Writer) -> None:
    stream(writer, [])


@model("says-error")
async def says_error(_: Peer, request: Request, writer: Writer) -> None:
    failed = event({"error": {"message": "the engine fell over", "code": "server_error"}})
    stream(writer, [delta({"content": "Once"}), failed])


@model("lies-about-length")
async def lies_about_length(_: Peer, request: Request, writer: Writer) -> None:
    head(writer, "content-type: text/event-stream", "content-length: 100000")
    writer.write(delta({"content": "Once"}))
    await writer.drain()
    writer.close()


@model("gib")
async def gib(peer: Peer, request: Request, writer: Writer) -> None:
    """One event without an end."""
    open_stream(writer)
    send(writer, b'data: {"x": "')
    for _ in range(1024):
        send(writer, b"x" * MIB)
        await writer.drain()
        peer.written += MIB


@model("gib-of-error")
async def gib_of_error(peer: Peer, request: Request, writer: Writer) -> None:
    writer.write(f"HTTP/1.1 400 Bad Request\r\ncontent-length: {1024 * MIB}\r\n\r\n".encode())
    for _ in range(1024):
        writer.write(b"x" * MIB)
        await writer.drain()
        peer.written += MIB


@model("bomb")
async def bomb(_: Peer, request: Request, writer: Writer) -> None:
    packed = gzip.compress(b"data: " + b"x" * (64 * MIB))
    answer(writer, packed, media="text/event-stream", content_encoding="gzip")
