"""The stores of messages to webhooks, by a queue: few connections serve any number of messages at once.

Messages of one trigger that wait are stored together, and recorded together with their runs in one
transaction. Where Postgres refuses it for the content of one message, each gets a transaction of its own.
"""

from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from engine import tracing
from engine.errors import NodeFailure
from engine.states import TriggerEventStatus
from persistence.db.transient import is_transient
from persistence.problems import Busy
from persistence.runs import admission
from persistence.runs import run as runs
from persistence.runs.run import Run
from persistence.triggers import events, webhooks
from persistence.triggers.events import Firing, RecordedFiring
from persistence.triggers.firing import PublishedVersion, PublishedVersions, unfired
from persistence.triggers.webhooks import FoundWebhook, NewDelivery
from persistence.workflows import workflows
from resolvers.context import Context
from resolvers.idempotent import publish_transitions, shielded
from resolvers.triggers.batch_queue import BatchQueue
from resolvers.triggers.start import announce_events

ResultT = TypeVar("ResultT")
queue = BatchQueue()
_published = PublishedVersions()


async def share(key: Hashable, read: Callable[[], Awaitable[ResultT]]) -> ResultT:
    """Read something once for all requests that wait for it. The read begins after the last of them has come."""

    async def read_once(requests: list[None]) -> list[ResultT]:
        return [await read()] * len(requests)

    return await queue.add(key, None, read_once)


async def find(context: Context, token: str) -> tuple[FoundWebhook, PublishedVersion | None] | None:
    """Return the webhook of an address, and the version that is published now."""

    async def read() -> tuple[FoundWebhook, PublishedVersion | None] | None:
        found = await webhooks.find(context.database.pool, token)
        return None if found is None else (found, await published(context, found.version_id))

    return await share(("address", token), read)


async def published(context: Context, version_id: str | None) -> PublishedVersion | None:
    """Return a version by its id."""
    if version_id is None:
        return None
    return (await _published.get(context.database.pool, [version_id])).get(version_id)


async def secret(context: Context, project_id: str, name: str) -> str:
    """Return the value of a secret. Raises NodeFailure."""

    async def read() -> str:
        resolver = context.resources.get("secrets")
        if resolver is None:
            raise NodeFailure("SECRET", "this server has no secrets")
        return str((await resolver.resolve(project_id, [name]))[name])

    return await share(("secret", project_id, name), read)


async def read_run(context: Context, run_id: str) -> Run | None:
    """Read the run of a message for its caller."""
    return await share(
        ("run", context.caller.subject, run_id), lambda: runs.read(context.database.pool, context.caller, run_id)
    )


async def store(context: Context, new: NewDelivery) -> None:
    """Store a request before it is parsed."""

    async def write(batch: list[NewDelivery]) -> list[BaseException | None]:
        try:
            await webhooks.store(context.database.pool, batch)
        except Exception as error:
            if len(batch) == 1 or is_transient(error):
                raise
            return [(await write_alone(one)) for one in batch]
        return [None] * len(batch)

    async def write_alone(one: NewDelivery) -> BaseException | None:
        try:
            await webhooks.store(context.database.pool, [one])
        except Exception as error:
            return error
        return None

    await queue.add(("delivery", new.found.trigger.id), new, write, len(new.message.body))


@dataclass(frozen=True, slots=True)
class ReceivedFiring:
    """What is recorded of a message: its firing, and the delivery to link with the event."""

    firing: Firing
    delivery_id: str | None


async def record(context: Context, firing: Firing, delivery_id: str | None, size: int) -> RecordedFiring:
    """Record the event of a message and accept its run, and publish both. `size` is that of the body."""
    if firing.new is not None:
        # The run belongs to the trace of its own request, and the batch to that of one of them.
        firing = replace(firing, new=replace(firing.new, trace=tracing.current_carrier()))
    key, item = ("firing", firing.trigger.id), ReceivedFiring(firing, delivery_id)
    return await shielded(queue.add(key, item, partial(_record_batch, context), size))


async def _record_batch(context: Context, batch: list[ReceivedFiring]) -> Sequence[RecordedFiring | BaseException]:
    try:
        async with context.database.begin() as connection:
            recorded = await _record_in(context, connection, batch)
    except Exception as error:
        if len(batch) == 1 or is_transient(error):
            raise
        return [await _record_alone(context, one) for one in batch]
    await publish_transitions(context, [change for one in recorded for change in one.transitions])
    await announce_events(context, [one.event for one in recorded])
    return recorded


async def _record_alone(context: Context, one: ReceivedFiring) -> RecordedFiring | BaseException:
    try:
        [recorded] = await _record_batch(context, [one])
    except Exception as error:
        return error
    return recorded


async def _record_in(
    context: Context, connection: AsyncConnection, batch: Sequence[ReceivedFiring]
) -> list[RecordedFiring]:
    trigger = batch[-1].firing.trigger
    await workflows.lock_against_deletion(connection, trigger.workflow_id)
    recorded = await events.record(connection, [one.firing for one in batch], partial(_admit, context, connection))
    pairs = [(one.delivery_id, each.event.id) for one, each in zip(batch, recorded, strict=True) if one.delivery_id]
    await webhooks.link(connection, pairs)
    await webhooks.note_result(connection, trigger.id, recorded[-1].event.error)
    return recorded


async def _admit(context: Context, connection: AsyncConnection, firing: Firing) -> Firing:
    """Return the firing, or a SKIPPED one if no run may be accepted now."""
    assert firing.new is not None
    try:
        await context.queue_limit.admit(context.database.pool, firing.trigger.project_id)
        cancelled = await admission.admit(connection, firing.trigger.caller, firing.new, context.database.deadlines)
    except Busy as error:
        return unfired(firing, TriggerEventStatus.SKIPPED, error.detail)
    return replace(firing, admitted=tuple(cancelled))
