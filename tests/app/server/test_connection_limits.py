"""Limits of connections per caller and address, and of clients that send slowly or without end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from app.server.connection_limits import ConnectionLimits, TooManyConnections
from app.settings import Settings
from tests.app_server import TRANSPORT, serving

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def limited(database_url: str, redis_url: str, **limits: int) -> AsyncIterator[str]:
    async with serving(Settings(database_url=database_url, redis_url=redis_url, **limits)) as address:
        yield address


async def status_of(address: str, **headers: str) -> int:
    async with httpx.AsyncClient(base_url=f"http://{address}", headers=headers) as client:
        return (await client.post("/graphql", json={"query": "{ __typename }"})).status_code


async def reason_of_1013(uri: str) -> str:
    async with connect(uri, subprotocols=[TRANSPORT]) as refused:
        with pytest.raises(ConnectionClosed) as closed:
            await refused.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1013
    return closed.value.rcvd.reason


async def wait_until_accepted(address: str) -> None:
    """The server notices the end of a connection soon, and sends no signal of it."""
    async with asyncio.timeout(10):
        while await status_of(address) != 200:  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_sockets_above_the_limit_of_an_address_are_refused_until_one_closes(
    database_url: str, redis_url: str
) -> None:
    async with limited(database_url, redis_url, connections_per_address=3) as address, AsyncExitStack() as stack:
        uri = f"ws://{address}/graphql"
        sockets = [await stack.enter_async_context(connect(uri, subprotocols=[TRANSPORT])) for _ in range(3)]
        assert "TREADLE_CONNECTIONS_PER_ADDRESS" in await reason_of_1013(uri)
        assert await status_of(address) == 429
        async with httpx.AsyncClient(base_url=f"http://{address}") as client:
            assert (await client.get("/health")).status_code == 200
        # uvicorn trusts this header only from a proxy on the same host.
        assert await status_of(address, **{"x-forwarded-for": "192.0.2.7"}) == 200
        await sockets[0].close()
        await wait_until_accepted(address)


async def test_sockets_above_the_limit_of_a_caller_are_closed_with_1013(database_url: str, redis_url: str) -> None:
    async with limited(database_url, redis_url, connections_per_caller=2) as address, AsyncExitStack() as stack:
        uri = f"ws://{address}/graphql"
        for _ in range(2):
            socket = await stack.enter_async_context(connect(uri, subprotocols=[TRANSPORT]))
            await socket.send('{"type": "connection_init"}')
            assert "connection_ack" in str(await socket.recv())  # The caller is known now.
        assert "2 connections of this caller" in await reason_of_1013(uri)
        assert await status_of(address) == 429


async def test_subscriptions_over_server_sent_events_count(database_url: str, redis_url: str) -> None:
    async with limited(database_url, redis_url, connections_per_caller=1) as address:
        async with httpx.AsyncClient(base_url=f"http://{address}") as client:
            body, headers = {"query": "subscription { runs { id } }"}, {"accept": "text/event-stream"}
            async with client.stream("POST", "/graphql", json=body, headers=headers) as stream:
                assert stream.status_code == 200
                assert await status_of(address) == 429
        await wait_until_accepted(address)


async def test_connections_above_the_limit_of_the_server_get_503(database_url: str, redis_url: str) -> None:
    async with limited(database_url, redis_url, connections=4) as address, AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(connect(f"ws://{address}/graphql", subprotocols=[TRANSPORT]))
        assert await status_of(address) == 503


async def opened(address: str) -> Connection:
    host, port = address.split(":")
    return await asyncio.open_connection(host, int(port))


async def answer(connection: Connection) -> str:
    """Return the status of the answer; `reset` if the server closes while the client still sends."""
    try:
        async with asyncio.timeout(10):
            line = await connection[0].readline()
        return line.split()[1].decode()
    except ConnectionResetError:
        return "reset"
    finally:
        connection[1].close()


@pytest.mark.parametrize("headers", [b"x: " + b"a" * 1_000_000, b"x: aaaaaaaa\r\n" * 20_000, b"x: y"])
async def test_large_headers_are_refused(address: str, client: httpx.AsyncClient, headers: bytes) -> None:
    connection = await opened(address)
    connection[1].write(b"GET /health HTTP/1.1\r\nhost: localhost\r\n" + headers + b"\r\n\r\n")
    assert await answer(connection) in (("431", "reset") if len(headers) > 100 else ("200",))
    assert (await client.get("/health")).status_code == 200


async def test_numbers_return_to_zero_and_names_are_forgotten() -> None:
    limits = ConnectionLimits(1, 2)
    for number in range(1_000):
        with ExitStack() as stack:
            stack.enter_context(limits.hold("caller", str(number)))
            with pytest.raises(TooManyConnections, match="1 connections of this caller"):
                stack.enter_context(limits.hold("caller", str(number)))
    assert not limits._open


HEALTH = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.mark.parametrize("pieces", [[b"\r\n" * 600], [HEALTH, b"\r\n" * 600]])
async def test_many_empty_lines_before_a_request_are_refused_at_once(address: str, pieces: list[bytes]) -> None:
    connection = await opened(address)
    for piece in pieces:
        connection[1].write(piece)
        if piece == HEALTH:
            assert await connection[0].readuntil(b"}") != b""
    assert await answer(connection) == "400"


async def test_an_empty_line_after_a_response_does_not_keep_a_connection_open(
    database_url: str, redis_url: str
) -> None:
    async with serving(Settings(database_url=database_url, redis_url=redis_url, request_s=0.2)) as address:
        connection = await opened(address)
        connection[1].write(HEALTH)
        await connection[0].readuntil(b"}")
        connection[1].write(b"\r\n")
        assert await answer(connection) == "408"
        again = await opened(address)
        again[1].write(b"\r\n\r\n" + HEALTH)
        await again[0].readuntil(b"}")
        again[1].write(b"\r\n" + HEALTH)
        assert await answer(again) == "200"


async def test_a_body_that_comes_after_the_response_is_not_taken_for_empty_lines(
    address: str, client: httpx.AsyncClient
) -> None:
    connection = await opened(address)
    connection[1].write(b"POST /health HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4000\r\n\r\n")
    assert (await connection[0].readuntil(b"]}")).startswith(b"HTTP/1.1 405")
    connection[1].write(b"a" * 4000)
    assert (await client.get("/health")).status_code == 200  # The server has read the body by now.
    connection[1].write(HEALTH)
    assert await answer(connection) == "200"


HANDSHAKE = (
    b"GET /graphql HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n"
)


@pytest.mark.parametrize(
    ("handshake", "status"),
    [
        (HANDSHAKE + b"x: " + b"a" * 9_000 + b"\r\n", "431"),
        (HANDSHAKE + b"".join(b"x-%d: a\r\n" % number for number in range(200)), "431"),
        (HANDSHAKE.replace(b"/graphql", b"/graphql?" + b"a" * 9_000), "414"),
        (HANDSHAKE + b"content-length: 1\r\n\r\na", "400"),
        (HANDSHAKE + b"transfer-encoding: chunked\r\n", "400"),
    ],
)
async def test_a_handshake_that_cannot_be_read_is_answered_at_once(address: str, handshake: bytes, status: str) -> None:
    connection = await opened(address)
    connection[1].write(handshake + b"\r\n")
    assert await answer(connection) == status
