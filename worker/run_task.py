"""Tells runs that a child of theirs is over. Recovery does it for all, all the time; this is for who cannot wait."""

from collections.abc import Sequence

from redis.asyncio import Redis

from persistence.db.database import Database
from persistence.events.publisher import publish_transitions
from persistence.maintenance.timers import due
from persistence.queue.notifier import Notifier
from persistence.runs.children import settle


async def tell_parents(database: Database, redis: Redis, queue: Notifier, child_ids: Sequence[str]) -> None:
    """Parents that rest are queued; one that a worker drives is nudged."""
    parents = await settle(database.pool, child_ids)
    if not parents:
        return
    transitions = await due(database)
    await publish_transitions(redis, transitions)
    if transitions:
        await queue.notify_queue()
    for parent_id in set(parents) - {one.run_id for one in transitions}:
        await queue.notify_run(parent_id)
