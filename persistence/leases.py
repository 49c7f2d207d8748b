"""Who holds a run: claiming one, renewing the lease, and taking runs back from holders that are gone.

All by the database's clock. A claim raises the run's epoch, the fencing token: whoever held it before can write no more.
Every change of status here writes its event in the same statement; a crash leaves both or neither.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from engine.events import JSON, Event, StatusChange
from engine.states import RunStatus
from persistence.publish import StatusNotice
from persistence.wire import payload_of


@dataclass(frozen=True, slots=True)
class Claimed:
    """A run that this worker holds now, with all that it needs to go on."""

    id: str
    project_id: str
    epoch: int
    lineage: int
    attempt: int
    inputs: JSON
    spec: JSON
    spec_hash: str
    timeout_s: float | None
    started_at: datetime
    now: datetime


@dataclass(frozen=True, slots=True)
class Moved:
    """A run that changed hands or status, and what there is to publish of it."""

    run_id: str
    project_id: str
    takeup: int
    event: Event

    @property
    def change(self) -> StatusChange:
        assert isinstance(self.event.what, StatusChange)
        return self.event.what


def publishable(moved: Sequence[Moved]) -> tuple[list[tuple[str, int, bytes]], list[StatusNotice]]:
    """What `publish` takes."""
    items = [(one.run_id, one.event.seq, payload_of(one.event.at, one.event.what)) for one in moved]
    return items, [(one.project_id, one.run_id, one.change.previous) for one in moved]


async def claim(pool: asyncpg.Pool, run_id: str, worker_id: str, ttl_s: float) -> tuple[Claimed, Moved] | None:
    """QUEUED → RUNNING, for one worker alone. None: somebody was faster, or the run is no longer queued."""
    row = await pool.fetchrow(_CLAIM, run_id, worker_id, ttl_s)
    if row is None:
        return None
    options = row["options"]
    claimed = Claimed(
        id=row["id"],
        project_id=row["project_id"],
        epoch=row["epoch"],
        lineage=row["lineage"],
        attempt=row["attempt"],
        inputs=row["inputs"],
        spec=row["spec"],
        spec_hash=row["spec_hash"],
        timeout_s=options.get("timeoutS"),
        started_at=row["started_at"],
        now=row["at"],
    )
    return claimed, _moved(row, RunStatus.RUNNING, RunStatus.QUEUED, row["message"])


async def renew(pool: asyncpg.Pool, held: Sequence[tuple[str, int]], ttl_s: float) -> dict[str, RunStatus]:
    """Prolongs the leases of (run, epoch) pairs. Runs that are not in the answer are not held any more."""
    ids, epochs = [run_id for run_id, _ in held], [epoch for _, epoch in held]
    rows = await pool.fetch(_RENEW, ids, epochs, ttl_s)
    return {row["id"]: RunStatus(row["status"]) for row in rows}


async def statuses(pool: asyncpg.Pool, held: Sequence[tuple[str, int]]) -> dict[str, RunStatus]:
    """How held runs stand now, without touching them."""
    ids, epochs = [run_id for run_id, _ in held], [epoch for _, epoch in held]
    rows = await pool.fetch(_STATUSES, ids, epochs)
    return {row["id"]: RunStatus(row["status"]) for row in rows}


async def take_back(pool: asyncpg.Pool, max_attempts: int, limit: int = 100) -> list[Moved]:
    """Runs whose lease has run out: queued again; cancelled or paused where that was asked for; failed in a crash loop."""
    rows = await pool.fetch(_TAKE_BACK, max_attempts, limit)
    return [_moved(row, RunStatus(row["status"]), RunStatus(row["previous"]), row["message"]) for row in rows]


async def unheard(pool: asyncpg.Pool, older_than_s: float, limit: int = 100) -> list[tuple[str, int]]:
    """(run, take-up) of runs that have been queued for a while: their doorbell may be lost."""
    rows = await pool.fetch(_UNHEARD, older_than_s, limit)
    return [(row["id"], row["takeup"]) for row in rows]


async def expire_pending(pool: asyncpg.Pool, limit: int = 100) -> list[Moved]:
    """PENDING runs past their deadline: cancelled."""
    rows = await pool.fetch(_EXPIRE, limit)
    return [_moved(row, RunStatus.CANCELLED, RunStatus.PENDING, row["message"]) for row in rows]


def _moved(row: Any, status: RunStatus, previous: RunStatus, message: str) -> Moved:
    event = Event(row["id"], row["last_seq"], row["at"], StatusChange(status, previous, message))
    return Moved(row["id"], row["project_id"], row["takeup"], event)


_BODY = "json_build_object('status', m.status, 'previous', m.previous, 'message', m.message)"
_EVENT = f"""
INSERT INTO events (run_id, seq, type, at, body)
SELECT m.id, m.last_seq, 'RUN_STATUS', m.at, {_BODY} FROM moved m
"""
_CLAIM = f"""
WITH moved AS (
    UPDATE runs SET status = 'RUNNING', epoch = epoch + 1, attempt = attempt + 1, worker_id = $2,
        lease_until = now() + make_interval(secs => $3), started_at = coalesce(started_at, now()), deadline_at = NULL,
        last_seq = last_seq + 1, status_message = NULL
    WHERE id = $1 AND status = 'QUEUED'
    RETURNING *, now() AS at, 'QUEUED' AS previous, CASE attempt WHEN 1 THEN 'Started' ELSE 'Taken up again' END AS message
), told AS ({_EVENT})
SELECT m.*, v.spec, v.spec_hash FROM moved m JOIN versions v ON v.id = m.version_id
"""
_HELD = "unnest($1::text[], $2::int[]) AS h(id, epoch) WHERE r.id = h.id AND r.epoch = h.epoch"
_RENEW = f"""
UPDATE runs r SET lease_until = now() + make_interval(secs => $3) FROM {_HELD}
    AND r.status IN ('RUNNING', 'PAUSING', 'CANCELLING') RETURNING r.id, r.status
