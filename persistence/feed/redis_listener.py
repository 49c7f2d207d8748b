"""The reconnect loop of every connection on which this process listens to Redis.

Redis carries hints only, so a lost connection delays readers and loses nothing. Used by the stream
reader and the channel reader, in servers and workers.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from redis.exceptions import RedisError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential

from persistence.db.outage import Outage

BACKOFF_S = (0.1, 2.0)
"""The first and the longest pause between two attempts to connect."""
REDIS_ERRORS = (RedisError, OSError, TimeoutError)


class RedisListener:
    """Reads from Redis while `needed` is set, and reconnects with exponential backoff.

    End it with `await close()`.
    """

    def __init__(
        self, name: str, read: Callable[[], AsyncGenerator[None]], on_lost: Callable[[], None] | None = None
    ) -> None:
        """Create a listener that is not needed yet.

        Args:
            name: Prefix of the log events `<name>.away` and `<name>.back`.
            read: Opens a connection, reads from it without end, and yields after each reply. It
                raises one of REDIS_ERRORS when the connection is lost.
            on_lost: Called each time the connection is lost or cannot be made.
        """
        self._name, self._read, self._on_lost = name, read, on_lost
        self._outage = Outage(name)
        self._task: asyncio.Task[None] | None = None
        self.needed = asyncio.Event()

    @property
    def is_connected(self) -> bool:
        """Whether the last attempt to read from Redis succeeded."""
        return not self._outage.is_active

    def start(self) -> None:
        """Read from now on. Call `needed.clear()` to stop after the reply that is awaited."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=self._name)
        self.needed.set()

    async def _run(self) -> None:
        least, most = BACKOFF_S
        while True:
            await self.needed.wait()
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(REDIS_ERRORS),
                wait=wait_exponential(multiplier=least, max=most),
                before_sleep=self._report_loss,
            ):
                with attempt:
                    await self._read_while_needed(attempt.retry_state)

    async def _read_while_needed(self, retry_state: RetryCallState) -> None:
        async with aclosing(self._read()) as replies:
            async for _ in replies:
                self._outage.recovered()
                # The connection works: when it is lost, the backoff starts again at its shortest
                # pause.
                retry_state.attempt_number = 1
                if not self.needed.is_set():
                    return

    def _report_loss(self, retry_state: RetryCallState) -> None:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        self._outage.failed(error or ConnectionError("the connection was lost"))
        if self._on_lost is not None:
            self._on_lost()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
