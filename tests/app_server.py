"""Runs the real server app on a real socket, in the event loop of the test."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from websockets.typing import Subprotocol

from app.server.http_server import MAX_MESSAGE as MAX_MESSAGE
from app.server.http_server import server_config
from app.settings import Settings

TRANSPORT = Subprotocol("graphql-transport-ws")


@asynccontextmanager
async def serving(settings: Settings, own_listener: socket.socket | None = None) -> AsyncIterator[str]:
    """Run a server for the duration of the block, and yield its host and port.

    `own_listener` is for tests that know the port before the server runs.
    """
    with own_listener or socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(server_config(settings))
        # Connections made before the server has started wait in the backlog of the listener.
        task = asyncio.create_task(server.serve([listener]))
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task
