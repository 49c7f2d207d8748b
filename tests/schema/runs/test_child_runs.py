"""Child runs start once each, also while the database loses its connections."""

import asyncio

import asyncpg

from engine.sdk.resources import ChildRun
from persistence.db.database import Database
from persistence.runs.children import Children
from resolvers.context import Context
from tests.schema_client import LINEAR, mutate, new_workflow

KILL = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"""


async def test_a_lost_connection_does_not_fail_the_start_of_a_child_run(
    context: Context, database: Database, database_url: str
) -> None:
    workflow_id = await new_workflow(context, LINEAR)
    parent = await mutate(context, "runAdhoc", "run { id }", spec=LINEAR, inputs={"value": 1})
    children = Children(database, context.redis, context.notifier.notify_queue)
    starts = [ChildRun(parent["run"]["id"], f"0/a/{visit}", workflow_id, None, {"value": 1}) for visit in range(10)]
    killer = await asyncpg.connect(database_url)
    try:
        started = []
        for one in starts:
            task = asyncio.create_task(children.start(one))
            await killer.execute(KILL)  # It ends somewhere in the transaction of the start.
            started.append(await task)
    finally:
        await killer.close()
    assert len(set(started)) == len(starts)
    assert [await children.start(one) for one in starts] == started
