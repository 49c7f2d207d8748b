"""graphql-transport-ws: a protocol error closes only its own socket, with the right code."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
from starlette.websockets import WebSocket
from structlog.testing import capture_logs
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from app.server.websockets import MAX_OPERATIONS, Socket
from app.settings import Settings
from tests.app_server import MAX_MESSAGE, TRANSPORT, serving
from tests.cpu_time import PassMeter, shortest

INIT = {"type": "connection_init"}
PING = {"type": "ping"}
WATCH = "subscription { runs { id } }"
MAX_BLOCK_S = 0.1


@pytest.fixture(autouse=True)
def no_logged_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Check that errors of clients are not logged as errors of the server."""
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


async def receive(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(10):
        message: dict[str, Any] = json.loads(await socket.recv())
    return message


async def initialise(socket: ClientConnection) -> None:
    await send(socket, INIT)
    assert await receive(socket) == {"type": "connection_ack"}


async def close_code(socket: ClientConnection) -> int:
    """Wait until the server closes the socket, and return its close code."""
    async with asyncio.timeout(10):
        try:
            async for _ in socket:
                continue
        except ConnectionClosed as closed:
            assert closed.rcvd is not None
            return closed.rcvd.code
    assert socket.close_code is not None
    return socket.close_code


PROTOCOL_ERRORS: dict[str, tuple[list[object], int]] = {
    "no JSON": ([INIT, "{"], 4400),
    "empty": ([INIT, ""], 4400),
    "NaN": ([INIT, '{"type": "ping", "payload": NaN}'], 4400),
    "deep nesting": ([INIT, "[" * 100_000], 4400),
    "a list": ([INIT, [1]], 4400),
    "a number": ([INIT, "5"], 4400),
    "null": ([INIT, "null"], 4400),
    "a string": ([INIT, '"subscribe"'], 4400),
    "binary": ([INIT, b"\xff\x00"], 4400),
    "binary JSON": ([INIT, json.dumps(PING).encode()], 4400),
    "no type": ([INIT, {"id": "1"}], 4400),
    "a type that is no string": ([INIT, {"type": {"a": 1}}], 4400),
    "an unknown type": ([INIT, {"type": "start"}], 4400),
    "a long unknown type": ([INIT, {"type": "ä" * 5_000}], 4400),
    "a type that only servers send": ([INIT, {"type": "next", "id": "1", "payload": {}}], 4400),
    "no id": ([INIT, {"type": "subscribe", "payload": {"query": WATCH}}], 4400),
    "an empty id": ([INIT, subscribe("")], 4400),
    "an id that is no string": ([INIT, subscribe({"a": []})], 4400),
    "a complete without id": ([INIT, {"type": "complete"}], 4400),
    "a complete of a list": ([INIT, {"type": "complete", "id": [1]}], 4400),
    "no payload": ([INIT, {"type": "subscribe", "id": "1"}], 4400),
    "a payload that is a list": ([INIT, {"type": "subscribe", "id": "1", "payload": [1]}], 4400),
    "no query": ([INIT, {"type": "subscribe", "id": "1", "payload": {}}], 4400),
    "a query that is no string": ([INIT, subscribe(query=5)], 4400),
    "variables that are a list": ([INIT, subscribe(variables=[1])], 4400),
    "an operationName that is an object": ([INIT, subscribe(operationName={})], 4400),
    "a connection_init with a list": ([{"type": "connection_init", "payload": [1]}], 4400),
    "an id with a lone surrogate": (
        [INIT, '{"type": "subscribe", "id": "\\ud800", "payload": {"query": "{ x }"}}'],
        4400,
    ),
    "a complete with a lone surrogate": ([INIT, '{"type": "complete", "id": "\\udfff"}'], 4400),
    "subscribe before connection_init": ([subscribe()], 4401),
    "two connection_init": ([INIT, INIT], 4429),
    "an id twice": ([INIT, subscribe(), subscribe()], 4409),
    "a long id twice": ([INIT, subscribe("ü" * 500), subscribe("ü" * 500)], 4409),
    "a message over the limit": ([INIT, " " * (MAX_MESSAGE + 1)], 1009),
}


async def test_a_protocol_error_closes_only_its_own_socket_with_the_defined_code(address: str) -> None:
    async def code_of(messages: list[object]) -> int:
        async with opened(address) as socket:
            # The server may close the socket before it has read a whole message.
            with suppress(ConnectionClosed):
                for message in messages:
                    await send(socket, message)
            return await close_code(socket)

    async with opened(address) as bystander:
        await initialise(bystander)
        await send(bystander, subscribe("theirs"))
        codes = {name: await code_of(messages) for name, (messages, _) in PROTOCOL_ERRORS.items()}
        await send(bystander, PING)
        assert await receive(bystander) == {"type": "pong"}
    assert codes == {name: code for name, (_, code) in PROTOCOL_ERRORS.items()}


INVALID_OPERATIONS: list[tuple[dict[str, Any], str]] = [
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


async def test_an_invalid_operation_gets_an_error_under_its_id_and_the_socket_stays_open(address: str) -> None:
    async with opened(address) as socket:
        await initialise(socket)
        await send(socket, subscribe("good"))
        for payload, code in INVALID_OPERATIONS:
            await send(socket, {"id": "bad", "type": "subscribe", "payload": payload})
            message = await receive(socket)
            assert (message["type"], message["id"]) == ("error", "bad")
            assert message["payload"][0]["extensions"]["code"] == code
        await send(socket, subscribe("again", "{ __typename }"))
        assert (await receive(socket))["payload"] == {"data": {"__typename": "Query"}}


async def test_an_operation_above_the_limit_of_a_socket_gets_a_limit_error(address: str) -> None:
    async with opened(address) as socket, opened(address) as other:
        await initialise(socket)
        await initialise(other)
        for number in range(MAX_OPERATIONS + 1):
            await send(socket, subscribe(str(number)))
        message = await receive(socket)
        assert (message["type"], message["id"]) == ("error", str(MAX_OPERATIONS))
        [error] = message["payload"]
        assert error["extensions"] | {"code": "LIMIT", "limit": MAX_OPERATIONS} == error["extensions"]
        assert f"{MAX_OPERATIONS} operations" in error["message"]
        # A completed operation no longer counts, and other sockets are not affected.
        await send(socket, {"id": "0", "type": "complete"})
        for one in (socket, other):
            await send(one, subscribe("next", "{ __typename }"))
            assert (await receive(one))["type"] == "next"


async def test_an_id_can_be_used_again_after_its_operation_is_complete(address: str) -> None:
    async with opened(address) as socket:
        await initialise(socket)
        for _ in range(20):
            await send(socket, subscribe("1"))
            await send(socket, {"id": "1", "type": "complete"})
        await send(socket, {"id": "never begun", "type": "complete"})
        await send(socket, subscribe("1", "{ __typename }"))
        assert (await receive(socket))["payload"] == {"data": {"__typename": "Query"}}


async def test_a_client_that_disconnects_leaves_nothing_behind(address: str, client: httpx.AsyncClient) -> None:
    created = await client.post(
        "/graphql", json={"query": 'mutation { createWorkflow(input: {name: "w"}) { workflow { id } } }'}
    )
    run = 'mutation { runWorkflow(input: {workflowId: "%s", inputs: {value: 1}}) { run { id } } }'
    start = {"query": run % created.json()["data"]["createWorkflow"]["workflow"]["id"]}  # fmt: skip
    for _ in range(5):
        sockets = [await connect(f"ws://{address}/graphql", subprotocols=[TRANSPORT]) for _ in range(5)]
        for socket in sockets:
            await initialise(socket)
            for number in range(5):
                await send(socket, subscribe(str(number)))
        # The clients disconnect without a close frame while events are sent to them.
        running = [asyncio.create_task(client.post("/graphql", json=start)) for _ in range(5)]
        for socket in sockets:
            socket.transport.abort()
        assert all(response.status_code == 200 for response in await asyncio.gather(*running))
    assert (await client.get("/health")).json()["status"] == "ok"


@pytest.mark.parametrize("init", [INIT, {**INIT, "payload": None}, {**INIT, "payload": {}}], ids=str)
async def test_connection_init_may_have_no_payload(address: str, init: dict[str, Any]) -> None:
    async with opened(address) as socket:
        await send(socket, init)
        assert await receive(socket) == {"type": "connection_ack"}


async def test_a_socket_without_connection_init_is_closed_in_time(database_url: str, redis_url: str) -> None:
    settings = Settings(database_url=database_url, redis_url=redis_url, socket_init_s=0.2)
    async with serving(settings) as address, opened(address) as socket:
        assert await close_code(socket) == 4408


async def test_a_socket_of_another_protocol_is_refused(address: str) -> None:
    async with connect(f"ws://{address}/graphql") as socket:
        assert await close_code(socket) == 4406


async def test_each_message_of_a_burst_has_a_turn_of_its_own() -> None:
    """Messages that have all arrived do not occupy one turn of the event loop: other callers run between them."""
    burst = [{"type": "websocket.receive", "text": json.dumps(PING)}] * 50
    events: list[dict[str, Any]] = [
        {"type": "websocket.connect"},
        *burst,
        {"type": "websocket.disconnect", "code": 1000},
    ]

    async def next_event() -> dict[str, Any]:
        return events.pop(0)

    async def discard(message: Any) -> None:
        """The client reads nothing here."""

    websocket = WebSocket({"type": "websocket", "client": ("127.0.0.1", 1), "headers": []}, next_event, discard)
    await websocket.accept()
    turns: list[int] = []

    async def count() -> None:
        while True:
            turns.append(len(events))
            await asyncio.sleep(0)

    other = asyncio.create_task(count())
    received = [message async for message in Socket(None, None, websocket).iter_json()]  # type: ignore[arg-type]
    other.cancel()
    assert received == [PING] * len(burst)
    assert len(turns) >= len(burst)


@pytest.mark.parametrize(
    "burst",
    [
        [json.dumps({"type": "complete", "id": str(number)}) for number in range(5_000)],
        [json.dumps(subscribe(str(number))) for number in range(800)],
    ],
    ids=["completes", "subscribes"],
)
async def test_a_burst_of_messages_on_one_socket_does_not_block_others(address: str, burst: list[str]) -> None:
    frames = b"".join(Frame(Opcode.TEXT, message.encode()).serialize(mask=True) for message in burst)

    async def block() -> float:
        async with opened(address) as socket:
            await initialise(socket)
            meter = PassMeter()
            socket.transport.write(frames)
            await send(socket, PING)
            while await receive(socket) != {"type": "pong"}:
                pass
            return meter.stop()

    assert await shortest(block, MAX_BLOCK_S) < MAX_BLOCK_S
