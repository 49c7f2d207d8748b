"""List the worker processes of the installation."""

from persistence.maintenance import presence
from persistence.maintenance.presence import LiveWorker
from persistence.problems import Forbidden
from resolvers.context import Context


async def live_workers(context: Context) -> list[LiveWorker]:
    """Return the live workers, the oldest first. Raises Forbidden.

    Their hosts are those of the installation, so only its admins see them.
    """
    if not context.caller.may_create_projects:
        raise Forbidden("Listing workers requires the role admin in all projects (`*` in the claim of the token).")
    return await presence.list_live(context.database.pool)
