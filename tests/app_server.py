"""Runs the real server app on a real socket, in the event loop of the test."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from websockets.typing import Subprotocol

from app.server.asgi import create_app
from app.settings import Settings

TRANSPORT = Subprotocol("graphql-transport-ws")
MAX_MESSAGE = 4 * 1024 * 1024


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[str]:
    """Run a server for the duration of the block, and yield its host and port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(create_app(settings), log_config=None, ws="websockets-sansio", ws_max_size=MAX_MESSAGE)
        server = uvicorn.Server(config)
        # Connections made before the server has started wait in the backlog of the listener.
        task = asyncio.create_task(server.serve([listener]))
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await task
