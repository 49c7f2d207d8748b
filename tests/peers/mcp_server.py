"""An MCP server with normal and misbehaving tools: `python -P mcp_server.py stdio`.

`… streamable-http PORT` serves over HTTP. It reports events by datagram to the port MCP_TELL.
"""

import os
import socket
import sys

import anyio
from mcp.server.fastmcp import Context, FastMCP

TELL = int(os.environ.get("MCP_TELL", "0"))
server = FastMCP("peer", port=int(sys.argv[2]) if len(sys.argv) > 2 else 0, log_level="CRITICAL")


def note(event: str) -> None:
    if TELL:
        with socket.socket(type=socket.SOCK_DGRAM) as line:
            line.sendto(f"{os.getpid()} {event}".encode(), ("127.0.0.1", TELL))


note("started")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
def weather(city: str) -> dict[str, str]:
    """The weather in a city."""
    return {"city": city, "sky": "clear"}


@server.tool()
def huge() -> int:
    return 2**64 + 1


@server.tool(structured_output=False)
def greet(name: str) -> str:
    return f"hello {name}"


@server.tool(structured_output=False)
def two_texts() -> list[str]:
    return ["a", "b"]


@server.tool()
def fail() -> str:
    raise ValueError("no luck today")


@server.tool()
async def hang() -> str:
    note("hanging")
    try:
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class():
        note("called off")
        raise
    return ""


@server.tool()
def die() -> str:
    note("dying")
    os._exit(1)


@server.tool()
def gib() -> str:
    """Writes a line that does not end instead of a response."""
    for _ in range(1024):
        os.write(1, b"x" * 1024 * 1024)
    return ""


@server.tool()
def broken_utf8() -> str:
    os.write(1, b"\xff\xfe\n")
    return "not read"


@server.tool()
def prints() -> str:
    os.write(1, b"a line that is no message\n")
    return "said"


@server.tool()
async def babble(ctx: Context) -> str:  # type: ignore[type-arg]
    """Reports progress forever."""
    while True:
        await ctx.report_progress(1, 2, "still here")
        await anyio.sleep(0.001)


@server.tool()
def secret() -> str:
    return os.environ.get("GIVEN", "not given")


@server.tool()
def inherited() -> str:
    return os.environ.get("NOT_GIVEN", "not given")


@server.tool()
async def steps(ctx: Context) -> str:  # type: ignore[type-arg]
    await ctx.report_progress(1, 2, "half way")
    return "done"


@server.tool()
async def key(ctx: Context) -> str:  # type: ignore[type-arg]
    meta = ctx.request_context.meta
    return str((meta.model_extra or {}).get("treadle/idempotencyKey")) if meta else "none"


@server.tool()
async def learn(ctx: Context) -> str:  # type: ignore[type-arg]
    """Adds a tool and announces the change."""
    server.add_tool(weather, name="learned")
    await ctx.session.send_tool_list_changed()
    return "learned"


if __name__ == "__main__":
    match sys.argv[1]:
        case "silent":  # alive, but sends nothing
            anyio.run(anyio.sleep_forever)
        case "garbage":
            print("this is no JSON", flush=True)  # noqa: T201
            anyio.run(anyio.sleep_forever)
        case "stdio" | "streamable-http" as transport:
            server.run(transport)
