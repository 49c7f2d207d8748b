"""Deletes a run that has ended, with its history. Used by bulk jobs."""

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncConnection

from persistence.audit_log import record
from persistence.caller import Caller
from persistence.db.tables import runs
from persistence.problems import InvalidState
from persistence.runs.transition import lock_run


async def delete_run(connection: AsyncConnection, caller: Caller, run_id: str) -> None:
    """Delete a run and its history, and write that into the audit log. Statistics keep it.

    Raises:
        NotFound: There is no such run, or the caller may not see it.
        InvalidState: The run is active.
    """
    run = await lock_run(connection, caller, run_id)
    if not run.status.is_terminal:
        raise InvalidState(f"Only a finished run can be deleted; this run is {run.status}.", run.status)
    await connection.execute(delete(runs).where(runs.c.id == run_id))
    await record(connection, caller, "deleteRuns", run.project_id, run_id, before={"status": run.status})
