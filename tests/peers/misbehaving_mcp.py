"""An MCP server at `{peer.url}/mcp`; it starts normally, and tool names select misbehaviour."""

import asyncio
import json
from typing import Any

from tests.peers.http_protocol import BEHAVIOURS, MIB, Peer, Request, Writer, answer, at, head

NAMES = (
    "hang", "drip", "short", "gib", "gib-announced", "broken-utf8", "not-json", "closed", "garbage", "refuse", "unheard-of",
    "bomb", "gib-event", "short-event", "broken-event", "other-json", "add", "echo", "echo-structured", "echo-error",
    "echo-refusal", "headers",
)  # fmt: skip
SSE = "content-type: text/event-stream"


@at("/mcp")
async def mcp(peer: Peer, request: Request, writer: Writer) -> None:
    if request.method != "POST":
        answer(writer, b"", "405 Not Allowed")
        return
    message = json.loads(request.body)
    match message["method"]:
        case "initialize":
            info = {
                "protocolVersion": "2025-06-18",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "l", "version": "1"},
            }
            reply(writer, message, info)
        case "tools/list":
            key = request.headers.get("authorization", "")
            schema = {"type": "object", "description": f"needs {key}"}
            tools = [{"name": name, "description": f"with {key}", "inputSchema": schema} for name in NAMES]
            reply(writer, message, {"tools": tools})
        case "tools/call":
            await _call(message["params"]["name"], message, peer, request, writer)
        case "ping":
            reply(writer, message, {})
        case _:
            answer(writer, b"", "202 Accepted")


def reply(writer: Writer, message: Any, result: Any) -> None:
    answer(writer, json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode())


async def _call(name: str, message: Any, peer: Peer, request: Request, writer: Writer) -> None:
    json_of = "content-type: application/json"
    key = request.headers.get("authorization", "")
    match name:
        case "echo" | "echo-error":
            reply(writer, message, {"content": [{"type": "text", "text": f"got {key}"}], "isError": name != "echo"})
        case "echo-structured":
            reply(writer, message, {"content": [], "structuredContent": {"headers": [key], key: 1}})
        case "echo-refusal":
            refusal = {"code": -32050, "message": f"refused {key}"}
            answer(writer, json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": refusal}).encode())
        case "add":
            reply(writer, message, {"content": [{"type": "text", "text": "3"}]})
        case "refuse":
            answer(writer, b"go away", "500 Broken")
        case "unheard-of":
            answer(writer, b"hello", media="text/plain")
        case "other-json":
            answer(writer, b'{"neither": "here nor there"}')
        case "drip":
            head(writer, json_of, "content-length: 50000")
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)
        case "short":
            head(writer, json_of, "content-length: 100")
            writer.write(b'{"jsonrpc"')
            await writer.drain()
            writer.close()
        case "broken-utf8":
            answer(writer, b'{"jsonrpc": "2.0", "id": 1, "result": "\xff\xfe"}')
        case "gib" | "gib-announced" | "gib-event":
            kind = SSE if name == "gib-event" else json_of
            length = "content-length: 1073741824" if name == "gib-announced" else "connection: close"
            head(writer, kind, length)
            writer.write(b"data: " if name == "gib-event" else b'"')
            for _ in range(1024):
                writer.write(b"x" * MIB)
                await writer.drain()
                peer.written += MIB
            writer.close()
        case "headers":
            request.query["kind"] = ["many"]
            await BEHAVIOURS["/headers"](peer, request, writer)
        case "bomb":
            request.query["layers"] = ["1"]
            await BEHAVIOURS["/bomb"](peer, request, writer)
        case "short-event":
            head(writer, SSE, "content-length: 100")
            writer.write(b"data: {")
            await writer.drain()
            writer.close()
        case "broken-event":
            head(writer, SSE, "connection: close")
            writer.write(b"data: \xff\xfe\n\n")
            await writer.drain()
            writer.close()
        case _:
            await BEHAVIOURS[f"/{name}"](peer, request, writer)
