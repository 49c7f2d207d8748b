"""Alert rules in the database, and ends of runs for them."""

from datetime import timedelta
from typing import Any

from engine.states import AlertMetric
from persistence.alerts import rule as alert_rules
from persistence.alerts.rule import AlertRule
from persistence.caller import Caller
from persistence.db.database import Database
from tests.journal_worker import accept_run

_END = """
UPDATE runs SET status = $2, started_at = now() - make_interval(secs => $3), finished_at = now() - $4::interval,
    error = CASE WHEN $2 = 'FAILED' THEN '{"code": "NODE"}'::json END WHERE id = $1
"""
_USAGE = """
INSERT INTO node_states (run_id, node_id, status, visits, attempt, progress, started_at, completed_at, seq, usage)
VALUES ($1, 'llm', 'COMPLETED', 1, 1, 1, now(), now(), 1, $2)
"""


async def new_rule(database: Database, caller: Caller, project: str, **values: Any) -> AlertRule:
    """Store a rule for half of the runs of five minutes, with some values changed."""
    plain = {"name": "Rule", "metric": AlertMetric.FAILURE_RATE, "threshold": 0.5, "window_s": 300, "for_s": 0}
    made = {**plain, "min_runs": 1, "workflow_ids": [], "tags": [], "enabled": True, **values}
    async with database.begin() as connection:
        return await alert_rules.create(connection, caller, project, {"resolve_threshold": made["threshold"], **made})


async def end_run(
    database: Database,
    caller: Caller,
    project: str,
    status: str = "COMPLETED",
    *,
    seconds: float = 1.0,
    ago: timedelta = timedelta(),
    cost_usd: float = 0.0,
    **columns: Any,
) -> str:
    """Accept a run and end it as the journal does. `columns` are set before its end."""
    run = (await accept_run(database, caller, project)).run
    for name, value in columns.items():
        await database.pool.execute(f"UPDATE runs SET {name} = $2 WHERE id = $1", run.id, value)
    if cost_usd:
        await use_model(database, run.id, cost_usd)
    await database.pool.execute(_END, run.id, status, seconds, ago)
    return run.id


async def use_model(database: Database, run_id: str, cost_usd: float) -> None:
    """Store a node of a run that has used a model."""
    await database.pool.execute(_USAGE, run_id, {"model": "m", "input_tokens": 1, "cost_usd": cost_usd})


async def make_due(database: Database, **columns: Any) -> None:
    """Make all rules due, and set some of their columns."""
    for name, value in {"evaluate_at": "now()", **columns}.items():
        await database.pool.execute(f"UPDATE alert_rules SET {name} = {value}")
