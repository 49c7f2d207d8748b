"""What `treadle run` asks with: what passes is worth another try, and what does not ends with one clear line."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from app.cli.client import AWAY, TRANSPORT, Client, RunRefused, Unanswered

Answering = Callable[[ServerConnection, Request], Response | None]


@asynccontextmanager
async def answering(answer: Answering | None, *, closes_with: int = 1000) -> AsyncIterator[Client]:
    async def closes(connection: ServerConnection) -> None:
        await connection.close(closes_with, "No.")

    async with serve(closes, "127.0.0.1", 0, process_request=answer, subprotocols=[TRANSPORT]) as server:
        yield Client(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")


async def subscribed(client: Client) -> list[dict[str, Any]]:
    async with asyncio.timeout(20):
        return [data async for data in client.subscribe("subscription { runs { id } }")]


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404])
async def test_a_refusal_over_http_is_told_in_one_line_with_its_status(status: int) -> None:
    async with answering(lambda connection, _: connection.respond(HTTPStatus(status), "no")) as client:
        with pytest.raises(RunRefused, match=f"takes no subscription: it answers HTTP {status}") as refused:
            await subscribed(client)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_what_passes_over_http_is_worth_another_try(status: int) -> None:
    async with answering(lambda connection, _: connection.respond(HTTPStatus(status), "later")) as client:
        with pytest.raises(AWAY):
            await subscribed(client)


@pytest.mark.parametrize(
    ("code", "is_final"), [(4400, True), (4403, True), (4408, False), (1013, False), (1011, False)]
)
async def test_a_socket_that_is_closed_is_a_refusal_where_its_code_says_so(code: int, is_final: bool) -> None:
    async with answering(None, closes_with=code) as client:
        with pytest.raises(RunRefused if is_final else AWAY) as ended:
            await subscribed(client)
    assert f"{code} No" in str(ended.value) or not is_final


@pytest.mark.parametrize(("status", "passes"), [(404, False), (200, False), (502, True), (429, True)])
async def test_an_answer_that_is_no_json_is_no_treadle_unless_it_says_later(status: int, passes: bool) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\n<htm>".encode())
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        client = Client(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(RunRefused) as refused:
            await client.ask("{ __typename }")
    assert isinstance(refused.value, Unanswered) is passes
