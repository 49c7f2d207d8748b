"""Pages of allowed origins, hosts behind proxies, and slow clients."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from structlog.testing import capture_logs
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from app.server.hosts import host_name
from app.settings import Settings
from tests.app_server import TRANSPORT, serving

PAGE = "http://localhost:5173"
OTHER_PAGE = "http://localhost:5174"
PROXY = "treadle.example.com"
QUERY = {"query": "{ viewer { subject } }"}
RESULT = {"data": {"viewer": {"subject": "local"}}}


@pytest.fixture
async def configured(database_url: str, redis_url: str) -> AsyncIterator[str]:
    """The address of a server with an allowed origin, an allowed host, and short times."""
    hosts = f"{PROXY}, *.example.org"
    limits = {"request_s": 0.3}
    async with serving(
        Settings(database_url=database_url, redis_url=redis_url, allowed_origins=PAGE, allowed_hosts=hosts, **limits)
    ) as address:
        yield address


def as_browser(origin: str) -> dict[str, str]:
    """The headers that a browser adds to a request of a page at `origin`, with its cookies."""
    return {"Origin": origin, "Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors", "Cookie": "a=b"}


async def preflight(client: httpx.AsyncClient, origin: str) -> httpx.Response:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    return await client.options("/graphql", headers={**as_browser(origin), **asked})


async def test_a_page_of_an_allowed_origin_sends_operations_as_a_browser_does(configured: str) -> None:
    async with httpx.AsyncClient(base_url=f"http://{configured}") as client:
        answer = await preflight(client, PAGE)
        assert answer.status_code == 200
        allowed = {"authorization", "content-type"}
        assert set(answer.headers["access-control-allow-headers"].lower().replace(" ", "").split(",")) >= allowed
        assert "POST" in answer.headers["access-control-allow-methods"]
        posted = await client.post("/graphql", json=QUERY, headers=as_browser(PAGE))
        got = await client.get("/graphql", params=QUERY, headers=as_browser(PAGE))
        refused = await client.post("/graphql", content=b"{", headers=as_browser(PAGE))
    for response in (answer, posted, got, refused):
        assert response.headers["access-control-allow-origin"] == PAGE
        assert response.headers["access-control-allow-credentials"] == "true"
        assert "Origin" in response.headers["vary"]
    assert posted.json() == got.json() == RESULT


async def test_a_page_of_another_origin_learns_the_setting(configured: str) -> None:
    async with httpx.AsyncClient(base_url=f"http://{configured}") as client:
        with capture_logs() as logs:
            posted = await client.post("/graphql", json=QUERY, headers=as_browser(OTHER_PAGE))
        answer = await preflight(client, OTHER_PAGE)
    for response in (answer, posted):
        assert response.status_code == 403
        assert "TREADLE_ALLOWED_ORIGINS" in response.json()["errors"][0]["message"]
        assert "access-control-allow-origin" not in response.headers
    [line] = [line for line in logs if line["event"] == "server.cross_site_refused"]
    assert (line["setting"], line["origin"]) == ("TREADLE_ALLOWED_ORIGINS", OTHER_PAGE)


async def socket_result(address: str, origin: str, host: str | None = None) -> object:
    """The result of a query over a WebSocket of a page, or the response to its handshake."""
    ip, port = address.split(":")
    url = f"ws://{host or address}/graphql"
    try:
        async with connect(url, host=ip, port=int(port), subprotocols=[TRANSPORT], origin=Origin(origin)) as socket:
            await socket.send('{"type": "connection_init", "payload": null}')
            await socket.recv()
            await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": QUERY}))
            return json.loads(await socket.recv())["payload"]
    except InvalidStatus as refused:
        [error] = json.loads(refused.response.body or b"{}")["errors"]
        return refused.response.status_code, error["message"]


async def test_a_page_of_an_allowed_origin_opens_sockets(configured: str) -> None:
    assert await socket_result(configured, PAGE) == RESULT
    with capture_logs() as logs:
        refused = await socket_result(configured, OTHER_PAGE)
    assert isinstance(refused, tuple)
    assert refused[0] == 403 and "TREADLE_ALLOWED_ORIGINS" in refused[1]
    assert [line["setting"] for line in logs if "setting" in line] == ["TREADLE_ALLOWED_ORIGINS"]


HOSTS = {
    "localhost": True,
    "127.0.0.1:1": True,
    "[::1]:8000": True,
    PROXY: True,
    f"{PROXY.upper()}:443": True,
    "a.example.org": True,
    "example.org": False,
    f"{PROXY}.evil.example": False,
    "evilexample.org": False,
    "": False,
}


@pytest.mark.parametrize(("host", "is_allowed"), HOSTS.items())
async def test_only_allowed_hosts_are_served(configured: str, host: str, is_allowed: bool) -> None:
    async with httpx.AsyncClient(base_url=f"http://{configured}") as client:
        with capture_logs() as logs:
            response = await client.post("/graphql", json=QUERY, headers={"Host": host})
    if is_allowed:
        assert response.json() == RESULT
        return
    assert response.status_code == 400
    assert "TREADLE_ALLOWED_HOSTS" in response.json()["errors"][0]["message"]
    assert [line["setting"] for line in logs if "setting" in line] == ["TREADLE_ALLOWED_HOSTS"]


async def test_a_page_behind_a_proxy_opens_sockets(configured: str) -> None:
    """A proxy as documented passes `Host` and `Origin` on."""
    assert await socket_result(configured, f"https://{PROXY}", host=PROXY) == RESULT
    refused = await socket_result(configured, f"https://{PROXY}", host="localhost")
    assert isinstance(refused, tuple)
    assert refused[0] == 403 and "must pass `Host` on" in refused[1]
    refused = await socket_result(configured, PAGE, host="evil.example")
    assert isinstance(refused, tuple)
    assert refused[0] == 400 and "TREADLE_ALLOWED_HOSTS" in refused[1]


@pytest.mark.parametrize(
    ("sent", "what"),
    [
        (b"", "headers"),
        (b"POST /graphql HTTP/1.1\r\nHost: localhost\r\n", "headers"),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /health HTTP/1.1\r\nHost:", "headers"),
        (b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{", "body"),
    ],
    ids=["nothing", "headers", "the headers of a second request", "body"],
)  # fmt: skip
async def test_a_request_that_does_not_arrive_in_time_is_408(configured: str, sent: bytes, what: str) -> None:
    host, port = configured.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    async with asyncio.timeout(10):
        response = await reader.read()  # Until the server closes the connection.
    assert b"HTTP/1.1 408 " in response
    assert f"The {what} of the request".encode() in response
    writer.close()


async def test_bytes_that_are_no_http_are_400_in_the_shape_of_graphql(configured: str) -> None:
    host, port = configured.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"\x16\x03\x01 nonsense\r\n\r\n")
    async with asyncio.timeout(10):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["errors"][0]["extensions"]["code"] == "VALIDATION"
    writer.close()


async def test_a_subscription_may_be_quiet_for_longer_than_a_request_may_take(configured: str) -> None:
    body = {"query": "subscription { runs { id } }"}
    headers = {"Accept": "text/event-stream"}
    async with (
        httpx.AsyncClient(base_url=f"http://{configured}") as client,
        client.stream("POST", "/graphql", json=body, headers=headers) as stream,
    ):
        lines = stream.aiter_lines()
        assert await anext(lines) == ": connected"
        assert await anext(lines) == ""
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.6):
                await anext(lines)


@pytest.mark.parametrize(
    ("host", "name"), [("a.b:1", "a.b"), ("[::1]:1", "::1"), ("[::1", "::1"), (":1", ""), ("A", "a")]
)
def test_the_name_of_a_host_has_no_port(host: str, name: str) -> None:
    assert host_name(host) == name
