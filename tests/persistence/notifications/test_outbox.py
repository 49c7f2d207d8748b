"""A change of status adds a delivery for each endpoint that wants it, and each is claimed by one worker at a time."""

from datetime import timedelta
from typing import Any

import pytest

from persistence.caller import Caller
from persistence.db.database import Database
from persistence.db.ids import Prefix, prefix_of
from persistence.notifications import delivery as deliveries
from persistence.notifications import outbox
from persistence.notifications.outbox import FailedAttempt
from persistence.problems import InvalidState
from persistence.runs.run import Run
from tests.journal_worker import accept_run
from tests.persistence.notifications.stored_endpoints import delivery_rows, new_endpoint, set_status
from tests.persistence.triggers.stored_triggers import new_schedule, published_workflow

DAY_S = 86_400.0
REPEATED = FailedAttempt(500, "the endpoint answered 500", timedelta(seconds=5), False)


@pytest.mark.parametrize(
    ("values", "status", "is_child", "is_added"),
    [
        ({}, "COMPLETED", False, True),
        ({}, "FAILED", False, True),
        ({}, "CANCELLED", False, True),
        ({}, "WAITING", False, True),
        ({}, "PAUSED", False, False),
        ({}, "COMPLETED", True, False),
        ({"enabled": False}, "COMPLETED", False, False),
        ({"events": ["RUN_FAILED"]}, "COMPLETED", False, False),
        ({"events": ["RUN_FAILED"]}, "FAILED", False, True),
        ({"workflow_ids": ["wf_1", "wf_other"]}, "FAILED", False, False),
        ({"workflow_ids": ["of the run"]}, "FAILED", True, True),
        ({"tags": ["a"]}, "FAILED", False, True),
        ({"tags": ["a", "b"]}, "FAILED", False, True),
        ({"tags": ["a", "c"]}, "FAILED", False, False),
    ],
)
async def test_which_changes_add_a_delivery(
    database: Database, caller: Caller, project: str, values: Any, status: str, is_child: bool, is_added: bool
) -> None:
    workflow_id = await published_workflow(database, caller, project)
    run, parent = [(await accept_run(database, caller, project)).run.id for _ in range(2)]
    if values.get("workflow_ids") == ["of the run"]:
        values = {"workflow_ids": [workflow_id]}
    endpoint = await new_endpoint(database, caller, project, **values)
    prepared = "UPDATE runs SET tags = '{a,b}', workflow_id = $2, parent_id = $3 WHERE id = $1"
    await database.pool.execute(prepared, run, workflow_id, parent if is_child else None)
    await set_status(database, run, status, "NODE" if status == "FAILED" else None)
    await database.pool.execute("UPDATE runs SET status = status, progress = 1 WHERE id = $1", run)
    found = await delivery_rows(database)
    assert len(found) == int(is_added)
    if is_added:
        [row] = found
        assert prefix_of(row["id"]) is Prefix.DELIVERY
        assert (row["endpoint_id"], row["event"], row["subject_id"]) == (endpoint.id, f"RUN_{status}", run)
        body, data = row["payload"], row["payload"]["data"]
        assert body["type"] == f"run.{status.lower()}" and body["timestamp"].endswith("Z")
        assert (data["runId"], data["status"], data["tags"], data["waits"]) == (run, status, ["a", "b"], [])
        assert data["error"] == ({"code": "NODE", "message": "m"} if status == "FAILED" else None)


async def test_ids_made_by_the_database_sort_by_time(database: Database) -> None:
    made = [await database.pool.fetchval("SELECT new_type_id('dlv') FROM pg_sleep(0.002)") for _ in range(20)]
    assert made == sorted(made) and len(set(made)) == 20
    assert {prefix_of(id) for id in made} == {Prefix.DELIVERY}


async def test_the_delivery_is_part_of_the_transaction(
    database: Database, caller: Caller, project: str, run: Run
) -> None:
    await new_endpoint(database, caller, project)
    async with database.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("UPDATE runs SET status = 'FAILED' WHERE id = $1", run.id)
        assert await connection.fetchval("SELECT count(*) FROM deliveries") == 1
        await transaction.rollback()
    assert await delivery_rows(database) == []


async def test_a_trigger_that_is_disabled_adds_a_delivery(database: Database, caller: Caller, project: str) -> None:
    workflow_id = await published_workflow(database, caller, project)
    trigger = await new_schedule(database, caller, project, workflow_id)
    await new_endpoint(database, caller, project, workflow_ids=["wf_other"])
    mine = await new_endpoint(database, caller, project, workflow_ids=[workflow_id], tags=["a"])
    failed = "UPDATE triggers SET failures = 20, last_error = 'e', enabled = false WHERE id = $1"
    for _ in range(2):
        await database.pool.execute(failed, trigger.id)
    [row] = await delivery_rows(database)
    assert (row["endpoint_id"], row["event"], row["payload"]["type"]) == (
        mine.id,
        "TRIGGER_DISABLED",
        "trigger.disabled",
    )
    data = row["payload"]["data"]
    assert (data["triggerId"], data["failures"], data["error"], data["name"]) == (trigger.id, 20, "e", "S")


