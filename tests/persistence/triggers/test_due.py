"""Due schedules are fired once each, whatever happens: two workers, crashes, failures and limits."""

import asyncio
import sys
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from engine.triggers.planning import backoff
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.triggers import events, pending
from persistence.triggers import trigger as triggers
from persistence.triggers.pending import PendingFiring
from persistence.workflows import versions
from tests.executor_worker import eventually
from tests.paths import ROOT
from tests.persistence.triggers.stored_triggers import (
    MINUTELY,
    NOON,
    due_triggers,
    events_of,
    fired_in_order,
    new_schedule,
    publish_draft,
    published_workflow,
    rows,
)

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


async def stored(database: Database, caller: Caller, trigger_id: str) -> triggers.Trigger:
    async with database.connect() as connection:
        return await triggers.get(connection, caller, trigger_id)


async def test_a_due_schedule_starts_a_run_and_advances(database: Database, caller: Caller, project: str) -> None:
    workflow_id = await published_workflow(database, caller, project)
    trigger = await new_schedule(database, caller, project, workflow_id, inputs={"at": "{{ event.scheduledAt }}"})
    due = due_triggers(database)
    assert await due.next_due_s(NOON - MINUTE) == 60
    assert (await due.fire_batch(NOON - SECOND)).found == 0
    [fired] = (await due.fire_batch(NOON + SECOND)).fired
    [run] = await rows(database, "SELECT * FROM runs")
    assert (run["id"], run["trigger_id"], run["workflow_id"]) == (fired.event.run_id, trigger.id, workflow_id)
    assert (run["source"], run["status"], run["inputs"]) == ("TRIGGER", "QUEUED", {"at": "2030-01-01T12:00:00Z"})
    assert run["scopes"] == sorted(caller.scopes_in(project)) and run["created_by"] == caller.subject
    after = await stored(database, caller, trigger.id)
    assert (after.planned_at, after.last_fired_at, after.last_error) == (NOON + MINUTE, NOON + SECOND, None)
    assert await due.next_due_s(NOON + SECOND) == 59
    assert (await due.fire_batch(NOON + SECOND)).found == 0


async def test_the_version_published_at_that_moment_runs(database: Database, caller: Caller, project: str) -> None:
    workflow_id = await published_workflow(database, caller, project, publish=False)
    trigger = await new_schedule(database, caller, project, workflow_id)
    due = due_triggers(database)
    await due.fire_batch(NOON)
    failed = await stored(database, caller, trigger.id)
    assert failed.failures == 1 and failed.last_error is not None
    assert failed.last_error.startswith("the workflow has no published version")
    async with database.begin() as connection:
        version_id = await publish_draft(connection, caller, workflow_id)
    await due.fire_batch(NOON + MINUTE)
    assert [row["version_id"] for row in await rows(database, "SELECT version_id FROM runs")] == [version_id]
    fixed = await stored(database, caller, trigger.id)
    assert (fixed.failures, fixed.last_error) == (0, None)
    assert [status for _, status, _ in await events_of(database, trigger.id)] == ["FAILED", "FIRED"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {"value": "{{ event.scheduledAt }}"},
            "the inputs do not match the schema of the published version: inputs.value",
        ),
        ({"value": "{{ event.none.none }}"}, "`inputs` of the trigger cannot be rendered"),
        ({"value": "{{ range(10000000) | list | length }}"}, "`inputs` of the trigger cannot be rendered"),
        ({"value": "{{ event.scheduledAt"}, "`inputs` of the trigger cannot be rendered"),
    ],
)
async def test_a_failing_trigger_backs_off_and_is_disabled(
    database: Database, caller: Caller, project: str, inputs: Any, message: str
) -> None:
    schema = {"type": "object", "properties": {"value": {"type": "integer"}}}
    workflow_id = await published_workflow(database, caller, project, inputs=schema)
    trigger = await new_schedule(database, caller, project, workflow_id, {"intervalS": 1}, inputs=inputs)
    due, now = due_triggers(database, max_failures=3), NOON
    for failures in (1, 2):
        [fired] = await fired_in_order(due, 1, now)
        assert fired.event.status == "FAILED"
        failed = await stored(database, caller, trigger.id)
        assert failed.failures == failures and failed.enabled and message in (failed.last_error or "")
        assert failed.next_fire_at is not None and failed.next_fire_at - now >= backoff(failures)
        now = failed.next_fire_at
    await fired_in_order(due, 1, now)
    disabled = await stored(database, caller, trigger.id)
    assert (disabled.enabled, disabled.failures, disabled.next_fire_at) == (False, 3, None)
    assert await due.next_due_s(now) is None
    assert await rows(database, "SELECT FROM runs") == []


