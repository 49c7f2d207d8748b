"""The stored events of a run: every number once or in a range of deleted ones, and no text after its node's end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from redis.asyncio import Redis

from engine.events import Event, LiveDelta, LogRecorded, NodeChange, NodeState, OutputDelta
from engine.states import LogLevel, NodeStatus
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.events.publisher import announce, draft_channel
from persistence.feed import feed as feed_module
from persistence.feed.feed import Expired, Feed, _EndedNodes, _live
from persistence.feed.streams import RunMailbox
from tests.journal_worker import JournalWorker, accept_run

NOW = datetime.now(UTC)
LAST = 7


@pytest.fixture
async def feed(database: Database, redis: Redis) -> AsyncIterator[Feed]:
    feed = Feed(database, redis)
    yield feed
    await feed.close()


@pytest.fixture
async def run_id(database: Database, worker: JournalWorker, caller: Caller, project: str) -> str:
    """A run that has ended with the event LAST."""
    held = await worker.claim((await accept_run(database, caller, project)).run)
    for number in range(3, LAST):
        await held.record(LogRecorded(LogLevel.INFO, f"{number}", None, {}))
    assert await held.finish() == LAST
    return held.run_id


async def read(feed: Feed, run_id: str, after: int = 0) -> list[int | tuple[int, int]]:
    """Return the numbers of events, and the ranges of deleted ones as (number before, number after)."""
    async with asyncio.timeout(10):
        items = [item async for item in feed.follow(run_id, after)]
    return [(item.seq, item.first_seq) if isinstance(item, Expired) else item.seq for item in items]


DELETED: dict[str, tuple[str, int, list[int | tuple[int, int]]]] = {
    "nothing": ("false", 0, [1, 2, 3, 4, 5, 6, 7]),
    "nothing, read from a number on": ("false", 3, [4, 5, 6, 7]),
    "nothing, read from below the first": ("false", -5, [1, 2, 3, 4, 5, 6, 7]),
    "the first": ("seq = 1", 0, [(0, 2), 2, 3, 4, 5, 6, 7]),
    "the first ones, read from among them on": ("seq < 5", 2, [(2, 5), 5, 6, 7]),
    "the first ones, read from the last of them on": ("seq < 5", 4, [5, 6, 7]),
    "all": ("true", 0, [(0, 8)]),
    "all, read from a number on": ("true", 6, [(6, 8)]),
}


async def test_a_reader_gets_every_number_or_the_range_that_retention_deleted(
    feed: Feed, database: Database, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each condition includes those before it.
    for name, (condition, after, expected) in DELETED.items():
        await database.pool.execute(f"DELETE FROM events WHERE run_id = $1 AND {condition}", run_id)
        for batch in (1, 3, 500):
            monkeypatch.setattr(feed_module, "BATCH", batch)
            assert (name, batch, await read(feed, run_id, after)) == (name, batch, expected)


async def test_a_reader_of_a_run_without_stored_events_gets_the_next_one(
    feed: Feed, database: Database, worker: JournalWorker, caller: Caller, project: str
) -> None:
    held = await worker.claim((await accept_run(database, caller, project)).run)
    note = LogRecorded(LogLevel.INFO, "a line", None, {})
    assert await held.record(note) == 3
    await database.pool.execute("DELETE FROM events WHERE run_id = $1", held.run_id)
    async with asyncio.timeout(10), aclosing(feed.follow(held.run_id, 0)) as items:
        gone = await anext(items)
        assert isinstance(gone, Expired) and (gone.seq, gone.first_seq) == (0, 4)
        await held.record(note)
        await held.finish()
        assert [item.seq async for item in items] == [4, 5]


async def test_the_messages_of_channels_come_after_a_gap(feed: Feed, redis: Redis) -> None:
    async with asyncio.timeout(10), aclosing(feed.messages("a channel", "another")) as messages:
        assert await anext(messages) is None
        for channel in ("another", "a third", "a channel"):
            await announce(redis, channel, f"from {channel}")
        assert [await anext(messages) for _ in range(2)] == ["from another", "from a channel"]


async def test_a_reader_of_the_saves_of_a_draft_hears_at_once_and_after_each_save(feed: Feed, redis: Redis) -> None:
    async with asyncio.timeout(10), aclosing(feed.draft_saves("wf_1")) as saves:
        assert await anext(saves) is None
        await announce(redis, draft_channel("wf_1"), "saved")
        assert await anext(saves) is None


async def test_stored_events_have_small_values_only_if_the_reader_wants_them(
    feed: Feed, database: Database, worker: JournalWorker, caller: Caller, project: str
) -> None:
    held = await worker.claim((await accept_run(database, caller, project)).run)
    await held.node("a", NodeStatus.COMPLETED, visits=1, output=7, has_output=True, input={"n": 1})
    await held.finish()

    async def state(with_values: bool) -> NodeState:
        items = [item async for item in feed.follow(held.run_id, 2, with_values=with_values)]
        assert isinstance(items[0], Event) and isinstance(items[0].data, NodeChange)
        return items[0].data.state

    with_values, without = await state(True), await state(False)
    assert (with_values.input, with_values.output, with_values.output_seq) == ({"n": 1}, 7, None)
    assert (without.output, without.output_seq) == (None, 3)


def text(seq: int, node: str = "a") -> LiveDelta:
    return LiveDelta("run_1", seq, NOW, OutputDelta(node, 1, 1, 0, f"{seq}"))


def state(seq: int, status: NodeStatus, node: str = "a") -> Event:
    return Event("run_1", seq, NOW, NodeChange(NodeState("run_1", node, status)))


async def test_text_gets_the_number_of_the_event_before_it_and_is_left_out_after_the_end_of_its_node() -> None:
    mailbox, ended = RunMailbox(), _EndedNodes()
    mailbox.position = 4
    ended.note(state(3, NodeStatus.RUNNING, "b"))
    ended.note(state(4, NodeStatus.COMPLETED))
    ended.note(Expired("run_1", 4, 6, NOW))
    items = [text(3), text(4), text(3, "b"), state(5, NodeStatus.RUNNING), state(4, NodeStatus.RUNNING), text(9)]
    for item in items:
        mailbox.put(item)
    mailbox.put(state(7, NodeStatus.RUNNING))
    async with asyncio.timeout(5):
        seen = [item async for item in _live(mailbox, ended)]
    # Text 3 of node a was streamed before its end, which is event 4. Event 4 repeats, and 6 is missing.
    assert seen == [text(4), replace(text(3, "b"), seq=4), items[3], replace(text(9), seq=5)]
    assert seen[0] is items[1]
    assert mailbox.position == 5


@pytest.mark.parametrize("status", list(NodeStatus))
def test_text_is_late_only_after_the_end_of_a_visit(status: NodeStatus) -> None:
    ended = _EndedNodes()
    ended.note(state(5, status))
    assert ended.is_late(text(4)) == status.is_finished
    assert not ended.is_late(text(5))
    assert not ended.is_late(text(4, "b"))
    assert not ended.is_late(text(0, "b"))


async def test_live_events_without_a_record_of_ended_nodes_include_all_text() -> None:
    mailbox = RunMailbox()
    for item in (text(0), state(2, NodeStatus.RUNNING)):
        mailbox.put(item)
    async with asyncio.timeout(5):
        assert [item async for item in _live(mailbox)] == [text(0)]
