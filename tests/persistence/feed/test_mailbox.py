"""A mailbox is bounded, and its reader learns of every message that it lost."""

import asyncio

from persistence.feed.mailbox import Mailbox


async def test_messages_are_read_in_order() -> None:
    mailbox = Mailbox[int]()
    for number in range(3):
        mailbox.put(number)
    assert [await mailbox.next() for _ in range(3)] == [0, 1, 2]


async def test_a_full_mailbox_drops_its_oldest_messages_and_reports_one_gap() -> None:
    mailbox = Mailbox[int](2)
    for number in range(5):
        mailbox.put(number)
    assert len(mailbox) == 2
    assert [await mailbox.next() for _ in range(3)] == [None, 3, 4]


async def test_a_gap_wakes_a_reader_that_waits() -> None:
    mailbox = Mailbox[int]()
    reading = asyncio.create_task(mailbox.next())
    await asyncio.sleep(0)
    mailbox.mark_gap()
    assert await asyncio.wait_for(reading, 5) is None


async def test_a_cleared_mailbox_has_neither_messages_nor_a_gap() -> None:
    mailbox = Mailbox[int](1)
    mailbox.put(1)
    mailbox.put(2)
    mailbox.clear()
    mailbox.put(3)
    assert await mailbox.next() == 3


async def test_a_mailbox_is_bounded_by_the_bytes_of_its_messages() -> None:
    mailbox = Mailbox[int](max_bytes=100)
    for number in range(5):
        mailbox.put(number, 40)
    assert [await mailbox.next() for _ in range(4)] == [None, 2, 3, 4]
    mailbox.put(5, 1000)
    mailbox.put(6, 1)
    assert [await mailbox.next() for _ in range(2)] == [None, 6]
