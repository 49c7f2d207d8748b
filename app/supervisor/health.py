"""Waits until the server of `treadle up` reports at /health that both stores are up."""

import asyncio
import socket

import httpx

from app.errors import CannotStartError
from app.http_client import plain_client

READY_S = 60.0
"""Seconds that the server has to become healthy."""


async def wait_until_healthy(listener: socket.socket) -> None:
    """Wait until /health reports no store as down.

    The server need not accept connections yet, because they wait in the backlog of the bound port.

    Args:
        listener: The listening socket of the server.

    Raises:
        CannotStartError: The server is not healthy within `READY_S`.
    """
    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/health"
    problem = "it does not respond"
    try:
        async with asyncio.timeout(READY_S), plain_client(timeout_s=READY_S) as client:
            while problem := await _health_problem(client, url):  # noqa: ASYNC110 (another process)
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        raise CannotStartError(f"the server was not ready within {READY_S:g} s: {problem}") from error


async def _health_problem(client: httpx.AsyncClient, url: str) -> str:
    """Return why the server is not healthy, or an empty string if it is."""
    try:
        health = (await client.get(url)).json()
    except (httpx.TransportError, ValueError):
        # The server died with this request. The next request waits for the restarted server.
        return "it does not respond; see its log lines above"
    return f"no response from {' and '.join(health['down'])}" if health["down"] else ""
