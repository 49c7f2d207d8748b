"""HTTP peers and models that repeat their requests, including secrets, in different encodings."""

import base64
import json
from urllib.parse import quote

from tests.peers import chat_protocol
from tests.peers.http_protocol import Peer, Request, Writer, answer, at


def request_text(request: Request) -> str:
    """Return the whole request as text, headers first."""
    headers = [f"{name}: {value}" for name, value in request.headers.items()]
    return "\n".join([*headers, json.dumps(request.query), request.path, request.body.decode("utf-8", "replace")])


@at("/echo-secrets")
async def echo(_: Peer, request: Request, writer: Writer) -> None:
    """Repeat the key in status line and header, and in the body as JSON, text, base64 and URL."""
    key = request.headers.get("x-key") or request.query.get("key", ["nothing"])[0]
    text = request_text(request)
    body = {
        "text": text,
        "packed": base64.b64encode(text.encode()).decode(),
        "url": quote(key),
        "json": json.dumps(key),
    }
    code = request.query.get("code", ["200"])[0]
    headers = {"x_echo": key, "set_cookie": f"key={quote(key)}"}
    answer(writer, json.dumps(body).encode(), f"{code} No {key}", **headers)


@at("/echo-secrets-text")
async def echo_text(_: Peer, request: Request, writer: Writer) -> None:
    answer(writer, request_text(request).encode(), media="text/plain")


@at("/echo-secrets-redirect")
async def echo_redirect(_: Peer, request: Request, writer: Writer) -> None:
    answer(writer, b"", "302 Elsewhere", location=f"/echo-secrets?key={quote(request.headers['x-key'])}")


@chat_protocol.model("echo-refuses")
async def echo_refuses(_: Peer, request: Request, writer: Writer) -> None:
    chat_protocol.refuse(writer, "400 Bad Request", f"I was asked {chat_protocol.messages_of(request)[-1]}", "bad")


@chat_protocol.model("echo-hangs")
async def echo_hangs(_: Peer, request: Request, writer: Writer) -> None:
    """Stream the prompt without its end, and then hang."""
    chat_protocol.open_stream(writer)
    for piece in chat_protocol.text(chat_protocol.messages_of(request)[-1])[:-4]:
        chat_protocol.send(writer, piece)
    await writer.drain()
    await request.reader.read(1)
    raise ConnectionResetError
