"""Does a run-control call once: a repeat with the same idempotency key answers with the first call's run.

The call is one transaction, after which Redis and the queue are told. A caller that goes away parts the two never; a crash
between them delays the run, and loses nothing: recovery finds it, readers ask Postgres.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from engine.states import LEASED, RunStatus
from engine.types import JSON
from persistence.events.run_transition import RunTransition
from persistence.problems import Busy, NotFound, invalid
from persistence.runs import idempotency
from persistence.runs import run as runs
from persistence.runs.run import CommandResult, Run
from resolvers.context import Context

T = TypeVar("T")
Act = Callable[[AsyncConnection], Awaitable[CommandResult]]
"""The change that a call makes, in the transaction of its connection."""
_under_way: set[asyncio.Task[Any]] = set()
"""What nobody may wait for any more: the event loop itself holds no task."""


async def shielded(doing: Coroutine[Any, Any, T]) -> T:
    """Does it to its end, whatever becomes of the caller: what is committed is told as well."""
    task = asyncio.create_task(doing)
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)
    return await asyncio.shield(task)


async def settled(within_s: float) -> None:
    """Until all of that is done: for a process that is about to close what it needs."""
    if _under_way:
        await asyncio.wait(set(_under_way), timeout=within_s)


async def run_idempotent(
    context: Context,
    project_id: str,
    key: str | None,
    operation: str,
    arguments: JSON,
    act: Act,
    *,
    run_id: str | None = None,
) -> Run:
    """Does `act` in one transaction, or answers with the run of the key's first call as it stands now.

    With the `run_id` that it acts on, the key is taken before `act`, so that a repeat at the same moment waits for the first
    call instead of finding the run moved already. Who makes a new run takes the key after: it rolls back where it lost.
    """
    return await shielded(_once(context, project_id, key, operation, arguments, act, run_id))


async def _once(
    context: Context, project_id: str, key: str | None, operation: str, arguments: JSON, act: Act, run_id: str | None
) -> Run:
    if key is None:
        async with context.database.begin() as connection:
            result = await act(connection)
        return await _publish(context, result)
    if not 1 <= len(key) <= idempotency.MAX_KEY_LENGTH:
        raise invalid("input.idempotencyKey", "LENGTH", f"must have 1 to {idempotency.MAX_KEY_LENGTH} characters")
    hashed = idempotency.arguments_hash(operation, arguments)
    while True:
        try:
            async with context.database.begin() as connection:
                if known := await idempotency.find(connection, project_id, key, hashed):
                    return await known_run(connection, context, known)
                if run_id is not None:
                    await idempotency.claim(connection, project_id, key, hashed, run_id)
                result = await act(connection)
                if run_id is None:
                    await idempotency.claim(connection, project_id, key, hashed, result.run.id)
        except idempotency.KeyTaken:
            continue  # its holder has committed by now: found at the next look
        except Busy:
            # What takes the room may be the first call with this key.
            async with context.database.connect() as connection:
                if known := await idempotency.find(connection, project_id, key, hashed):
                    return await known_run(connection, context, known)
            raise
        return await _publish(context, result)


async def known_run(connection: AsyncConnection, context: Context, run_id: str) -> Run:
    """The run, if the caller may see it. Raises NotFound."""
    run = await runs.get(connection, context.caller, run_id)
    if run is None:
        raise NotFound(run_id)
    return run


async def _publish(context: Context, result: CommandResult) -> Run:
    if result.transitions:
        await publish_transitions(context, result.transitions)
    elif result.run.status in LEASED:
        # Another column of the row changed, or the same change was requested again: its worker reads the row again.
        await context.notifier.notify_run(result.run.id)
    return result.run


async def publish_transitions(context: Context, transitions: Sequence[RunTransition]) -> None:
    """Publish committed transitions to readers, and notify the workers that have to act on them."""
    await context.feed.publish(transitions)
    if any(one.status is RunStatus.QUEUED for one in transitions):
        await context.notifier.notify_queue()
    for one in transitions:
        if one.status in LEASED:
            await context.notifier.notify_run(one.run_id)
