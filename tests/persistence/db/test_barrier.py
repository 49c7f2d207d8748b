"""Row-level security: the reads of a caller see only rows of its projects, whatever the query."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from persistence.caller import Caller
from persistence.db import barrier
from persistence.db.barrier import HIDDEN, READER, WITHOUT_PROJECT
from persistence.db.database import Database, dsn
from persistence.db.ids import Prefix, new_id
from persistence.db.migrate import migrate
from persistence.db.tables import metadata, projects, runs
from persistence.runs.run import Run

ROOT = Path(__file__).parents[3]
SCOPED = sorted(metadata.tables.keys() - HIDDEN - WITHOUT_PROJECT)
FILL = """
DO $$ DECLARE column_list text; values_list text; BEGIN
    SET LOCAL session_replication_role = replica;
    SELECT string_agg(quote_ident(attname), ','), string_agg(CASE
        WHEN attname = '{key}' THEN quote_literal('{value}')
        WHEN format_type(atttypid, NULL) = 'json' THEN '''{{}}'''
        WHEN format_type(atttypid, NULL) LIKE '%[]' THEN '''{{}}'''
        WHEN format_type(atttypid, NULL) = 'boolean' THEN 'true'
        WHEN format_type(atttypid, NULL) = 'bytea' THEN quote_literal('{value}') || '::bytea'
        WHEN format_type(atttypid, NULL) LIKE 'timestamp%' THEN 'now()'
        WHEN format_type(atttypid, NULL) = 'text' THEN quote_literal('{value}')
        ELSE '1' END, ',')
        INTO column_list, values_list FROM pg_attribute
        WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
            AND attidentity = '' AND (attnotnull OR attname = '{key}');
    EXECUTE format('INSERT INTO {table} (%s) VALUES (%s)', column_list, values_list);
