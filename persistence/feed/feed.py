"""The live side of runs: every event of a run in order, each once, from any number on. Postgres is what counts.

A subscriber that reconnects with the last number it saw misses nothing and sees nothing twice, whatever Redis does.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis

from engine.events import Event, LiveDelta, StatusChange
from engine.states import RunStatus
from persistence.db.database import Database
from persistence.events import codec
from persistence.events.publisher import announce as announce
from persistence.events.publisher import draft_channel, publish_transitions
from persistence.events.publisher import publish as publish
from persistence.events.run_transition import RunTransition
from persistence.feed.pubsub import Channels
from persistence.feed.rest_waiter import RestWaiter
from persistence.feed.run_changes import RunChanges
from persistence.feed.streams import Mailbox, StreamReader
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
    """Events from `seq` + 1 up to before `first_seq` are past retention; what follows starts at `first_seq`."""

    run_id: str
    seq: int
    first_seq: int
    at: datetime


class Feed:
    """One a process. End with `await close()`."""

    def __init__(self, database: Database, redis: Redis) -> None:
        self._database, self._redis = database, redis
        self.streams = StreamReader(database, redis)
        self.channels = Channels(redis)
        self.rests = RestWaiter(self.channels)
        self.changing = RunChanges(database.pool, self.channels)

    async def close(self) -> None:
        await self.streams.close()
        await self.rests.close()
        await self.changing.close()
        await self.channels.close()

    async def publish(self, transitions: Sequence[RunTransition]) -> None:
        """Publish what a committed transaction wrote. Never raises: a lost message only delays readers."""
        await publish_transitions(self._redis, transitions)

    async def follow(
        self, run_id: str, after: int, *, with_values: bool = False
    ) -> AsyncGenerator[Event | Expired | LiveDelta]:
        """Events after `after`: history, then live with text as it streams, up to the terminal one.

        Ends at once if the run is over or unknown. With `with_values` history carries what nodes were given and gave back
        along while it is small, as live events do.

        A number higher than the run's last counts as the last. Close it (`aclosing`) when you stop early.
        """
        place = await self._place(run_id)
        if place is None:
            return
        with self.streams.mailbox(run_id, place["last_seq"]) as mailbox:
            mailbox.position = min(max(after, 0), place["last_seq"])
            while True:
                mailbox.start_over()
                async with aclosing(self._history(run_id, mailbox, with_values)) as history:
                    async for item in history:
                        yield item
                        if _is_last(item):
                            return
                if await self._is_over(run_id, mailbox.position):
                    return
                async with aclosing(_live(mailbox)) as live:
                    async for event in live:
                        yield event
                        if _is_last(event):
                            return

    async def _history(self, run_id: str, mailbox: Mailbox, with_values: bool) -> AsyncGenerator[Event | Expired]:
        """From the mailbox's position to what is committed now. A hole in Postgres itself is retention's work."""
        place = await self._place(run_id)
        last_seq = place["last_seq"] if place else 0
        while mailbox.position < last_seq:
            statement = _EVENTS_AND_VALUES if with_values else _EVENTS
            rows = await self._database.pool.fetch(statement, run_id, mailbox.position, BATCH)
            first_seq = rows[0]["seq"] if rows else last_seq + 1
            if first_seq > mailbox.position + 1:
                missed, mailbox.position = mailbox.position, first_seq - 1
                yield Expired(run_id, missed, first_seq, datetime.now(UTC))
            for row in rows:
                mailbox.position = row["seq"]
                body = row["body"]
                if row["has_values"]:
                    body["values"] = [row["input"], row["output"]]
                what = codec.data_of(row["type"], row["node_id"], body, run_id, row["seq"])
                yield Event(run_id, row["seq"], row["at"], what)

    async def _is_over(self, run_id: str, position: int) -> bool:
        place = await self._place(run_id)
        return place is None or (RunStatus(place["status"]).is_terminal and position >= place["last_seq"])

    async def _place(self, run_id: str) -> Any:
        return await self._database.pool.fetchrow("SELECT status, last_seq FROM runs WHERE id = $1", run_id)

    async def draft_saves(self, workflow_id: str) -> AsyncGenerator[None]:
        """One item when the listening begins, and one whenever the draft may have been saved."""
        async with aclosing(self.channels.listen(draft_channel(workflow_id))) as messages:
            async for _ in messages:
                yield None


async def _live(mailbox: Mailbox) -> AsyncGenerator[Event | LiveDelta]:
    """The events that follow on the mailbox's position; ends where Postgres has to be asked."""
    while (event := await mailbox.next()) is not None:
        if isinstance(event, LiveDelta):
            yield event
            continue
        if event.seq > mailbox.position + 1:
            return
        if event.seq == mailbox.position + 1:
            mailbox.position = event.seq
            yield event


def _is_last(item: Event | Expired | LiveDelta) -> bool:
    return isinstance(item, Event) and isinstance(item.data, StatusChange) and item.data.status.is_terminal
