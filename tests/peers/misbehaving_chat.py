"""Test models that misbehave: they hang, never end, break off, or send invalid responses."""

import asyncio
import gzip

from tests.peers.chat_protocol import delta, event, model, open_stream, send, stream
from tests.peers.http_protocol import MIB, Peer, Request, Writer, answer, head


@model("moved")
async def moved(_: Peer, request: Request, writer: Writer) -> None:
    answer(writer, b"", "302 Found", location="/elsewhere")


@model("hangs")
async def hangs(_: Peer, request: Request, writer: Writer) -> None:
    await request.reader.read(1)  # returns when the client closes the connection
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
    """Sends comments and no content, so that the connection stays alive."""
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
    """Sends one event that never ends."""
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


@model("gib-of-answer")
async def gib_of_answer(peer: Peer, request: Request, writer: Writer) -> None:
    """Sends one JSON object that never ends, and no stream."""
    writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {1024 * MIB}\r\n\r\n".encode())
    writer.write(b'{"choices": [\n')
    for _ in range(1024):
        writer.write(b" \n" * (MIB // 2))
        await writer.drain()
        peer.written += MIB


@model("bomb")
async def bomb(_: Peer, request: Request, writer: Writer) -> None:
    packed = gzip.compress(b"data: " + b"x" * (64 * MIB))
    answer(writer, packed, media="text/event-stream", content_encoding="gzip")
