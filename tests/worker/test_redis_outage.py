"""Redis that is away, hangs or drops connections: notifier and listener never wait for it, and recover."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from arq.connections import ArqRedis
from redis.asyncio import Redis
from structlog.testing import capture_logs

from persistence.feed import pubsub
from persistence.feed.pubsub import ChannelReader
from persistence.queue.notifier import TIMEOUT_S, Notifier
from tests.journal_worker import wait_until
from worker.listener import Handler, listen


class Proxy:
    """A proxy between a client and Redis that a test can suspend or cut. The client sees only silence."""

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

    def suspend(self) -> None:
        self._flows.clear()

    def resume(self) -> None:
        self._flows.set()

    def cut(self) -> None:
        for writer in self._writers:
            writer.close()
        self._writers = []


@asynccontextmanager
async def proxied(redis_url: str) -> AsyncIterator[tuple[Proxy, Redis]]:
    proxy = Proxy(redis_url.removeprefix("unix://").split("?")[0])
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = Redis(port=port)
    try:
        yield proxy, client
    finally:
        proxy.resume()
        await client.aclose()
        proxy.cut()
        server.close()


@asynccontextmanager
async def listening(redis: Redis, handler: Handler) -> AsyncIterator["asyncio.Task[None]"]:
    """A worker's listener with one handler, on the channel `notices`."""
    channels = ChannelReader(redis, "control")
    task = asyncio.create_task(listen(channels, {"notices": handler}))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await channels.close()


async def publish_until(redis: Redis, message: str | bytes, condition: Callable[[], object]) -> None:
    """Publish again and again: a message before the subscription is confirmed is lost."""
    async with asyncio.timeout(15):
        while not condition():
            await redis.publish("notices", message)
            await asyncio.sleep(0.01)


async def test_a_hung_redis_delays_no_notification_and_is_logged_once(redis_url: str) -> None:
    async with proxied(redis_url) as (proxy, client):
        notifier = Notifier(ArqRedis(client.connection_pool), "test")
        await notifier.notify_queue()
        proxy.suspend()
        with capture_logs() as logs:
            async with asyncio.timeout(TIMEOUT_S * 5):
                await notifier.notify_queue()
                await notifier.notify_run("run_1")
                await notifier.notify_queue()
            proxy.resume()
            await notifier.notify_queue()
        assert [entry["event"] for entry in logs] == ["queue.away", "queue.back"]


async def test_notifications_during_a_notification_are_sent_as_one(redis: Redis) -> None:
    notifier = Notifier(ArqRedis(redis.connection_pool), "test")
    types: list[str] = []
    async with redis.pubsub() as subscription:
        await subscription.subscribe(notifier.queue_channel)
        await asyncio.gather(*(notifier.notify_queue() for _ in range(50)))
        while message := await subscription.get_message(timeout=0.3):
            types.append(message["type"])
    assert 1 <= types.count("message") <= 3


@pytest.mark.parametrize("fault", ["cut", "suspend"])
async def test_the_listener_reconnects_after_a_connection_is_cut_or_falls_silent(
    redis: Redis, redis_url: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pubsub, "SILENCE_S", 0.2)
    messages: list[str | None] = []

    async def handle(message: str | None) -> None:
        messages.append(message)

    async with proxied(redis_url) as (proxy, client), listening(client, handle) as task:
        await publish_until(redis, "first", lambda: "first" in messages)
        connections, gaps = proxy.connections, messages.count(None)
        getattr(proxy, fault)()
        if fault == "suspend":
            await wait_until(lambda: proxy.connections > connections)
            proxy.resume()
        await publish_until(redis, "second", lambda: "second" in messages)
        # Messages may have been lost meanwhile, and the handler was told so before the next message.
        assert None in messages[: messages.index("second")]
        assert messages.count(None) > gaps
        assert not task.done()


async def test_a_handler_that_cannot_reach_the_database_does_not_end_the_listener(redis: Redis) -> None:
    count = 0

    async def handle(_: str | None) -> None:
        nonlocal count
        count += 1
        if count < 3:
            raise ConnectionError("no database")

    with capture_logs() as logs:
        async with listening(redis, handle):
            await publish_until(redis, "x", lambda: count >= 4)
    assert [entry["event"] for entry in logs] == ["control.database.away", "control.database.back"]


async def test_a_message_that_is_no_text_is_skipped_and_does_not_end_the_listener(redis: Redis) -> None:
    texts: list[str] = []

    async def handle(message: str | None) -> None:
        if message is not None:
            texts.append(message)

    async with listening(redis, handle) as task:
        await publish_until(redis, "before", lambda: texts)
        await redis.publish("notices", b"\xff\x00")
        await publish_until(redis, "after", lambda: "after" in texts or task.done())
        assert set(texts) == {"before", "after"} and not task.done()
