"""Retries of statements: transient errors are retried and logged, final ones are raised."""

import asyncpg
import pytest
from structlog.testing import capture_logs

from persistence.db.database import Database
from persistence.db.transient import retry_transient

KILL = "SELECT pg_terminate_backend(pg_backend_pid())"


async def test_a_transient_error_is_retried_and_its_begin_and_end_are_logged(database: Database) -> None:
    statements = iter([KILL, "SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(5)", "SELECT 7"])
    with capture_logs() as logs:
        assert await retry_transient(lambda: database.pool.fetchval(next(statements)), "test", run_id="r") == 7
    assert [(entry["event"], entry["run_id"]) for entry in logs] == [("test.away", "r"), ("test.back", "r")]


async def test_a_permanent_error_is_raised_at_once(database: Database) -> None:
    statements = iter(["SELECT 1 / 0", "SELECT 7"])
    with capture_logs() as logs, pytest.raises(asyncpg.DivisionByZeroError):
        await retry_transient(lambda: database.pool.fetchval(next(statements)), "test")
    assert logs == []


async def test_the_caller_decides_which_error_is_final(database: Database) -> None:
    statements = ["SELECT 1 / 0", "SELECT nothing FROM nowhere"]
    with capture_logs() as logs, pytest.raises(asyncpg.UndefinedTableError):
        await retry_transient(
            lambda: database.pool.fetchval(statements.pop(0)),
            "test",
            is_final=lambda error: isinstance(error, asyncpg.UndefinedTableError),
        )
    assert [entry["event"] for entry in logs] == ["test.away", "test.back"]
