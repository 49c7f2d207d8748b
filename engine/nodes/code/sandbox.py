"""One call of the author's `process` in a sandbox process. Cancelling it kills the process; the pool makes a new one.

Nothing is kept: a crash in the middle loses the call, and the node is launched again.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from pydantic_monty import AsyncMonty, AsyncMontySession, MontyError, MontyRuntimeError

from engine.errors import NodeFailure
from engine.nodes.code.errors import SandboxLimits, failure, out_of_time
from engine.nodes.code.output import ARGUMENTS, not_json, with_call
from engine.nodes.code.tools import feed, tools_in
from engine.sdk.node import NodeContext
from engine.sdk.tool import ToolInfo
from engine.states import LogLevel
from engine.types import JSON

WAITING_SHOWN_AFTER_S = 0.2
GRACE_S = 1.0
MAX_PRINTED = 1024 * 1024
MAX_LINE = 8 * 1024
MAX_CALLS = 10_000
"""Of tools, the reading of their names included."""


async def run_code(code: str, arguments: dict[str, JSON], limits: SandboxLimits, ctx: NodeContext) -> JSON:
    """What `process(**arguments)` returns. The time runs from when a sandbox is there."""
    pool: AsyncMonty | None = ctx.resources.get("sandbox")
    if pool is None:
        raise NodeFailure("SANDBOX", "this worker has no sandbox", retryable=True)
    lines = _Lines(ctx, asyncio.get_running_loop())
    code = code.replace("\r\n", "\n").replace("\r", "\n")  # as Python reads it: its lines are counted by their ends
    tools = await tools_in(code, ctx)
    try:
        async with _session(pool, limits, ctx) as session, asyncio.timeout(limits.timeout_s + GRACE_S):
            return await _called(session, code, arguments, lines, tools, ctx)
    except MontyError as error:
        raise failure(error, code, limits) from error
    except TimeoutError as error:
        raise out_of_time(limits) from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise NodeFailure("OUTPUT", f"what `process` returned cannot be taken over: {error}") from error
    finally:
        lines.close()


async def _called(
    session: AsyncMontySession,
    code: str,
    arguments: dict[str, JSON],
    lines: "_Lines",
    tools: Mapping[str, ToolInfo],
    ctx: NodeContext,
) -> JSON:
    try:
        return await feed(session, with_call(code), {ARGUMENTS: arguments}, lines.take, tools, ctx)
    except MontyRuntimeError as error:
        if wrong := await not_json(session, error, code):
            raise wrong from error
        raise


@asynccontextmanager
async def _session(pool: AsyncMonty, limits: SandboxLimits, ctx: NodeContext) -> AsyncIterator[AsyncMontySession]:
    """A sandbox of our own; that we wait for one is shown."""
    loop = asyncio.get_running_loop()
    waiting = loop.call_later(WAITING_SHOWN_AFTER_S, ctx.progress, 0.0, "waiting for a sandbox")
    checkout = pool.checkout(
        limits={
            "max_feed_duration_secs": limits.timeout_s,
            "max_total_sleep_secs": limits.timeout_s,
            "max_memory": limits.memory_mb * 1024 * 1024,
            "max_suspensions": MAX_CALLS,
        }
    )
    try:
        session = await checkout.__aenter__()
    finally:
        was_shown = waiting.when() <= loop.time()
        waiting.cancel()
    if was_shown:
        ctx.progress(0.0, None)
    try:
        yield session
    finally:
        # After a cancelled call this ends the process: nothing of the author's goes on running.
        await checkout.__aexit__(None, None, None)


class _Lines:
    """What the code prints, line by line into the log. The sandbox calls from a thread of its own."""

    def __init__(self, ctx: NodeContext, loop: asyncio.AbstractEventLoop) -> None:
        self._ctx, self._loop = ctx, loop
        self._rest = {"stdout": "", "stderr": ""}
        self._printed = 0

    def take(self, stream: str, text: str) -> None:
        if self._printed <= MAX_PRINTED:
            self._printed += len(text)
            self._loop.call_soon_threadsafe(self._log, stream, text)

    def _log(self, stream: str, text: str) -> None:
        *lines, self._rest[stream] = (self._rest[stream] + text).split("\n")
        for line in lines:
            self._write(stream, line)

    def close(self) -> None:
        for stream, rest in self._rest.items():
            if rest:
                self._write(stream, rest)
        if self._printed > MAX_PRINTED:
            self._ctx.log(LogLevel.WARNING, f"more than {MAX_PRINTED} characters were printed: the rest is left out")

    def _write(self, stream: str, line: str) -> None:
        self._ctx.log(LogLevel.WARNING if stream == "stderr" else LogLevel.INFO, line[:MAX_LINE], stream=stream)
