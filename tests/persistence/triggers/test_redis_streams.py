"""Triggers that read a stream of Redis: each entry fires once, whatever Redis and the workers lose."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.persistence.triggers.polled_source import PolledSource
from tests.persistence.triggers.stored_triggers import events_of, rows

CONFIG: dict[str, Any] = {"stream": "orders", "group": "g", "start": "all", "maxItems": 3, "claimIdleS": 1}


async def add(redis: Redis, *ids: int) -> None:
    for id in ids:
        await redis.xadd("orders", {"n": str(id)}, id=f"{id}-1")


async def pending(redis: Redis) -> int:
    return int((await redis.xpending("orders", "g"))["pending"])


def fired(*ids: int) -> list[str]:
    return [f"FIRED entry:{id}-1" for id in ids]


async def test_entries_fire_once_and_are_acknowledged_afterwards(
    source: PolledSource, redis: Redis, stream_url: str
) -> None:
    await source.create("redis_stream", url=stream_url, **CONFIG)
    due = source.worker()
    assert await source.poll(due) == []
    await add(redis, 1, 2, 3, 4)
    await redis.xadd("orders", {b"raw": b"\xff", b"text": "é"}, id="5-1")
    before = source.now
    assert await source.poll(due) == fired(1, 2, 3)
    assert (await source.row())["next_fire_at"] == source.now > before  # More follows at once.
    assert await source.poll(due) == fired(4, 5)
    assert await source.poll(due) == [] and await pending(redis) == 0
    payloads = await source.payloads()
    assert (payloads[0]["fields"], payloads[0]["stream"]) == ({"n": "1"}, "orders")
    assert payloads[4]["fields"] == {"raw": {"base64": "/w=="}, "text": "é"}
    assert (await source.row())["state"] == {"lastId": "5-1"}


async def test_a_stream_with_more_entries_is_not_read_at_once_while_the_queue_is_full(
    source: PolledSource, redis: Redis, stream_url: str
) -> None:
    await source.create("redis_stream", url=stream_url, **CONFIG)
    await add(redis, 1, 2, 3, 4)
    assert await source.poll(source.worker(queue_limit=0)) == []
    assert (await source.row())["next_fire_at"] > source.now
    due = source.worker()
    assert [await source.poll(due) for _ in range(2)] == [fired(1, 2, 3), fired(4)]


async def test_what_a_lost_worker_has_read_is_read_again(source: PolledSource, redis: Redis, stream_url: str) -> None:
    await source.create("redis_stream", url=stream_url, **CONFIG)
    await add(redis, 1, 2)
    await redis.xgroup_create("orders", "g", "0")
    # Read before the transaction, by the consumer of this trigger; and by another one that never comes back.
    await redis.xreadgroup("g", source.id, {"orders": ">"}, count=1)
    await redis.xreadgroup("g", "another", {"orders": ">"}, count=1)
    await redis.execute_command("XCLAIM", "orders", "g", "another", "0", "2-1", "IDLE", "5000")
    await add(redis, 3)
    due = source.worker()
    assert await source.poll(due) == fired(1, 2, 3)
    # The worker has died after the transaction, before it acknowledged: no second run.
    await redis.xgroup_setid("orders", "g", "2-1")
    assert await source.poll(due) == ["DUPLICATE entry:3-1"]
    assert await source.poll(due) == [] and await pending(redis) == 0


@pytest.mark.parametrize("on_limit", ["cancelOldest", "reject"])
async def test_an_entry_that_is_read_again_cancels_no_run_and_does_not_wait(
    source: PolledSource, redis: Redis, stream_url: str, on_limit: str
) -> None:
    limited = {"concurrency": {"limit": 1, "onLimit": on_limit}}
    await source.create("redis_stream", url=stream_url, spec=limited, **CONFIG)
    await add(redis, 1)
    due = source.worker()
    assert await source.poll(due) == fired(1)
    await redis.xgroup_setid("orders", "g", "0")
    assert await source.poll(due) == ["DUPLICATE entry:1-1"]
    assert [row["status"] for row in await rows(source.database, "SELECT status FROM runs")] == ["QUEUED"]
    assert await source.poll(due) == [] and await pending(redis) == 0


async def test_a_refused_acknowledgement_is_a_failure_and_is_repeated_first(
    source: PolledSource, redis: Redis, stream_url: str
) -> None:
    await redis.execute_command("ACL", "SETUSER", "reader", "reset", "on", ">pw", "~*", "+@all", "-xack")
    await source.put_secret("address", stream_url.replace("redis://", "redis://reader:pw@"))
    await source.create("redis_stream", secret="address", **CONFIG)
    await add(redis, 1, 2, 3, 4)
    first, second = source.worker(), source.worker()
    assert await source.poll(first) == fired(1, 2, 3)
    assert await source.poll(second) == [f"DUPLICATE entry:{id}-1" for id in (1, 2, 3)]
    for failures, due in enumerate((second, first), 1):
        [failed] = await source.poll(due)
        row = await source.row()
        assert failed.startswith("FAILED poll:") and row["failures"] == failures
        assert row["last_error"].startswith("the source accepts no acknowledgement of its last items: the user of")
    await redis.execute_command("ACL", "SETUSER", "reader", "+xack")
    assert [await source.poll(first) for _ in range(2)] == [fired(4), []]
    assert (await pending(redis), (await source.row())["last_error"]) == (0, None)
    await redis.execute_command("ACL", "DELUSER", "reader")


async def test_a_group_that_is_lost_continues_behind_the_last_accepted_entry(
    source: PolledSource, redis: Redis, stream_url: str
) -> None:
    await source.create("redis_stream", url=stream_url, **CONFIG | {"start": "new"})
    await add(redis, 1)
    due = source.worker()
    assert await source.poll(due) == []
    await add(redis, 2)
    assert await source.poll(due) == fired(2)
    await add(redis, 3)
    await redis.xgroup_destroy("orders", "g")
    assert await source.poll(due) == fired(3)
    await redis.delete("orders")
    assert await source.poll(due) == []
    await add(redis, 4)
    assert await source.poll(due) == fired(4)
    await redis.delete("orders")  # Another stream, whose ids begin anew.
    await add(redis, 1)
    assert await source.poll(due) == fired(1)


async def test_an_entry_that_was_deleted_and_one_that_cannot_run_hold_nothing_up(
    source: PolledSource, redis: Redis, stream_url: str
) -> None:
    await source.create("redis_stream", url=stream_url, inputs={"n": "{{ event.fields.n.a.b }}"}, **CONFIG)
    await redis.xgroup_create("orders", "g", "0", mkstream=True)
    await add(redis, 1, 2)
    await redis.xreadgroup("g", source.id, {"orders": ">"}, count=1)
    await redis.xdel("orders", "1-1")
    due = source.worker()
    assert await source.poll(due) == ["FAILED entry:2-1"]
    assert "`inputs` of the trigger cannot be rendered" in (await source.row())["last_error"]
    assert await source.poll(due) == [] and await pending(redis) == 0


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({"url": "redis://127.0.0.1:1"}, "the Redis server cannot be reached"),
        ({"url": "redis://10.0.0.1:6379"}, "10.0.0.1 is not on the public internet"),
        ({"url": "redis://127.0.0.1:port"}, "the address of the Redis server is not valid"),
        ({"secret": "token"}, "the address of the Redis server is not valid"),
        ({"secret": "unknown"}, "there is no secret 'unknown'"),
        ({"stream": "text"}, "the key 'text' is no stream"),
    ],
)
async def test_a_server_that_cannot_be_used_is_a_failure(
    source: PolledSource, redis: Redis, stream_url: str, config: dict[str, Any], error: str
) -> None:
    await redis.set("text", "t")
    chosen = {"url": stream_url} if "stream" in config else {}
    await source.create("redis_stream", **CONFIG | chosen | config)
    await source.poll()
    row = await source.row()
    assert error in row["last_error"] and row["failures"] == 1
    assert [status for _, status, _ in await events_of(source.database, source.id)] == ["FAILED"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"$536870912\r\n", "sends more than 32 MiB"),
        (b"*2147483647\r\n" + b"*0\r\n" * 50_001, "sends more than 50,000 values"),
        (b"*1\r\n" * 5000, "sends no valid answer"),
        (b"*x\r\n", "sends no valid answer"),
        (b"+" + b"x" * 200_000, "sends no valid answer"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "the Redis server cannot be reached"),
    ],
    ids=["a large value", "a long list", "deep lists", "no number", "a long line", "no Redis"],
)
async def test_a_server_that_answers_falsely_takes_neither_memory_nor_time(
    source: PolledSource, answer: bytes, error: str
) -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        await reader.read()  # Until the client leaves.
        writer.close()

    async with await asyncio.start_server(respond, "127.0.0.1", 0) as server:
        url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await source.create("redis_stream", url=url, **CONFIG)
        await source.poll()
        assert error in (await source.row())["last_error"]
