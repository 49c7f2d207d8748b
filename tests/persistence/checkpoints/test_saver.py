"""The saver passes LangGraph's conformance suite, except for tests of several namespaces."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.conformance import checkpointer_test, validate
from redis.asyncio import Redis

from engine.events import CheckpointSaved
from engine.graph.channels import NodeRecord
from engine.runtime.ports import CheckpointRecord, CheckpointStep, Entry
from persistence.caller import Caller
from persistence.checkpoints.saver import Saver
from persistence.db.database import Database
from persistence.journal.journal import PostgresJournal
from tests.journal_worker import accept_run

NOT_APPLICABLE = {
    # Our graphs have no subgraphs, so a run has one namespace.
    "test_put_child_namespace",
    "test_put_writes_across_namespaces",
    "test_list_by_namespace",
    "test_list_multiple_namespaces",
}


class IdleRun:
    """An attached run without nodes: it commits its checkpoints by the real journal."""

    def __init__(self, run_id: str, journal: PostgresJournal) -> None:
        self.run_id, self.is_new = run_id, False
        self.running_nodes: list[str] = []
        self._journal = journal

    def take_changes(self, *, is_full: bool) -> dict[str, Any]:
        return {}

    def needs_state(self, node_id: str, record: NodeRecord) -> bool:
        return False

    def take_steps(self) -> list[CheckpointStep]:
        return []

    @property
    def event_count(self) -> int:
        return 0

    @property
    def record_count(self) -> int:
        return 0

    async def commit_superstep(self, record: CheckpointRecord, *, has_next: bool) -> None:
        saved = (datetime.now(UTC), CheckpointSaved(record.id, record.step))
        await self._journal.commit(Entry(self.run_id, 0, events_to_write=[saved], checkpoint=record))


class AttachingSaver(Saver):
    """A saver that makes a run for each new thread, and loads the head from Postgres after each checkpoint."""

    def __init__(self, database: Database, journal: PostgresJournal, caller: Caller, project: str) -> None:
        super().__init__(database.pool, journal.clock_skew)
        self._database, self._journal, self._caller, self._project = database, journal, caller, project

    async def aput(self, config: RunnableConfig, *rest: Any) -> RunnableConfig:
        run_id = config["configurable"]["thread_id"]
        if run_id not in self._threads:
            run = (await accept_run(self._database, self._caller, self._project)).run
            rename = "UPDATE runs SET id = $2, status = 'RUNNING' WHERE id = $1"
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute("DELETE FROM events WHERE run_id = $1", run.id)
                await connection.execute(rename, run.id, run_id)
        await self.attach(IdleRun(run_id, self._journal))
        stored = await super().aput(config, *rest)
        await self.attach(IdleRun(run_id, self._journal))
        return stored


@pytest.mark.parametrize("capability", ["put", "put_writes", "get_tuple", "list", "delete_thread"])
async def test_the_saver_passes_langgraphs_conformance_suite(
    database: Database, redis: Redis, caller: Caller, project: str, capability: str
) -> None:
    journal = PostgresJournal(database.pool, redis, database.deadlines)
    journal.open()

    @checkpointer_test("treadle")
    async def savers() -> AsyncGenerator[Saver, None]:
        yield AttachingSaver(database, journal, caller, project)

    report = await validate(savers, capabilities={capability})
    await journal.close()
    result = report.results[capability]
    failed = {failure.split(":", 1)[0]: failure for failure in result.failures or []}
    assert set(failed) <= NOT_APPLICABLE, failed
    assert (result.tests_passed or 0) >= 3
