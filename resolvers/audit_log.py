"""Read the audit log. Only admins of a project see its entries."""

from persistence import audit_log
from persistence.audit_log import AuditEntry, AuditFilter
from persistence.db.ids import Prefix
from persistence.db.pagination import Page, PageArguments
from resolvers.authorise import require
from resolvers.context import Context
from resolvers.permissions import QUERIES


async def entry_page(
    context: Context, project_id: str | None, arguments: PageArguments, where: AuditFilter
) -> Page[AuditEntry]:
    """Return a page of the entries of a project, newest first; None for all that the caller administers.

    Raises NotFound, Forbidden.
    """
    if project_id is not None:
        require(context.caller, QUERIES["auditLog"], project_id)
    chosen = context.caller.projects if project_id is None else [project_id]
    range_ = arguments.checked(Prefix.AUDIT_ENTRY)
    async with context.read() as connection:
        return await audit_log.page(connection, context.caller, range_, chosen, where)
