"""A TCP address on loopback of a Redis that listens on a Unix socket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass  # the other side has closed the connection
    finally:
        writer.close()


@asynccontextmanager
async def redis_at_tcp(unix_url: str) -> AsyncIterator[str]:
    """Return the TCP address of a Redis, for the time of a test."""
    serving = set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        redis_reader, redis_writer = await asyncio.open_unix_connection(urlsplit(unix_url).path)
        for pair in ((reader, redis_writer), (redis_reader, writer)):
            task = asyncio.create_task(_copy(*pair))
            serving.add(task)
            task.add_done_callback(serving.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        server.close()
        ending = list(serving)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
