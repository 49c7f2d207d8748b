"""One blocking XREAD for all live readers of this process, over the streams of the runs they look at.

Holds nothing that matters: a mailbox that may have missed something is marked stale, and its owner reads Postgres.
While Redis is away or hung, Postgres is asked every half second instead, for all mailboxes in one statement.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import asyncpg
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from engine.events import Event, LiveDelta
from persistence.db.database import Database
from persistence.events import codec
from persistence.events.publisher import stream_of

log = structlog.get_logger(__name__)

BLOCK_S = 5.0
SILENCE_S = 2.0
"""A run that was silent for this long is looked up in Postgres: an XADD may have been lost."""
LOOK_S = 0.5
"""How often somebody checks for silence; while Redis is away every run counts as silent."""
BACKOFF_S = (0.1, 2.0)
MAILBOX_SIZE = 256
"""Events waiting for one slow reader. One more, and it reads Postgres at its own pace instead."""
WAKE_TTL_S = 3600


class Mailbox:
    """The live events of one run for one reader. `next()` answers None when the reader has to look into Postgres."""

    def __init__(self, size: int = MAILBOX_SIZE) -> None:
        self.position = 0
        """The last number its reader has dealt with."""
        self._waiting: deque[Event | LiveDelta] = deque()
        self._size = size
        self._stale = False
        self._ready = asyncio.Event()

    def put(self, event: Event | LiveDelta) -> None:
        if len(self._waiting) >= self._size:
            if isinstance(event, LiveDelta):
                return  # Who is slow misses text, which the node's state keeps, before events.
            self._waiting.clear()
            self._stale = True
        if not self._stale:
            self._waiting.append(event)
        self._ready.set()

    def mark_stale(self) -> None:
        self._stale = True
        self._ready.set()

    def lacks(self, seq: int) -> bool:
        """Whether event `seq` is neither dealt with nor waiting here."""
        newest = self._waiting[-1].seq if self._waiting else 0
        return seq > max(self.position, newest)

    def start_over(self) -> None:
        """The reader is about to read Postgres from its position on: what comes from now on counts again."""
        self._stale = False

    async def next(self) -> Event | LiveDelta | None:
        while True:
            if self._stale:
                self._waiting.clear()
                return None
            if self._waiting:
                return self._waiting.popleft()
            self._ready.clear()
            await self._ready.wait()


@dataclass(slots=True)
class Topic:
    """A run that somebody looks at: how far its stream was read, since when it is quiet, and who looks."""

    last_id: str
    quiet_since: float
    mailboxes: set[Mailbox] = field(default_factory=set)


class StreamReader:
    """Start with the first mailbox, idle without any; end with `await close()`."""

    def __init__(self, database: Database, redis: Redis) -> None:
        self._database, self._redis = database, redis
        self._topics: dict[str, Topic] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._wanted = asyncio.Event()
        self._wake_key, self._wake_id = f"feed:wake:{uuid4().hex}", "0-0"
        self.is_connected = True

    @property
    def topics(self) -> frozenset[str]:
        return frozenset(self._topics)

    @contextmanager
    def mailbox(self, run_id: str, last_seq: int) -> Iterator[Mailbox]:
        """A mailbox that gets every event of the run after `last_seq`, or is marked stale."""
        mailbox = Mailbox()
        self._join(run_id, last_seq, mailbox)
        try:
            yield mailbox
        finally:
            self._leave(run_id, mailbox)

    def _join(self, run_id: str, last_seq: int, mailbox: Mailbox) -> None:
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._watch())]
        if run_id not in self._topics:
            self._topics[run_id] = Topic(f"{last_seq}-0", asyncio.get_running_loop().time())
            self._wanted.set()
            self._wake()
        self._topics[run_id].mailboxes.add(mailbox)

    def _leave(self, run_id: str, mailbox: Mailbox) -> None:
        topic = self._topics[run_id]
        topic.mailboxes.discard(mailbox)
        if not topic.mailboxes:
            del self._topics[run_id]
        if not self._topics:
            self._wanted.clear()

    def _wake(self) -> None:
        """Ends the XREAD that blocks now, so that the next one has the new stream in it too."""
        if self.is_connected:
            task = asyncio.create_task(self._send_wake())
            self._tasks.append(task)
            task.add_done_callback(self._tasks.remove)

    async def _send_wake(self) -> None:
        pipe = self._redis.pipeline(transaction=False)
        pipe.xadd(self._wake_key, {"w": "1"}, maxlen=1)
        pipe.expire(self._wake_key, WAKE_TTL_S)
        try:
            async with asyncio.timeout(BLOCK_S):
                await pipe.execute()
        except (RedisError, OSError, TimeoutError) as error:
            # The blocking read ends by itself, and silence is looked into meanwhile.
            log.debug("feed.wake_failed", error=str(error))

    async def _read(self) -> None:
        least, most = BACKOFF_S
        pause = least
        while True:
            await self._wanted.wait()
            try:
                if not self.is_connected:
                    await self._come_back()
                await self._read_once()
                pause = least
            except (RedisError, OSError, TimeoutError) as error:
                self._went_away(error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, most)

    async def _come_back(self) -> None:
        async with asyncio.timeout(BLOCK_S):
            await self._redis.ping()
        self.is_connected = True
        log.info("feed.redis_back")

    async def _read_once(self) -> None:
        cursors: dict[Any, Any] = {stream_of(run_id): topic.last_id for run_id, topic in self._topics.items()}
        run_ids = {stream_of(run_id).encode(): run_id for run_id in self._topics}
        async with asyncio.timeout(BLOCK_S * 2):
            found = await self._redis.xread({self._wake_key: self._wake_id, **cursors}, block=int(BLOCK_S * 1000))
        for key, entries in found or ():
            if key in run_ids:
                self._deliver(run_ids[key], entries)
            else:
                self._wake_id = entries[-1][0].decode()

    def _deliver(self, run_id: str, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        topic = self._topics.get(run_id)
        if topic is None:
            return
        topic.last_id, topic.quiet_since = entries[-1][0].decode(), asyncio.get_running_loop().time()
        for entry_id, fields in entries:
            seq = int(entry_id.split(b"-")[0])
            try:
                events = _read(run_id, seq, fields)
            except Exception as error:  # Whatever is wrong with an entry, it must not end the reader of all runs.
                log.warning("feed.unreadable_entry", run_id=run_id, seq=seq, error=repr(error))
                continue  # a gap like any other: Postgres has the event
            for mailbox in topic.mailboxes:
                for event in events:
                    mailbox.put(event)

    def _went_away(self, error: Exception) -> None:
        if self.is_connected:
            log.warning("feed.redis_away", error=str(error) or type(error).__name__)
        self.is_connected = False

    async def _watch(self) -> None:
        """Looks silent runs up in Postgres: all of them in one statement, however many readers there are."""
        while True:
            await self._wanted.wait()
            await asyncio.sleep(LOOK_S)
            try:
                await self._look()
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
                log.warning("feed.database_away", error=str(error) or type(error).__name__)

    async def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        limit = now - SILENCE_S if self.is_connected else now
        silent = [run_id for run_id, topic in self._topics.items() if topic.quiet_since <= limit]
        if not silent:
            return
        for run_id in silent:
            self._topics[run_id].quiet_since = now
        rows = await self._database.pool.fetch("SELECT id, last_seq FROM runs WHERE id = ANY($1)", silent)
        last_seq = {row["id"]: row["last_seq"] for row in rows}
        for run_id in silent:
            for mailbox in self._topics[run_id].mailboxes if run_id in self._topics else ():
                # A run that is gone has no number: its readers look, see that, and end.
                if run_id not in last_seq or mailbox.lacks(last_seq[run_id]):
                    mailbox.mark_stale()

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _read(run_id: str, seq: int, fields: dict[bytes, bytes]) -> Sequence[Event | LiveDelta]:
    delta = fields.get(b"d")
    return codec.events_of(run_id, seq, fields[b"e"]) if delta is None else [codec.delta_of(run_id, seq, delta)]