"""
_STATUSES = f"SELECT r.id, r.status FROM runs r, {_HELD}"
_TAKE_BACK = f"""
WITH lost AS (
    SELECT id, status AS previous, CASE
        WHEN status = 'CANCELLING' THEN 'CANCELLED' WHEN status = 'PAUSING' THEN 'PAUSED'
        WHEN attempt >= $1 THEN 'FAILED' ELSE 'QUEUED' END AS next
    FROM runs WHERE status IN ('RUNNING', 'PAUSING', 'CANCELLING') AND lease_until < now()
    ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE runs r SET status = l.next, epoch = r.epoch + 1, worker_id = NULL, lease_until = NULL,
        last_seq = r.last_seq + 1, takeup = r.takeup + (l.next = 'QUEUED')::int,
        status_message = 'The worker that held this run is gone',
        error = CASE l.next WHEN 'FAILED' THEN json_build_object('code', 'CRASH_LOOP', 'message',
            format('taken up %s times, and each worker was lost', r.attempt), 'node_id', NULL, 'retryable', true,
            'details', NULL) ELSE r.error END,
        queued_at = CASE l.next WHEN 'QUEUED' THEN now() ELSE r.queued_at END,
        paused_at = CASE l.next WHEN 'PAUSED' THEN now() ELSE r.paused_at END,
        cancelled_at = CASE l.next WHEN 'CANCELLED' THEN now() ELSE r.cancelled_at END,
        finished_at = CASE WHEN l.next IN ('CANCELLED', 'FAILED') THEN now() END
    FROM lost l WHERE r.id = l.id
    RETURNING r.*, l.previous, now() AS at, r.status_message AS message
), settled AS (
    UPDATE node_states n SET status = 'CANCELLED', completed_at = now() FROM moved m
    WHERE n.run_id = m.id AND m.status IN ('CANCELLED', 'FAILED') AND n.status IN ('RUNNING', 'RETRYING', 'WAITING')
), told AS ({_EVENT})
SELECT * FROM moved
"""
_UNHEARD = """
SELECT id, takeup FROM runs WHERE status = 'QUEUED' AND queued_at < now() - make_interval(secs => $1)
ORDER BY priority DESC, id LIMIT $2
"""
_EXPIRE = f"""
WITH late AS (
    SELECT id FROM runs WHERE status = 'PENDING' AND deadline_at < now() ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE runs r SET status = 'CANCELLED', last_seq = r.last_seq + 1, cancelled_at = now(), finished_at = now(),
        status_message = 'Not started before its deadline'
    FROM late l WHERE r.id = l.id
    RETURNING r.*, 'PENDING' AS previous, now() AS at, r.status_message AS message
), told AS ({_EVENT})
SELECT * FROM moved
"""
