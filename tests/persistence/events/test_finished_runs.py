"""One log line for each finished run, whoever finishes it."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from persistence.caller import Caller
from persistence.db.database import Database
from persistence.events.publisher import publish_transitions
from persistence.maintenance.rescue import rescue_expired
from persistence.maintenance.timers import end_overdue
from persistence.runs import commands
from tests.executor_worker import accept_spec, node
from tests.journal_worker import DEADLINES, accept_run, open_worker
from tests.worker.running_worker import ended, running

FAILING = {"nodes": [{"id": "f", "type": "fail", "config": {"message": "no", "code": "MINE"}}], "edges": []}
PLAIN = {"nodes": [node("only")], "edges": []}


def finished(logs: list[Any]) -> list[dict[str, Any]]:
    return [entry for entry in logs if entry["event"] == "run.finished"]


@pytest.mark.parametrize(
    ("spec", "status", "code"), [(PLAIN, "COMPLETED", None), (FAILING, "FAILED", "MINE")], ids=["plain", "failing"]
)
async def test_a_run_that_a_worker_finishes_has_one_line(
    database: Database, redis: Redis, caller: Caller, project: str, spec: Any, status: str, code: str | None
) -> None:
    run_id = await accept_spec(database, caller, project, spec)
    with capture_logs() as logs:
        async with running(database, redis) as runner:
            runner.poll()
            row = await ended(database, run_id)
    [entry] = finished(logs)
    took_ms = (row["finished_at"] - row["started_at"]) / timedelta(milliseconds=1)
    assert (entry["run_id"], entry["status"], entry["code"]) == (run_id, status, code)
    assert (entry["attempt"], entry["workflow_id"], entry["source"]) == (1, None, "MANUAL")
    assert entry["duration_ms"] == pytest.approx(took_ms, abs=0.1)


async def _cancel_queued(database: Database, redis: Redis, caller: Caller, project: str) -> None:
    run = (await accept_run(database, caller, project)).run
    async with database.begin() as connection:
        result = await commands.cancel(connection, caller, run.id, None, DEADLINES)
    await publish_transitions(redis, result.transitions)


async def _crash(database: Database, redis: Redis, caller: Caller, project: str) -> None:
    run = (await accept_run(database, caller, project)).run
    async with open_worker(database, redis) as worker:
        await worker.claim(run)
    await database.pool.execute("UPDATE runs SET lease_until = now() - interval '1 s'")
    await rescue_expired(database, 5)
    await database.pool.execute("UPDATE runs SET status = 'RUNNING', lease_until = now() - interval '1 s'")
    await publish_transitions(redis, await rescue_expired(database, 1))


async def _miss_deadline(database: Database, redis: Redis, caller: Caller, project: str) -> None:
    await accept_run(database, caller, project, start=False)
    await database.pool.execute("UPDATE runs SET deadline_at = now() - interval '1 s'")
    await publish_transitions(redis, await end_overdue(database))


@pytest.mark.parametrize(
    ("finish", "expected"),
    [
        (_cancel_queued, ("CANCELLED", None, None)),
        (_crash, ("FAILED", "CRASH_LOOP", "started")),
        (_miss_deadline, ("CANCELLED", "DEADLINE", None)),
    ],
)
async def test_a_run_that_no_worker_finishes_has_one_line(
    database: Database,
    redis: Redis,
    caller: Caller,
    project: str,
    finish: Callable[..., Awaitable[None]],
    expected: tuple[str, str | None, str | None],
) -> None:
    with capture_logs() as logs:
        await finish(database, redis, caller, project)
    [entry] = finished(logs)
    status, code, started = expected
    assert (entry["status"], entry["code"]) == (status, code)
    assert (entry["duration_ms"] is None) is (started is None)
