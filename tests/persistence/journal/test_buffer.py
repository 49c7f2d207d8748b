"""The weight of an entry decides its lane, and posted entries are bounded."""

import asyncio
from datetime import UTC, datetime

import pytest

from engine.events import LogRecorded
from engine.runtime.ports import CheckpointRecord, Entry
from engine.states import LogLevel
from engine.types import JSON
from engine.values.large_values import LARGE
from persistence.journal.buffer import EVENT_SIZE, EVENT_WEIGHT, MAX_GROUP, MAX_WEIGHT, JournalBuffer, Lane

NOW = datetime.now(UTC)
MEBIBYTE = 1024 * 1024


def entry(
    run_id: str = "run",
    *,
    size: int = 0,
    count: int = 1,
    text: str = "a line",
    fields: dict[str, JSON] | None = None,
) -> Entry:
    """An entry with a checkpoint of `size` bytes, or none, and `count` log lines."""
    checkpoint = CheckpointRecord("cp", None, 1, True, bytes(size), []) if size else None
    lines = [(NOW, LogRecorded(LogLevel.INFO, text, None, fields or {})) for _ in range(count)]
    return Entry(run_id, 1, events_to_write=[*lines], checkpoint=checkpoint)


@pytest.mark.parametrize(
    ("size", "count", "lane", "weight"),
    [
        (0, 1, Lane.QUICK, EVENT_WEIGHT),
        (500, 3, Lane.QUICK, 500 + 3 * EVENT_WEIGHT),
        (LARGE, 1, Lane.QUICK, LARGE + EVENT_WEIGHT),
        (LARGE + 1, 1, Lane.LARGE, LARGE + 1 + MAX_WEIGHT),
    ],
)
async def test_an_entry_weighs_as_much_as_its_checkpoint_and_its_events(
    size: int, count: int, lane: Lane, weight: int
) -> None:
    buffer = JournalBuffer()
    buffer.add(entry(size=size, count=count), asyncio.get_running_loop().create_future())
    assert buffer.next_group({}, lane.other) == []
    [[buffered]] = buffer.next_group({}, lane)
    assert (buffered.lane, buffered.weight) == (lane, weight)


@pytest.mark.parametrize(
    ("size", "count", "groups"),
    [(0, MAX_GROUP + 1, [MAX_GROUP, 1]), (LARGE, 40, [32, 8]), (LARGE - EVENT_WEIGHT, 40, [32, 8])],
)
async def test_a_group_ends_after_500_entries_or_two_mebibytes(size: int, count: int, groups: list[int]) -> None:
    buffer, loop = JournalBuffer(), asyncio.get_running_loop()
    for number in range(count):
        buffer.add(entry(f"run {number}", size=size), loop.create_future())
    assert [len(buffer.next_group({})) for _ in (*groups, None)] == [*groups, 0]


def test_posted_entries_of_more_than_64_mebibytes_are_dropped_and_counted() -> None:
    buffer, text = JournalBuffer(), "x" * MEBIBYTE
    for _ in range(70):
        buffer.post(entry(text=text))
    assert (len(buffer), buffer.take_dropped(), buffer.take_dropped()) == (63, 7, 0)


@pytest.mark.parametrize(
    ("text", "fields", "size"), [("", {}, 0), ("four", {}, 4), ("four", {"a": 1}, 11), ("", {"a": 1}, 7)]
)
def test_a_posted_log_line_has_the_size_of_its_text_and_its_fields(
    text: str, fields: dict[str, JSON], size: int
) -> None:
    buffer = JournalBuffer()
    buffer.post(entry(text=text, fields=fields))
    [[buffered]] = buffer.next_group({})
    assert buffered.size == EVENT_SIZE + size


def test_a_buffer_is_drained_when_nothing_waits_and_nothing_is_being_written() -> None:
    buffer, seen = JournalBuffer(), list[object]()
    for step in (lambda: None, lambda: buffer.post(entry()), lambda: buffer.next_group({})):
        step()
        seen.append(buffer.is_drained)
    buffer.end_group(Lane.QUICK)
    assert [*seen, buffer.is_drained] == [True, False, False, True]
