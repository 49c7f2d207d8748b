"""The server over real sockets: HTTP, Server-Sent Events, WebSocket, GraphiQL and /health."""

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
from engine.release import VERSION
from tests.app_server import TRANSPORT, serving

DRAFTS = "subscription($id: ID!) { draft(workflowId: $id) { revision } }"
SAVE = "mutation($input: SaveDraftInput!) { saveDraft(input: $input) { draft { revision } errors { detail } } }"


async def execute(client: httpx.AsyncClient, query: str, **variables: Any) -> dict[str, Any]:
    response = await client.post("/graphql", json={"query": query, "variables": variables})
    data: dict[str, Any] = response.json()["data"]
    return data


async def new_workflow(client: httpx.AsyncClient) -> str:
    query = 'mutation { createWorkflow(input: {name: "w"}) { workflow { id } } }'
    workflow_id: str = (await execute(client, query))["createWorkflow"]["workflow"]["id"]
    return workflow_id


async def save(client: httpx.AsyncClient, workflow_id: str, revision: int) -> None:
    spec = {"nodes": [], "edges": [], "outputs": {"revision": revision}}
    data = await execute(client, SAVE, input={"workflowId": workflow_id, "spec": spec, "expectedRevision": revision})
    assert data["saveDraft"]["errors"] == []


async def test_health_is_200_with_both_stores(client: httpx.AsyncClient) -> None:
    response = await client.get("/health")
    assert (response.status_code, response.json()["status"], response.json()["down"]) == (200, "ok", [])
    assert response.json()["version"] == VERSION


async def test_the_api_names_the_version_of_the_server(client: httpx.AsyncClient) -> None:
    response = await client.post("/graphql", json={"query": "{ viewer { server { version } } }"})
    assert response.json() == {"data": {"viewer": {"server": {"version": VERSION}}}}


async def test_health_names_redis_and_stays_200_without_it(database_url: str) -> None:
    settings = Settings(database_url=database_url, redis_url="redis://127.0.0.1:1/0")
    async with serving(settings) as address, httpx.AsyncClient(base_url=f"http://{address}") as client:
        response = await client.get("/health")
        assert (response.status_code, response.json()["down"]) == (200, ["redis"])
        # Without Redis nothing is lost, because everything is stored in Postgres.
        await save(client, await new_workflow(client), 1)


async def test_a_browser_gets_a_page_and_a_client_gets_json(client: httpx.AsyncClient) -> None:
    page = await client.get("/graphql", headers={"Accept": "text/html"})
    data = await client.get("/graphql", params={"query": "{ viewer { subject } }"})
    assert page.headers["content-type"].startswith("text/html")
    assert data.json() == {"data": {"viewer": {"subject": "local"}}}


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_plain_request_for_a_subscription_is_refused_with_instructions(
    client: httpx.AsyncClient, method: str
) -> None:
    operation = {"query": 'subscription { nodeStates(runId: "run_x") { seq } }'}
    response = await client.request(
        method, "/graphql", **({"json": operation} if method == "POST" else {"params": operation})
    )
    (error,) = response.json()["errors"]
    assert (response.status_code, error["extensions"]["code"]) == (400, "VALIDATION")
    assert "`Accept: text/event-stream`" in error["message"]
    assert "WebSocket" in error["message"]


async def test_a_mutation_by_get_is_refused(client: httpx.AsyncClient) -> None:
    query = 'mutation { createProject(input: {name: "x"}) { project { id } } }'
    response = await client.get("/graphql", params={"query": query})
    assert (response.status_code, response.json()["errors"][0]["extensions"]["code"]) == (405, "VALIDATION")
    assert response.headers["allow"] == "POST"


NO_OPERATIONS = (
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
)


async def test_a_body_that_is_no_operation_is_refused(client: httpx.AsyncClient) -> None:
    for body in NO_OPERATIONS:
        response = await client.post("/graphql", content=body, headers={"Content-Type": "application/json"})
        assert response.status_code == 400, body[:80]
        assert response.json()["errors"][0]["extensions"]["code"] == "VALIDATION"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
async def test_a_body_with_a_byte_order_mark_is_an_operation(client: httpx.AsyncClient, encoding: str) -> None:
    body = '{"query": "{ viewer { subject } }"}'.encode(encoding)
    response = await client.post("/graphql", content=body, headers={"Content-Type": "application/json"})
    assert response.json() == {"data": {"viewer": {"subject": "local"}}}