async def test_a_zone_that_disappears_is_an_error_of_the_trigger(
    database: Database, caller: Caller, project: str
) -> None:
    workflow_id = await published_workflow(database, caller, project)
    gone = await new_schedule(database, caller, project, workflow_id, {**MINUTELY, "timezone": "Europe/Atlantis"})
    unknown = await new_schedule(database, caller, project, workflow_id)
    await database.pool.execute("UPDATE triggers SET kind = 'theirs' WHERE id = $1", unknown.id)
    good = await new_schedule(database, caller, project, workflow_id)
    fired = (await due_triggers(database).fire_batch(NOON)).fired
    assert [one.event.trigger_id for one in fired] == [good.id]
    assert "there is no time zone 'Europe/Atlantis'" in ((await stored(database, caller, gone.id)).last_error or "")
    assert "'theirs' is not installed" in ((await stored(database, caller, unknown.id)).last_error or "")


async def test_overlap(database: Database, caller: Caller, project: str) -> None:
    workflow_id = await published_workflow(database, caller, project)
    ids = {
        overlap: (await new_schedule(database, caller, project, workflow_id, {**MINUTELY, "overlap": overlap})).id
        for overlap in ("allow", "skip", "queue")
    }
    due = due_triggers(database)
    await due.fire_batch(NOON)
    await due.fire_batch(NOON + MINUTE)
    statuses = {name: [status for _, status, _ in await events_of(database, id)] for name, id in ids.items()}
    assert statuses == {"allow": ["FIRED", "FIRED"], "skip": ["FIRED", "SKIPPED"], "queue": ["FIRED", "FIRED"]}
    [_, (_, _, error)] = await events_of(database, ids["skip"])
    assert error is not None and error.endswith("of the trigger is active; `overlap` of the trigger is 'skip'")
    limits = await rows(database, "SELECT lane, lane_limit FROM runs WHERE trigger_id = $1", ids["queue"])
    assert [tuple(row) for row in limits] == [(ids["queue"], 1)] * 2
    await database.pool.execute(
        "UPDATE runs SET status = 'COMPLETED', finished_at = now() WHERE trigger_id = $1", ids["skip"]
    )
    await due.fire_batch(NOON + 2 * MINUTE)
    assert [status for _, status, _ in await events_of(database, ids["skip"])] == ["FIRED", "SKIPPED", "FIRED"]


async def test_limits_skip_a_firing_with_the_reason(database: Database, caller: Caller, project: str) -> None:
    limited = await published_workflow(database, caller, project, concurrency={"limit": 1, "onLimit": "reject"})
    replaced = await published_workflow(database, caller, project, concurrency={"limit": 1, "onLimit": "cancelOldest"})
    first, second = [await new_schedule(database, caller, project, id) for id in (limited, replaced)]
    due = due_triggers(database)
    await due.fire_batch(NOON)
    fired = (await due.fire_batch(NOON + MINUTE)).fired
    assert [status for _, status, _ in await events_of(database, first.id)] == ["FIRED", "SKIPPED"]
    assert [status for _, status, _ in await events_of(database, second.id)] == ["FIRED", "FIRED"]
    assert "1 runs of the workflow are active" in str((await events_of(database, first.id))[1][2])
    assert sorted(one.status for each in fired for one in each.transitions) == ["CANCELLED", "QUEUED"]
    full = due_triggers(database, queue_limit=1)
    skipped = (await full.fire_batch(NOON + 2 * MINUTE)).fired
    assert {one.event.status for one in skipped} == {"SKIPPED"}
    assert "QUEUED runs" in str(skipped[0].event.error)


async def test_two_workers_and_deleted_workflows_fire_each_time_once(
    database: Database, caller: Caller, project: str
) -> None:
    workflow_id = await published_workflow(database, caller, project)
    ids = [(await new_schedule(database, caller, project, workflow_id)).id for _ in range(60)]
    workers = [due_triggers(database) for _ in range(3)]
    now = NOON
    while (await workers[0].next_due_s(now)) == 0:
        await asyncio.gather(*(worker.fire_batch(now) for worker in workers))
    fired = await rows(database, "SELECT trigger_id, status, run_id FROM trigger_events")
    assert sorted(row["trigger_id"] for row in fired) == sorted(ids)
    assert {row["status"] for row in fired} == {"FIRED"}
    runs = await rows(database, "SELECT id FROM runs")
    assert sorted(row["id"] for row in runs) == sorted(row["run_id"] for row in fired)
    seqs = await rows(database, "SELECT FROM events WHERE seq = 1")
    assert len(seqs) == 60


