"""One blocking XREAD over the event streams of all runs that have a reader in this process.

Nothing here is durable: a mailbox that may have missed an event reports a gap, and its reader reads
Postgres. While Redis is away or hung, the last event numbers of all followed runs are read from
Postgres every half second, in one statement.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import structlog
from redis.asyncio import Redis

from engine.events import Event, LiveDelta
from persistence.db.database import Database
from persistence.db.outage import Outage
from persistence.db.transient import DATABASE_ERRORS
from persistence.events import codec
from persistence.events.publisher import stream_of
from persistence.feed.mailbox import Mailbox
from persistence.feed.redis_listener import REDIS_ERRORS, RedisListener

log = structlog.get_logger(__name__)

BLOCK_S = 5.0
"""How long one XREAD waits for a new entry."""
SILENCE_S = 2.0
"""A run without an entry for this long is looked up in Postgres: an XADD may have been lost."""
LOOK_S = 0.5
"""Interval of the search for silent runs. While Redis is away, every run counts as silent."""
WAKE_TTL_S = 3600
MAX_TEXTS = 128
"""Entries with text that are kept for readers that join."""

_LAST_SEQ = "SELECT id, last_seq FROM runs WHERE id = ANY($1)"


class RunMailbox(Mailbox[Event | LiveDelta]):
    """The live events of one run for one reader. A gap means: read Postgres from `position` on."""

    def __init__(self) -> None:
        super().__init__()
        self.position = 0
        """The number of the last event that the reader has processed."""

    def put(self, message: Event | LiveDelta, size: int = 0) -> None:
        # A slow reader loses text, which the state of the node holds too, before it loses events.
        if not (self.is_full and isinstance(message, LiveDelta)):
            super().put(message, size)

    def drop_events(self) -> None:
        """Drop the events that wait. For a reader that is about to read them from Postgres."""
        self.keep(lambda message: isinstance(message, LiveDelta))

    def lacks(self, seq: int) -> bool:
        """Whether the event `seq` is neither processed nor waiting in the mailbox."""
        return seq > max(self.position, self.newest.seq if self.newest else 0)


@dataclass(slots=True)
class Topic:
    """A run with at least one reader in this process."""

    last_id: str
    """The id of the last stream entry that was read."""
    silent_since: float
    """Time of the event loop, in seconds, of the last entry or the last look into Postgres."""
    mailboxes: set[RunMailbox] = field(default_factory=set)
    texts: deque[LiveDelta] = field(default_factory=lambda: deque(maxlen=MAX_TEXTS))
    """The text since the last event. A reader that joins gets it; no event contains it yet."""

    def keep_text(self, message: Event | LiveDelta) -> None:
        """Keep text for readers that join later, up to the next event."""
        if isinstance(message, LiveDelta):
            self.texts.append(message)
        else:
            self.texts.clear()


class StreamReader:
    """Starts with the first mailbox and idles without any; end it with `await close()`."""

    def __init__(self, database: Database, redis: Redis) -> None:
        self._database, self._redis = database, redis
        self._topics: dict[str, Topic] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener = RedisListener("feed.streams", self._read)
        self._outage = Outage("feed.database")
        self._wake_key, self._wake_id = f"feed:wake:{uuid4().hex}", "0-0"

    @property
    def is_connected(self) -> bool:
        return self._listener.is_connected

    @property
    def topics(self) -> frozenset[str]:
        """The ids of the runs that have a reader."""
        return frozenset(self._topics)

    @contextmanager
    def mailbox(self, run_id: str, last_seq: int) -> Iterator[RunMailbox]:
        """Open a mailbox that gets every event of the run after `last_seq`, or reports a gap."""
        mailbox = RunMailbox()
        self._join(run_id, last_seq, mailbox)
        try:
            yield mailbox
        finally:
            self._leave(run_id, mailbox)

    def _join(self, run_id: str, last_seq: int, mailbox: RunMailbox) -> None:
        if not self._tasks:
            self._start(self._watch())
        if run_id not in self._topics:
            self._topics[run_id] = Topic(f"{last_seq}-0", asyncio.get_running_loop().time())
            self._listener.start()
            if self.is_connected:
                self._start(self._wake())
        for delta in self._topics[run_id].texts:
            mailbox.put(delta)
        self._topics[run_id].mailboxes.add(mailbox)

    def _start(self, coroutine: Any) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _leave(self, run_id: str, mailbox: RunMailbox) -> None:
        topic = self._topics[run_id]
        topic.mailboxes.discard(mailbox)
        if not topic.mailboxes:
            del self._topics[run_id]
        if not self._topics:
            self._listener.needed.clear()

    async def _wake(self) -> None:
        """End the XREAD that blocks now, so that the next one includes the new stream."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.xadd(self._wake_key, {"w": "1"}, maxlen=1)
        pipe.expire(self._wake_key, WAKE_TTL_S)
        try:
            async with asyncio.timeout(BLOCK_S):
                await pipe.execute()
        except REDIS_ERRORS as error:
            # The blocking XREAD ends by itself, and silent runs are looked up meanwhile.
            log.debug("feed.wake_failed", error=str(error))

    async def _read(self) -> AsyncGenerator[None]:
        # The first XREAD does not wait: its reply shows that the connection works.
        block_ms = 1
        while True:
            await self._read_once(block_ms)
            yield
            block_ms = int(BLOCK_S * 1000)

    async def _read_once(self, block_ms: int) -> None:
        cursors: dict[Any, Any] = {stream_of(run_id): topic.last_id for run_id, topic in self._topics.items()}
        run_ids = {stream_of(run_id).encode(): run_id for run_id in self._topics}
        async with asyncio.timeout(BLOCK_S * 2):
            reply = await self._redis.xread({self._wake_key: self._wake_id, **cursors}, block=block_ms)
        for key, entries in reply or ():
            if key in run_ids:
                self._deliver(run_ids[key], entries)
            else:
                self._wake_id = entries[-1][0].decode()

    def _deliver(self, run_id: str, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        topic = self._topics.get(run_id)
        if topic is None:
            return
        topic.last_id, topic.silent_since = entries[-1][0].decode(), asyncio.get_running_loop().time()
        for entry_id, fields in entries:
            seq = int(entry_id.split(b"-")[0])
            try:
                events = _decode(run_id, seq, fields)
            except Exception as error:  # A bad entry must not end the reader of all runs.
                log.warning("feed.unreadable_entry", run_id=run_id, seq=seq, error=repr(error))
                continue  # Readers notice the gap and read the event from Postgres.
            size = sum(map(len, fields.values())) // max(1, len(events))
            for event in events:
                topic.keep_text(event)
                for mailbox in topic.mailboxes:
                    mailbox.put(event, size)

    async def _watch(self) -> None:
        """Look silent runs up in Postgres, all in one statement, however many readers they have."""
        while True:
            await self._listener.needed.wait()
            await asyncio.sleep(LOOK_S)
            try:
                await self._look_up_silent_runs()
                self._outage.recovered()
            except DATABASE_ERRORS as error:
                self._outage.failed(error)

    async def _look_up_silent_runs(self) -> None:
        now = asyncio.get_running_loop().time()
        limit = now - SILENCE_S if self.is_connected else now
        silent = [run_id for run_id, topic in self._topics.items() if topic.silent_since <= limit]
        if not silent:
            return
        for run_id in silent:
            self._topics[run_id].silent_since = now
        rows = await self._database.pool.fetch(_LAST_SEQ, silent)
        last_seq = {row["id"]: row["last_seq"] for row in rows}
        for run_id in silent:
            for mailbox in self._topics[run_id].mailboxes if run_id in self._topics else ():
                # A deleted run has no number: its readers read Postgres, see that, and end.
                if run_id not in last_seq or mailbox.lacks(last_seq[run_id]):
                    mailbox.mark_gap()

    async def close(self) -> None:
        await self._listener.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _decode(run_id: str, seq: int, fields: dict[bytes, bytes]) -> Sequence[Event | LiveDelta]:
    delta = fields.get(b"d")
    return codec.events_of(run_id, seq, fields[b"e"]) if delta is None else [codec.delta_of(run_id, seq, delta)]
