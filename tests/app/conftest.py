"""Fixtures: folders for embedded servers, the `treadle` command, and a running server."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import asyncpg
import httpx
import pytest

from app.settings import Settings
from tests.app.commands import Treadle
from tests.app_server import serving


@contextmanager
def running_commands() -> Iterator[Treadle]:
    """Yield what starts `treadle …` without the settings of this machine. The processes end with the block."""
    children: list[subprocess.Popen[str]] = []

    def start(*arguments: object, **settings: str) -> "subprocess.Popen[str]":
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TREADLE_")}
        child = subprocess.Popen(
            [sys.executable, "-m", "app.cli", *map(str, arguments)],
            env={**environment, **settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.terminate()
        child.communicate(timeout=60)


@pytest.fixture
def treadle() -> Iterator[Treadle]:
    """Starts `treadle`; its processes end with the test."""
    with running_commands() as treadle:
        yield treadle


@pytest.fixture(scope="module")
def treadle_of_module() -> Iterator[Treadle]:
    """Starts `treadle`; its processes end after the tests of the module."""
    with running_commands() as treadle:
        yield treadle


@pytest.fixture
async def empty_url(template: str) -> AsyncIterator[str]:
    """The URL of an empty database."""
    connection = await asyncpg.connect(template.replace("/treadle?", "/postgres?"))
    await connection.execute("CREATE DATABASE empty TEMPLATE template0")
    yield template.replace("/treadle?", "/empty?")
    await connection.execute("DROP DATABASE empty WITH (FORCE)")
    await connection.close()


@pytest.fixture
async def address(database_url: str, redis_url: str) -> AsyncIterator[str]:
    async with serving(Settings(database_url=database_url, redis_url=redis_url)) as address:
        yield address


@pytest.fixture
async def client(address: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://{address}", timeout=20) as client:
        yield client
