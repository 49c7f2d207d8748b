"""Threads of conversations: viewers read them and their messages, editors delete them."""

from persistence.audit_log import record
from persistence.db.ids import Prefix
from persistence.db.pagination import MAX_PAGE, Page, PageArguments
from persistence.problems import invalid
from persistence.threads import thread as threads
from persistence.threads.thread import MessageRange, StoredMessage, StoredThread
from resolvers.authorise import project_for, require
from resolvers.context import Context
from resolvers.permissions import MUTATIONS, QUERIES


async def thread_page(context: Context, project_id: str | None, arguments: PageArguments) -> Page[StoredThread]:
    """Return a page of the threads of a project, newest first; None for all projects of the caller.

    Raises NotFound.
    """
    if project_id is not None:
        require(context.caller, QUERIES["threads"], project_id)
    chosen = context.caller.projects if project_id is None else [project_id]
    range_ = arguments.checked(Prefix.THREAD)
    async with context.read() as connection:
        return await threads.page(connection, context.caller, range_, chosen)


async def thread_by_key(context: Context, project_id: str | None, key: str) -> StoredThread | None:
    """Return a thread by its key; None if no message was stored. Raises NotFound for the project."""
    async with context.read() as connection:
        role = QUERIES["thread"]
        assert role is not None
        chosen = await project_for(connection, context.caller, role, project_id)
        return await threads.by_key(connection, context.caller, chosen, key)


async def messages_of(context: Context, thread: StoredThread, count: int, before: int | None) -> list[StoredMessage]:
    """Return messages of a thread, newest first. Raises Invalid."""
    if not 1 <= count <= MAX_PAGE:
        raise invalid("first", "OUT_OF_RANGE", f"must be from 1 to {MAX_PAGE}, is {count}")
    return await context.loaders.thread_messages.load(MessageRange(thread.id, count, before)) or []


async def delete_thread(context: Context, thread_id: str) -> str:
    """Delete a thread with its messages, and return its id. Raises NotFound, Forbidden."""
    async with context.database.begin() as connection:
        thread = await threads.lock(connection, context.caller, thread_id)
        require(context.caller, MUTATIONS["deleteThread"], thread.project_id)
        await threads.remove(connection, thread_id)
        before = {"key": thread.key}
        await record(
            connection, context.caller, "deleteThread", thread.project_id, thread_id, before=before, after=None
        )
    return thread_id
