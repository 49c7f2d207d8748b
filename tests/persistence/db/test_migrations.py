"""Migrations: they produce the tables of `tables.py`."""

import re
from itertools import pairwise
from typing import Any

import asyncpg
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from persistence import mutation_keys
from persistence.bulk_jobs import job as bulk_jobs
from persistence.bulk_jobs.job import BulkAction
from persistence.caller import Caller
from persistence.db.database import Database, dsn
from persistence.db.migrate import NEWEST, migrate, revision
from persistence.db.partitions import PARTITIONED
from persistence.db.tables import metadata
from persistence.mutation_keys import KeyedCall
from persistence.runs.run import Run
from persistence.workflows import drafts, versions
from persistence.workflows.drafts import Content
from tests.persistence.alerts.stored_rules import new_rule
from tests.persistence.db.migration_steps import downgrade, upgrade
from tests.persistence.notifications.stored_endpoints import new_endpoint, set_status
from tests.persistence.triggers.stored_triggers import published_workflow

OPTIONAL = "ix_runs_error_text"
"""The index that a migration creates only where the database has pg_trgm."""


def _is_no_partition(name: str | None, type: str, _: object) -> bool:
    return name != OPTIONAL and (
        type != "table" or not re.fullmatch(rf"({'|'.join(PARTITIONED)})_(default|before|p\d.*)", name or "")
    )


def _differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"include_name": _is_no_partition})
    return list(compare_metadata(context, metadata))


async def test_a_migrated_database_has_the_tables_of_the_code(database: Database) -> None:
    async with database.connect() as connection:
        assert await connection.run_sync(_differences) == []


async def test_migrations_end_at_the_newest_revision(database: Database) -> None:
    async with database.connect() as connection:
        heads = await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_heads())
    assert heads == (NEWEST,)


async def stored_objects(database: Database, caller: Caller, project: str, run: Run) -> None:
    """Store rows of each migration since 0017, among them content with both kinds of version."""
    workflow_id = await published_workflow(database, caller, project, publish=False)
    async with database.begin() as connection:
        draft = await drafts.get(connection, caller, workflow_id)
        trial, _ = await versions.freeze(connection, caller, draft, is_trial=True)
        numbered, _ = await versions.freeze(connection, caller, draft)
        await versions.publish(connection, caller, numbered)
        saved, _ = await drafts.save(connection, caller, workflow_id, Content({"nodes": []}, "other"), draft.revision)
        await versions.freeze(connection, caller, saved, is_trial=True)
        await mutation_keys.claim(connection, caller, KeyedCall("saveDraft", "key", "hash"), project, workflow_id)
        await bulk_jobs.create(connection, caller, project, BulkAction.CANCEL, [run.id], is_dry_run=False)
    await database.pool.execute("UPDATE runs SET version_id = $2 WHERE id = $1", run.id, trial.id)
    await new_endpoint(database, caller, project)
    await new_rule(database, caller, project)
    await set_status(database, run.id, "FAILED", "NODE")
    await database.pool.execute("UPDATE runs SET finished_at = now(), stored_bytes = 7 WHERE id = $1", run.id)


async def _query(url: str, query: str) -> list[Any]:
    connection = await asyncpg.connect(dsn(url))
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def test_each_migration_can_be_undone_and_repeated_with_data(
    database: Database, database_url: str, caller: Caller, project: str, run: Run
) -> None:
    await stored_objects(database, caller, project, run)
    kept = "SELECT id, version_id, status, error::text FROM runs UNION ALL SELECT id, spec_hash, status, spec::text FROM versions"
    history = "SELECT run_id, seq, type, body::text FROM events"
    before = [sorted(await _query(database_url, query)) for query in (kept, history)]
    revisions = [f"{number:04}" for number in range(17, int(NEWEST) + 1)]
    for older, newer in reversed(list(pairwise(revisions))):
        await downgrade(database_url, older)
        await upgrade(database_url, newer)
        assert (await revision(database_url)) == newer
        await downgrade(database_url, older)
        assert [sorted(await _query(database_url, query)) for query in (kept, history)] == before, older
    await migrate(database_url)
    assert [sorted(await _query(database_url, query)) for query in (kept, history)] == before
    assert await _query(database_url, "SELECT status, code FROM run_ends") == [("FAILED", "NODE")]
    numbers = "SELECT array_agg(number ORDER BY number) FROM versions WHERE workflow_id IS NOT NULL GROUP BY spec_hash"
    assert sorted(await _query(database_url, numbers)) == [([0, 1],), ([3],)]
    async with database.connect() as connection:
        assert await connection.run_sync(_differences) == []
