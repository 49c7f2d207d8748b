"""Ends the sockets and streams of API keys that are revoked, and of browsers that sign out, on this server.

A message on Redis reports each revocation. Postgres is read every POLL_S seconds as well, so that a
lost message, or an outage of Redis, delays the end by that time at most. Requests are not affected:
each reads its key or session from Postgres.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress

import structlog

from persistence.db.database import Database
from persistence.db.ids import Prefix, prefix_of
from persistence.db.transient import is_transient
from persistence.feed.feed import Feed
from persistence.workflows import api_keys, browser_sessions
from persistence.workflows.api_keys import REVOKED_CHANNEL

log = structlog.get_logger(__name__)

POLL_S = 1.0


class Revocations:
    """The keys and browser sessions of open sockets of this process. While `running`, it notices when they end."""

    def __init__(self, database: Database, feed: Feed) -> None:
        self._database, self._feed = database, feed
        self._ended: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._wake = asyncio.Event()

    @contextmanager
    def watch(self, credential_id: str) -> Iterator[asyncio.Event]:
        """Yield an event that is set when the key or session is no longer valid."""
        event = asyncio.Event()
        self._ended[credential_id].add(event)
        # It may have ended since it was read.
        self._wake.set()
        try:
            yield event
        finally:
            self._ended[credential_id].discard(event)
            if not self._ended[credential_id]:
                del self._ended[credential_id]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Check the watched keys after each message and every POLL_S seconds, for the block."""
        tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._poll())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self) -> None:
        async with aclosing(self._feed.channels.listen(REVOKED_CHANNEL)) as messages:
            async for _ in messages:
                self._wake.set()

    async def _poll(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()
            self._wake.clear()
            if self._ended:
                await self._check()

    async def _check(self) -> None:
        try:
            over = await self._ended_among(list(self._ended))
        except Exception as error:
            # The next check is a second later. An unknown fault must not end these checks.
            report = log.warning if is_transient(error) else log.exception
            report("sign_in.keys_unchecked", error=str(error) or type(error).__name__)
            return
        for event in (event for id in over for event in self._ended.get(id, ())):
            event.set()

    async def _ended_among(self, ids: list[str]) -> set[str]:
        sessions = [id for id in ids if prefix_of(id) is Prefix.BROWSER_SESSION]
        keys = [id for id in ids if prefix_of(id) is Prefix.API_KEY]
        over = await api_keys.ended(self._database.pool, keys) if keys else set()
        return over | (await browser_sessions.ended(self._database.pool, sessions) if sessions else set())
