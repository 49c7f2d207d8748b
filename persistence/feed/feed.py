"""The live event feed of runs: every event of a run in order, each once, from any number on.

Postgres is the source of truth and Redis a hint. A subscriber that reconnects with the last number
that it saw misses nothing and sees nothing twice, whatever happens to Redis or to this process.
Used by the subscriptions of the API.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis

from engine.events import Event, LiveDelta, NodeChange, StatusChange
from engine.states import RunStatus
from persistence.db.database import Database
from persistence.events import codec
from persistence.events.publisher import Notice, draft_channel, publish_transitions
from persistence.events.publisher import announce as announce
from persistence.events.publisher import publish as publish
from persistence.events.run_transition import RunTransition
from persistence.feed.pubsub import ChannelReader
from persistence.feed.rest_waiter import RestWaiter
from persistence.feed.run_changes import RunChanges
from persistence.feed.streams import RunMailbox, StreamReader
from persistence.runs.node_states import SMALL

BATCH = 500
_EVENTS = """
SELECT seq, type, at, node_id, body, false AS has_values FROM events WHERE run_id = $1 AND seq > $2 ORDER BY seq LIMIT $3
"""
_EVENTS_AND_VALUES = f"""
SELECT e.seq, e.type, e.at, e.node_id, e.body, o.seq IS NOT NULL AS has_values, o.input, o.output
FROM events e LEFT JOIN node_outputs o ON o.run_id = e.run_id AND o.seq = e.seq AND {SMALL.format("o")}
WHERE e.run_id = $1 AND e.seq > $2 ORDER BY e.seq LIMIT $3
"""


@dataclass(frozen=True, slots=True)
class Expired:
    """Retention deleted the events after `seq`; the ones that follow start at `first_seq`."""

    run_id: str
    seq: int
    first_seq: int
    at: datetime


class Feed:
    """The feed of one process, for all its subscribers. End it with `await close()`."""

    def __init__(self, database: Database, redis: Redis) -> None:
        self._database, self._redis = database, redis
        self.streams = StreamReader(database, redis)
        self.channels = ChannelReader(redis)
        self.rest_waiter = RestWaiter(self.channels)
        self.run_changes = RunChanges(database.pool, self.channels)

    async def close(self) -> None:
        await self.streams.close()
        await self.rest_waiter.close()
        await self.run_changes.close()
        await self.channels.close()

    async def publish(self, transitions: Sequence[RunTransition], notices: Sequence[Notice] = ()) -> None:
        """Publish what a committed transaction wrote, and the notices of it to workers.

        Never raises: a lost message only delays readers and workers.
        """
        await publish_transitions(self._redis, transitions, notices)

    async def follow(
        self, run_id: str, after: int, *, with_values: bool = False
    ) -> AsyncGenerator[Event | Expired | LiveDelta]:
        """Read the events after `after`: first from Postgres, then live, up to the terminal one.

        Close the generator (`aclosing`) to stop early. It ends at once if the run is over or
        unknown.

        Args:
            run_id: The run. The caller has checked that the subscriber may see it.
            after: The number of the last event that the subscriber has. A number above the run's
                last one counts as the last one.
            with_values: Add small inputs and outputs of nodes to stored events, as live events
                carry them.

        Yields:
            Events in order; `Expired` in place of events that retention deleted; text of nodes as
            it streams, while the subscriber keeps up.
        """
        row = await self._run_row(run_id)
        if row is None:
            return
        ended = _EndedNodes()
        with self.streams.mailbox(run_id, row["last_seq"]) as mailbox:
            mailbox.position = min(max(after, 0), row["last_seq"])
            while True:
                async with aclosing(self._history(run_id, mailbox, with_values)) as history:
                    async for item in history:
                        ended.note(item)
                        yield item
                        if _is_last(item):
                            return
                if await self._is_over(run_id, mailbox.position):
                    return
                async with aclosing(_live(mailbox, ended)) as live:
                    async for event in live:
                        ended.note(event)
                        yield event
                        if _is_last(event):
                            return
                # Postgres has every event that is in the mailbox by now; text is only there.
                mailbox.drop_events()

    async def _history(self, run_id: str, mailbox: RunMailbox, with_values: bool) -> AsyncGenerator[Event | Expired]:
        """Read what is committed now, from the mailbox's position on.

        A gap is the work of retention.
        """
        run_row = await self._run_row(run_id)
        last_seq = run_row["last_seq"] if run_row else 0
        while mailbox.position < last_seq:
            statement = _EVENTS_AND_VALUES if with_values else _EVENTS
            rows = await self._database.pool.fetch(statement, run_id, mailbox.position, BATCH)
            first_seq = rows[0]["seq"] if rows else last_seq + 1
            if first_seq > mailbox.position + 1:
                seq, mailbox.position = mailbox.position, first_seq - 1
                yield Expired(run_id, seq, first_seq, datetime.now(UTC))
            for row in rows:
                mailbox.position = row["seq"]
                yield _event_of(run_id, row)

    async def _is_over(self, run_id: str, position: int) -> bool:
        row = await self._run_row(run_id)
        return row is None or (RunStatus(row["status"]).is_terminal and position >= row["last_seq"])

    async def _run_row(self, run_id: str) -> Any:
        return await self._database.pool.fetchrow("SELECT status, last_seq FROM runs WHERE id = $1", run_id)

    async def messages(self, *channels: str) -> AsyncGenerator[str | None]:
        """Yield the messages of channels, and None where messages may be missing."""
        async with aclosing(self.channels.listen(*channels)) as messages:
            async for message in messages:
                yield message

    async def draft_saves(self, workflow_id: str) -> AsyncGenerator[None]:
        """Yield once when the subscription starts, then whenever the draft may have been saved."""
        async with aclosing(self.channels.listen(draft_channel(workflow_id))) as messages:
            async for _ in messages:
                yield None


def _event_of(run_id: str, row: Any) -> Event:
    body = row["body"]
    if row["has_values"]:
        body["values"] = [row["input"], row["output"]]
    data = codec.data_of(row["type"], row["node_id"], body, run_id, row["seq"], row["at"])
    return Event(run_id, row["seq"], row["at"], data)


class _EndedNodes:
    """The nodes whose visit has ended, so that no text of the visit follows its end."""

    def __init__(self) -> None:
        self._seqs: dict[str, int] = {}

    def note(self, item: Event | Expired | LiveDelta) -> None:
        if isinstance(item, Event) and isinstance(item.data, NodeChange) and item.data.state.status.is_finished:
            self._seqs[item.data.state.node_id] = item.seq

    def is_late(self, delta: LiveDelta) -> bool:
        """Whether the text was streamed before the end of its node, which the reader has seen."""
        return delta.seq < self._seqs.get(delta.data.node_id, 0)


async def _live(mailbox: RunMailbox, ended: _EndedNodes | None = None) -> AsyncGenerator[Event | LiveDelta]:
    """Yield the events that follow the mailbox's position. Ends where Postgres has to be read.

    Text gets the number of the last event that the reader has seen: from that number on a client can
    continue, also if the stream lacks an event.
    """
    while (event := await mailbox.next()) is not None:
        if isinstance(event, LiveDelta):
            if ended is None or not ended.is_late(event):
                yield event if event.seq == mailbox.position else replace(event, seq=mailbox.position)
            continue
        if event.seq > mailbox.position + 1:
            return
        if event.seq == mailbox.position + 1:
            mailbox.position = event.seq
            yield event


def _is_last(item: Event | Expired | LiveDelta) -> bool:
    return isinstance(item, Event) and isinstance(item.data, StatusChange) and item.data.status.is_terminal
