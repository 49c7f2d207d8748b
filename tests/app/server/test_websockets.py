"""graphql-transport-ws as clients get it wrong: the code that each mistake closes its socket with, and who is spared."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from app.server.websockets import MAX_OPERATIONS
from tests.app_server import MAX_MESSAGE, TRANSPORT

INIT = {"type": "connection_init"}
PING = {"type": "ping"}
WATCH = "subscription { runs { id } }"


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing that a client does wrong is a fault in our logs."""
    with capture_logs() as logs, caplog.at_level(logging.WARNING):
        yield
    assert not [line for line in logs if line["log_level"] in ("error", "critical")]
    assert not [record for record in caplog.records if record.exc_info or "Exception" in record.getMessage()]


def subscribe(id: Any = "1", query: Any = WATCH, **more: Any) -> dict[str, Any]:
    return {"id": id, "type": "subscribe", "payload": {"query": query, **more}}


@asynccontextmanager
async def opened(address: str) -> AsyncIterator[ClientConnection]:
    async with connect(f"ws://{address}/graphql", subprotocols=[TRANSPORT], max_size=None) as socket:
        yield socket


async def send(socket: ClientConnection, message: object) -> None:
    await socket.send(message if isinstance(message, str | bytes) else json.dumps(message))


async def answer(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(10):
        message: dict[str, Any] = json.loads(await socket.recv())
    return message


async def ready(socket: ClientConnection) -> None:
    await send(socket, INIT)
    assert await answer(socket) == {"type": "connection_ack"}


async def closed_with(socket: ClientConnection) -> int:
    """The code that the server closes the socket with."""
    async with asyncio.timeout(10):
        try:
            async for _ in socket:
                continue
        except ConnectionClosed as closed:
            assert closed.rcvd is not None
            return closed.rcvd.code
    assert socket.close_code is not None
    return socket.close_code


MISTAKES: dict[str, tuple[list[object], int]] = {
    "no JSON": ([INIT, "{"], 4400),
    "empty": ([INIT, ""], 4400),
    "NaN": ([INIT, '{"type": "ping", "payload": NaN}'], 4400),
    "nested without end": ([INIT, "[" * 100_000], 4400),
    "a list": ([INIT, [1]], 4400),
    "a number": ([INIT, "5"], 4400),
    "null": ([INIT, "null"], 4400),
    "text": ([INIT, '"subscribe"'], 4400),
    "binary": ([INIT, b"\xff\x00"], 4400),
    "binary JSON": ([INIT, json.dumps(PING).encode()], 4400),
    "no type": ([INIT, {"id": "1"}], 4400),
    "a type that is no text": ([INIT, {"type": {"a": 1}}], 4400),
    "an unknown type": ([INIT, {"type": "start"}], 4400),
    "an unknown type without end": ([INIT, {"type": "ä" * 5_000}], 4400),
    "an answer's type": ([INIT, {"type": "next", "id": "1", "payload": {}}], 4400),
    "no id": ([INIT, {"type": "subscribe", "payload": {"query": WATCH}}], 4400),
    "an empty id": ([INIT, subscribe("")], 4400),
    "an id that is no text": ([INIT, subscribe({"a": []})], 4400),
    "a complete without id": ([INIT, {"type": "complete"}], 4400),
    "a complete of a list": ([INIT, {"type": "complete", "id": [1]}], 4400),
    "no payload": ([INIT, {"type": "subscribe", "id": "1"}], 4400),
    "a payload that is a list": ([INIT, {"type": "subscribe", "id": "1", "payload": [1]}], 4400),
    "no query": ([INIT, {"type": "subscribe", "id": "1", "payload": {}}], 4400),
    "a query that is no text": ([INIT, subscribe(query=5)], 4400),
    "variables that are a list": ([INIT, subscribe(variables=[1])], 4400),
    "an operationName that is an object": ([INIT, subscribe(operationName={})], 4400),
    "a connection_init with a list": ([{"type": "connection_init", "payload": [1]}], 4400),
    "subscribe before connection_init": ([subscribe()], 4401),
    "two connection_init": ([INIT, INIT], 4429),
    "an id twice": ([INIT, subscribe(), subscribe()], 4409),
    "a long id twice": ([INIT, subscribe("ü" * 500), subscribe("ü" * 500)], 4409),
    "a message over the limit": ([INIT, " " * (MAX_MESSAGE + 1)], 1009),
}


async def test_a_mistake_closes_its_own_socket_with_the_code_of_the_protocol(address: str) -> None:
    async def code_of(messages: list[object]) -> int:
        async with opened(address) as socket:
            for message in messages:
                await send(socket, message)
            return await closed_with(socket)

    async with opened(address) as bystander:
        await ready(bystander)
        await send(bystander, subscribe("theirs"))
        codes = {mistake: await code_of(messages) for mistake, (messages, _) in MISTAKES.items()}
        await send(bystander, PING)
        assert await answer(bystander) == {"type": "pong"}
    assert codes == {mistake: code for mistake, (_, code) in MISTAKES.items()}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"query": "{"}, "VALIDATION"),
    ({"query": ""}, "VALIDATION"),
    ({"query": "{ nope }"}, "VALIDATION"),
    ({"query": "{ ...Nope }"}, "VALIDATION"),
    ({"query": "fragment A on Query { viewer { subject } }"}, "VALIDATION"),
    ({"query": "query A { __typename } query B { __typename }"}, "VALIDATION"),
    ({"query": "query A { __typename }", "operationName": "B"}, "VALIDATION"),
    ({"query": "query($n: Int!) { runs(first: $n) { nodes { id } } }", "variables": {"n": "x"}}, "VALIDATION"),
    ({"query": "subscription { runs { id } draft(workflowId: 1) { id } }"}, "VALIDATION"),
    ({"query": "{" + "a" * 4_000_000 + "}"}, "LIMIT"),
    ({"query": "{a" * 10_000}, "LIMIT"),
]


