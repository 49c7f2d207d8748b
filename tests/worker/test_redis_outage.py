"""Redis that is away, hung, or cut off: the doorbell and the listener never wait for it, and come back by themselves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from arq.connections import ArqRedis
from redis.asyncio import Redis
from structlog.testing import capture_logs

from persistence.queue.notifier import PATIENCE_S, Notifier
from tests.journal_worker import until
from worker import listener
from worker.listener import listen


class Wire:
    """A socket between a client and Redis, which a test can hold up or cut: the client sees nothing but silence."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._flows = asyncio.Event()
        self._flows.set()
        self._writers: list[asyncio.StreamWriter] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        to_reader, to_writer = await asyncio.open_unix_connection(self._target)
        self._writers += [writer, to_writer]
        await asyncio.gather(self._copy(reader, to_writer), self._copy(to_reader, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.close()

    def hold_up(self) -> None:
        self._flows.clear()

    def let_go(self) -> None:
        self._flows.set()

    def cut(self) -> None:
        for writer in self._writers:
            writer.close()
        self._writers = []


@asynccontextmanager
async def wired(redis_url: str) -> AsyncIterator[tuple[Wire, Redis]]:
    wire = Wire(redis_url.removeprefix("unix://").split("?")[0])
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = Redis(port=port)
    try:
        yield wire, client
    finally:
        wire.let_go()
        await client.aclose()
        wire.cut()
        server.close()


async def test_a_hung_redis_holds_up_neither_a_ring_nor_a_nudge_and_is_told_of_once(redis_url: str) -> None:
    async with wired(redis_url) as (wire, client):
        queue = Notifier(ArqRedis(client.connection_pool), "test")
        await queue.notify_queue()
        wire.hold_up()
        with capture_logs() as logs:
            async with asyncio.timeout(PATIENCE_S * 5):
                await queue.notify_queue()
                await queue.notify_run("run_1")
                await queue.notify_queue()
            wire.let_go()
            await queue.notify_queue()
        assert [entry["event"] for entry in logs] == ["queue.away", "queue.back"]


async def test_rings_that_come_while_it_rings_are_one(redis: Redis) -> None:
    queue = Notifier(ArqRedis(redis.connection_pool), "test")
    heard: list[str] = []
    async with redis.pubsub() as subscription:
        await subscription.subscribe(queue.bell)
        await asyncio.gather(*(queue.notify_queue() for _ in range(50)))
        while message := await subscription.get_message(timeout=0.3):
            heard.append(message["type"])
    assert 1 <= heard.count("message") <= 3


@pytest.mark.parametrize("trouble", ["cut", "hold_up"])
async def test_the_listener_comes_back_after_a_connection_is_cut_or_falls_silent(
    redis: Redis, redis_url: str, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "SILENCE_S", 0.2)
    heard: list[str] = []

    async def hear(data: str) -> None:
        heard.append(data)

    async def say() -> None:
        """Until it is heard: nobody tells when a subscription stands."""
        before = len(heard)
        async with asyncio.timeout(15):
            while len(heard) == before:
                await redis.publish("bell", "x")
                await asyncio.sleep(0.01)

    async with wired(redis_url) as (wire, client):
        listening = asyncio.create_task(listen(client, {"bell": hear}))
        try:
            await say()
            first = wire.connections
            getattr(wire, trouble)()
            if trouble == "hold_up":
                await until(lambda: wire.connections > first)
                wire.let_go()
            await say()
            assert not listening.done()
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


async def test_a_handler_that_meets_a_database_in_trouble_does_not_end_the_listening(redis: Redis) -> None:
    heard: list[str] = []

    async def hear(data: str) -> None:
        heard.append(data)
        if len(heard) < 3:
            raise ConnectionError("no database")

    listening = asyncio.create_task(listen(redis, {"bell": hear}))
    try:
        with capture_logs() as logs:
            async with asyncio.timeout(10):
                while len(heard) < 4:
                    await redis.publish("bell", "x")
                    await asyncio.sleep(0.01)
        assert [entry["event"] for entry in logs] == ["control.database.away", "control.database.back"]
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_a_message_that_is_no_text_does_not_end_the_listening(redis: Redis) -> None:
    heard: list[str] = []

    async def hear(data: str) -> None:
        heard.append(data)

    listening = asyncio.create_task(listen(redis, {"bell": hear}))
    try:
        async with asyncio.timeout(10):
            while len(heard) < 4 and not listening.done():
                await redis.publish("bell", b"\xff\x00")
                await asyncio.sleep(0.01)
        assert not listening.done()
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
