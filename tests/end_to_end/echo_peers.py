"""Peers that give back what they were given, the secrets in it too, in every way there is."""

import base64
import json
from urllib.parse import quote

from tests.peers import chat_protocol
from tests.peers.http_protocol import Peer, Request, Writer, answer, at


def whole(request: Request) -> str:
    """What the request holds, headers first."""
    told = [f"{name}: {value}" for name, value in request.headers.items()]
    return "\n".join([*told, json.dumps(request.query), request.path, request.body.decode("utf-8", "replace")])


@at("/parrot")
async def parrot(_: Peer, request: Request, writer: Writer) -> None:
    """Repeats the key in its status line, a header and the body, as JSON, as text, in base64 and in a URL."""
    key = request.headers.get("x-key") or request.query.get("key", ["nothing"])[0]
    given = whole(request)
    told = {
        "text": given,
        "packed": base64.b64encode(given.encode()).decode(),
        "url": quote(key),
        "json": json.dumps(key),
    }
    code = request.query.get("code", ["200"])[0]
    headers = {"x_told": key, "set_cookie": f"key={quote(key)}"}
    answer(writer, json.dumps(told).encode(), f"{code} No {key}", **headers)


@at("/parrot-text")
async def parrot_text(_: Peer, request: Request, writer: Writer) -> None:
    answer(writer, whole(request).encode(), media="text/plain")


@at("/parrot-elsewhere")
async def parrot_elsewhere(_: Peer, request: Request, writer: Writer) -> None:
    answer(writer, b"", "302 Elsewhere", location=f"/parrot?key={quote(request.headers['x-key'])}")


@chat_protocol.model("parrot-refuses")
async def parrot_refuses(_: Peer, request: Request, writer: Writer) -> None:
    chat_protocol.refuse(writer, "400 Bad Request", f"I was asked {chat_protocol.messages_of(request)[-1]}", "bad")


@chat_protocol.model("parrot-hangs")
async def parrot_hangs(_: Peer, request: Request, writer: Writer) -> None:
    """Says all but the end of the prompt, and nothing more."""
    chat_protocol.open_stream(writer)
    for piece in chat_protocol.text(chat_protocol.messages_of(request)[-1])[:-4]:
        chat_protocol.send(writer, piece)
    await writer.drain()
    await request.reader.read(1)
    raise ConnectionResetError
