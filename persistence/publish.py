"""Tells Redis what Postgres has committed. A hint and no more: whatever is lost here, readers find in Postgres.

Nothing in this file raises because Redis is away, slow or older than we think; it is logged and readers take longer.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from engine.events import Event
from engine.states import RunStatus
from persistence.wire import payload_of

log = structlog.get_logger(__name__)

STREAM_LENGTH = 1000
"""About how many entries a run's stream keeps; who needs older ones reads Postgres."""
STREAM_TTL_S = 3600
PATIENCE_S = 2.0
"""A hung Redis must not hold up the journal for longer than this."""


class Item(NamedTuple):
    """An entry of a run's stream: an event under `seq-0`, or text under `seq-*` behind the event that it follows."""

    run_id: str
    id: str
    payload: bytes
    is_delta: bool = False


def item_of(event: Event) -> Item:
    return Item(event.run_id, f"{event.seq}-0", payload_of(event.at, event.what))


StatusNotice = tuple[str, str, RunStatus | None]
"""(project id, run id, status before): one for each status change, sent to the channel `runs:{project id}`."""


def stream_of(run_id: str) -> str:
    return f"events:{run_id}"


def runs_channel(project_id: str) -> str:
    return f"runs:{project_id}"


def draft_channel(workflow_id: str) -> str:
    return f"draft:{workflow_id}"


async def publish(redis: Redis, items: Sequence[Item], notices: Sequence[StatusNotice] = ()) -> None:
    """After the commit: events and text, and a notice for each change of a run's status."""
    if not items and not notices:
        return
    pipe = redis.pipeline(transaction=False)
    for run_id, entry_id, payload, is_delta in items:
        field = "d" if is_delta else "e"
        pipe.xadd(stream_of(run_id), {field: payload}, id=entry_id, maxlen=STREAM_LENGTH, approximate=True)
    for run_id in {item[0] for item in items}:
        pipe.expire(stream_of(run_id), STREAM_TTL_S)
    for project_id, run_id, previous in notices:
        pipe.publish(runs_channel(project_id), f"{run_id} {previous or ''}")
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
