"""A worker that claims runs and writes to them by the real journal, but executes no graph."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from redis.asyncio import Redis

from engine.events import CheckpointSaved, EventData, NodeChange, NodeState, OutputDelta, StatusChange
from engine.runtime.ports import CheckpointRecord, Entry, RunChange
from engine.states import NodeStatus, RunStatus
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.db.deadlines import Deadlines
from persistence.events.publisher import publish_transitions
from persistence.journal.journal import PostgresJournal
from persistence.queue.claims import claim_next
from persistence.runs import create
from persistence.runs.create import NewRun
from persistence.runs.run import CommandResult, Run
from persistence.workflows import versions
from persistence.workflows.drafts import Content

SPEC = {
    "nodes": [
        {"id": "a", "type": "transform", "label": "First", "config": {"output": 1}},
        {"id": "b", "type": "transform", "config": {"output": 2}},
    ],
    "edges": [{"id": "e", "source": "a", "target": "b"}],
}

DEADLINES = Deadlines(
    pausing=timedelta(minutes=1),
    cancelling=timedelta(seconds=10),
    idle=timedelta(days=30),
    kept_events=timedelta(days=7),
)


async def accept_run(
    database: Database, caller: Caller, project: str, *, start: bool = True, id: str | None = None
) -> CommandResult:
    """Insert a run of SPEC with its event 1, PENDING unless `start`."""
    async with database.begin() as connection:
        version = await versions.ensure_adhoc(connection, caller, project, Content(SPEC, "hash-of-spec"))
        new = NewRun(project, None, version.id, {"n": 1}, start=start, id=id)
        return await create.accept(connection, caller, new)


async def wait_until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds. Raises TimeoutError after 20 s."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 (the condition has no event of its own)
            await asyncio.sleep(0)


class HeldRun:
    """A run that the worker holds under an epoch."""

    def __init__(self, journal: PostgresJournal, run_id: str, epoch: int) -> None:
        self._journal, self.run_id, self.epoch = journal, run_id, epoch

    async def record(self, *events: EventData) -> int:
        """Commit events as one entry. Returns the number of the last one."""
        now = datetime.now(UTC)
        entry = Entry(self.run_id, self.epoch, events_to_write=[(now, data) for data in events])
        return await self._journal.commit(entry)

    async def commit(self, entry: Entry) -> int:
        return await self._journal.commit(entry)

    def stream(self, delta: OutputDelta) -> None:
        self._journal.stream(self.run_id, delta)

    async def node(self, node_id: str, status: NodeStatus, **values: object) -> int:
        return await self.record(NodeChange(NodeState(self.run_id, node_id, status, **values)))  # type: ignore[arg-type]

    async def checkpoint(self, id: str, *, step: int, next_nodes: list[str], parent_id: str | None = None) -> int:
        record = CheckpointRecord(id, parent_id, step, True, b"12345", next_nodes)
        saved = (datetime.now(UTC), CheckpointSaved(id, step))
        return await self._journal.commit(Entry(self.run_id, self.epoch, events_to_write=[saved], checkpoint=record))

    async def finish(
        self,
        status: RunStatus = RunStatus.COMPLETED,
        expected: RunStatus = RunStatus.RUNNING,
        message: str | None = "Ended",
    ) -> int:
        change = StatusChange(status, expected, message or "")
        entry = Entry(
            self.run_id,
            self.epoch,
            events_to_write=[(datetime.now(UTC), change)],
            change=RunChange(status, expected, message, output={"ok": True}),
        )
        return await self._journal.commit(entry)


class JournalWorker:
    """Claims queued runs."""

    def __init__(self, database: Database, redis: Redis, journal: PostgresJournal) -> None:
        self._database, self._redis, self._journal = database, redis, journal
        self._epochs: dict[str, int] = {}

    async def claim(self, run: Run) -> HeldRun:
        """Claim queued runs until this one is among them."""
        while run.id not in self._epochs:
            batch = await claim_next(self._database.pool, "worker", 60, 10)
            assert batch.runs, "the run is not queued"
            await publish_transitions(self._redis, batch.transitions)
            self._epochs |= {claimed.id: claimed.epoch for claimed in batch.runs}
        return HeldRun(self._journal, run.id, self._epochs.pop(run.id))


@asynccontextmanager
async def open_worker(database: Database, redis: Redis) -> AsyncIterator[JournalWorker]:
    """Open a worker with a journal of its own."""
    journal = PostgresJournal(database.pool, redis, database.deadlines)
    journal.open()
    try:
        yield JournalWorker(database, redis, journal)
    finally:
        await journal.close()
