"""Admission of new runs of workflows with a concurrency limit, and of threads.

Beyond the limit the spec says to queue, to reject, or to cancel the oldest run; for a thread, whose
limit is 1, the options of the run say it. Admission happens
in the transaction that accepts the run, under an advisory lock of its concurrency key, so that each
of several concurrent runs sees the result of the one before it. A crash leaves the new run and the
cancelled ones, or neither.
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
"""Statuses that count against the limit: leased runs, and queued ones.

PAUSED and WAITING runs do not count.
"""

REPLACED = "A newer run takes its place"


def new_run(version: Version, inputs: JSON) -> NewRun:
    """Make a run of a version, with the concurrency limit of its spec."""
    new = NewRun(version.project_id, version.workflow_id, version.id, inputs)
    limit = concurrency_of(version.spec)
    return new if limit is None else replace(new, concurrency_limit=limit.limit, on_limit=limit.on_limit)


async def accept(connection: AsyncConnection, caller: Caller, new: NewRun, deadlines: Deadlines) -> CommandResult:
    """Admit and insert a run.

    The transitions of the result include the runs that were cancelled for it.

    Raises:
        Busy: The limit is reached and the spec rejects further runs.
        NotFound: Its workflow was deleted meanwhile.
    """
    cancelled = await admit(connection, caller, new, deadlines) if new.start else []
    accepted = await create.accept(connection, caller, new)
    return replace(accepted, transitions=(*cancelled, *accepted.transitions))


async def admit(connection: AsyncConnection, caller: Caller, new: NewRun, deadlines: Deadlines) -> list[RunTransition]:
    """Admit a run that is about to be queued.

    Returns the transitions of the runs that were cancelled for it.

    Raises:
        Busy: The limit is reached and the spec rejects further runs.
    """
    limit, thread = new.limit, new.options.thread
    if limit is None or new.is_queued_at_limit:
        return []
    # The workflow is locked before its runs, in the order of every other transaction: it may be
    # being deleted.
    await workflows.lock_against_deletion(connection, new.workflow_id)
    await connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(new.concurrency_key, 0))))
    if new.admission is OnLimit.REJECT:
        if len(await _active(connection, new.concurrency_key, ACTIVE)) >= limit:
            if thread is not None:
                raise Busy(f"A run of the thread {thread.key!r} is active, and `onBusy` is REJECT.")
            raise Busy(f"{limit} runs of the workflow are active, the maximum that its spec allows.")
        return []
    # A CANCELLING run is about to end already.
    oldest_first = await _active(connection, new.concurrency_key, ACTIVE - {RunStatus.CANCELLING})
    excess = len(oldest_first) + 1 - limit
    return await _cancel(connection, caller, oldest_first[: max(excess, 0)], deadlines)


async def _active(connection: AsyncConnection, key: str, statuses: frozenset[RunStatus]) -> list[str]:
    query = select(table.c.id).where(table.c.concurrency_key == key, table.c.status.in_(statuses)).order_by(table.c.id)
    return list((await connection.execute(query)).scalars())


async def _cancel(
    connection: AsyncConnection, caller: Caller, run_ids: Sequence[str], deadlines: Deadlines
) -> list[RunTransition]:
    # All of them are locked in the order of their ids, as every transaction does. One that has
    # ended meanwhile is skipped.
    query = select(table.c.id).where(table.c.id.in_(run_ids), table.c.status.in_(ACTIVE)).order_by(table.c.id)
    active = (await connection.execute(for_no_key_update(query))).scalars()
    results = [await commands.cancel(connection, caller, run_id, REPLACED, deadlines) for run_id in active]
    return [transition for result in results for transition in result.transitions]
