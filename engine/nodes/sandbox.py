"""One call of the author's `process` in a sandbox process. Cancelling it kills the process; the pool makes a new one.

Nothing is kept: a crash in the middle loses the call, and the node is launched again.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pydantic_monty import (
    AsyncMonty,
    AsyncMontySession,
    MontyConversionError,
    MontyCrashedError,
    MontyError,
    MontyRuntimeError,
    MontySyntaxError,
)

from engine.events import JSON
from engine.nodes.base import NodeContext, NodeFailure
from engine.states import LogLevel
from engine.storable import check_storable

ARGUMENTS = "__treadle_arguments__"
WAITING_SHOWN_AFTER_S = 0.2
GRACE_S = 1.0
MAX_PRINTED = 1024 * 1024
MAX_LINE = 8 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    timeout_s: float
    memory_mb: int


async def run_code(code: str, arguments: dict[str, JSON], limits: Limits, ctx: NodeContext) -> JSON:
    """What `process(**arguments)` returns, checked to be storable. The time runs from when a sandbox is there."""
    pool: AsyncMonty | None = ctx.resources.get("sandbox")
    if pool is None:
        raise NodeFailure("SANDBOX", "this worker has no sandbox", retryable=True)
    lines = _Lines(ctx, asyncio.get_running_loop())
    try:
        async with _session(pool, limits, ctx) as session, asyncio.timeout(limits.timeout_s + GRACE_S):
            # The author's lines come first, so that line numbers are theirs.
            call = f"{code}\n\nprocess(**{ARGUMENTS})\n"
            output = await session.feed_run(call, inputs={ARGUMENTS: arguments}, print_callback=lines.take)
        check_storable(output)
    except MontyError as error:
        raise _failure(error, code, limits) from error
    except TimeoutError as error:
        raise _out_of_time(limits) from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise NodeFailure("OUTPUT", f"what `process` returned cannot be taken over: {error}") from error
    finally:
        lines.close()
    return output


@asynccontextmanager
async def _session(pool: AsyncMonty, limits: Limits, ctx: NodeContext) -> AsyncIterator[AsyncMontySession]:
    """A sandbox of our own; that we wait for one is shown."""
    loop = asyncio.get_running_loop()
    waiting = loop.call_later(WAITING_SHOWN_AFTER_S, ctx.progress, 0.0, "waiting for a sandbox")
    checkout = pool.checkout(
        limits={
            "max_feed_duration_secs": limits.timeout_s,
            "max_total_sleep_secs": limits.timeout_s,
            "max_memory": limits.memory_mb * 1024 * 1024,
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


def _failure(error: MontyError, code: str, limits: Limits) -> NodeFailure:
    """The sandbox's error in the author's terms: what, and on which of their lines."""
    if isinstance(error, MontyCrashedError):
        if error.timed_out:
            return _out_of_time(limits)
        return NodeFailure("SANDBOX", f"the sandbox process died: {error}", retryable=True)
    if isinstance(error, MontyConversionError):
        return NodeFailure("OUTPUT", f"a value cannot cross into or out of the sandbox: {error}")
    if not isinstance(error, MontyRuntimeError | MontySyntaxError):
        return NodeFailure("SANDBOX", str(error), retryable=True)
    raised, text = error.exception(), str(error)
    if isinstance(raised, TimeoutError) and "limit exceeded" in text:
        return _out_of_time(limits)
    if isinstance(raised, MemoryError) and "limit exceeded" in text:
        return NodeFailure(
            "MEMORY_LIMIT", f"the code needs more than {limits.memory_mb} MB of memory", details=_where(error, code)
        )
    details = _where(error, code)
    line = f"line {details['line']}: " if details else ""
    return NodeFailure("CODE", f"{line}{text}"[:2000], details=details)


def _out_of_time(limits: Limits) -> NodeFailure:
    return NodeFailure("TIMEOUT", f"the code did not finish within {limits.timeout_s:g} s", retryable=True)


def _where(error: MontyRuntimeError | MontySyntaxError, code: str) -> dict[str, JSON] | None:
    """The innermost place in the author's code."""
    own = [frame for frame in error.traceback() if frame.line <= code.count("\n") + 1]
    return {"line": own[-1].line, "column": own[-1].column, "function": own[-1].function_name} if own else None


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
