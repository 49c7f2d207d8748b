"""Shows the other workers that this one lives, for as long as it does, and takes the lock again when it got lost."""

import asyncio

import structlog

from persistence.away import DATABASE_TROUBLE
from persistence.presence import Presence

log = structlog.get_logger(__name__)

LONGEST_S = 1.0
LOOK_S = 0.1
"""How soon a lost lock is noticed and taken again: before two looks of the others."""


async def show_forever(presence: Presence) -> None:
    """Ends only where locks cannot be seen: then leases alone tell that a worker is gone."""
    pause = LOOK_S
    while True:
        try:
            if not presence.is_held:
                if not await presence.hold():
                    log.warning(
                        "presence.off", reason="advisory locks do not reach through, as behind a pooler; leases serve"
                    )
                    await asyncio.Event().wait()
                if pause > LOOK_S:
                    log.info("presence.back")
            pause = LOOK_S
        except DATABASE_TROUBLE as away:
            if pause == LOOK_S:
                log.warning("presence.lost", error=str(away) or type(away).__name__)
            pause = min(pause * 2, LONGEST_S)
        await asyncio.sleep(pause)
