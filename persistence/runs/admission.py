"""Room for a new run where its workflow's spec limits how many run at once, and does not let them queue.

In the transaction that accepts the run, under a lock of its lane's own: however many are accepted at once, each sees what the
one before it left. A crash leaves both the run and what made way for it, or neither.
"""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.spec.raw import concurrency_of
from engine.states import LEASED, OnLimit, RunStatus
from engine.types import JSON
from persistence.caller import Caller
from persistence.db.deadlines import Deadlines
from persistence.db.tables import runs as table
from persistence.events.run_transition import RunTransition
from persistence.problems import Busy
from persistence.runs import commands, create
from persistence.runs.create import NewRun
from persistence.runs.run import CommandResult
from persistence.runs.transition import for_no_key_update
from persistence.workflows import workflows
from persistence.workflows.versions import Version

ACTIVE = LEASED | {RunStatus.QUEUED}
"""What takes up room: runs that are held, and those that will be. One that rests takes none."""

REPLACED = "A newer run takes its place"


def new_run(version: Version, inputs: JSON) -> NewRun:
    """With the limit that the version's spec sets."""
    new = NewRun(version.project_id, version.workflow_id, version.id, inputs)
    limit = concurrency_of(version.spec)
    return new if limit is None else replace(new, concurrency_limit=limit.limit, on_limit=limit.on_limit)


async def accept(connection: AsyncConnection, caller: Caller, new: NewRun, deadlines: Deadlines) -> CommandResult:
    """As `acceptance.accept`; what was cancelled to make room is told with it. Raises Busy."""
    made_way = await admit(connection, caller, new, deadlines) if new.start else []
    accepted = await create.accept(connection, caller, new)
    return replace(accepted, transitions=(*made_way, *accepted.transitions))


async def admit(connection: AsyncConnection, caller: Caller, new: NewRun, deadlines: Deadlines) -> list[RunTransition]:
    """The runs that were cancelled for a run that is about to be queued. Raises Busy where its spec says to reject it."""
    if new.concurrency_limit is None or new.on_limit is OnLimit.QUEUE:
        return []
    # The workflow before its runs, as everybody locks them: somebody may be deleting it.
    await workflows.lock_against_deletion(connection, new.workflow_id)
    await connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(new.concurrency_key, 0))))
    if new.on_limit is OnLimit.REJECT:
        if len(await _active(connection, new.concurrency_key, ACTIVE)) >= new.concurrency_limit:
            raise Busy(f"{new.concurrency_limit} of its runs are active, as many as its spec allows.")
        return []
    # One that is being cancelled makes way already.
    oldest_first = await _active(connection, new.concurrency_key, ACTIVE - {RunStatus.CANCELLING})
    over = len(oldest_first) + 1 - new.concurrency_limit
    return await _cancel(connection, caller, oldest_first[: max(over, 0)], deadlines)


async def _active(connection: AsyncConnection, key: str, statuses: frozenset[RunStatus]) -> list[str]:
    query = select(table.c.id).where(table.c.concurrency_key == key, table.c.status.in_(statuses)).order_by(table.c.id)
    return list((await connection.execute(query)).scalars())


async def _cancel(
    connection: AsyncConnection, caller: Caller, run_ids: Sequence[str], deadlines: Deadlines
) -> list[RunTransition]:
    # All of them in the order in which everybody locks runs. One that is over by now makes way as well.
    query = select(table.c.id).where(table.c.id.in_(run_ids), table.c.status.in_(ACTIVE)).order_by(table.c.id)
    left = (await connection.execute(for_no_key_update(query))).scalars()
    results = [await commands.cancel(connection, caller, run_id, REPLACED, deadlines) for run_id in left]
    return [transition for result in results for transition in result.transitions]
