"""The end of a run fires triggers in the transaction that ends it, each once, however the run ends."""

import asyncio
from typing import Any

import pytest

from persistence.caller import Caller
from persistence.db.database import Database
from persistence.maintenance.rescue import rescue_expired
from persistence.maintenance.timers import end_overdue
from persistence.runs import commands
from persistence.runs.run import Run
from persistence.triggers import trigger as triggers
from persistence.triggers.trigger import NewTrigger
from tests.executor_worker import eventually
from tests.journal_worker import DEADLINES, accept_run
from tests.persistence.triggers.stored_triggers import due_triggers, published_workflow, rows

_WAITS = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype IN ('transactionid', 'tuple')"
PENDING = "SELECT trigger_id, payload FROM pending_firings ORDER BY trigger_id"


async def new_follower(
    database: Database, caller: Caller, project: str, workflow_id: str, config: Any, *, enabled: bool = True
) -> str:
    new = NewTrigger(workflow_id, "run_finished", "F", config, "{{ event }}", enabled)
    async with database.begin() as connection:
        return (await triggers.create(connection, caller, project, new)).id


async def end(database: Database, run_id: str, status: str, code: str | None = None) -> None:
    error = None if code is None else {"code": code, "message": "m"}
    statement = "UPDATE runs SET status = $2, error = $3, finished_at = now() WHERE id = $1"
    await database.pool.execute(statement, run_id, status, error)


@pytest.mark.parametrize(
    ("config", "status", "code", "fires"),
    [
        ({}, "FAILED", "NODE", True),
        ({}, "COMPLETED", None, False),
        ({"statuses": ["COMPLETED"]}, "COMPLETED", None, True),
        ({"statuses": ["FAILED", "CANCELLED"]}, "CANCELLED", "DEADLINE", True),
        ({"statuses": ["FAILED", "CANCELLED"], "codes": ["DEADLINE"]}, "CANCELLED", None, False),
        ({"codes": ["CRASH_LOOP"]}, "FAILED", "CRASH_LOOP", True),
        ({"codes": ["CRASH_LOOP"]}, "FAILED", "NODE", False),
        ({"codes": []}, "FAILED", "NODE", True),
        ({"workflowId": "wf_other"}, "FAILED", "NODE", False),
    ],
)
async def test_which_ends_fire(
    database: Database, caller: Caller, project: str, run: Run, config: Any, status: str, code: str | None, fires: bool
) -> None:
    workflow_id = await published_workflow(database, caller, project)
    await new_follower(database, caller, project, workflow_id, config)
    await new_follower(database, caller, project, workflow_id, config, enabled=False)
    await end(database, run.id, status, code)
    await database.pool.execute("UPDATE runs SET status_message = 'again' WHERE id = $1", run.id)
    pending = await rows(database, PENDING)
    assert len(pending) == int(fires)
    if fires:
        event = pending[0]["payload"]
        assert (event["runId"], event["status"], event["code"], event["depth"]) == (run.id, status, code, 1)


async def test_a_cancel_a_crash_loop_and_a_deadline_fire(database: Database, caller: Caller, project: str) -> None:
    workflow_id = await published_workflow(database, caller, project)
    trigger_id = await new_follower(database, caller, project, workflow_id, {"statuses": ["FAILED", "CANCELLED"]})
    cancelled, crashed, late = [(await accept_run(database, caller, project)).run.id for _ in range(3)]
    async with database.begin() as connection:
        await commands.cancel(connection, caller, cancelled, None, DEADLINES)
    lost = "UPDATE runs SET status = 'RUNNING', lease_until = now() - interval '1 hour' WHERE id = $1"
    await database.pool.execute(lost, crashed)
    await rescue_expired(database, 1)
    waiting = "UPDATE runs SET status = 'PAUSED', deadline_at = now() - interval '1 s' WHERE id = $1"
    await database.pool.execute(waiting, late)
    await end_overdue(database)
    fired = (await due_triggers(database).fire_pending()).fired
    ends = {one.event.payload["runId"]: one.event.payload["code"] for one in fired}  # type: ignore[index, call-overload]
    assert ends == {cancelled: None, crashed: "CRASH_LOOP", late: "DEADLINE"}
    started = await rows(database, "SELECT inputs FROM runs WHERE trigger_id = $1", trigger_id)
    assert {row["inputs"]["runId"] for row in started} == {cancelled, crashed, late}


async def test_chains_end_and_a_trigger_does_not_follow_its_own_runs(
    database: Database, caller: Caller, project: str, run: Run
) -> None:
    workflow_id = await published_workflow(database, caller, project)
    for _ in range(2):
        await new_follower(database, caller, project, workflow_id, {})
    due, ended = due_triggers(database), [run.id]
    for depth in range(1, 11):
        for run_id in ended:
            await end(database, run_id, "FAILED", "NODE")
        fired = (await due.fire_pending()).fired
        # The first run fires both. Each of their runs fires the other one only.
        assert len(fired) == 2
        assert {one.event.payload["depth"] for one in fired} == {depth}  # type: ignore[index, call-overload]
        ended = [str(one.event.run_id) for one in fired]
    for run_id in ended:
        await end(database, run_id, "FAILED", "NODE")
    assert await rows(database, PENDING) == []


async def test_the_end_of_a_run_does_not_fail_for_a_trigger_that_is_being_deleted(
    database: Database, caller: Caller, project: str, run: Run
) -> None:
    workflow_id = await published_workflow(database, caller, project)
    trigger_id = await new_follower(database, caller, project, workflow_id, {})
    async with database.begin() as connection:
        await triggers.get(connection, caller, trigger_id, lock=True)
        await triggers.remove(connection, trigger_id)
        ending = database.pool.execute("UPDATE runs SET status = 'FAILED', finished_at = now() WHERE id = $1", run.id)
        task = asyncio.ensure_future(ending)
        await eventually(lambda: database.pool.fetchval(_WAITS))
    await task
    assert await rows(database, PENDING) == []
