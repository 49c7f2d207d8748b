"""Folds the ends of runs into the statistics, and evaluates the alert rules that are due.

Every worker does both. An advisory lock divides the work of folding, SKIP LOCKED that of evaluating.
"""

import asyncio
import random
from collections.abc import Callable

import asyncpg
import structlog

from engine.metrics import ALERT_CHANGES
from persistence.alerts.evaluation import evaluate_next
from persistence.db.outage import Outage
from persistence.db.transient import DATABASE_ERRORS
from persistence.statistics.folding import BATCH, fold

log = structlog.get_logger(__name__)

INTERVAL_S = 2.0
"""Between two rounds: of folding, and of looking for alert rules that are due."""


async def fold_forever(pool: asyncpg.Pool) -> None:
    """Fold every INTERVAL_S, with jitter, until cancelled. A database that is away delays it.

    A fault is logged: the worker executes runs also without statistics.
    """
    outage, pause_s = Outage("statistics"), INTERVAL_S
    while True:
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
        pause_s = INTERVAL_S
        try:
            if await fold(pool) == BATCH:
                pause_s = 0
            outage.recovered()
        except DATABASE_ERRORS as error:
            outage.failed(error)
        except Exception:
            log.exception("statistics.fault")


async def evaluate_forever(pool: asyncpg.Pool, report: Callable[[], None]) -> None:
    """Evaluate the alert rules that are due, until cancelled. A database that is away delays it.

    `report` is called after a change of state: it has added a delivery.
    """
    outage = Outage("alerts")
    while True:
        await asyncio.sleep(INTERVAL_S * random.uniform(0.5, 1.5))
        try:
            await evaluate_due(pool, report)
            outage.recovered()
        except DATABASE_ERRORS as error:
            outage.failed(error)
        except Exception:
            log.exception("alerts.fault")


async def evaluate_due(pool: asyncpg.Pool, report: Callable[[], None]) -> None:
    """Evaluate all rules that are due now."""
    while (result := await evaluate_next(pool)) is not None:
        if result.has_changed:
            ALERT_CHANGES.labels(result.state.value).inc()
            log.info("alerts.changed", rule_id=result.rule.id, state=result.state, value=result.value)
            report()
