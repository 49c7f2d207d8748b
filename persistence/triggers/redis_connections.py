"""Connections to Redis servers that authors name, which may answer anything.

The parser of hiredis would reserve the memory of an announced list of any length, and free it again while
nothing else runs. So the answers are parsed in Python, piece by piece: their bytes and elements have limits,
and the parsing takes turns with other work on the event loop. A larger answer ends the connection.
"""

from asyncio import StreamReader
from typing import Any

from redis._parsers import _AsyncRESP2Parser
from redis.asyncio import Redis
from redis.asyncio.connection import Connection, SSLConnection
from redis.exceptions import RedisError

from engine.isolation.loop_share import loop_share

MAX_BYTES = 32 * 1024 * 1024
"""Bytes that a server may send on one connection."""
MAX_ELEMENTS = 50_000
"""Values and lists that it may send on one connection."""
_PAUSE = 64
"""Elements after which the parsing waits for its turn, if that is due."""


class TooLarge(RedisError):
    """A server sends more than it may."""


class BoundedReader:
    """The part of a StreamReader that the parser uses, with limits."""

    def __init__(self, reader: StreamReader) -> None:
        self._reader = reader
        self._bytes = self._elements = 0

    def at_eof(self) -> bool:
        return self._reader.at_eof()

    async def readexactly(self, size: int) -> bytes:
        """Read a value. The size is checked before. Raises TooLarge."""
        self._count(size)
        return await self._reader.readexactly(size)

    async def readline(self) -> bytes:
        """Read the first line of an element. Raises TooLarge."""
        self._elements += 1
        if self._elements % _PAUSE == 0:
            await loop_share().turn()
        line = await self._reader.readline()
        self._count(len(line))
        return line

    def _count(self, size: int) -> None:
        self._bytes += size
        if self._bytes > MAX_BYTES:
            raise TooLarge(f"more than {MAX_BYTES // 1024 // 1024} MiB")
        if self._elements > MAX_ELEMENTS:
            raise TooLarge(f"more than {MAX_ELEMENTS:,} values")


class _Bounded(Connection):
    async def _connect(self) -> None:
        await super()._connect()  # type: ignore[no-untyped-call]
        self._reader: Any = BoundedReader(self._reader)


class _BoundedTls(_Bounded, SSLConnection):
    """The same with TLS."""


def bounded_redis(url: str, timeout_s: float) -> Redis:
    """Create a client whose connections have limits. It connects at its first command. Raises ValueError."""
    redis: Redis = Redis.from_url(
        url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, parser_class=_AsyncRESP2Parser
    )
    pool = redis.connection_pool
    pool.connection_class = _BoundedTls if issubclass(pool.connection_class, SSLConnection) else _Bounded
    return redis
