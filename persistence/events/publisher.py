"""Publishes committed events to the Redis stream of their run, and status changes to channels.

Redis is only a hint: readers find in Postgres whatever is lost here. No function of this module
raises because Redis is unavailable or slow, or already has a later entry; it logs the error, and
readers see the change later.
"""

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from engine.events import Event
from persistence.db.outage import Outage
from persistence.events.codec import payload_of
from persistence.events.run_transition import RunTransition, report_ends

log = structlog.get_logger(__name__)

STREAM_LENGTH = 1000
"""About how many entries a run's stream keeps. Readers find older ones in Postgres."""
STREAM_TTL_S = 3600
"""Seconds after its last entry until the stream of an unfinished run expires."""
ENDED_TTL_S = 60
"""Seconds after its end until the stream of a run expires. Later readers need Postgres only."""
TIMEOUT_S = 2.0
"""How long a Redis that hangs may delay the journal, in seconds."""
MAX_UNLINKED = 500
"""Streams deleted by one command."""
PROGRESS_INTERVAL_S = 1.0
"""The least time between two notices about the progress of the runs of a project, in seconds."""
_ADD_TEXT = """
local function add(id)
  return redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], id, 'd', ARGV[3])
end
local reply = add(ARGV[1])
if type(reply) == 'table' and reply.err then
  local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
  return newest and add(string.match(newest[1], '%d+') .. '-*') or reply
end
return reply
"""
"""Adds streamed text to a stream. A server may have published a later event, such as PAUSING, that
the worker does not know yet; then the text follows that event."""
_outages: WeakKeyDictionary[Any, Outage] = WeakKeyDictionary()
"""The outage of each Redis, by its pool of connections."""
MAX_PACKED = 64
"""Events in one stream entry: a command costs more than the events in it."""


class StreamItem(NamedTuple):
    """An event of a run, or, if `is_delta`, streamed text that comes after the event `seq`."""

    run_id: str
    seq: int
    payload: bytes
    is_delta: bool = False


class Notice(NamedTuple):
    """A message to the present listeners of a channel."""

    channel: str
    message: str


def item_of(event: Event) -> StreamItem:
    return StreamItem(event.run_id, event.seq, payload_of(event.at, event.data))


# The name stays: processes of two releases share one Redis during an upgrade.
IDLE_RUNS_CHANNEL = "rests"
"""Channel of the ids of runs that have just become terminal, PAUSED or WAITING."""


PROGRESS_MARK = "progress "
"""The beginning of every message on a progress channel."""


def stream_of(run_id: str) -> str:
    return f"events:{run_id}"


def runs_channel(project_id: str) -> str:
    return f"runs:{project_id}"


def progress_channel(project_id: str) -> str:
    """Return the channel of the ids of runs that have new progress, separated by spaces."""
    return f"progress:{project_id}"


def draft_channel(workflow_id: str) -> str:
    return f"draft:{workflow_id}"


async def publish_transitions(
    redis: Redis, transitions: Sequence[RunTransition], notices: Sequence[Notice] = ()
) -> None:
    """Publish committed status changes with their events, and afterwards the notices about them."""
    await publish(redis, items_of(transitions), transitions, notices)


def items_of(transitions: Sequence[RunTransition]) -> list[StreamItem]:
    """Return the stream items of all events of these transitions, in order."""
    return [item_of(event) for transition in transitions for event in transition.events]


