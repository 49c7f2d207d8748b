"""The migration to indexes of ended runs: they are built while runs are written, and an interruption goes on."""

import asyncio

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError

from persistence.caller import Caller
from persistence.db.database import Database
from persistence.db.migrate import NEWEST, migrate, revision
from persistence.db.online_steps import INDEXES, REPLACED, prepare
from tests.executor_worker import eventually
from tests.journal_worker import accept_run
from tests.persistence.db.migration_steps import downgrade

STATES = """
SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE c.relname = ANY($1) ORDER BY 1
"""
KILL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%'"
DEADLOCK = """
CREATE SEQUENCE attempts;
CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('attempts') <= {refused} THEN RAISE EXCEPTION SQLSTATE '{code}'; END IF;
END $$;
CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('DROP INDEX') EXECUTE FUNCTION refuse()
"""
FORGET = "DROP EVENT TRIGGER refuse; DROP FUNCTION refuse; DROP SEQUENCE attempts"


async def states(database: Database, *others: str) -> dict[str, bool]:
    return dict(await database.pool.fetch(STATES, [*INDEXES, *others]))


async def test_a_build_that_is_killed_while_runs_are_written_goes_on(
    database: Database, database_url: str, caller: Caller, project: str
) -> None:
    await downgrade(database_url, "0027")
    async with database.pool.acquire() as writer:
        transaction = writer.transaction()
        await transaction.start()
        await writer.execute("LOCK TABLE runs IN ROW EXCLUSIVE MODE")  # As a writer of runs that is not over.
        build = asyncio.create_task(prepare(database_url, 1))

        async def is_building() -> bool:
            return bool(await states(database))

        await eventually(is_building)
        await accept_run(database, caller, project)
        await database.pool.execute(KILL)
        with pytest.raises(asyncpg.PostgresError):
            await build
        await transaction.rollback()
    assert list((await states(database)).values()) == [False]
    await asyncio.gather(*(prepare(database_url, 1) for _ in range(3)))
    assert await states(database, REPLACED) == {**dict.fromkeys(INDEXES, True), REPLACED: True}
    built = await database.pool.fetch("SELECT $1::text[]::regclass[]::oid[]", list(INDEXES))
    await migrate(database_url)
    assert await states(database, REPLACED) == dict.fromkeys(INDEXES, True)
    assert await database.pool.fetch("SELECT $1::text[]::regclass[]::oid[]", list(INDEXES)) == built


@pytest.mark.parametrize(("code", "is_repeated"), [("40P01", True), ("53100", False)])
async def test_a_migration_is_repeated_after_a_deadlock_only(
    database: Database, database_url: str, code: str, is_repeated: bool
) -> None:
    await downgrade(database_url, "0027")
    await database.pool.execute(DEADLOCK.format(refused=2, code=code))
    try:
        if is_repeated:
            await migrate(database_url)
        else:
            with pytest.raises(DBAPIError):
                await migrate(database_url)
    finally:
        await database.pool.execute(FORGET)
    assert await revision(database_url) == (NEWEST if is_repeated else "0027")
