"""The configurations of proxies in deploy/: TLS, queries, WebSockets of browsers, event streams, and addresses."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLContext
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Origin

from app.server.body_limit import MAX_BODY
from app.settings import Settings
from tests.app_server import TRANSPORT, serving
from tests.deploy.proxies import NAME, proxied, write_certificate
from tests.executor_worker import eventually
from tests.programs import installed

SPEC = {"nodes": [{"id": "a", "type": "transform", "config": {"output": 1}}], "edges": []}
RUN = "mutation ($spec: JSON!) { runAdhoc(input: {spec: $spec, mode: ASYNC}) { run { id } } }"
CANCEL = "mutation ($id: ID!) { cancelRun(input: {runId: $id}) { run { status } } }"
UPDATES = """subscription ($id: ID!) { runUpdates(runId: $id) {
  ... on RunSnapshot { run { status } } ... on RunStatusChanged { status } } }"""
RUNS = {"query": "subscription { runs { id } }"}


@dataclass
class TlsProxy:
    """A proxy with TLS in front of a server without a worker."""

    port: int
    tls: SSLContext
    client: httpx.AsyncClient

    async def execute(self, query: str, **variables: Any) -> Any:
        body = {"query": query, "variables": variables}
        response = await self.client.post("/graphql", json=body, headers={"Origin": f"https://{NAME}:{self.port}"})
        assert response.status_code == 200, response.text
        return response.json()["data"]

    def socket(self) -> connect:
        """Connect as a page of the proxy's own origin does in a browser."""
        return connect(
            f"wss://{NAME}:{self.port}/graphql",
            host="127.0.0.1",
            port=self.port,
            ssl=self.tls,
            subprotocols=[TRANSPORT],
            origin=Origin(f"https://{NAME}:{self.port}"),
            proxy=None,
        )


class LoopbackTransport(httpx.AsyncHTTPTransport):
    """Sends requests for any name to 127.0.0.1, with the name in TLS and in `Host`."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["sni_hostname"] = request.url.host
        request.url = request.url.copy_with(host="127.0.0.1")
        return await super().handle_async_request(request)


@pytest.fixture(params=installed("nginx", "caddy"))
async def proxy(
    request: pytest.FixtureRequest, database_url: str, redis_url: str, tmp_path: Path
) -> AsyncIterator[TlsProxy]:
    settings = Settings(
        database_url=database_url, redis_url=redis_url, allowed_hosts=NAME, connections_per_address=3, request_s=20
    )
    tls = write_certificate(tmp_path)
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(serving(settings))
        port = await stack.enter_async_context(proxied(request.param, tmp_path, address))
        client = httpx.AsyncClient(
            base_url=f"https://{NAME}:{port}", transport=LoopbackTransport(verify=tls), timeout=20
        )
        yield TlsProxy(port, tls, await stack.enter_async_context(client))


async def test_a_page_of_the_proxy_runs_operations_and_follows_a_run_live(proxy: TlsProxy) -> None:
    run_id = (await proxy.execute(RUN, spec=SPEC))["runAdhoc"]["run"]["id"]
    async with asyncio.timeout(20), proxy.socket() as socket:
        await subscribe(socket, run_id)
        assert await update(socket) == {"run": {"status": "QUEUED"}}
        await proxy.execute(CANCEL, id=run_id)
        assert await update(socket) == {"status": "CANCELLED"}


async def subscribe(socket: ClientConnection, run_id: str) -> None:
    await socket.send('{"type": "connection_init"}')
    assert json.loads(await socket.recv())["type"] == "connection_ack"
    payload = {"query": UPDATES, "variables": {"id": run_id}}
    await socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": payload}))


async def update(socket: ClientConnection) -> Any:
    """Return the next snapshot or change of the status."""
    while True:
        message = json.loads(await socket.recv())
        assert message["type"] == "next", message
        if message["payload"]["data"]["runUpdates"]:
            return message["payload"]["data"]["runUpdates"]


async def test_an_event_stream_is_not_buffered(proxy: TlsProxy) -> None:
    run_id = (await proxy.execute(RUN, spec=SPEC))["runAdhoc"]["run"]["id"]
    body = {"query": UPDATES, "variables": {"id": run_id}}
    events = []
    async with (
        asyncio.timeout(20),
        proxy.client.stream("POST", "/graphql", json=body, headers={"Accept": "text/event-stream"}) as response,
    ):
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                events.append(json.loads(line.removeprefix("data: "))["data"]["runUpdates"])
                if len(events) == 1:  # The stream is open, and its first event is here.
                    await proxy.execute(CANCEL, id=run_id)
    assert [event for event in events if event] == [{"run": {"status": "QUEUED"}}, {"status": "CANCELLED"}]


async def test_the_largest_request_passes(proxy: TlsProxy) -> None:
    body = {"query": "{ viewer { subject } }", "extensions": {"padding": "x" * (MAX_BODY - 100)}}
    response = await proxy.client.post("/graphql", json=body)
    assert response.json() == {"data": {"viewer": {"subject": "local"}}}


async def test_the_address_of_a_client_is_what_the_proxy_says_and_not_the_client(proxy: TlsProxy) -> None:
    statuses = []
    async with AsyncExitStack() as stack:
        for number in range(4):
            headers = {"Accept": "text/event-stream", "X-Forwarded-For": f"192.0.2.{number}"}
            opened = proxy.client.stream("POST", "/graphql", json=RUNS, headers=headers)
            statuses.append((await stack.enter_async_context(opened)).status_code)
    assert statuses == [200, 200, 200, 429]


async def test_a_client_that_disconnects_ends_its_stream_at_the_server(proxy: TlsProxy) -> None:
    headers = {"Accept": "text/event-stream"}
    async with AsyncExitStack() as stack:
        for _ in range(3):  # As many connections as the address may have.
            response = await stack.enter_async_context(
                proxy.client.stream("POST", "/graphql", json=RUNS, headers=headers)
            )
            assert response.status_code == 200
    # Until the server has noticed, it refuses another connection of the address.
    await eventually(lambda: answers(proxy))


async def answers(proxy: TlsProxy) -> bool:
    response = await proxy.client.post("/graphql", json={"query": "{ viewer { subject } }"})
    return response.status_code == 200
