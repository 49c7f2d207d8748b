"""Leases of runs: renews them, and reads the intents of the leased runs.

All times are by the database's clock. The epoch is the fencing token (Kleppmann, "How to do
distributed locking", 2016; the sequencers of Chubby, Burrows 2006): a worker whose lease has an
older epoch can write nothing more. Used by the heartbeat of a worker.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from engine.events import Event, StatusChange
from engine.states import LEASED, RunStatus, sql_list
from persistence.events.run_transition import RunTransition

Lease = tuple[str, int]
"""A run id and the epoch under which a worker holds the run."""


@dataclass(frozen=True, slots=True)
class LeaseStatus:
    """The intents of a leased run: its status, its answers and its breakpoints."""

    status: RunStatus
    is_answered: bool
    """Whether a wait of the run has an answer."""
    breakpoints: frozenset[str]
    """The ids of the nodes before which the run pauses."""
    stored_bytes: int


async def renew(pool: asyncpg.Pool, leases: Sequence[Lease], ttl_s: float) -> dict[str, LeaseStatus]:
    """Renew leases for `ttl_s` seconds from now.

    Returns:
        The status of each renewed run, by run id. A run that is missing is no longer leased.
    """
    ids, epochs = [run_id for run_id, _ in leases], [epoch for _, epoch in leases]
    return {row["id"]: _lease_status(row) for row in await pool.fetch(_RENEW, ids, epochs, ttl_s)}


async def lease_statuses(pool: asyncpg.Pool, leases: Sequence[Lease]) -> dict[str, LeaseStatus]:
    """Read what `renew` returns, without renewing."""
    ids, epochs = [run_id for run_id, _ in leases], [epoch for _, epoch in leases]
    return {row["id"]: _lease_status(row) for row in await pool.fetch(_READ, ids, epochs)}


def transition_of(row: Any, status: RunStatus, previous: RunStatus, message: str) -> RunTransition:
    """Make the transition from a row that an UPDATE of `runs` returned.

    `row` has `id`, `project_id` and `last_seq` of the run, and the time of the change as `at`.
    """
    change = StatusChange(status, previous, message)
    event = Event(row["id"], row["last_seq"], row["at"], change)
    return RunTransition.of(row["project_id"], row["id"], change, (event,))


def _lease_status(row: Any) -> LeaseStatus:
    breakpoints = frozenset(row["options"]["breakpoints"])
    return LeaseStatus(RunStatus(row["status"]), row["wake_at"] is not None, breakpoints, row["stored_bytes"])


_LEASES = f"""unnest($1::text[], $2::int[]) AS h(id, epoch)
WHERE r.id = h.id AND r.epoch = h.epoch AND r.status IN {sql_list(LEASED)}"""
# Runs are locked in the order of their ids, as by the journal, so that the two cannot deadlock.
_RENEW = f"""
WITH ours AS (SELECT r.id FROM runs r, {_LEASES} ORDER BY r.id FOR NO KEY UPDATE OF r)
UPDATE runs r SET lease_until = now() + make_interval(secs => $3) FROM ours WHERE r.id = ours.id
RETURNING r.id, r.status, r.wake_at, r.options, r.stored_bytes
"""
_READ = f"SELECT r.id, r.status, r.wake_at, r.options, r.stored_bytes FROM runs r, {_LEASES}"
