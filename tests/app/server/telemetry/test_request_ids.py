"""`X-Request-Id`: in the response, in the extensions of errors, and in the log."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs
from websockets.asyncio.client import connect

from persistence.db.database import Database
from tests.app_server import TRANSPORT

SECRETS = {"query": "query Names { secrets { name } }"}


@pytest.mark.parametrize(
    ("sent", "is_accepted"),
    [
        ("7f3c9a", True),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        ("Root=1-67891233-abcdef012345678912345678", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("", False),
        ("two words", False),
        ("<script>", False),
        ('"}', False),
        ("-leading", False),
    ],
)
async def test_a_safe_id_is_repeated_and_any_other_is_replaced(
    client: httpx.AsyncClient, sent: str, is_accepted: bool
) -> None:
    response = await client.post("/graphql", json={"query": "{ nope }"}, headers={"X-Request-Id": sent})
    request_id = response.headers["x-request-id"]
    assert (request_id == sent) is is_accepted
    assert is_accepted or request_id.startswith("req_")
    assert response.json()["errors"][0]["extensions"]["requestId"] == request_id


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/health", {}),
        ("GET", "/nothing", {}),
        ("POST", "/graphql", {"content-type": "text/plain"}),
        ("GET", "/graphql", {"host": "elsewhere.example"}),
        ("GET", "/graphql", {"origin": "http://elsewhere.example"}),
    ],
)
async def test_every_response_has_an_id_and_every_error_repeats_it(
    client: httpx.AsyncClient, method: str, path: str, headers: dict[str, str]
) -> None:
    response = await client.request(method, path, headers={**headers, "x-request-id": "mine"})
    assert response.headers["x-request-id"] == "mine"
    if response.status_code != 200:
        assert response.json()["errors"][0]["extensions"]["requestId"] == "mine"


async def test_a_refusal_of_the_protocol_has_an_id(address: str) -> None:
    reader, writer = await asyncio.open_connection(*address.split(":"))
    writer.write(b"this is no HTTP\r\n\r\n")
    response = await reader.read()
    writer.close()
    head, body = response.split(b"\r\n\r\n")
    request_id = json.loads(body)["errors"][0]["extensions"]["requestId"]
    assert b"\r\nx-request-id: %s\r\n" % request_id.encode() in head


async def test_an_unexpected_error_is_masked_and_its_reason_is_in_the_log_under_the_id(
    client: httpx.AsyncClient, database: Database
) -> None:
    await database.pool.execute("DROP TABLE secrets")
    with capture_logs([merge_contextvars]) as logs:
        response = await client.post("/graphql", json=SECRETS, headers={"X-Request-Id": "find-me"})
    [error] = response.json()["errors"]
    assert error["message"] == "Unexpected error. The log of the server has its reason, with the request id find-me."
    assert error["extensions"] == {"code": "INTERNAL", "requestId": "find-me"}
    faults = [entry for entry in logs if entry["event"] == "schema.fault"]
    assert [(entry["request_id"], "secrets" in str(entry["exc_info"])) for entry in faults] == [("find-me", True)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (SECRETS["query"], {"operation": "Names", "type": "query", "failed": False}),
        ("{ nope }", {"operation": None, "type": None, "failed": True, "cost": None}),
        ('mutation M { deleteSecret(input: {name: "x"}) { deletedId } }', {"operation": "M", "type": "mutation"}),
    ],
)
async def test_each_request_has_one_line_at_debug(
    client: httpx.AsyncClient, query: str, expected: dict[str, Any]
) -> None:
    with capture_logs([merge_contextvars]) as logs:
        await client.post("/graphql", json={"query": query}, headers={"X-Request-Id": "one"})
    [entry] = [entry for entry in logs if entry["event"] == "request.done"]
    assert entry | expected == entry
    assert (entry["log_level"], entry["request_id"], entry["caller"]) == ("debug", "one", "local")
    assert entry["duration_ms"] >= 0
    assert expected["failed"] if "cost" in expected else entry["cost"] > 0


async def test_the_operations_of_a_socket_have_the_id_of_its_handshake(address: str) -> None:
    with capture_logs([merge_contextvars]) as logs:
        async with connect(
            f"ws://{address}/graphql",
            subprotocols=[TRANSPORT],
            proxy=None,
            additional_headers={"X-Request-Id": "socket-1"},
        ) as socket:
            assert socket.response is not None and socket.response.headers["x-request-id"] == "socket-1"
            await socket.send('{"type": "connection_init"}')
            await socket.recv()
            await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": {"query": "{ nope }"}}))
            message = json.loads(await socket.recv())
    assert message["payload"][0]["extensions"]["requestId"] == "socket-1"
    assert [entry["request_id"] for entry in logs if entry["event"] == "request.done"] == ["socket-1"]
