"""Shows the other workers that this one lives, for as long as it does, and takes the lock again when it got lost."""

import asyncio

import structlog

from persistence.db.outage import Outage
from persistence.db.transient import DATABASE_ERRORS
from persistence.maintenance.presence import Presence

log = structlog.get_logger(__name__)

LOOK_S = 0.1
"""How soon a lost lock is noticed and taken again: before two looks of the others."""
CONFIRM_S = 2.0


async def show(presence: Presence) -> None:
    """The first try, before there is anything to lose. What comes of it, `show_forever` sees."""
    try:
        await presence.hold()
    except DATABASE_ERRORS as error:
        log.info("presence.later", error=str(error) or type(error).__name__)


async def show_forever(presence: Presence) -> None:
    """Ends only where locks cannot be seen: then leases alone tell that a worker is gone."""
    outage, confirmed_at = Outage("presence"), 0.0
    loop = asyncio.get_running_loop()
    while True:
        try:
            if not presence.is_held and not await presence.hold():
                log.warning(
                    "presence.off", reason="advisory locks do not reach through, as behind a pooler; leases serve"
                )
                await asyncio.Event().wait()
            if loop.time() - confirmed_at > CONFIRM_S:
                await presence.confirm()
                confirmed_at = loop.time()
            outage.over()
        except DATABASE_ERRORS as error:
            outage.met(error)
        await asyncio.sleep(LOOK_S)
