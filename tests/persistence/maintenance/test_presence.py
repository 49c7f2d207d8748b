"""Advisory locks show which worker processes are alive, tested with processes that are killed."""

import asyncio
import os
import signal
import sys

import pytest

from persistence.db.database import Database, dsn
from persistence.maintenance.presence import Presence, expire_leases_of, find_missing

HOLD = """
import asyncio, sys
from persistence.db.database import Database, dsn
from persistence.maintenance.presence import Presence
from tests.journal_worker import DEADLINES

async def main(url):
    database = await Database.open(url, DEADLINES, pool_size=1)
    presence = Presence(dsn(url), database.pool, "other", 77, "host", 1)
    assert await presence.acquire()
    print("held", flush=True)
    await asyncio.Event().wait()

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture(autouse=True)
async def postgres_has_been_up_for_a_while(database: Database) -> None:
    up = "SELECT greatest(3.1 - extract(epoch FROM now() - pg_postmaster_start_time()), 0)::float"
    await asyncio.sleep(await database.pool.fetchval(up))


async def test_a_killed_worker_is_found_missing_at_once_and_a_live_or_suspended_one_is_not(
    database: Database, database_url: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HOLD, database_url), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"held\n"
    assert await find_missing(database.pool) == set()
    os.kill(process.pid, signal.SIGSTOP)
    assert await find_missing(database.pool) == set()
    process.kill()
    await process.wait()
    async with asyncio.timeout(3):
        while await find_missing(database.pool) != {"other"}:  # noqa: ASYNC110 (the database sends no notification)
            await asyncio.sleep(0.01)
    await expire_leases_of(database.pool, ["other"])
    assert await find_missing(database.pool) == set()


async def test_a_worker_that_unregisters_is_not_missing(database: Database, database_url: str) -> None:
    presence = Presence(dsn(database_url), database.pool, "one", 2**61 + 5, "host", 1)
    assert await presence.acquire()
    assert await find_missing(database.pool) == set()
    await presence.unregister()
    assert await database.pool.fetchval("SELECT count(*) FROM workers") == 0


async def test_a_lost_lock_is_noticed_and_can_be_acquired_again(database: Database, database_url: str) -> None:
    presence = Presence(dsn(database_url), database.pool, "one", 5, "host", 1)
    assert await presence.acquire()
    kill = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = 5"
    await database.pool.execute(kill)
    async with asyncio.timeout(3):
        while presence.is_held:  # noqa: ASYNC110 (asyncpg notices while it reads)
            await asyncio.sleep(0.01)
    assert await presence.acquire()
    assert await find_missing(database.pool) == set()
    await presence.unregister()