async def test_a_body_over_the_limit_is_refused(client: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(80):
            yield b" " * 65536

    big = b" " * (4 * 1024 * 1024 + 1)
    with_length = await client.post("/graphql", content=big, headers={"Content-Type": "application/json"})
    streamed = await client.post("/graphql", content=endless(), headers={"Content-Type": "application/json"})
    for response in (with_length, streamed):
        assert (response.status_code, response.json()["errors"][0]["extensions"]["code"]) == (413, "LIMIT")


async def test_the_root_and_links_into_the_studio_are_its_page(client: httpx.AsyncClient) -> None:
    for path in ("/", "/workflows/wf_1?node=a", "/runs"):
        page = await client.get(path, headers={"Accept": "text/html"})
        assert page.status_code == 200 and 'id="studio"' in page.text
    other = await client.get("/nothing", headers={"Accept": "text/html"})
    assert (other.status_code, other.json()["errors"][0]["extensions"]["code"]) == (404, "NOT_FOUND")


async def test_without_the_studio_the_root_redirects_to_graphiql(database_url: str, redis_url: str) -> None:
    settings = Settings(database_url=database_url, redis_url=redis_url, studio=False)
    async with serving(settings) as address, httpx.AsyncClient(base_url=f"http://{address}") as client:
        response = await client.get("/")
        assert (response.status_code, response.headers["location"]) == (307, "/graphql")
        assert (await client.get("/runs", headers={"Accept": "text/html"})).status_code == 404


async def test_a_request_with_another_host_header_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.get("/health", headers={"Host": "evil.example"})
    assert response.status_code == 400


async def save_until(
    client: httpx.AsyncClient, workflow_id: str, event: asyncio.Task[dict[str, Any]]
) -> dict[str, Any]:
    """Save drafts until `event`, the task of a subscriber, has received one, and return that event.

    A subscriber receives no save from before its subscription, so one save would not be enough.
    """
    for revision in range(1, 100):
        await save(client, workflow_id, revision)
        done, _ = await asyncio.wait({event}, timeout=0.2)
        if done:
            return await event
    raise AssertionError("the subscriber received none of the saves")


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


async def test_a_saved_draft_arrives_by_server_sent_events(client: httpx.AsyncClient) -> None:
    workflow_id = await new_workflow(client)
    body = {"query": DRAFTS, "variables": {"id": workflow_id}}
    async with client.stream("POST", "/graphql", json=body, headers={"Accept": "text/event-stream"}) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        event = await save_until(client, workflow_id, asyncio.create_task(first_event(stream)))
    assert event["data"]["draft"]["revision"] >= 2


async def test_a_saved_draft_arrives_by_websocket(client: httpx.AsyncClient, address: str) -> None:
    workflow_id = await new_workflow(client)
    async with connect(f"ws://{address}/graphql", subprotocols=[TRANSPORT]) as socket:
        await socket.send(json.dumps({"type": "connection_init"}))
        assert json.loads(await socket.recv())["type"] == "connection_ack"
        payload = {"query": DRAFTS, "variables": {"id": workflow_id}}
        await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
        event = await save_until(client, workflow_id, asyncio.create_task(first_next(socket)))
    assert event["data"]["draft"]["revision"] >= 2


async def test_a_page_of_another_site_cannot_open_a_socket(address: str) -> None:
    with pytest.raises(InvalidStatus):
        async with connect(
            f"ws://{address}/graphql",
            subprotocols=[TRANSPORT],
            origin=Origin("http://evil.example"),
        ):
            raise AssertionError("the handshake was accepted")


SENT_BY_OTHER_SITES: list[dict[str, str]] = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
]


async def test_no_page_of_another_site_runs_an_operation(client: httpx.AsyncClient) -> None:
    query = 'mutation { createWorkflow(input: {name: "by another site"}) { errors { code } } }'
    for headers in SENT_BY_OTHER_SITES:
        read = await client.get("/graphql", params={"query": "{ tools { name } }"}, headers=headers)
        written = await client.post("/graphql", json={"query": query}, headers=headers)
        form = await client.post("/graphql", data={"operations": "{}"}, headers=headers)
        assert [response.status_code for response in (read, written, form)] == [403] * 3, headers
        [error] = written.json()["errors"]
        assert error["extensions"]["code"] == "FORBIDDEN" and "other sites" in error["message"]
    names = (await execute(client, "{ workflows { nodes { name } } }"))["workflows"]["nodes"]
    assert names == []


async def test_pages_of_this_server_and_other_programs_run_operations(client: httpx.AsyncClient) -> None:
    own = f"http://{client.base_url.host}:{client.base_url.port}"
    accepted = [{}, {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost:5173"}, {"Sec-Fetch-Site": "none"}]
    for headers in (*accepted, {"Origin": own}, {"Origin": own.replace("http:", "https:")}):
        response = await client.get("/graphql", params={"query": "{ viewer { subject } }"}, headers=headers)
        assert response.status_code == 200, headers


async def test_a_link_on_another_site_opens_the_page(client: httpx.AsyncClient) -> None:
    headers = {"Accept": "text/html", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    response = await client.get("/graphql", headers=headers)
    assert (response.status_code, response.headers["content-type"].split(";")[0]) == (200, "text/html")