async def publish(
    redis: Redis,
    items: Sequence[StreamItem],
    transitions: Sequence[RunTransition] = (),
    notices: Sequence[Notice] = (),
) -> None:
    """Publish events and text to the streams of the runs, and status changes to their channels.

    A status change goes to the channel of the run's project, and to `IDLE_RUNS_CHANNEL` where the
    run is idle now. Everything is one pipeline: a round trip costs more than the commands in it. The
    end of a run is logged and counted.
    """
    report_ends(transitions)
    if not items and not transitions and not notices:
        return
    pipe = redis.pipeline(transaction=False)
    for run_id, entry_id, fields in _entries(items):
        if "d" in fields:
            pipe.eval(_ADD_TEXT, 1, stream_of(run_id), entry_id, str(STREAM_LENGTH), fields["d"])
        else:
            pipe.xadd(stream_of(run_id), fields, id=entry_id, maxlen=STREAM_LENGTH, approximate=True)
    ended = {transition.run_id for transition in transitions if transition.status.is_terminal}
    for run_id in {item[0] for item in items} | ended:
        pipe.expire(stream_of(run_id), ENDED_TTL_S if run_id in ended else STREAM_TTL_S)
    for transition in transitions:
        pipe.publish(runs_channel(transition.project_id), transition.encode())
        if transition.status.is_idle:
            pipe.publish(IDLE_RUNS_CHANNEL, transition.run_id)
    for notice in notices:
        pipe.publish(*notice)
    await _send(pipe)


def _entries(items: Sequence[StreamItem]) -> Iterator[tuple[str, str, dict[Any, Any]]]:
    """Make stream entries: (run id, entry id, fields).

    Consecutive events share an entry with the id `seq-0` of the last one; streamed text has the id
    `seq-*`.
    """
    packs: dict[str, list[StreamItem]] = {}
    for item in items:
        pack = packs.setdefault(item.run_id, [])
        if pack and (item.is_delta or item.seq != pack[-1].seq + 1 or len(pack) == MAX_PACKED):
            yield _packed(pack)
            pack.clear()
        if item.is_delta:
            yield item.run_id, f"{item.seq}-*", {"d": item.payload}
        else:
            pack.append(item)
    yield from (_packed(pack) for pack in packs.values() if pack)


def _packed(pack: list[StreamItem]) -> tuple[str, str, dict[Any, Any]]:
    payload = b"[" + b",".join(item.payload for item in pack) + b"]"
    return pack[0].run_id, f"{pack[-1].seq}-0", {"e": payload}


async def delete_streams(redis: Redis, run_ids: Sequence[str]) -> None:
    """Delete the streams of deleted runs. Without Redis they expire after STREAM_TTL_S."""
    if not run_ids:
        return
    pipe = redis.pipeline(transaction=False)
    for start in range(0, len(run_ids), MAX_UNLINKED):
        pipe.unlink(*(stream_of(run_id) for run_id in run_ids[start : start + MAX_UNLINKED]))
    await _send(pipe)


async def publish_progress(redis: Redis, run_ids: Mapping[str, Collection[str]]) -> None:
    """Publish that runs have new progress. `run_ids` are their ids by project."""
    pipe = redis.pipeline(transaction=False)
    for project_id, ids in run_ids.items():
        pipe.publish(progress_channel(project_id), PROGRESS_MARK + " ".join(sorted(ids)))
    await _send(pipe)


async def announce(redis: Redis, channel: str, payload: str) -> None:
    """Publish one message to the present listeners of a channel."""
    await announce_each(redis, [(channel, payload)])


async def announce_each(redis: Redis, messages: Sequence[tuple[str, str]]) -> None:
    """Publish messages, each to the present listeners of its channel."""
    if not messages:
        return
    pipe = redis.pipeline(transaction=False)
    for channel, payload in messages:
        pipe.publish(channel, payload)
    await _send(pipe)


async def _send(pipe: Any) -> None:
    outage = _outage_of(pipe)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            replies = await pipe.execute(raise_on_error=False)
    except (RedisError, OSError, TimeoutError) as error:
        outage.failed(error)
        return
    outage.recovered()
    for reply in replies:
        # Two writers of one run may publish out of order; the reader sees the gap and reads
        # Postgres.
        if isinstance(reply, Exception) and not _is_too_old(reply):
            log.warning("feed.publish_refused", error=str(reply))


def _outage_of(pipe: Any) -> Outage:
    """Return the outage of the Redis of a pipeline, which shares the connections of its client."""
    return _outages.setdefault(pipe.connection_pool, Outage("feed.publish"))


def _is_too_old(reply: Exception) -> bool:
    return isinstance(reply, ResponseError) and "equal or smaller" in str(reply)