async def test_a_trigger_that_is_changed_or_held_is_not_fired_as_it_was_read(
    database: Database, caller: Caller, project: str
) -> None:
    workflow_id = await published_workflow(database, caller, project)
    trigger = await new_schedule(database, caller, project, workflow_id)
    due = due_triggers(database)
    async with database.begin() as connection:
        # Held by an update, and then by a deletion of its workflow: neither is waited for.
        await triggers.get(connection, caller, trigger.id, lock=True)
        assert (await due.fire_batch(NOON)).fired == []
        await triggers.change(connection, trigger.id, {"enabled": False})
    assert (await due.fire_batch(NOON)).found == 0
    async with database.begin() as connection:
        await triggers.change(connection, trigger.id, {"enabled": True})
    async with database.begin() as connection:
        await versions.workflows.lock(connection, caller, workflow_id, exclusive=True)
        assert (await due.fire_batch(NOON)).fired == []
    assert len((await due.fire_batch(NOON)).fired) == 1


async def test_a_firing_that_postgres_refuses_delays_no_other(database: Database, caller: Caller, project: str) -> None:
    workflow_id = await published_workflow(database, caller, project)
    bad, *good = [(await new_schedule(database, caller, project, workflow_id)).id for _ in range(5)]
    check = "ALTER TABLE trigger_events ADD CHECK (trigger_id <> '{}')"
    await database.pool.execute(check.format(bad))
    with capture_logs() as logs:
        fired = (await due_triggers(database).fire_batch(NOON)).fired
    assert [log["event"] for log in logs] == ["triggers.batch_refused", "triggers.fault"]
    assert sorted(one.event.trigger_id for one in fired) == good
    refused = await stored(database, caller, bad)
    assert refused.failures == 1 and "unexpected error" in (refused.last_error or "")
    assert refused.planned_at == NOON


async def test_pending_firings_are_fired_once_and_only_if_enabled(
    database: Database, caller: Caller, project: str
) -> None:
    workflow_id = await published_workflow(database, caller, project)
    trigger = await new_schedule(database, caller, project, workflow_id)
    first = PendingFiring("2029-12-31T00:00:00Z", {"scheduledAt": "2029-12-31T00:00:00Z"})
    second = PendingFiring("2029-12-31T00:01:00Z", {"scheduledAt": "2029-12-31T00:01:00Z"}, MINUTE)
    async with database.begin() as connection:
        assert await pending.add(connection, trigger.id, [first, second]) == 2
    async with database.begin() as connection:
        assert await pending.add(connection, trigger.id, [first]) == 0
    workers = [due_triggers(database) for _ in range(3)]
    batches = await asyncio.gather(*(worker.fire_pending() for worker in workers))
    assert [one.event.dedupe_key for batch in batches for one in batch.fired] == [first.key]
    assert (await stored(database, caller, trigger.id)).planned_at == NOON
    async with database.begin() as connection:
        assert await events.fired_keys(connection, trigger.id, [first.key, second.key]) == {first.key}
        await triggers.change(connection, trigger.id, {"enabled": False})
        await pending.add(connection, trigger.id, [first])
    later = (await workers[0].fire_pending(NOON)).fired
    assert [(one.event.dedupe_key, one.event.status) for one in later] == [
        (first.key, "SKIPPED"),
        (second.key, "SKIPPED"),
    ]
    assert await rows(database, "SELECT FROM pending_firings") == []
    assert len(await rows(database, "SELECT FROM runs")) == 1


KILLED = """
import asyncio, os, sys
from persistence.triggers import due
from tests.journal_worker import DEADLINES
from persistence.db.database import Database
from tests.persistence.triggers.stored_triggers import NOON, due_triggers

async def main():
    database = await Database.open(sys.argv[1], DEADLINES)
    inner = getattr(due, sys.argv[2], None) or getattr(due.events, sys.argv[2])
    async def stop(*arguments):
        result = await inner(*arguments)
        print("reached", flush=True)
        await asyncio.Event().wait()
    setattr(due if hasattr(due, sys.argv[2]) else due.events, sys.argv[2], stop)
    await due_triggers(database).fire_batch(NOON)

asyncio.run(main())
"""


@pytest.mark.parametrize("place", ["record", "_advance"])
async def test_a_worker_killed_in_the_middle_of_a_firing_loses_and_doubles_nothing(
    database: Database, database_url: str, caller: Caller, project: str, place: str
) -> None:
    workflow_id = await published_workflow(database, caller, project)
    trigger = await new_schedule(database, caller, project, workflow_id)
    command = [sys.executable, "-c", KILLED, database_url, place]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"reached\n"
    process.kill()
    await process.wait()
    assert await rows(database, "SELECT FROM runs") == []
    due = due_triggers(database)

    async def fired() -> bool:  # Postgres ends the transaction of the killed process within moments.
        return bool((await due.fire_batch(NOON)).fired)

    await eventually(fired)
    assert [status for _, status, _ in await events_of(database, trigger.id)] == ["FIRED"]
    assert len(await rows(database, "SELECT FROM runs")) == 1
