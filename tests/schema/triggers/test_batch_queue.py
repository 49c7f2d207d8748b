"""The queue of messages: few batches at once, keys by turns, and an answer for each item."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest

from resolvers.triggers.batch_queue import MOST_BYTES_OF_BATCH, MOST_OF_BATCH, BatchQueue, TooManyWaiting


class Recorder:
    """Executes batches of numbers, each after `go`, and records them."""

    def __init__(self) -> None:
        self.go, self.batches, self.active, self.most_active = asyncio.Event(), list[list[int]](), Counter[str](), 0

    async def __call__(self, items: list[tuple[str, int]]) -> Sequence[int | BaseException]:
        key = items[0][0]
        assert {one for one, _ in items} == {key} and not self.active[key], "two batches of a key at once"
        self.batches.append([number for _, number in items])
        self.active[key] += 1
        self.most_active = max(self.most_active, self.active.total())
        await self.go.wait()
        self.active[key] -= 1
        if any(number == 13 for _, number in items):
            raise ValueError("the whole batch")
        return [LookupError(number) if number == 7 else number * 2 for _, number in items]

    def add(self, queue: BatchQueue, key: str, number: int, size: int = 0) -> "asyncio.Task[int]":
        return asyncio.create_task(queue.add(key, (key, number), self, size))


async def test_what_comes_during_a_batch_is_the_next_batch_and_keys_take_turns() -> None:
    queue, record = BatchQueue(most_batches=2), Recorder()
    tasks = [record.add(queue, key, number) for number in range(20, 20 + 3 * MOST_OF_BATCH) for key in "abc"]
    await asyncio.sleep(0)
    assert [len(batch) for batch in record.batches] == []
    await asyncio.sleep(0)
    assert [len(batch) for batch in record.batches] == [1, 1], "the first item waits for no other"
    record.go.set()
    assert await asyncio.gather(*tasks) == [2 * n for n in range(20, 20 + 3 * MOST_OF_BATCH) for _ in "abc"]
    assert record.most_active == 2
    assert sorted(number for batch in record.batches for number in batch) == sorted(
        n for n in range(20, 20 + 3 * MOST_OF_BATCH) for _ in "abc"
    )
    assert len(record.batches) == 2 * 4 + 3 and max(map(len, record.batches)) == MOST_OF_BATCH


async def test_an_item_over_a_bound_is_refused_and_leaves_the_others() -> None:
    queue, record = BatchQueue(most_waiting=4, most_bytes=10), Recorder()
    first = record.add(queue, "a", 1, 9)
    await asyncio.sleep(0)
    with pytest.raises(TooManyWaiting):
        await record.add(queue, "b", 2, 2)
    others = [record.add(queue, "b", 3), record.add(queue, "a", 4), record.add(queue, "b", 5)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyWaiting):
        await record.add(queue, "c", 6)
    record.go.set()
    assert [await first, *[await one for one in others]] == [2, 6, 8, 10]
    assert await record.add(queue, "a", 6, 1000) == 12, "an item that is larger than the bound is alone"


@pytest.mark.parametrize(("most", "most_bytes", "size"), [(4, 1000, 1), (100, 40, 10)])
async def test_one_key_leaves_half_of_the_queue_to_the_others(most: int, most_bytes: int, size: int) -> None:
    queue, record = BatchQueue(most_waiting=most, most_bytes=most_bytes), Recorder()
    tasks = [record.add(queue, "a", number, size) for number in (1, 2)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyWaiting):
        await record.add(queue, "a", 3, size)
    tasks += [record.add(queue, "b", number, size) for number in (3, 4)]
    await asyncio.sleep(0)
    record.go.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6, 8]
    assert await record.add(queue, "a", 5, size) == 10


async def test_errors_belong_to_their_items_and_a_cancelled_caller_to_none() -> None:
    queue, record = BatchQueue(), Recorder()
    first = record.add(queue, "a", 1)
    await asyncio.sleep(0)
    tasks = [record.add(queue, "a", number) for number in (6, 7, 8)]
    await asyncio.sleep(0)
    tasks[2].cancel()
    record.go.set()
    results = await asyncio.gather(first, *tasks, return_exceptions=True)
    assert results[:2] == [2, 12] and isinstance(results[2], LookupError)
    assert isinstance(results[3], asyncio.CancelledError) and record.batches == [[1], [6, 7, 8]]
    failed = await asyncio.gather(*(record.add(queue, "b", n) for n in (13, 14)), return_exceptions=True)
    assert isinstance(failed[0], ValueError) and failed[1] == 28


async def test_a_batch_has_a_bounded_size() -> None:
    queue, record = BatchQueue(), Recorder()
    tasks = [record.add(queue, "a", number, MOST_BYTES_OF_BATCH // 2) for number in range(20, 26)]
    record.go.set()
    await asyncio.gather(*tasks)
    assert record.batches == [[20], [21, 22], [23, 24], [25]]
