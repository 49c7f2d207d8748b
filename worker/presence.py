"""Registers this worker as alive, for as long as its process lives, and again when the lock is
lost."""

import asyncio

import structlog

from persistence.db.outage import Outage
from persistence.db.transient import DATABASE_ERRORS
from persistence.maintenance.presence import Presence

log = structlog.get_logger(__name__)

CHECK_S = 0.1
"""Interval at which a lost lock is noticed: shorter than two probes of the other workers."""
CONFIRM_S = 2.0
"""Interval at which Postgres is asked whether the lock is still held, and learns that the worker lives."""


async def register(presence: Presence) -> None:
    """Try once to register, before the first claim. `keep_registered` handles a failure."""
    try:
        await presence.acquire()
    except DATABASE_ERRORS as error:
        log.info("presence.later", error=str(error) or type(error).__name__)


async def keep_registered(presence: Presence) -> None:
    """Keep the worker registered until cancelled.

    Where advisory locks are not visible, only leases show that a worker died. Then the worker
    reports that it lives, for probes.
    """
    outage, confirmed_at = Outage("presence"), 0.0
    loop = asyncio.get_running_loop()
    while True:
        try:
            if not presence.is_held and not await presence.acquire():
                log.warning(
                    "presence.off",
                    reason="advisory locks are not visible to other connections, as behind a pooler; "
                    "the death of a worker is noticed when its leases expire",
                )
                await report_alive(presence)
            if loop.time() - confirmed_at > CONFIRM_S:
                await presence.confirm()
                confirmed_at = loop.time()
            outage.recovered()
        except DATABASE_ERRORS as error:
            outage.failed(error)
        await asyncio.sleep(CHECK_S)


async def report_alive(presence: Presence) -> None:
    """Report that this worker lives, without a lock, until cancelled."""
    outage = Outage("presence")
    while True:
        try:
            await presence.report_alive()
            outage.recovered()
        except DATABASE_ERRORS as error:
            outage.failed(error)
        await asyncio.sleep(CONFIRM_S)
