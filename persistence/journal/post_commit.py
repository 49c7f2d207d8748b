"""`PostCommit`: publishes what the journal has committed, and streamed text, in order.

It does that in a task of its own. A slow Redis therefore does not delay the next commit. Text is
published after the events that were committed before it, because a Redis stream accepts no entry
that is older than its last one. A crash loses what is not published yet: readers find the events in
Postgres, and the text in the node's state.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from redis.asyncio import Redis

from engine.events import OutputDelta, StatusChange
from persistence.events.codec import delta_payload
from persistence.events.publisher import StreamItem, publish
from persistence.events.run_transition import RunTransition
from persistence.journal.group_commit import Batch, WrittenRun
from persistence.journal.progress_notices import ProgressNotices

DELTA_DELAY_S = 0.02
"""How long streamed text waits for more text of the same node, in seconds."""


class PostCommit:
    """The publishing queue of one journal.

    Call `open` before use; the journal cancels `tasks` when it closes.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._queue: asyncio.Queue[tuple[Sequence[StreamItem], Sequence[RunTransition]]] = asyncio.Queue()
        self._last_seq: dict[str, int] = {}
        """The last committed seq of each run that this process writes.

        Streamed text is published after it.
        """
        self._deltas: dict[str, dict[str, OutputDelta]] = {}
        """Text that waits for more text, by run and node."""
        self._progress = ProgressNotices(redis)
        self.task: asyncio.Task[None] | None = None

    def open(self) -> None:
        self.task = asyncio.create_task(self._publish(), name="journal-publisher")
        self._progress.open()

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        return [task for task in (self.task, self._progress.task) if task is not None]

    async def drain(self) -> None:
        """Wait until everything in the queue is published."""
        await self._queue.join()

    def put(self, items: Sequence[StreamItem], transitions: Sequence[RunTransition]) -> None:
        """Publish after everything that is in the queue already."""
        self._queue.put_nowait((items, transitions))

    def put_batch(self, batch: Batch, written: WrittenRun) -> None:
        """Publish a committed batch."""
        run_id, base, project_id = batch.run_id, written.base, written.project_id
        items = [StreamItem(run_id, seq, event.payload()) for seq, event in enumerate(batch.encoded, base + 1)]
        self._last_seq[run_id] = base + len(items)
        transitions = [
            RunTransition.of(project_id, run_id, data, end=written.end if data.status.is_terminal else None)
            for _, data, *_ in batch.encoded
            if isinstance(data, StatusChange)
        ]
        self.put(items, transitions)
        self._progress.note(batch, project_id, has_transition=bool(transitions))

    def flush(self, run_id: str) -> None:
        """Publish the waiting text of a run, because an event of the run is to follow it."""
        if (deltas := self._deltas.pop(run_id, None)) is not None:
            self._send_deltas({run_id: deltas})

    def stream(self, run_id: str, delta: OutputDelta) -> None:
        """Publish text within DELTA_DELAY_S.

        It is joined to earlier text of the same attempt, because models send a word at a time.
        """
        if not self._deltas:
            asyncio.get_running_loop().call_later(DELTA_DELAY_S, self._send_all_deltas)
        of_run = self._deltas.setdefault(run_id, {})
        before = of_run.get(delta.node_id)
        if before is not None and (before.visit, before.attempt) == (delta.visit, delta.attempt):
            delta = replace(before, text=before.text + delta.text)
        of_run[delta.node_id] = delta

    def forget(self, run_id: str) -> None:
        """Drop the state of a run whose execution has ended in this process."""
        self._last_seq.pop(run_id, None)
        self._deltas.pop(run_id, None)
        self._progress.forget(run_id)

    def _send_all_deltas(self) -> None:
        deltas, self._deltas = self._deltas, {}
        self._send_deltas(deltas)

    def _send_deltas(self, deltas: Mapping[str, Mapping[str, OutputDelta]]) -> None:
        now = datetime.now(UTC)
        items = [
            StreamItem(run_id, self._last_seq[run_id], delta_payload(now, delta), is_delta=True)
            for run_id, of_run in deltas.items()
            if run_id in self._last_seq
            for delta in of_run.values()
        ]
        if items:
            self.put(items, [])

    async def _publish(self) -> None:
        while True:
            items, transitions = await self._queue.get()
            count = 1
            while not self._queue.empty():
                more, more_transitions = self._queue.get_nowait()
                items, transitions, count = [*items, *more], [*transitions, *more_transitions], count + 1
            await publish(self._redis, items, transitions)
            for _ in range(count):
                self._queue.task_done()
