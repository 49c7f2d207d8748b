"""Reads streams of Redis servers by consumer groups, for triggers of the kind `redis_stream`.

The consumer of a trigger is named by its id, and one worker at a time polls a trigger. So the entries that
this consumer has not acknowledged are those of a poll whose result was not stored: they are read first.
Only allowed addresses are connected to, as by the `http` node.
"""

import asyncio
import base64
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import SSLConnection
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from engine.nodes.http.addresses import Allowed, parse_address
from engine.sdk.trigger import PollFailed, StreamEntries, StreamEntry, StreamSource
from engine.types import JSON
from persistence.triggers.redis_connections import TooLarge, bounded_redis

TIMEOUT_S = 5.0
"""The time to connect, and the longest time without a byte, in seconds."""
TOTAL_S = 30.0
"""The time of all commands of one look at a stream, in seconds."""


class RedisStreams:
    """Reads streams of servers at allowed addresses."""

    def __init__(self, allowed: Allowed) -> None:
        self._allowed = allowed

    async def read(
        self, source: StreamSource, position: str | None, *, from_start: bool, count: int, claim_idle_s: int
    ) -> StreamEntries:
        """Read entries: those that were left, those that another consumer has left, and new ones.

        Args:
            source: The stream and the consumer.
            position: The id of the last accepted entry; None at first.
            from_start: Whether a new group begins with the first entry.
            count: How many at most.
            claim_idle_s: Seconds after which entries of other consumers are taken over.

        Raises:
            PollFailed: The server cannot be reached or refuses the request.
        """
        async with self._connected(source) as redis:
            position = position or await _first_position(redis, source, from_start=from_start)
            try:
                found = await _read(redis, source, count, claim_idle_s * 1000)
            except ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    raise
                await _create_group(redis, source, position)
                found = await _read(redis, source, count, claim_idle_s * 1000)
        ids = [id.decode() for id, _ in found]
        # An entry that was deleted in the stream has no fields any more.
        entries = [StreamEntry(id.decode(), _fields(fields)) for id, fields in found if fields]
        return StreamEntries(entries, ids, max([position, *ids], key=_order))

    async def acknowledge(self, source: StreamSource, ids: Sequence[str]) -> None:
        """Acknowledge entries whose runs are accepted. Raises PollFailed; they are read again then."""
        async with self._connected(source) as redis:
            await redis.xack(source.stream, source.group, *ids)

    @asynccontextmanager
    async def _connected(self, source: StreamSource) -> AsyncIterator[Redis]:
        try:
            redis = bounded_redis(source.url, TIMEOUT_S)
        except ValueError as error:
            raise PollFailed("the address of the Redis server is not valid") from error
        try:
            async with asyncio.timeout(TOTAL_S):
                await self._pin_address(redis)
                yield redis
        except TooLarge as error:
            raise PollFailed(f"the Redis server sends {error}: lower `maxItems`") from error
        except AuthenticationError as error:
            raise PollFailed("the Redis server refuses the credentials") from error
        except ResponseError as error:
            raise PollFailed(_refusal(error, source)) from error
        except (RecursionError, ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
            raise PollFailed("the Redis server sends no valid answer") from error
        except (RedisError, OSError) as error:  # A TimeoutError is an OSError.
            raise PollFailed("the Redis server cannot be reached") from error
        finally:
            await redis.aclose()

    async def _pin_address(self, redis: Redis) -> None:
        """Resolve the host, and connect to an address that is allowed. Raises PollFailed if none is."""
        options = redis.connection_pool.connection_kwargs
        host, port = options.get("host"), options.get("port", 6379)
        if not isinstance(host, str):
            raise PollFailed("the address of the Redis server must name a host")
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        usable = [one for entry in found if self._allowed.may_connect(host, one := parse_address(str(entry[4][0])))]
        if not usable:
            raise PollFailed(
                f"{host} is not on the public internet; the administrator of Treadle can allow it with TREADLE_HTTP_ALLOW"
            )
        # With TLS the certificate has to match the name, so another address of it cannot be another server.
        if not issubclass(redis.connection_pool.connection_class, SSLConnection):
            options["host"] = str(usable[0])


async def _read(redis: Redis, source: StreamSource, count: int, idle_ms: int) -> list[tuple[bytes, Any]]:
    found = await _read_group(redis, source, "0", count)
    if len(found) < count:
        claimed = await redis.xautoclaim(
            source.stream, source.group, source.consumer, idle_ms, start_id="0-0", count=count - len(found)
        )
        known = {id for id, _ in found}
        found += [entry for entry in claimed[1] if entry[0] not in known]
    if len(found) < count:
        found += await _read_group(redis, source, ">", count - len(found))
    return found


async def _read_group(redis: Redis, source: StreamSource, start: str, count: int) -> list[tuple[bytes, Any]]:
    answer = await redis.xreadgroup(source.group, source.consumer, {source.stream: start}, count=count)
    return list(answer[0][1]) if answer else []


async def _first_position(redis: Redis, source: StreamSource, *, from_start: bool) -> str:
    """Return where a trigger begins: where its group is already, or at an end of the stream."""
    try:
        for group in await redis.xinfo_groups(source.stream):
            if group["name"].decode() == source.group:
                return str(group["last-delivered-id"].decode())
    except ResponseError as error:
        if "no such key" not in str(error):
            raise
    newest = [] if from_start else await redis.xrevrange(source.stream, count=1)
    return str(newest[0][0].decode()) if newest else "0-0"


async def _create_group(redis: Redis, source: StreamSource, position: str) -> None:
    """Create the group behind the last accepted entry. A stream whose ids are before that is another one."""
    try:
        last = (await redis.xinfo_stream(source.stream))["last-generated-id"].decode()
    except ResponseError as error:
        if "no such key" not in str(error):
            raise
        last = "0-0"
    start = position if _order(position) <= _order(last) else "0-0"
    try:
        await redis.xgroup_create(source.stream, source.group, start, mkstream=True)
    except ResponseError as error:
        if not str(error).startswith("BUSYGROUP"):
            raise


def _order(id: str) -> tuple[int, int]:
    time, _, number = id.partition("-")
    return int(time), int(number or 0)


def _fields(fields: Any) -> dict[str, JSON]:
    return {str(_text(name)): _text(value) for name, value in fields.items()}


def _text(value: bytes) -> JSON:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}
    return {"base64": base64.b64encode(value).decode()} if "\0" in text else text


def _refusal(error: ResponseError, source: StreamSource) -> str:
    text = str(error)
    if text.startswith("WRONGTYPE"):
        return f"the key {source.stream!r} is no stream"
    if text.startswith(("NOAUTH", "WRONGPASS")):
        return "the Redis server refuses the credentials"
    if text.startswith("NOPERM") or "permissions" in text:
        return "the user of the Redis server may not read the stream: it needs the commands of streams"
    return "the Redis server refuses the request"
