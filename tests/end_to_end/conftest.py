"""One system for the tests that leave it standing."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.end_to_end.system import System, running


@pytest.fixture(scope="session")
async def system(template: str, embedded: tuple[str, str]) -> AsyncIterator[System]:
    connection = await asyncpg.connect(template.replace("/treadle?", "/postgres?"))
    await connection.execute("CREATE DATABASE end_to_end TEMPLATE treadle STRATEGY FILE_COPY")
    await connection.close()
    redis_url = embedded[1].replace("db=0", "db=1")
    async with running(template.replace("/treadle?", "/end_to_end?"), redis_url) as system:
        yield system
