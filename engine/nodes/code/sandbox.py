"""Calls the author's `process` in a sandbox process.

A cancel kills the process, and the pool starts a new one. Nothing is stored: a crash loses the
call, and the node runs again.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from pydantic_monty import AsyncMonty, AsyncMontySession, MontyError, MontyRuntimeError

from engine.errors import NodeFailure
from engine.nodes.code.corrections import corrected
from engine.nodes.code.errors import SandboxLimits, failure, timeout_failure
from engine.nodes.code.output import ARGUMENTS, json_failure, with_call
from engine.nodes.code.tools import feed, tools_in
from engine.sdk.node import NodeContext
from engine.sdk.tool import ToolInfo
from engine.states import LogLevel
from engine.types import JSON

WAIT_MESSAGE_AFTER_S = 0.2
"""Seconds of waiting for a sandbox after which the node reports it."""
GRACE_S = 1.0
"""Seconds after the time limit for the sandbox to report the timeout itself."""
MAX_PRINTED = 1024 * 1024
"""Characters that the code may print to the log."""
MAX_LINE = 8 * 1024
"""Characters of a printed line."""
MAX_CALLS = 10_000
"""Tool calls of one call of `process`, look-ups of their names included."""


async def run_code(code: str, arguments: dict[str, JSON], limits: SandboxLimits, ctx: NodeContext) -> JSON:
    """Return the result of `process(**arguments)`.

    Args:
        code: The author's source, which defines `process`.
        arguments: The arguments by name.
        limits: The limits. The time starts when a sandbox is available.
        ctx: Receives the printed lines as log lines.

    Raises:
        NodeFailure: SANDBOX, TIMEOUT, MEMORY_LIMIT, CODE or OUTPUT.
    """
    pool: AsyncMonty | None = ctx.resources.get("sandbox")
    if pool is None:
        raise NodeFailure("SANDBOX", "this process has no sandbox", retryable=True)
    printer = _LogPrinter(ctx, asyncio.get_running_loop())
    code = code.replace("\r\n", "\n").replace("\r", "\n")  # for correct line numbers
    tools = await tools_in(code, ctx)
    failures: list[NodeFailure] = []
    try:
        async with _session(pool, limits, ctx) as session, asyncio.timeout(limits.timeout_s + GRACE_S):
            return await _call(session, code, arguments, printer, tools, ctx, failures)
    except MontyError as error:
        raise failure(error, code, limits, failures) from error
    except TimeoutError as error:
        raise timeout_failure(limits) from error
    except (ValueError, OverflowError, RecursionError) as error:
        message = "the value that `process` returned cannot leave the sandbox: it is too large or nested too deeply"
        raise NodeFailure("OUTPUT", message) from error
    finally:
        printer.close()


async def _call(
    session: AsyncMontySession,
    code: str,
    arguments: dict[str, JSON],
    printer: "_LogPrinter",
    tools: Mapping[str, ToolInfo],
    ctx: NodeContext,
    failures: list[NodeFailure],
) -> JSON:
    source, prelude, _ = corrected(code)
    try:
        if prelude is not None:
            await session.feed_run(prelude)
        return await feed(session, with_call(source), {ARGUMENTS: arguments}, printer.write, tools, ctx, failures)
    except MontyRuntimeError as error:
        if failed := await json_failure(session, error, code):
            raise failed from error
        raise


@asynccontextmanager
async def _session(pool: AsyncMonty, limits: SandboxLimits, ctx: NodeContext) -> AsyncIterator[AsyncMontySession]:
    """Check out a sandbox from the pool; report a longer wait as progress of the node."""
    loop = asyncio.get_running_loop()
    waiting = loop.call_later(WAIT_MESSAGE_AFTER_S, ctx.progress, 0.0, "waiting for a sandbox")
    checkout = pool.checkout(
        limits={
            "max_feed_duration_secs": limits.timeout_s,
            "max_total_sleep_secs": limits.timeout_s,
            "max_memory": limits.memory_mb * 1024 * 1024,
            "max_suspensions": MAX_CALLS,
        }
    )
    async with AsyncExitStack() as stack:
        try:
            if (turns := ctx.resources.get("sandbox_turns")) is not None:
                await stack.enter_async_context(turns.slot())
            session = await checkout.__aenter__()
        finally:
            was_reported = waiting.when() <= loop.time()
            waiting.cancel()
        if was_reported:
            ctx.progress(0.0, None)
        try:
            yield session
        finally:
            # After a cancelled call this kills the process, so the author's code does not continue.
            await checkout.__aexit__(None, None, None)


class _LogPrinter:
    """Writes what the code prints to the log, line by line.

    `write` is called from another thread.
    """

    def __init__(self, ctx: NodeContext, loop: asyncio.AbstractEventLoop) -> None:
        self._ctx, self._loop = ctx, loop
        self._unfinished = {"stdout": "", "stderr": ""}
        self._printed = 0

    def write(self, stream: str, text: str) -> None:
        if self._printed <= MAX_PRINTED:
            self._printed += len(text)
            self._loop.call_soon_threadsafe(self._split, stream, text)

    def _split(self, stream: str, text: str) -> None:
        *lines, self._unfinished[stream] = (self._unfinished[stream] + text).split("\n")
        for line in lines:
            self._log(stream, line)

    def close(self) -> None:
        """Log the unfinished lines, and a warning if lines were dropped."""
        for stream, line in self._unfinished.items():
            if line:
                self._log(stream, line)
        if self._printed > MAX_PRINTED:
            self._ctx.log(LogLevel.WARNING, f"the code printed more than {MAX_PRINTED} characters: the rest is dropped")

    def _log(self, stream: str, line: str) -> None:
        self._ctx.log(LogLevel.WARNING if stream == "stderr" else LogLevel.INFO, line[:MAX_LINE], stream=stream)
