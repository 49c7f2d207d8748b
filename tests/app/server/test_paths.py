"""Every path of the server with methods, bodies and headers that nobody expects: never a fault.

The paths are those of the app itself, so a new one is covered.
"""

import random
from collections.abc import Iterator

import httpx
from starlette.routing import Mount, Route

from app.server.asgi import create_app
from app.settings import Settings
from tests.app_server import serving

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get", "X" * 300)
BODIES = (
    b"",
    b"{}",
    b"[]",
    b"null",
    b'"',
    b"\xff\xfe",
    b"\0" * 100,
    b"[" * 10_000,
    b'{"a":' * 5_000,
    b"a=1&b=%00",
    b"x" * 100_000,
)
TYPES = ("application/json", "application/json; charset=x", "text/plain", "multipart/form-data", "a/b/c", "\xff", "")
PARTS = ("x", "%00", "%ff", "..", "%2e%2e%2f", "a%0d%0ab", "\u00fc", "x" * 3000, "{token}", "%d8%00", "*")
QUERIES = ("", "?", "?a=%00", "?query=%ff", "?query={viewer{subject}}&variables=[", "?" + "a&" * 2000, "?\u00fc=1")
SAMPLE = 60


def paths(settings: Settings) -> Iterator[str]:
    """Yield each path of the app, with its parameters filled in, and paths below it."""
    for route in create_app(settings).routes:
        assert isinstance(route, Route | Mount) or hasattr(route, "path")
        path = route.path
        start = path.partition("{")[0]
        yield start
        yield from (f"{start.rstrip('/')}/{part}" for part in PARTS)


async def test_no_request_to_any_path_is_a_fault(database_url: str, redis_url: str) -> None:
    settings = Settings(database_url=database_url, redis_url=redis_url)
    every = sorted(set(paths(settings)))
    assert {"/graphql", "/health", "/hooks/"} <= set(every)
    chosen = random.Random(11)
    requests = [tuple(map(chosen.choice, (METHODS, every, QUERIES, BODIES, TYPES))) for _ in range(SAMPLE)] + [
        ("GET", path, "", b"", "") for path in every
    ]
    async with serving(settings) as address, httpx.AsyncClient(base_url=f"http://{address}") as client:
        for method, path, query, body, content_type in requests:
            headers = {"Content-Type": content_type.encode("latin-1")} if content_type else {}
            response = await client.request(method, path + query, content=body, headers=headers)
            which = (method, path, query, body[:20], content_type, response.status_code, response.text[:200])
            assert response.status_code < 500 or path.startswith(("/readyz", "/health")), which
            assert "Traceback" not in response.text, which
        assert (await client.get("/ping")).status_code == 200
