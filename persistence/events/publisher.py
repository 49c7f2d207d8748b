"""Tells Redis what Postgres has committed. A hint and no more: whatever is lost here, readers find in Postgres.

Nothing in this file raises because Redis is away, slow or older than we think; it is logged and readers take longer.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from engine.events import Event
from persistence.events.codec import payload_of
from persistence.events.run_transition import RunTransition

log = structlog.get_logger(__name__)

STREAM_LENGTH = 1000
"""About how many entries a run's stream keeps; who needs older ones reads Postgres."""
STREAM_TTL_S = 3600
PATIENCE_S = 2.0
"""A hung Redis must not hold up the journal for longer than this."""
FORGOTTEN = 500
"""Streams taken away by one command."""
PACK = 64
"""Events in one stream entry, at most: a command costs more than what it carries."""


class Item(NamedTuple):
    """An event of a run, or text that follows on the event `seq`."""

    run_id: str
    seq: int
    payload: bytes
    is_delta: bool = False


def item_of(event: Event) -> Item:
    return Item(event.run_id, event.seq, payload_of(event.at, event.data))


RESTS = "rests"


def stream_of(run_id: str) -> str:
    return f"events:{run_id}"


def runs_channel(project_id: str) -> str:
    return f"runs:{project_id}"


def draft_channel(workflow_id: str) -> str:
    return f"draft:{workflow_id}"


async def publish_transitions(redis: Redis, transitions: Sequence[RunTransition]) -> None:
    """Publish committed status changes with their events."""
    await publish(redis, items_of(transitions), transitions)


def items_of(transitions: Sequence[RunTransition]) -> list[Item]:
    """Return the stream items of all events of these transitions, in order."""
    return [item_of(event) for transition in transitions for event in transition.events]


async def publish(redis: Redis, items: Sequence[Item], transitions: Sequence[RunTransition] = ()) -> None:
    """Publish committed events and streamed text to the runs' streams, and status changes to their channels.

    A status change goes to the channel of the run's project, and to `RESTS` where the run is idle now.
    """
    if not items and not transitions:
        return
    pipe = redis.pipeline(transaction=False)
    for run_id, entry_id, fields in _entries(items):
        pipe.xadd(stream_of(run_id), fields, id=entry_id, maxlen=STREAM_LENGTH, approximate=True)
    for run_id in {item[0] for item in items}:
        pipe.expire(stream_of(run_id), STREAM_TTL_S)
    for transition in transitions:
        pipe.publish(runs_channel(transition.project_id), transition.encode())
        if transition.status.is_idle:
            pipe.publish(RESTS, transition.run_id)
    await _send(pipe)


def _entries(items: Sequence[Item]) -> Iterator[tuple[str, str, dict[Any, Any]]]:
    """Events that follow on each other go in one entry, under the number of the last: `seq-0`. Text goes under `seq-*`."""
    packs: dict[str, list[Item]] = {}
    for item in items:
        pack = packs.setdefault(item.run_id, [])
        if pack and (item.is_delta or item.seq != pack[-1].seq + 1 or len(pack) == PACK):
            yield _packed(pack)
            pack.clear()
        if item.is_delta:
            yield item.run_id, f"{item.seq}-*", {"d": item.payload}
        else:
            pack.append(item)
    yield from (_packed(pack) for pack in packs.values() if pack)


def _packed(pack: list[Item]) -> tuple[str, str, dict[Any, Any]]:
    payload = b"[" + b",".join(item.payload for item in pack) + b"]"
    return pack[0].run_id, f"{pack[-1].seq}-0", {"e": payload}


async def forget(redis: Redis, run_ids: Sequence[str]) -> None:
    """Takes away the streams of runs that are deleted. Where Redis is away, they go by themselves after a while."""
    if not run_ids:
        return
    pipe = redis.pipeline(transaction=False)
    for start in range(0, len(run_ids), FORGOTTEN):
        pipe.unlink(*(stream_of(run_id) for run_id in run_ids[start : start + FORGOTTEN]))
    await _send(pipe)


async def announce(redis: Redis, channel: str, payload: str) -> None:
    """One message to whoever listens on `channel` now."""
    pipe = redis.pipeline(transaction=False)
    pipe.publish(channel, payload)
    await _send(pipe)


async def _send(pipe: Any) -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            replies = await pipe.execute(raise_on_error=False)
    except (RedisError, OSError, TimeoutError) as error:
        log.warning("feed.publish_failed", error=str(error) or type(error).__name__)
        return
    for reply in replies:
        # Two writers of one run may publish out of order; the reader sees the gap and asks Postgres.
        if isinstance(reply, Exception) and not _is_too_old(reply):
            log.warning("feed.publish_refused", error=str(reply))


def _is_too_old(reply: Exception) -> bool:
    return isinstance(reply, ResponseError) and "equal or smaller" in str(reply)