async def test_a_wrong_operation_gets_an_error_under_its_id_and_the_socket_goes_on(address: str) -> None:
    async with opened(address) as socket:
        await ready(socket)
        await send(socket, subscribe("good"))
        for payload, code in WRONG:
            await send(socket, {"id": "bad", "type": "subscribe", "payload": payload})
            told = await answer(socket)
            errors = told["payload"] if told["type"] == "error" else told["payload"]["errors"]
            assert (told["id"], errors[0]["extensions"]["code"]) == ("bad", code)
            if told["type"] == "next":
                assert await answer(socket) == {"id": "bad", "type": "complete"}
        await send(socket, subscribe("again", "{ __typename }"))
        assert (await answer(socket))["payload"] == {"data": {"__typename": "Query"}}


async def test_one_operation_more_than_a_socket_may_have_is_told_the_limit(address: str) -> None:
    async with opened(address) as socket, opened(address) as other:
        await ready(socket)
        await ready(other)
        for number in range(MAX_OPERATIONS + 1):
            await send(socket, subscribe(str(number)))
        told = await answer(socket)
        assert (told["type"], told["id"]) == ("error", str(MAX_OPERATIONS))
        [error] = told["payload"]
        assert error["extensions"] == {"code": "LIMIT", "limit": MAX_OPERATIONS}
        assert f"{MAX_OPERATIONS} operations" in error["message"]
        # One that is completed makes room; other sockets never had less.
        await send(socket, {"id": "0", "type": "complete"})
        for one in (socket, other):
            await send(one, subscribe("next", "{ __typename }"))
            assert (await answer(one))["type"] == "next"


async def test_an_id_is_free_again_once_its_operation_is_complete(address: str) -> None:
    async with opened(address) as socket:
        await ready(socket)
        for _ in range(20):
            await send(socket, subscribe("1"))
            await send(socket, {"id": "1", "type": "complete"})
        await send(socket, {"id": "never begun", "type": "complete"})
        await send(socket, subscribe("1", "{ __typename }"))
        assert (await answer(socket))["payload"] == {"data": {"__typename": "Query"}}


async def test_who_leaves_in_the_middle_leaves_nothing_behind(address: str, client: httpx.AsyncClient) -> None:
    made = await client.post(
        "/graphql", json={"query": 'mutation { createWorkflow(input: {name: "w"}) { workflow { id } } }'}
    )
    run = 'mutation { runWorkflow(input: {workflowId: "%s", inputs: {value: 1}}) { run { id } } }'
    start = {"query": run % made.json()["data"]["createWorkflow"]["workflow"]["id"]}  # fmt: skip
    for _ in range(5):
        sockets = [await connect(f"ws://{address}/graphql", subprotocols=[TRANSPORT]) for _ in range(5)]
        for socket in sockets:
            await ready(socket)
            for number in range(5):
                await send(socket, subscribe(str(number)))
        # Gone without a goodbye, while what happens is sent to them.
        running = [asyncio.create_task(client.post("/graphql", json=start)) for _ in range(5)]
        for socket in sockets:
            socket.transport.abort()
        assert all(answer.status_code == 200 for answer in await asyncio.gather(*running))
    assert (await client.get("/health")).json()["status"] == "ok"


async def test_a_socket_of_another_protocol_is_refused(address: str) -> None:
    async with connect(f"ws://{address}/graphql") as socket:
        assert await closed_with(socket) == 4406