END $$
"""


def _key(table: str) -> str:
    """Return the column that assigns a row to a project."""
    for name in ("project_id", "run_id", "trigger_id", "rule_id", "id"):
        if name in metadata.tables[table].columns:
            return name
    raise AssertionError(f"{table}: no column assigns its rows to a project")


async def _store_rows(database: Database, owner: str) -> None:
    """Store a row in each table for a project, without triggers and foreign keys."""
    for table in SCOPED:
        await database.pool.execute(FILL.format(table=table, key=_key(table), value=owner))


async def _visible(database: Database, seen: Sequence[str]) -> set[str]:
    """Return the tables in which a caller of some projects finds a row, without any condition."""
    async with database.read(seen) as connection:
        counts = {
            table: (await connection.execute(select(func.count()).select_from(metadata.tables[table]))).scalar_one()
            for table in SCOPED
        }
    return {table for table, count in counts.items() if count}


async def test_a_query_without_a_condition_reads_no_row_of_another_project(database: Database) -> None:
    await _store_rows(database, "theirs")
    assert await _visible(database, ["theirs"]) == set(SCOPED)
    assert await _visible(database, ["others", "their", "theirs1"]) == set()
    assert await _visible(database, []) == set()


async def test_every_table_has_a_policy_or_a_reason_to_have_none(database: Database) -> None:
    rows = await database.pool.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relrowsecurity"
    )
    assert {row["relname"] for row in rows} == set(SCOPED) | HIDDEN
    assert (await barrier.inspect(database.pool)).problem is None


@pytest.mark.parametrize("table", sorted(HIDDEN))
async def test_a_read_of_a_caller_cannot_reach_the_tables_of_the_sign_in(database: Database, table: str) -> None:
    with pytest.raises(DBAPIError, match="permission denied"):
        async with database.read(["mine"]) as connection:
            await connection.execute(text(f"SELECT * FROM {table}"))


async def test_a_read_of_a_caller_cannot_write(database: Database, run: Run, project: str) -> None:
    with pytest.raises(DBAPIError, match="read-only transaction"):
        async with database.read([project]) as connection:
            await connection.execute(text("UPDATE runs SET tags = '{}'"))


async def _state(database: Database) -> set[tuple[str, str]]:
    """Return the role and the projects of each pooled connection."""
    size = database.engine.pool.size()  # type: ignore[attr-defined]
    states = set()
    async with asyncio.timeout(10):
        connections = [await database.engine.connect() for _ in range(size)]
        for connection in connections:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            row = (
                await connection.exec_driver_sql(
                    "SELECT current_user, coalesce(current_setting('treadle.projects', true), '')"
                )
            ).one()
            states.add((str(row[0]), str(row[1])))
            await connection.close()
    return states


async def test_pooled_connections_keep_nothing_of_a_caller(database: Database, run: Run, project: str) -> None:
    [(owner, _)] = await _state(database)
    started = asyncio.Event()

    async def read(ending: str) -> None:
        async with database.read([project]) as connection:
            assert (await connection.execute(select(runs.c.id))).scalars().all() == [run.id]
            if ending == "refused":
                await connection.execute(text("SELECT 1 / 0"))
            if ending == "raised":
                raise KeyError
            if ending == "cancelled":
                started.set()
                await connection.execute(text("SELECT pg_sleep(60)"))
            if ending == "closed":
                await connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    endings = ["read", "refused", "raised", "closed", "read"]
    await asyncio.gather(*(read(one) for one in endings), return_exceptions=True)
    task = asyncio.create_task(read("cancelled"))
    await started.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert await _state(database) == {(owner, "")}


async def test_a_connection_of_the_driver_is_behind_the_barrier_too_and_keeps_nothing(
    database: Database, run: Run, project: str
) -> None:
    async def read(caller_projects: list[str], statement: str) -> Any:
        async with database.read_by_driver(caller_projects) as connection:
            started.set()
            return await connection.fetchval(statement)

    started = asyncio.Event()
    count = "SELECT count(*) FROM runs"
    assert [await read(one, count) for one in ([project], [])] == [1, 0]
    endings = ["SELECT 1 / 0", "SELECT pg_terminate_backend(pg_backend_pid())"]
    failures = await asyncio.gather(*(read([project], one) for one in endings), return_exceptions=True)
    assert all(isinstance(one, Exception) for one in failures)
    started.clear()
    reading = asyncio.create_task(read([project], "SELECT pg_sleep(60)"))
    await started.wait()
    reading.cancel()
    await asyncio.wait([reading])
    async with AsyncExitStack() as stack:
        size = database.pool.get_max_size()
        connections = [await stack.enter_async_context(database.pool.acquire()) for _ in range(size)]
        states = [
            await one.fetchrow("SELECT current_user = session_user, current_setting('treadle.projects', true)")
            for one in connections
        ]
    assert {(row[0], row[1] or "") for row in states} == {(True, "")}


async def test_two_callers_read_at_once_and_see_only_their_own_projects(
    database: Database, caller: Caller, project: str
) -> None:
    await _store_rows(database, "theirs")

    async def seen(projects_of: str) -> list[str]:
        async with database.read([projects_of]) as connection:
            return list((await connection.execute(select(projects.c.id))).scalars())

    answers = await asyncio.gather(*(seen(one) for one in ["theirs", project] * 40))
    assert answers == [["theirs"], [project]] * 40


async def test_an_id_that_could_change_the_statement_is_refused(database: Database) -> None:
    with pytest.raises(ValueError, match="is not the id of a project"):
        async with database.read(["x'; RESET ROLE; --"]):
            pass


@pytest.fixture
async def plain_url(database_url: str) -> AsyncIterator[str]:
    """The address of a migrated database whose owner may create no role."""
    user = f"plain_{new_id(Prefix.RUN)[-12:].lower()}"
    async with _admin(database_url) as admin:
        await admin.execute(f"CREATE ROLE {user} LOGIN")
        await admin.execute(f"CREATE DATABASE {user} OWNER {user}")
        url = make_url(database_url).set(database=user, username=user).render_as_string(hide_password=False)
        try:
            await migrate(url)
            yield url
        finally:
            await admin.execute(f"DROP DATABASE {user} WITH (FORCE)")
            await admin.execute(f"DROP ROLE IF EXISTS {READER}_{user}, {user}")


@asynccontextmanager
async def _admin(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn(url))
    try:
        yield connection
    finally:
        await connection.close()


async def test_a_user_who_may_create_no_role_reads_without_the_barrier_until_an_administrator_helps(
    database: Database, database_url: str, plain_url: str
) -> None:
    user = str(make_url(plain_url).username)
    reader = f"{READER}_{user}"
    first = await Database.open(plain_url, database.deadlines)
    second = await Database.open(plain_url, database.deadlines)
    try:
        assert (await barrier.inspect(first.pool)).problem == f"the role {reader} does not exist"
        assert await _count(first) == 1
        async with _admin(database_url) as admin:
            await admin.execute(f"CREATE ROLE {reader} NOLOGIN")
            missing = f"the user {user} of the database is no member of the role {reader}"
            assert (await barrier.inspect(first.pool)).problem == missing
            await admin.execute(f"GRANT {reader} TO {user}")
        unreadable = f"the role {reader} may not read alert_rules"
        assert (await barrier.inspect(first.pool)).problem == unreadable
        await asyncio.gather(migrate(plain_url), migrate(plain_url))
        assert (await barrier.inspect(first.pool)).problem is None
        assert await _count(second) == 0
    finally:
        await first.close()
        await second.close()


async def _count(database: Database) -> int:
    """Count the projects that a caller without a project reads by a query without a condition."""
    async with database.read([], is_snapshot=True) as connection:
        assert (await connection.exec_driver_sql("SHOW transaction_isolation")).scalar_one() == "repeatable read"
        assert (await connection.exec_driver_sql("SHOW transaction_read_only")).scalar_one() == "on"
        return (await connection.execute(select(func.count()).select_from(projects))).scalar_one()


async def test_the_user_of_another_database_of_the_server_cannot_use_the_role(
    database: Database, database_url: str, plain_url: str
) -> None:
    role, user = (await barrier.inspect(database.pool)).role, str(make_url(plain_url).username)
    other = make_url(database_url).set(username=user).render_as_string(hide_password=False)
    async with _admin(other) as stranger:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await stranger.execute(f"SET ROLE {role}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await stranger.execute("SELECT * FROM runs")


async def test_a_user_who_may_create_roles_gets_the_barrier_without_an_administrator(
    database: Database, database_url: str, plain_url: str
) -> None:
    async with _admin(database_url) as admin:
        await admin.execute(f"ALTER ROLE {make_url(plain_url).username} CREATEROLE")
    await migrate(plain_url)
    other = await Database.open(plain_url, database.deadlines)
    try:
        assert (await barrier.inspect(other.pool)).problem is None
        assert await _count(other) == 0
    finally:
        await other.close()


async def test_a_long_name_of_a_user_is_shortened_without_a_clash(database: Database, database_url: str) -> None:
    users = [f"{'long' * 13}_{number}" for number in range(2)]
    names = set()
    async with _admin(database_url) as admin:
        for user in users:
            await admin.execute(f"CREATE ROLE {user} LOGIN")
        try:
            for user in users:
                url = make_url(database_url).set(username=user).render_as_string(hide_password=False)
                async with asyncpg.create_pool(dsn(url), min_size=1, max_size=1) as pool:
                    names.add((await barrier.inspect(pool)).role)
        finally:
            await admin.execute(f"DROP ROLE {', '.join(users)}")
    assert len(names) == 2 and all(len(name) <= 63 for name in names)


def test_resolvers_open_no_connection_for_reading_but_behind_the_barrier() -> None:
    found = {
        file.relative_to(ROOT).as_posix()
        for package in ("resolvers", "schema")
        for file in (ROOT / package).rglob("*.py")
        if ".database.connect(" in file.read_text()
    }
    assert found == {"resolvers/idempotent.py", "resolvers/runs/signals.py"}, (
        "use Context.read; the exceptions look up a key of the caller in any project, and an address without a caller"
    )
