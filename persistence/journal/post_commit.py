"""Tells what the journal has committed, and the text that streams meanwhile, in order and by a task of its own.

Redis must not hold up the next commit; and text comes behind the events that are on their way already, since a stream takes
nothing that is older than its last.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from redis.asyncio import Redis

from engine.events import OutputDelta, StatusChange
from persistence.events.codec import delta_payload, payload_of
from persistence.events.publisher import Item, publish
from persistence.events.run_transition import RunTransition
from persistence.journal.group_commit import Batch

DELTA_DELAY_S = 0.02
"""How long streamed text may wait for more of it."""


class PostCommit:
    """`open()` before use; its `task` is to be ended by who has opened it."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._waiting: asyncio.Queue[tuple[Sequence[Item], Sequence[RunTransition]]] = asyncio.Queue()
        self._last_seq: dict[str, int] = {}
        """Of the runs that this process has written: what their streamed text comes after."""
        self._deltas: dict[tuple[str, str], OutputDelta] = {}
        self.task: asyncio.Task[None] | None = None

    def open(self) -> None:
        self.task = asyncio.create_task(self._publish(), name="journal-publisher")

    async def has_told(self) -> None:
        """Until everything is published."""
        await self._waiting.join()

    def put(self, items: Sequence[Item], transitions: Sequence[RunTransition]) -> None:
        """To be published behind what is on its way already."""
        self._waiting.put_nowait((items, transitions))

    def tell(self, batch: Batch, base: int, project_id: str) -> None:
        """What has landed, with the number `base` before its first event."""
        run_id = batch.run_id
        items = [
            Item(run_id, base + place, payload_of(at, what))
            for place, (at, what) in enumerate(batch.events_to_write, 1)
        ]
        self._last_seq[run_id] = base + len(items)
        transitions = [
            RunTransition.of(project_id, run_id, what)
            for _, what in batch.events_to_write
            if isinstance(what, StatusChange)
        ]
        self.put(items, transitions)

    def stream(self, run_id: str, delta: OutputDelta) -> None:
        """Text that follows on what waits already is joined to it: a model says a word at a time."""
        if not self._deltas:
            asyncio.get_running_loop().call_later(DELTA_DELAY_S, self._send_deltas)
        before = self._deltas.get((run_id, delta.node_id))
        if before is not None and (before.visit, before.attempt) == (delta.visit, delta.attempt):
            delta = replace(before, text=before.text + delta.text)
        self._deltas[run_id, delta.node_id] = delta

    def forget(self, run_id: str) -> None:
        self._last_seq.pop(run_id, None)

    def _send_deltas(self) -> None:
        deltas, self._deltas = self._deltas, {}
        now = datetime.now(UTC)
        items = [
            Item(run_id, self._last_seq[run_id], delta_payload(now, delta), is_delta=True)
            for (run_id, _), delta in deltas.items()
            if run_id in self._last_seq
        ]
        self.put(items, [])

    async def _publish(self) -> None:
        while True:
            items, transitions = await self._waiting.get()
            taken = 1
            while not self._waiting.empty():
                more, more_transitions = self._waiting.get_nowait()
                items, transitions, taken = [*items, *more], [*transitions, *more_transitions], taken + 1
            await publish(self._redis, items, transitions)
            for _ in range(taken):
                self._waiting.task_done()
