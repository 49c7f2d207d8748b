"""Limits what waits in this process for clients that do not read: their write buffers, in bytes.

A connection stops its sender at 64 KiB, but one message may be far larger. All connections together
may hold MAX_BYTES. Above that, the address that holds most loses the connection that has been
stalled for the longest time. A connection that stays stalled for STALLED_S is closed too. Nothing is
lost: subscriptions continue by `seq`.
"""

import asyncio
from collections import Counter
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)

MAX_BYTES = 64 * 1024 * 1024
STALLED_S = 60.0


class StalledConnection:
    """A connection whose client does not read what was sent to it."""

    def __init__(self, transport: asyncio.Transport, timer: asyncio.TimerHandle) -> None:
        self.transport, self.timer = transport, timer
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else "unknown"

    @property
    def size(self) -> int:
        return self.transport.get_write_buffer_size()


class WriteBuffers:
    """The stalled connections of this process, those first that have been stalled the longest."""

    def __init__(self, max_bytes: int = MAX_BYTES, stalled_s: float = STALLED_S) -> None:
        self._max, self._stalled_s = max_bytes, stalled_s
        self._stalled: dict[asyncio.Transport, StalledConnection] = {}

    @property
    def size(self) -> int:
        """Bytes that wait for all stalled clients."""
        return sum(connection.size for connection in self._stalled.values())

    def stall(self, transport: asyncio.Transport) -> None:
        """Note that a client does not read as fast as its server writes."""
        timer = asyncio.get_running_loop().call_later(self._stalled_s, self._abort, transport)
        self._stalled[transport] = StalledConnection(transport, timer)
        while self._stalled and self.size > self._max:
            self._abort(self._largest())

    def resume(self, transport: asyncio.Transport) -> None:
        """Note that the client reads again, or is gone."""
        if (connection := self._stalled.pop(transport, None)) is not None:
            connection.timer.cancel()

    def _largest(self) -> asyncio.Transport:
        """Return the connection that has been stalled the longest, of the address that holds most."""
        held: Counter[str] = Counter()
        for connection in self._stalled.values():
            held[connection.address] += connection.size
        address = max(held, key=held.__getitem__)
        return next(transport for transport, one in self._stalled.items() if one.address == address)

    def _abort(self, transport: asyncio.Transport) -> None:
        connection = self._stalled[transport]
        log.warning("server.stalled_client", address=connection.address, bytes=connection.size)
        self.resume(transport)
        transport.abort()


class BoundedWrites:
    """Mixin of a uvicorn protocol: reports when its client stalls, and when it reads again."""

    transport: asyncio.Transport
    buffers: WriteBuffers

    def pause_writing(self) -> None:
        _call(super(), "pause_writing")
        self.buffers.stall(self.transport)

    def resume_writing(self) -> None:
        self.buffers.resume(self.transport)
        _call(super(), "resume_writing")

    def connection_lost(self, exc: Exception | None) -> None:
        self.buffers.resume(self.transport)
        _call(super(), "connection_lost", exc)


def _call(parent: object, name: str, *arguments: object) -> None:
    method: Callable[..., None] = getattr(parent, name)
    method(*arguments)
