"""The server over real sockets: HTTP, Server-Sent Events, WebSocket, the page, /health, and what it refuses."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from app.settings import Settings
from tests.app_server import TRANSPORT, serving

DRAFTS = "subscription($id: ID!) { draft(workflowId: $id) { revision } }"
SAVE = "mutation($input: SaveDraftInput!) { saveDraft(input: $input) { draft { revision } errors { detail } } }"


async def ask(client: httpx.AsyncClient, query: str, **variables: Any) -> dict[str, Any]:
    answer = await client.post("/graphql", json={"query": query, "variables": variables})
    data: dict[str, Any] = answer.json()["data"]
    return data


async def new_workflow(client: httpx.AsyncClient) -> str:
    query = 'mutation { createWorkflow(input: {name: "w"}) { workflow { id } } }'
    workflow_id: str = (await ask(client, query))["createWorkflow"]["workflow"]["id"]
    return workflow_id


async def save(client: httpx.AsyncClient, workflow_id: str, revision: int) -> None:
    spec = {"nodes": [], "edges": [], "outputs": {"revision": revision}}
    data = await ask(client, SAVE, input={"workflowId": workflow_id, "spec": spec, "expectedRevision": revision})
    assert data["saveDraft"]["errors"] == []


async def test_health_is_200_with_both_stores(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health")
    assert (answer.status_code, answer.json()["status"], answer.json()["down"]) == (200, "ok", [])


async def test_health_names_redis_and_stays_200_without_it(database_url: str) -> None:
    settings = Settings(database_url=database_url, redis_url="redis://127.0.0.1:1/0")
    async with serving(settings) as address, httpx.AsyncClient(base_url=f"http://{address}") as client:
        answer = await client.get("/health")
        assert (answer.status_code, answer.json()["down"]) == (200, ["redis"])
        # Without Redis nothing is lost: what is accepted stands in Postgres.
        await save(client, await new_workflow(client), 1)


async def test_a_browser_gets_a_page_and_a_client_gets_json(client: httpx.AsyncClient) -> None:
    page = await client.get("/graphql", headers={"Accept": "text/html"})
    data = await client.get("/graphql", params={"query": "{ viewer { subject } }"})
    assert page.headers["content-type"].startswith("text/html")
    assert data.json() == {"data": {"viewer": {"subject": "local"}}}


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_subscription_by_a_plain_request_is_told_how_to_ask(client: httpx.AsyncClient, method: str) -> None:
    given = {"query": 'subscription { nodeStates(runId: "run_x") { seq } }'}
    answer = await client.request(method, "/graphql", **({"json": given} if method == "POST" else {"params": given}))
    (error,) = answer.json()["errors"]
    assert (answer.status_code, error["extensions"]["code"]) == (400, "VALIDATION")
    assert "`Accept: text/event-stream`" in error["message"]
    assert "WebSocket" in error["message"]


async def test_a_mutation_does_not_go_by_get(client: httpx.AsyncClient) -> None:
    query = 'mutation { createProject(input: {name: "x"}) { project { id } } }'
    answer = await client.get("/graphql", params={"query": query})
    assert (answer.status_code, answer.json()["errors"][0]["extensions"]["code"]) == (400, "VALIDATION")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"5",
        b"null",
        b'"text"',
        b"{}",
        b'{"query": 5}',
        b'{"query": "{ templates { name } }", "variables": [1]}',
        b'{"query": "{ templates { name } }", "variables": {"x": NaN}}',
        b'{"query": "{ templates { name } }", "variables": {"x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}}",
        b'{"query": "{ templates { name } }", "variables": {"x": ' + b"9" * 5000 + b"}}",
        b"\xff\xfe",
    ],
)
async def test_a_body_that_is_no_operation_gets_a_problem(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/graphql", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["extensions"]["code"] == "VALIDATION"


async def test_a_body_over_the_limit_is_refused(client: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(80):
            yield b" " * 65536

    big = b" " * (4 * 1024 * 1024 + 1)
    announced = await client.post("/graphql", content=big, headers={"Content-Type": "application/json"})
    streamed = await client.post("/graphql", content=endless(), headers={"Content-Type": "application/json"})
    for answer in (announced, streamed):
        assert (answer.status_code, answer.json()["errors"][0]["extensions"]["code"]) == (413, "LIMIT")


async def test_the_bare_address_leads_to_the_page(client: httpx.AsyncClient) -> None:
    answer = await client.get("/")
    assert (answer.status_code, answer.headers["location"]) == (307, "/graphql")


async def test_a_host_of_another_name_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health", headers={"Host": "evil.example"})
    assert answer.status_code == 400


async def save_until(client: httpx.AsyncClient, workflow_id: str, seen: asyncio.Task[dict[str, Any]]) -> dict[str, Any]:
    """Saves until the subscriber has seen a save: it is told of none that came before it began."""
    for revision in range(1, 100):
        await save(client, workflow_id, revision)
        done, _ = await asyncio.wait({seen}, timeout=0.2)
        if done:
            return await seen
    raise AssertionError("none of the saves was seen")


async def first_event(stream: httpx.Response) -> dict[str, Any]:
    async for line in stream.aiter_lines():
        if line.startswith("data: {"):
            event: dict[str, Any] = json.loads(line[6:])
            return event
    raise AssertionError("the stream ended without an event")


async def first_next(socket: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(await socket.recv())
    assert (message["id"], message["type"]) == ("1", "next")
    payload: dict[str, Any] = message["payload"]
    return payload


async def test_a_draft_is_seen_by_server_sent_events(client: httpx.AsyncClient) -> None:
    workflow_id = await new_workflow(client)
    body = {"query": DRAFTS, "variables": {"id": workflow_id}}
    async with client.stream("POST", "/graphql", json=body, headers={"Accept": "text/event-stream"}) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        event = await save_until(client, workflow_id, asyncio.create_task(first_event(stream)))
    assert event["data"]["draft"]["revision"] >= 2


async def test_a_draft_is_seen_by_websocket(client: httpx.AsyncClient, address: str) -> None:
    workflow_id = await new_workflow(client)
    async with connect(f"ws://{address}/graphql", subprotocols=[TRANSPORT]) as socket:
        await socket.send(json.dumps({"type": "connection_init"}))
        assert json.loads(await socket.recv())["type"] == "connection_ack"
        payload = {"query": DRAFTS, "variables": {"id": workflow_id}}
        await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
        event = await save_until(client, workflow_id, asyncio.create_task(first_next(socket)))
    assert event["data"]["draft"]["revision"] >= 2


async def test_a_page_of_another_site_opens_no_socket(address: str) -> None:
    with pytest.raises(InvalidStatus):
        async with connect(
            f"ws://{address}/graphql",
            subprotocols=[TRANSPORT],
            origin=Origin("http://evil.example"),
        ):
            raise AssertionError("the handshake was accepted")