async def test_a_delivery_is_claimed_once_until_its_claim_ends(
    database: Database, caller: Caller, project: str, run: Run
) -> None:
    pool = database.pool
    endpoint = await new_endpoint(database, caller, project)
    await set_status(database, run.id, "FAILED")
    [first] = await outbox.claim(pool, 10, 10, [], 60)
    assert await outbox.claim(pool, 10, 10, [], 60) == []
    assert 55 < (await outbox.next_due_s(pool, []) or 0) <= 60
    # The worker of the first claim is lost, and a second one claims it when the claim ends.
    await pool.execute("UPDATE deliveries SET next_attempt_at = now()")
    assert await outbox.claim(pool, 10, 10, [endpoint.id], 60) == []
    [second] = await outbox.claim(pool, 10, 10, [], 60)
    assert (first.attempt, second.attempt, second.failures) == (1, 2, 2)
    assert not await outbox.record_success(pool, first, 200)
    assert not await outbox.record_failure(pool, first, REPEATED, DAY_S)
    assert await outbox.record_success(pool, second, 204)
    [row] = await delivery_rows(database)
    assert (row["status"], row["attempts"], row["response_status"], row["next_attempt_at"]) == (
        "DELIVERED",
        2,
        204,
        None,
    )


async def test_failures_end_a_series_and_a_resend_begins_another(
    database: Database, caller: Caller, project: str, run: Run
) -> None:
    pool = database.pool
    await new_endpoint(database, caller, project)
    await set_status(database, run.id, "FAILED")
    [one] = await outbox.claim(pool, 10, 10, [], 60)
    assert not await outbox.record_failure(pool, one, REPEATED, DAY_S)
    async with database.begin() as connection:
        with pytest.raises(InvalidState):
            await deliveries.resend(connection, one.id)
    await pool.execute("UPDATE deliveries SET next_attempt_at = now()")
    [one] = await outbox.claim(pool, 10, 10, [], 60)
    assert not await outbox.record_failure(pool, one, FailedAttempt(500, "e", None, False), DAY_S)
    assert [(row["status"], row["attempts"]) for row in await delivery_rows(database)] == [("FAILED", 2)]
    async with database.begin() as connection:
        resent = await deliveries.resend(connection, one.id)
    assert (resent.status, resent.attempts, resent.error) == ("PENDING", 2, "e")
    [one] = await outbox.claim(pool, 10, 10, [], 60)
    assert (one.attempt, one.failures) == (3, 1)


@pytest.mark.parametrize(
    ("is_gone", "failing", "is_disabled"),
    [(True, None, True), (False, None, False), (False, "4 days", False), (False, "6 days", True)],
)
async def test_an_endpoint_that_is_gone_or_fails_for_days_is_disabled(
    database: Database, caller: Caller, project: str, run: Run, is_gone: bool, failing: str | None, is_disabled: bool
) -> None:
    pool = database.pool
    await new_endpoint(database, caller, project)
    later = (await accept_run(database, caller, project)).run.id
    await set_status(database, run.id, "FAILED")
    if failing is not None:
        await pool.execute("UPDATE endpoints SET failing_since = now() - $1::text::interval", failing)
    [one] = await outbox.claim(pool, 10, 10, [], 60)
    failed = FailedAttempt(410 if is_gone else 500, "e", timedelta(seconds=5), is_gone)
    assert await outbox.record_failure(pool, one, failed, 5 * DAY_S) is is_disabled
    [endpoint] = await pool.fetch("SELECT * FROM endpoints")
    assert (endpoint["enabled"], endpoint["last_error"]) == (not is_disabled, "e")
    assert endpoint["failing_since"] is not None
    [row] = await delivery_rows(database)
    assert row["status"] == ("FAILED" if is_gone else "PENDING")
    await set_status(database, later, "FAILED")
    assert len(await delivery_rows(database)) == (1 if is_disabled else 2)


async def test_deliveries_to_a_disabled_endpoint_wait_for_a_day(
    database: Database, caller: Caller, project: str, run: Run
) -> None:
    pool = database.pool
    endpoint = await new_endpoint(database, caller, project)
    await set_status(database, run.id, "FAILED")
    await pool.execute("UPDATE endpoints SET enabled = false")
    assert await outbox.claim(pool, 10, 10, [], 60) == [] and await outbox.end_disabled(pool) == 0
    await pool.execute("UPDATE deliveries SET next_attempt_at = now() - interval '25 hours'")
    assert [await outbox.end_disabled(pool) for _ in range(2)] == [1, 0]
    [row] = await delivery_rows(database)
    assert (row["status"], row["error"]) == (
        "FAILED",
        "the endpoint was disabled; resend it when the endpoint is enabled",
    )
    assert await pool.fetchval("DELETE FROM endpoints WHERE id = $1 RETURNING id", endpoint.id) is not None
    assert await delivery_rows(database) == []
