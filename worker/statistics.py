"""Folds ends of runs, sums up months, evaluates alert rules, and publishes analytics events.

Every worker does all of it. An advisory lock divides the work of folding, SKIP LOCKED the rest.
"""

import asyncio
import random
from collections.abc import Callable
from time import monotonic

import asyncpg
import structlog

from engine.metrics import ALERT_CHANGES
from persistence.alerts.evaluation import evaluate_next
from persistence.analytics.publisher import AnalyticsPublisher
from persistence.db.outage import Outage
from persistence.db.transient import DATABASE_ERRORS
from persistence.statistics.folding import BATCH, fold, sum_months

log = structlog.get_logger(__name__)

INTERVAL_S = 2.0
"""Between two rounds: of folding, and of looking for alert rules and analytics events that are due."""
PRUNE_S = 60.0
"""Between two deletions of analytics events that could not be delivered."""


async def fold_forever(pool: asyncpg.Pool, *, for_analytics: bool) -> None:
    """Fold and sum up months every INTERVAL_S, with jitter, until cancelled. A database that is away delays it.

    A fault is logged: the worker executes runs also without statistics. `for_analytics` adds an
    analytics event for each run.
    """
    outage, pause_s = Outage("statistics"), INTERVAL_S
    while True:
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
        pause_s = INTERVAL_S
        try:
            if await fold(pool, for_analytics=for_analytics) == BATCH:
                pause_s = 0
            else:
                await sum_months(pool)
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
        if result.error is not None:
            log.error("alerts.rule_fault", rule_id=result.rule.id, exc_info=result.error)
        elif result.has_changed:
            ALERT_CHANGES.labels(result.state.value).inc()
            log.info("alerts.changed", rule_id=result.rule.id, state=result.state, value=result.value)
            report()


async def publish_forever(publisher: AnalyticsPublisher) -> None:
    """Publish analytics events until cancelled. A database that is away delays it."""
    outage, pruned_at = Outage("analytics"), monotonic()
    try:
        while True:
            await asyncio.sleep(INTERVAL_S * random.uniform(0.5, 1.5))
            try:
                await publisher.publish_all_due()
                if monotonic() - pruned_at > PRUNE_S:
                    pruned_at = monotonic()
                    await publisher.prune()
                outage.recovered()
            except DATABASE_ERRORS as error:
                outage.failed(error)
            except Exception:
                log.exception("analytics.fault")
    finally:
        await publisher.close()
