"""Workflows and triggers in the database, for tests of their firing."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import asyncpg

from engine.triggers.registry import installed_trigger_kinds
from engine.types import JSON
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.runs.queue_limit import QueueLimit
from persistence.triggers import trigger as triggers
from persistence.triggers.due import DueTriggers
from persistence.triggers.events import RecordedFiring
from persistence.triggers.trigger import NewTrigger, Trigger
from persistence.workflows import versions, workflows
from persistence.workflows.drafts import Content

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
MINUTELY = {"cron": "* * * * *"}


def due_triggers(database: Database, *, max_failures: int = 20, queue_limit: int = 1000) -> DueTriggers:
    kinds = installed_trigger_kinds()
    return DueTriggers(database, kinds, max_failures=max_failures, queue_limit=QueueLimit(queue_limit))


async def published_workflow(
    database: Database, caller: Caller, project: str, *, publish: bool = True, **spec: Any
) -> str:
    """Store a workflow that ends at once, and return its id."""
    nodes = [{"id": "start", "type": "start", "config": {}}, {"id": "end", "type": "end", "config": {}}]
    edges = [{"id": "e1", "source": "start", "target": "end"}]
    content = Content({"nodes": nodes, "edges": edges, **spec}, f"hash of {spec}")
    async with database.begin() as connection:
        workflow = await workflows.create(connection, caller, project, name="W", description="", content=content)
        if publish:
            await publish_draft(connection, caller, workflow.id)
    return workflow.id


async def publish_draft(connection: Any, caller: Caller, workflow_id: str) -> str:
    draft = await versions.drafts.get(connection, caller, workflow_id)
    version, _ = await versions.freeze(connection, caller, draft)
    return (await versions.publish(connection, caller, version)).id


async def new_schedule(
    database: Database,
    caller: Caller,
    project: str,
    workflow_id: str,
    config: JSON = MINUTELY,
    *,
    inputs: JSON = "{{ event }}",
    planned: datetime = NOON,
) -> Trigger:
    """Store a schedule whose next planned time is `planned`."""
    new = NewTrigger(workflow_id, "schedule", "S", config, inputs, True, planned, planned)
    async with database.begin() as connection:
        return await triggers.create(connection, caller, project, new)


async def fired_in_order(due: DueTriggers, count: int, now: datetime = NOON) -> list[RecordedFiring]:
    """Fire what is due, also what takes long to prepare, until there are `count` events. Return them in order."""
    ready, fired = asyncio.Event(), list[RecordedFiring]()
    due.when_ready(ready.set)
    while len(fired) < count:
        ready.clear()
        for fire in (due.fire_ready, due.fire_batch, due.fire_pending):
            fired += (await fire(now)).fired
        if len(fired) < count:
            await asyncio.wait_for(ready.wait(), 60)
    return fired


async def rows(database: Database, query: str, *arguments: object) -> list[asyncpg.Record]:
    return list(await database.pool.fetch(query, *arguments))


async def events_of(database: Database, trigger_id: str) -> list[tuple[str, str, str | None]]:
    """Return (key, status, error) of the events of a trigger, oldest first."""
    found = await rows(database, "SELECT * FROM trigger_events WHERE trigger_id = $1 ORDER BY id", trigger_id)
    return [(row["dedupe_key"], row["status"], row["error"]) for row in found]
