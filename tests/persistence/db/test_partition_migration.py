"""The migration to partitions: online, repeatable, and without copying a row."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis
from sqlalchemy.exc import DBAPIError

from app.cli.doctor import _database
from app.settings import Settings
from engine.states import NodeStatus
from persistence.caller import Caller
from persistence.db import migrate as migrating
from persistence.db.database import Database
from persistence.db.ids import Prefix, first_id
from persistence.db.migrate import migrate
from persistence.db.online_steps import WIDTH, end_of_range, interrupted_until, prepare
from persistence.db.partitions import PARTITIONED, read_partitions
from persistence.maintenance.partitioning import create_ahead
from tests.journal_worker import accept_run, open_worker
from tests.persistence.db.migration_steps import downgrade

DAY = timedelta(days=1)
CONSTRAINTS = """
SELECT conrelid::regclass::text, convalidated FROM pg_constraint
WHERE conname LIKE '%\\_before' AND contype = 'c' ORDER BY 1
"""


@pytest.fixture
async def run_id(database: Database, redis: Redis, caller: Caller, project: str) -> str:
    """A run in a database of the release before the partitions."""
    async with open_worker(database, redis) as worker:
        held = await worker.claim((await accept_run(database, caller, project)).run)
        await held.node("a", NodeStatus.COMPLETED, output=1, has_output=True, visits=1)
        await held.checkpoint("ckp_" + held.run_id[4:], step=1, next_nodes=[])
    return held.run_id


async def rows(pool: asyncpg.Pool, run_id: str) -> list[Any]:
    query = "SELECT {} AS t, to_json(x)::text FROM {} x WHERE run_id = $1 ORDER BY seq"
    return [row for table in PARTITIONED for row in await pool.fetch(query.format(f"'{table}'", table), run_id)]


async def test_stored_tables_become_partitions_and_new_runs_go_on(
    database: Database, database_url: str, run_id: str, caller: Caller, project: str
) -> None:
    before = await rows(database.pool, run_id)
    await downgrade(database_url)
    assert await rows(database.pool, run_id) == before
    await migrate(database_url)
    assert await rows(database.pool, run_id) == before
    assert await database.pool.fetch(CONSTRAINTS) == []
    for table in PARTITIONED:
        [stored] = await read_partitions(database.pool, table)
        assert (stored.name, stored.first) == (f"{table}_before", None)
        assert WIDTH < stored.ends_at - datetime.now(UTC) <= WIDTH + DAY
    assert await create_ahead(database.pool, DAY) == []
    assert len(await create_ahead(database.pool, WIDTH)) == len(PARTITIONED)
    partitions = await read_partitions(database.pool, "events")
    assert [one.end for one in partitions[:-1]] == [one.first for one in partitions[1:]]
    await accept_run(database, caller, project)


KILL = """
CREATE SEQUENCE statement_count;
CREATE FUNCTION kill() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('statement_count') = {allowed} + 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
END $$;
CREATE EVENT TRIGGER kill ON ddl_command_start WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE') EXECUTE FUNCTION kill()
"""
"""Ends the connection of a migration before a statement, as the death of its process would."""


async def killed_migration(url: str, pool: asyncpg.Pool, allowed: int) -> bool:
    """Run the steps of `migrate`, which die after so many statements. Return whether they died."""
    await pool.execute(KILL.format(allowed=allowed))
    try:
        await prepare(url, 1)
        await migrating._apply(url)
    except (asyncpg.PostgresError, DBAPIError):
        return True
    finally:
        await pool.execute("DROP EVENT TRIGGER kill; DROP FUNCTION kill; DROP SEQUENCE statement_count")
    return False


async def test_a_migration_that_is_killed_at_any_statement_goes_on_and_refuses_no_run(
    database: Database, database_url: str, run_id: str, tmp_path: Path
) -> None:
    pool = database.pool
    await downgrade(database_url)
    later = first_id(Prefix.RUN, datetime.now(UTC) + WIDTH)
    settings = Settings(_env_file=None, database_url=database_url, data_dir=tmp_path)
    for step in range(1, 2 * len(PARTITIONED) + 1):
        assert await killed_migration(database_url, pool, 1)
        added = [row["convalidated"] for row in await pool.fetch(CONSTRAINTS)]
        assert (len(added), sum(added)) == ((step + 1) // 2, step // 2)
        assert "was interrupted" in (await _database(settings))[1]
        await pool.execute("INSERT INTO events (run_id, seq, type, body) VALUES ($1, $2, 'LOG', '{}')", later, step)
    before = await rows(pool, run_id)
    killed = [await killed_migration(database_url, pool, allowed) for allowed in range(0, 120, 12)]
    assert killed == sorted(killed, reverse=True)
    assert (killed[0], killed[-1]) == (True, False)
    assert await rows(pool, run_id) == before
    assert await interrupted_until(database_url) is None


async def test_a_constraint_that_soon_refuses_runs_is_replaced(
    database: Database, database_url: str, run_id: str
) -> None:
    await downgrade(database_url)
    old = first_id(Prefix.RUN, datetime.now(UTC) + timedelta(hours=1))
    await database.pool.execute(f"ALTER TABLE events ADD CONSTRAINT events_before CHECK (run_id < '{old}') NOT VALID")
    await prepare(database_url, 1)
    until = await interrupted_until(database_url)
    assert until is not None and until > datetime.now(UTC) + WIDTH
    assert [tuple(row) for row in await database.pool.fetch(CONSTRAINTS)] == [
        (table, True) for table in sorted(PARTITIONED)
    ]
    await migrate(database_url)
    await prepare(database_url, 1)
    assert await database.pool.fetch(CONSTRAINTS) == []


async def test_ids_of_a_wrong_clock_are_migrated_and_new_runs_go_on(
    database: Database, database_url: str, run_id: str, caller: Caller, project: str
) -> None:
    await downgrade(database_url)
    last = f"run_7{'z' * 25}"
    await database.pool.execute("INSERT INTO events (run_id, seq, type, body) VALUES ($1, 1, 'LOG', '{}')", last)
    await migrate(database_url)
    assert (await read_partitions(database.pool, "events"))[-1].ends_at.year == 9999
    assert {name.split("_p")[0] for name in await create_ahead(database.pool, WIDTH)} == {"node_outputs", "checkpoints"}
    assert len(await rows(database.pool, last)) == 1
    await accept_run(database, caller, project)


async def test_a_migration_that_fails_leaves_no_constraint(
    database: Database, database_url: str, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await downgrade(database_url)
    monkeypatch.setattr(migrating, "_FOLDER", Path("/nowhere"))
    with pytest.raises(Exception, match="nowhere"):
        await migrate(database_url)
    assert await database.pool.fetch(CONSTRAINTS) == []
    assert await rows(database.pool, run_id) != []


def test_the_range_ends_after_the_last_id_of_a_wrong_clock() -> None:
    now = datetime(2026, 12, 2, 23, 59, tzinfo=UTC)
    assert end_of_range(now, None) == first_id(Prefix.RUN, datetime(2026, 12, 3, tzinfo=UTC) + WIDTH)
    last = first_id(Prefix.RUN, now + 400 * DAY)
    assert last < end_of_range(now, last)
