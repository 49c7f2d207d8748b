"""Who holds a run: renewing leases, and reading what the rows ask of their holders.

All by the database's clock. The epoch is the fencing token: whoever held a run under an older one can write no more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from engine.events import Event, StatusChange
from engine.states import RunStatus
from persistence.events.run_transition import RunTransition


@dataclass(frozen=True, slots=True)
class LeaseStatus:
    """What a held run's row says: its status, whether an answer has come, and where it is to pause."""

    status: RunStatus
    is_answered: bool
    breakpoints: frozenset[str]


async def renew(pool: asyncpg.Pool, held: Sequence[tuple[str, int]], ttl_s: float) -> dict[str, LeaseStatus]:
    """Prolongs the leases of (run, epoch) pairs. Runs that are not in the answer are not held any more."""
    ids, epochs = [run_id for run_id, _ in held], [epoch for _, epoch in held]
    return {row["id"]: _stand(row) for row in await pool.fetch(_RENEW, ids, epochs, ttl_s)}


async def lease_statuses(pool: asyncpg.Pool, held: Sequence[tuple[str, int]]) -> dict[str, LeaseStatus]:
    """How held runs stand now, without touching them."""
    ids, epochs = [run_id for run_id, _ in held], [epoch for _, epoch in held]
    return {row["id"]: _stand(row) for row in await pool.fetch(_STANDS, ids, epochs)}


def transition_of(row: Any, status: RunStatus, previous: RunStatus, message: str) -> RunTransition:
    """Make the transition from a row of `runs` as a statement returned it, with the moment of the change as `at`."""
    change = StatusChange(status, previous, message)
    event = Event(row["id"], row["last_seq"], row["at"], change)
    return RunTransition.of(row["project_id"], row["id"], change, (event,))


def _stand(row: Any) -> LeaseStatus:
    return LeaseStatus(RunStatus(row["status"]), row["wake_at"] is not None, frozenset(row["options"]["breakpoints"]))


_HELD = "unnest($1::text[], $2::int[]) AS h(id, epoch) WHERE r.id = h.id AND r.epoch = h.epoch"
_IS_HELD = "r.status IN ('RUNNING', 'PAUSING', 'CANCELLING')"
# The journal locks its runs in the order of their ids: whoever locks several must do likewise.
_RENEW = f"""
WITH ours AS (SELECT r.id FROM runs r, {_HELD} AND {_IS_HELD} ORDER BY r.id FOR NO KEY UPDATE OF r)
UPDATE runs r SET lease_until = now() + make_interval(secs => $3) FROM ours WHERE r.id = ours.id
RETURNING r.id, r.status, r.wake_at, r.options
"""
_STANDS = f"SELECT r.id, r.status, r.wake_at, r.options FROM runs r, {_HELD} AND {_IS_HELD}"
