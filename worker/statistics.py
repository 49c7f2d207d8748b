"""Folds the ends of runs into the statistics, in every worker; an advisory lock divides the work."""

import asyncio
import random

import asyncpg
import structlog

from persistence.db.outage import Outage
from persistence.db.transient import DATABASE_ERRORS
from persistence.statistics.folding import BATCH, fold

log = structlog.get_logger(__name__)

INTERVAL_S = 2.0


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
