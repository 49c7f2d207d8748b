"""The server that a command talks to: its address and the token, from options or settings."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import typer

from app.cli.client import ApiClient, RunRefused
from app.settings import load_settings
from app.terminal_text import escape_controls

ResultT = TypeVar("ResultT")


def open_client(url: str | None, token: str | None, port: int | None = None) -> ApiClient:
    """Return a client for the options of a command, and else for the settings of this machine."""
    settings = load_settings(port=port)
    own = None if settings.token is None else settings.token.get_secret_value()
    return ApiClient(url or f"{settings.host}:{settings.port}", token or own)


def run_against_server(act: Callable[[ApiClient], Awaitable[ResultT]], url: str | None, token: str | None) -> ResultT:
    """Call `act` with a client. An error ends the command with one line and exit code 1."""

    async def call() -> ResultT:
        async with open_client(url, token) as client:
            return await act(client)

    try:
        return asyncio.run(call())
    except RunRefused as error:
        sys.exit(escape_controls(f"treadle: {error}", keep_lines=True))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
