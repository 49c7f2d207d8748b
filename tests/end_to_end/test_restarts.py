"""Runs that rest, queues that stutter and workflows that go: what is promised of each, with real processes."""

import asyncio
import signal
from typing import Any

import asyncpg
from arq.connections import ArqRedis
from redis.asyncio import Redis

from persistence.db.tables import metadata
from tests.end_to_end.client_actions import do, until
from tests.end_to_end.system import System


def saying(word: str) -> dict[str, Any]:
    return {
        "nodes": [
            {"id": "first", "type": "transform", "config": {"output": 1}},
            {"id": "last", "type": "transform", "config": {"output": word}},
        ],
        "edges": [{"source": "first", "target": "last"}],
    }


async def published(system: System, workflow_id: str) -> None:
    made = await do(system, "createVersion", "created errors { detail }", workflowId=workflow_id, publish=True)
    assert made["errors"] == []


async def workflow(system: System, spec: Any) -> str:
    made = await do(system, "createWorkflow", "workflow { id } errors { detail }", name="Trusted", spec=spec)
    return str(made["workflow"]["id"])


async def started(system: System, workflow_id: str, **options: Any) -> str:
    run = await do(system, "runWorkflow", "run { id } errors { detail }", workflowId=workflow_id, options=options)
    assert run["errors"] == []
    return str(run["run"]["id"])


async def test_a_paused_run_outlives_its_worker_and_a_version_published_meanwhile(system: System) -> None:
    workflow_id = await workflow(system, saying("old"))
    await published(system, workflow_id)
    run_id = await started(system, workflow_id, breakpoints=["last"])
    await until(system, run_id, "PAUSED")
    saved = await do(
        system,
        "saveDraft",
        "errors { detail }",
        workflowId=workflow_id,
        spec=saying("new"),
        expectedRevision=1,
    )
    assert saved["errors"] == []
    await published(system, workflow_id)
    for process in system.processes[1:]:
        process.send_signal(signal.SIGKILL)
        process.wait()
    system.start("worker")
    assert (await do(system, "resumeRun", runId=run_id))["errors"] == []
    assert (await system.ended(run_id))["output"] == {"last": "old"}
    later = await started(system, workflow_id)
    assert (await system.ended(later))["output"] == {"last": "new"}


async def test_a_deleted_workflow_leaves_no_row_behind(system: System) -> None:
    workflow_id = await workflow(system, saying("gone"))
    await published(system, workflow_id)
    asked = {"nodes": [{"id": "ask", "type": "human", "config": {"prompt": "?"}}], "edges": []}
    other = await workflow(system, asked)
    run_ids = [await started(system, workflow_id), await started(system, other)]
    await system.ended(run_ids[0])
    await until(system, run_ids[1], "WAITING")
    for one in (workflow_id, other):
        done = await do(system, "deleteWorkflow", "deletedId errors { detail }", id=one, cancelRuns=True)
        assert done == {"deletedId": one, "errors": []}
    redis = Redis.from_url(system.redis_url)
    assert await redis.exists(*(f"events:{run_id}" for run_id in run_ids)) == 0
    await redis.aclose()
    connection = await asyncpg.connect(system.database_url)
    try:
        for table in metadata.sorted_tables:
            for column in {"run_id", "workflow_id", "id"} & {column.name for column in table.columns}:
                query = f"SELECT count(*) FROM {table.name} WHERE {column} = ANY($1)"
                assert await connection.fetchval(query, [*run_ids, workflow_id, other]) == 0, (table.name, column)
    finally:
        await connection.close()


async def test_whatever_arq_does_with_its_jobs_a_run_is_executed_once(system: System) -> None:
    """Rung a hundred times over, its queue flushed, its jobs' marks taken away: the queue is in Postgres."""
    plain = Redis.from_url(system.redis_url)
    arq = ArqRedis(connection_pool=plain.connection_pool, default_queue_name="treadle")
    workflow_id = await workflow(system, saying("once"))

    async def stutter() -> None:
        for number in range(100):
            await arq.enqueue_job("poll_queue", _job_id=f"again-{number}", _defer_by=number / 1000)
            await arq.enqueue_job("no_such_job", _job_id=f"unknown-{number}")
            if number % 20 == 0:
                await plain.flushall()

    stuttering = asyncio.create_task(stutter())
    run_ids = [await started(system, workflow_id) for _ in range(20)]
    await stuttering
    runs = await asyncio.gather(*(system.ended(run_id) for run_id in run_ids))
    await plain.aclose()
    for run in runs:
        ends = [event for event in run["events"]["nodes"] if event.get("nodeState", {}).get("status") == "COMPLETED"]
        assert (run["status"], run["attempt"], len(ends)) == ("COMPLETED", 1, 2)
