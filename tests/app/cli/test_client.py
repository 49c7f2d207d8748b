"""The client of `treadle run`: transient errors allow another attempt, refusals do not."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from app.cli.client import TRANSIENT_ERRORS, TRANSPORT, ApiClient, RunRefused, ServerUnavailable

ResponseFactory = Callable[[ServerConnection, Request], Response | None]


@asynccontextmanager
async def client_of(respond: ResponseFactory | None, *, close_code: int = 1000) -> AsyncIterator[ApiClient]:
    """Run a server that answers the handshake with `respond`, or closes sockets with a code."""

    async def close(connection: ServerConnection) -> None:
        await connection.close(close_code, "No.")

    async with serve(close, "127.0.0.1", 0, process_request=respond, subprotocols=[TRANSPORT]) as server:
        yield ApiClient(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")


async def all_messages(client: ApiClient) -> list[dict[str, Any]]:
    async with asyncio.timeout(20):
        return [data async for data in client.subscribe("subscription { runs { id } }")]


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404])
async def test_a_refused_handshake_is_reported_in_one_line_with_its_status(status: int) -> None:
    async with client_of(lambda connection, _: connection.respond(HTTPStatus(status), "no")) as client:
        with pytest.raises(RunRefused, match=f"accepts no subscription: it responds with HTTP {status}") as error:
            await all_messages(client)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_a_transient_http_status_allows_another_attempt(status: int) -> None:
    async with client_of(lambda connection, _: connection.respond(HTTPStatus(status), "later")) as client:
        with pytest.raises(TRANSIENT_ERRORS):
            await all_messages(client)


@pytest.mark.parametrize(
    ("code", "is_final"), [(4400, True), (4403, True), (4408, False), (1013, False), (1011, False)]
)
async def test_a_close_code_decides_between_refusal_and_another_attempt(code: int, is_final: bool) -> None:
    async with client_of(None, close_code=code) as client:
        with pytest.raises(RunRefused if is_final else TRANSIENT_ERRORS) as error:
            await all_messages(client)
    assert f"{code} No" in str(error.value) or not is_final


@pytest.mark.parametrize(("status", "is_transient"), [(404, False), (200, False), (502, True), (429, True)])
async def test_a_response_without_json_is_a_refusal_unless_its_status_is_transient(
    status: int, is_transient: bool
) -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\n<htm>".encode())
        writer.close()

    async with await asyncio.start_server(respond, "127.0.0.1", 0) as server:
        client = ApiClient(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(RunRefused) as error:
            await client.execute("{ __typename }")
    assert isinstance(error.value, ServerUnavailable) is is_transient
