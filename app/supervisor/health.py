"""Whether the server that `treadle up` has started is there and all is well with it, asked at /health."""

import asyncio
import socket

import httpx

from app.errors import CannotStartError
from app.http_client import plain_client

READY_S = 60.0


async def healthy(listener: socket.socket) -> None:
    """Until the server says that all is well. It need not listen yet: a connection waits on the bound port."""
    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/health"
    missing = "it does not answer"
    try:
        async with asyncio.timeout(READY_S), plain_client(timeout_s=READY_S) as client:
            while missing := await _missing(client, url):  # noqa: ASYNC110 (another process)
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        raise CannotStartError(f"the server was not ready within {READY_S:g} s: {missing}") from error


async def _missing(client: httpx.AsyncClient, url: str) -> str:
    """What is not well yet; nothing when all is."""
    try:
        health = (await client.get(url)).json()
    except (httpx.TransportError, ValueError):
        return "it does not answer, and its log above says why"  # It died with our request; the next one takes it up.
    return f"no answer from {' and '.join(health['down'])}" if health["down"] else ""
