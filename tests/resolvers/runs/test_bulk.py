"""Bulk jobs: each run is changed once, whichever server dies where, and the same key gives the same job."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from persistence.bulk_jobs import job as jobs
from persistence.caller import Caller, Role
from resolvers.context import Context
from resolvers.runs import bulk
from resolvers.runs.bulk import work
from tests.schema_client import call, mutate, new_workflow

JOB = "job { id action matched done failed lastError finishedAt dryRun }"
COUNT = 45


def start(context: Context, name: str, filter: dict[str, Any], **input: Any) -> Any:
    text = f"mutation($input: BulkInput!) {{ {name}(input: $input) {{ {JOB} errors {{ code detail }} }} }}"
    return call(context, text, input={"filter": filter, **input})


async def finish(context: Context) -> None:
    """Work on all jobs as three servers do."""
    while any(await asyncio.gather(*(work(context_of(context), context) for _ in range(3)))):
        pass


def context_of(context: Context) -> Any:
    return lambda caller: replace(context, caller=caller)


async def statuses(context: Context) -> dict[str, int]:
    rows = await context.database.pool.fetch("SELECT status, count(*) AS n FROM runs GROUP BY status")
    return {row["status"]: row["n"] for row in rows}


async def read(context: Context, job_id: str) -> dict[str, Any]:
    query = "query($id: ID!) { bulkJob(id: $id) { id action matched done failed lastError finishedAt dryRun } }"
    found: dict[str, Any] = (await call(context, query, id=job_id))["bulkJob"]
    return found


@pytest.fixture
async def workflow_id(context: Context) -> str:
    workflow_id = await new_workflow(context)
    for _ in range(COUNT):
        await mutate(context, "runWorkflow", "run { id }", workflowId=workflow_id, inputs={"value": 1})
    return workflow_id


async def test_jobs_cancel_retry_and_delete_the_runs_that_match(
    context: Context, workflow_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = {"workflowId": workflow_id}
    dry = (await start(context, "cancelRuns", where, dryRun=True))["cancelRuns"]["job"]
    assert (dry["matched"], dry["done"], dry["finishedAt"] is not None) == (COUNT, 0, True)
    assert await statuses(context) == {"QUEUED": COUNT}
    job = (await start(context, "cancelRuns", where, max=30, idempotencyKey="k"))["cancelRuns"]["job"]
    again = (await start(context, "cancelRuns", where, max=30, idempotencyKey="k"))["cancelRuns"]["job"]
    assert again["id"] == job["id"] and job["finishedAt"] is None
    other = (await start(context, "cancelRuns", where, max=31, idempotencyKey="k"))["cancelRuns"]
    assert [error["code"] for error in other["errors"]] == ["CONFLICT"]
    # A run that ends meanwhile cannot be cancelled.
    first = await context.database.pool.fetchval("SELECT id FROM runs ORDER BY id DESC LIMIT 1")
    await context.database.pool.execute("UPDATE runs SET status = 'FAILED', finished_at = now() WHERE id = $1", first)
    await finish(context)
    job = await read(context, job["id"])
    assert (job["matched"], job["done"], job["failed"], first in job["lastError"]) == (30, 29, 1, True)
    assert job["finishedAt"] is not None and await statuses(context) == {"QUEUED": 15, "CANCELLED": 29, "FAILED": 1}
    again = (await start(context, "cancelRuns", where, max=30, idempotencyKey="k"))["cancelRuns"]["job"]
    assert (again["id"], again["done"]) == (job["id"], 29)

    # A server dies between the changes and the position, and another one takes the job over.
    job = (await start(context, "retryRuns", {**where, "status": ["CANCELLED", "QUEUED"]}))["retryRuns"]["job"]
    assert job["matched"] == 29
    with monkeypatch.context() as patch, pytest.raises(ConnectionResetError):
        patch.setattr(jobs, "finish_step", _die)
        await work(context_of(context), context)
    assert not await work(context_of(context), context), "the claim of the dead server has not ended"
    await context.database.pool.execute("UPDATE bulk_jobs SET claimed_until = now() WHERE finished_at IS NULL")
    await finish(context)
    job = await read(context, job["id"])
    assert (job["done"], job["failed"]) == (29, 0)
    assert await context.database.pool.fetchval("SELECT count(*) FROM runs WHERE source = 'RETRY'") == 29

    # Only finished runs can be deleted.
    job = (await start(context, "deleteRuns", where))["deleteRuns"]["job"]
    assert job["matched"] == 30
    with monkeypatch.context() as patch, pytest.raises(ConnectionResetError):
        patch.setattr(jobs, "finish_step", _die)
        await work(context_of(context), context)
    await context.database.pool.execute("UPDATE bulk_jobs SET claimed_until = now() WHERE finished_at IS NULL")
    await finish(context)
    assert (await read(context, job["id"]))["done"] == 30
    assert await statuses(context) == {"QUEUED": 15 + 29}
    pool = context.database.pool
    orphans = "SELECT count(*) FROM events e WHERE NOT EXISTS (SELECT FROM runs r WHERE r.id = e.run_id)"
    assert await pool.fetchval(orphans) == 0
    audited = await pool.fetch("SELECT action, count(*) AS n FROM audit_log WHERE action ~ 'Runs?$' GROUP BY action")
    counts = {row["action"]: row["n"] for row in audited}
    assert counts == {"cancelRuns": 2, "cancelRun": 29, "retryRuns": 1, "retryRun": 29, "deleteRuns": 31}


async def test_a_fault_fails_one_run_and_not_the_job(
    context: Context, workflow_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel = bulk.cancel_run
    broken = await context.database.pool.fetchval("SELECT id FROM runs ORDER BY id LIMIT 1")

    async def cancel_or_fail(context: Context, run_id: str, *arguments: Any) -> Any:
        if run_id == broken:
            raise RuntimeError("a fault")
        return await cancel(context, run_id, *arguments)

    monkeypatch.setattr(bulk, "cancel_run", cancel_or_fail)
    job = (await start(context, "cancelRuns", {"workflowId": workflow_id}))["cancelRuns"]["job"]
    await finish(context)
    job = await read(context, job["id"])
    assert (job["done"], job["failed"], job["finishedAt"] is not None) == (COUNT - 1, 1, True)
    assert job["lastError"] == f"{broken}: an unexpected error, which the log of the server has (bulk_jobs.fault)"


async def test_a_fault_outside_the_runs_does_not_end_the_work(
    context: Context, workflow_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim_step, faults = jobs.claim_step, iter([LookupError("a fault of the claim")])

    async def claim_or_fail(pool: Any) -> Any:
        for fault in faults:
            raise fault
        return await claim_step(pool)

    monkeypatch.setattr(jobs, "claim_step", claim_or_fail)
    monkeypatch.setattr(bulk, "INTERVAL_S", 0)
    job = (await start(context, "cancelRuns", {"workflowId": workflow_id}))["cancelRuns"]["job"]
    worker = asyncio.create_task(bulk.work_forever(context_of(context), context))
    async with asyncio.timeout(20):
        while (found := await read(context, job["id"]))["finishedAt"] is None and not worker.done():
            pass
    assert not worker.done() and found["done"] == COUNT
    worker.cancel()
    await asyncio.wait({worker})


async def _die(*_: object) -> bool:
    raise ConnectionResetError("killed")


async def test_a_job_has_the_rights_of_its_caller_and_its_arguments_are_checked(
    context: Context, workflow_id: str, project: str
) -> None:
    for role, name, code in (
        (Role.VIEWER, "cancelRuns", "FORBIDDEN"),
        (Role.RUNNER, "deleteRuns", "FORBIDDEN"),
        (Role.RUNNER, "cancelRuns", None),
    ):
        caller = replace(context, caller=Caller("x", {project: role}))
        found = (await start(caller, name, {}, max=1))[name]
        assert [error["code"] for error in found["errors"]] == ([code] if code else [])
    for most in (0, bulk.MOST_RUNS + 1):
        assert (await start(context, "cancelRuns", {}, max=most))["cancelRuns"]["errors"][0]["code"] == "VALIDATION"
    await finish(context)
    cancelled = await context.database.pool.fetchrow("SELECT created_by, done FROM bulk_jobs")
    assert tuple(cancelled) == ("x", 1)
    assert await read(replace(context, caller=Caller("y", {})), "blk_x") is None
