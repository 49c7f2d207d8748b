"""Paused runs, duplicate queue jobs and deleted workflows, with real processes."""

import asyncio
import signal
from typing import Any

import asyncpg
from arq.connections import ArqRedis
from redis.asyncio import Redis
from sqlalchemy import Text

from persistence.db.tables import metadata, run_ends, run_sums
from tests.end_to_end.support.client_actions import mutate, wait_for_status
from tests.end_to_end.support.system import SystemUnderTest


def text_spec(text: str) -> dict[str, Any]:
    return {
        "nodes": [
            {"id": "first", "type": "transform", "config": {"output": 1}},
            {"id": "last", "type": "transform", "config": {"output": text}},
        ],
        "edges": [{"source": "first", "target": "last"}],
    }


async def publish(system: SystemUnderTest, workflow_id: str) -> None:
    payload = await mutate(system, "createVersion", "created errors { detail }", workflowId=workflow_id, publish=True)
    assert payload["errors"] == []


async def create_workflow(system: SystemUnderTest, spec: Any) -> str:
    payload = await mutate(system, "createWorkflow", "workflow { id } errors { detail }", name="Trusted", spec=spec)
    return str(payload["workflow"]["id"])


async def start_run(system: SystemUnderTest, workflow_id: str, **options: Any) -> str:
    run = await mutate(system, "runWorkflow", "run { id } errors { detail }", workflowId=workflow_id, options=options)
    assert run["errors"] == []
    return str(run["run"]["id"])


async def test_a_paused_run_survives_its_worker_and_keeps_its_version(system: SystemUnderTest) -> None:
    workflow_id = await create_workflow(system, text_spec("old"))
    await publish(system, workflow_id)
    run_id = await start_run(system, workflow_id, breakpoints=["last"])
    await wait_for_status(system, run_id, "PAUSED")
    saved = await mutate(
        system,
        "saveDraft",
        "errors { detail }",
        workflowId=workflow_id,
        spec=text_spec("new"),
        expectedRevision=1,
    )
    assert saved["errors"] == []
    await publish(system, workflow_id)
    for process in system.processes[1:]:
        process.send_signal(signal.SIGKILL)
        process.wait()
    system.start("worker")
    assert (await mutate(system, "resumeRun", runId=run_id))["errors"] == []
    assert (await system.wait_for_end(run_id))["output"] == {"last": "old"}
    later = await start_run(system, workflow_id)
    assert (await system.wait_for_end(later))["output"] == {"last": "new"}


async def test_a_deleted_workflow_leaves_no_rows(system: SystemUnderTest) -> None:
    """Only its statistics stay: the runs took place and cost money (decision 59)."""
    workflow_id = await create_workflow(system, text_spec("gone"))
    await publish(system, workflow_id)
    question = {"nodes": [{"id": "ask", "type": "human", "config": {"prompt": "?"}}], "edges": []}
    other = await create_workflow(system, question)
    run_ids = [await start_run(system, workflow_id), await start_run(system, other)]
    await system.wait_for_end(run_ids[0])
    await wait_for_status(system, run_ids[1], "WAITING")
    for one in (workflow_id, other):
        done = await mutate(system, "deleteWorkflow", "deletedId errors { detail }", id=one, cancelRuns=True)
        assert done == {"deletedId": one, "errors": []}
    redis = Redis.from_url(system.redis_url)
    assert await redis.exists(*(f"events:{run_id}" for run_id in run_ids)) == 0
    await redis.aclose()
    connection = await asyncpg.connect(system.database_url)
    try:
        for table in set(metadata.sorted_tables) - {run_ends, run_sums}:
            texts = {column.name for column in table.columns if isinstance(column.type, Text)}
            for column in {"run_id", "workflow_id", "id"} & texts:
                query = f"SELECT count(*) FROM {table.name} WHERE {column} = ANY($1)"
                assert await connection.fetchval(query, [*run_ids, workflow_id, other]) == 0, (table.name, column)
    finally:
        await connection.close()


async def test_duplicate_and_lost_arq_jobs_do_not_change_how_often_a_run_is_executed(system: SystemUnderTest) -> None:
    """Jobs are enqueued repeatedly and arq's keys are deleted, but the queue is in Postgres."""
    plain = Redis.from_url(system.redis_url)
    arq = ArqRedis(connection_pool=plain.connection_pool, default_queue_name="treadle")
    workflow_id = await create_workflow(system, text_spec("once"))

    async def disturb_arq() -> None:
        for number in range(100):
            await arq.enqueue_job("poll_queue", _job_id=f"again-{number}", _defer_by=number / 1000)
            await arq.enqueue_job("no_such_job", _job_id=f"unknown-{number}")
            if number % 20 == 0:
                await plain.flushall()

    disturbance = asyncio.create_task(disturb_arq())
    run_ids = [await start_run(system, workflow_id) for _ in range(20)]
    await disturbance
    runs = await asyncio.gather(*(system.wait_for_end(run_id) for run_id in run_ids))
    await plain.aclose()
    for run in runs:
        ends = [event for event in run["events"]["nodes"] if event.get("nodeState", {}).get("status") == "COMPLETED"]
        assert (run["status"], run["attempt"], len(ends)) == ("COMPLETED", 1, 2)
