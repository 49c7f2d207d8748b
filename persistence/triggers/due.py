"""Claims triggers that are due and fires them. Used by the workers.

A batch is read and prepared first; see `preparation`. Then one transaction locks the triggers and their workflows with
SKIP LOCKED, checks that nothing has changed, writes the events, accepts the runs, and advances the
triggers. So a crash at any line leaves a trigger either due or fired and advanced, and of two workers
one fires. A trigger that another transaction holds is left for the next batch.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.isolation.turns import Owner
from engine.sdk.trigger import PollFailed, TriggerKind
from engine.states import TERMINAL, TriggerEventStatus, sql_list
from engine.triggers.planning import DuePlan, backoff, plan_due
from engine.triggers.registry import config_of
from engine.values.timestamps import format_timestamp
from persistence.db.database import Database
from persistence.db.transient import is_transient
from persistence.problems import Busy
from persistence.runs import admission
from persistence.runs.queue_limit import QueueLimit
from persistence.triggers import events, pending
from persistence.triggers.candidate import Advance, Candidate, polled_again, unchanged
from persistence.triggers.events import Firing, RecordedFiring
from persistence.triggers.firing import PublishedVersion, PublishedVersions, prepare, unfired
from persistence.triggers.polling import FAULT, SourcePolls
from persistence.triggers.preparation import Preparations
from persistence.triggers.trigger import COLUMNS, Trigger, trigger_of

log = structlog.get_logger(__name__)

BATCH = 100
"""Triggers that are fired by one transaction."""
Kinds = Mapping[str, TriggerKind[Any]]
STATUS = TriggerEventStatus


Prepare = Callable[[Any, Mapping[str, PublishedVersion]], Awaitable[Candidate]]


@dataclass(frozen=True, slots=True)
class FiredBatch:
    """The result of one batch."""

    found: int
    """How many due triggers, or pending firings, were read."""
    fired: list[RecordedFiring]


class DueTriggers:
    """Fires the due triggers of one process."""

    def __init__(
        self,
        database: Database,
        kinds: Kinds,
        *,
        max_failures: int,
        queue_limit: QueueLimit,
        resources: Mapping[str, Any] | None = None,
    ) -> None:
        """`max_failures` in a row disable a trigger. `resources` are those of nodes, for polls."""
        self._polls = SourcePolls(database, resources)
        self._database, self._kinds, self._max_failures = database, kinds, max_failures
        self._queue_limit, self._versions = queue_limit, PublishedVersions()
        self._preparations = Preparations[Candidate]()

    def when_ready(self, callback: Callable[[], None]) -> None:
        """Call a function whenever `fire_ready` has something to fire."""
        self._preparations.on_ready = callback

    def close(self) -> None:
        """Cancel what is being prepared. The triggers stay due."""
        self._preparations.cancel()

    async def fire_batch(self, now: datetime | None = None) -> FiredBatch:
        """Fire up to BATCH due triggers.

        Args:
            now: The present time; None for the clock of the database.
        """
        rows = await self._database.pool.fetch(_DUE, now, BATCH, *self._preparations.left_out())
        return await self._fire_rows(rows, self._prepare)

    async def fire_pending(self, now: datetime | None = None) -> FiredBatch:
        """Fire up to BATCH firings that were accepted before; see `pending`."""
        rows = await pending.read_due(self._database.pool, now, BATCH, self._preparations.left_out())
        return await self._fire_rows(rows, self._prepare_pending)

    async def fire_ready(self, now: datetime | None = None) -> FiredBatch:
        """Fire what was read before and has taken long to prepare. `now` has no effect."""
        ready = self._preparations.take_ready()
        return FiredBatch(len(ready), [fired for one in ready for fired in await self._fire([one])])

    async def _fire_rows(self, rows: Sequence[Any], make: Prepare) -> FiredBatch:
        versions = await self._versions.get(
            self._database.pool, [row["version_id"] for row in rows if row["version_id"]]
        )
        candidates = await self._preparations.prepare(
            (Owner(row["project_id"], row["id"]), self._guarded(make, row, versions)) for row in rows
        )
        together = [one for one in candidates if not one.is_alone]
        fired = await self._fire(together)
        for one in (one for one in candidates if one.is_alone):
            fired += await self._fire([one])
        return FiredBatch(len(rows), fired)

    async def _guarded(self, make: Prepare, row: Any, versions: Mapping[str, PublishedVersion]) -> Candidate:
        """Prepare one firing. A fault, such as one in the kind of a package, is a failure of this trigger alone."""
        try:
            return await make(row, versions)
        except Exception:
            trigger = trigger_of(row)
            log.exception("triggers.fault", trigger_id=trigger.id, kind=trigger.kind)
            failed = self._failed(trigger, trigger.planned_at, row["now"], FAULT)
            if make != self._prepare_pending:
                return Candidate(trigger, row["version_id"], (), failed)
            key = row["dedupe_key"]
            firing = Firing(trigger, key, row["payload"], STATUS.FAILED, error=FAULT)
            return Candidate(trigger, row["version_id"], (firing,), replace(failed, keeps_plan=True), "allow", key)

    async def next_due_s(self, now: datetime | None = None) -> float | None:
        """Return the seconds until the next trigger is due, 0 if one is; None if there is none."""
        pool, left_out = self._database.pool, self._preparations.left_out()
        found = [await pool.fetchval(_NEXT, now, *left_out), await pending.next_due_s(pool, now, left_out)]
        return min((max(float(seconds), 0.0) for seconds in found if seconds is not None), default=None)

    async def follows_runs(self) -> bool:
        """Return whether the end of a run may fire a trigger."""
        return bool(await self._database.pool.fetchval(_FOLLOWS_RUNS))

    async def _prepare(self, row: Any, versions: Mapping[str, PublishedVersion]) -> Candidate:
        trigger, now = trigger_of(row), row["now"]
        try:
            kind, config = config_of(self._kinds, trigger.kind, trigger.config)
            if kind.is_polled:
                return await self._poll(row, trigger, kind, config, versions.get(row["version_id"]))
            plan = plan_due(kind, config, trigger.id, trigger.planned_at or now, now)
        except ValueError as error:
            return Candidate(trigger, row["version_id"], (), self._failed(trigger, trigger.planned_at, now, str(error)))
        firings: list[Firing] = []
        if plan.skipped is not None:
            payload = kind.event(config, plan.skipped)
            key = format_timestamp(plan.skipped)
            firings.append(Firing(trigger, key, payload, STATUS.SKIPPED, error=plan.reason))
        if plan.due is None:
            return Candidate(trigger, row["version_id"], tuple(firings), Advance(plan.planned_at, plan.fire_at))
        key, payload, overlap = format_timestamp(plan.due), kind.event(config, plan.due), kind.overlap(config)
        firing = await prepare(trigger, key, payload, versions.get(row["version_id"]), is_serial=overlap == "queue")
        return Candidate(
            trigger, row["version_id"], (*firings, firing), self._advance(trigger, firing, plan, now), overlap
        )

    async def _poll(
        self, row: Any, trigger: Trigger, kind: TriggerKind[Any], config: Any, version: PublishedVersion | None
    ) -> Candidate:
        """Claim a trigger, ask its source, and prepare a firing for each item that is new."""
        now, version_id = row["now"], row["version_id"]
        claim = await self._polls.claim(trigger, now)
        if claim is None:
            return unchanged(trigger, version_id)
        try:
            async with claim:
                candidate = await self._poll_claimed(trigger, version_id, kind, config, version, now)
            return replace(candidate, trigger=claim.trigger)
        except PollFailed as error:
            return self._failed_poll(claim.trigger, version_id, now, str(error))
        except (Exception, asyncio.CancelledError):
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise  # The worker ends.
            # Not in `_guarded`, which has the trigger as it was before the claim.
            log.exception("triggers.fault", trigger_id=trigger.id, kind=trigger.kind)
            return self._failed_poll(claim.trigger, version_id, now, FAULT)

    async def _poll_claimed(
        self,
        trigger: Trigger,
        version_id: str | None,
        kind: TriggerKind[Any],
        config: Any,
        version: PublishedVersion | None,
        now: datetime,
    ) -> Candidate:
        result = await self._polls.ask(trigger, kind, config, version, now)
        firings = [await prepare(trigger, one.key, one.event, version) for one in result.items]
        failed = [one.error for one in firings if one.status is STATUS.FAILED]
        regular = kind.next_time(config, now)
        following = now if result.has_more else regular
        advance = Advance(following, following, now if firings else None, state=result.state)
        if failed:
            advance = replace(advance, error=f"{len(failed)} of {len(firings)} items started no run: {failed[0]}")
        return Candidate(trigger, version_id, tuple(firings), advance, poll=result, regular=regular)

    def _failed_poll(self, trigger: Trigger, version_id: str | None, now: datetime, error: str) -> Candidate:
        key = f"poll:{format_timestamp(now)}"
        firing = Firing(trigger, key, {"polledAt": format_timestamp(now)}, STATUS.FAILED, error=error)
        failed = self._failed(trigger, trigger.planned_at, now, error)
        return Candidate(trigger, version_id, (firing,), replace(failed, planned_at=failed.fire_at))

    async def _prepare_pending(self, row: Any, versions: Mapping[str, PublishedVersion]) -> Candidate:
        trigger, key, now = trigger_of(row), row["dedupe_key"], row["now"]
        kept = Advance(trigger.planned_at, trigger.next_fire_at, now, keeps_plan=True)
        overlap = "allow"
        try:
            kind, config = config_of(self._kinds, trigger.kind, trigger.config)
            overlap = kind.overlap(config)
            firing = await prepare(
                trigger, key, row["payload"], versions.get(row["version_id"]), is_serial=overlap == "queue"
            )
        except ValueError as error:
            firing = Firing(trigger, key, row["payload"], STATUS.FAILED, error=str(error))
        if not trigger.enabled:
            firing = unfired(firing, STATUS.SKIPPED, "the trigger is disabled")
            kept = replace(kept, fired_at=None, error=trigger.last_error, is_over=True)
        elif firing.status is STATUS.FAILED:
            kept = replace(self._failed(trigger, trigger.planned_at, now, firing.error or ""), keeps_plan=True)
        return Candidate(trigger, row["version_id"], (firing,), kept, overlap, key)

    def _advance(self, trigger: Trigger, firing: Firing, plan: DuePlan, now: datetime) -> Advance:
        if firing.status is not STATUS.FAILED:
            return Advance(plan.planned_at, plan.fire_at, now)
        failed = self._failed(trigger, plan.planned_at, now, firing.error or "")
        if plan.fire_at is None or failed.fire_at is None:
            return replace(failed, fire_at=None)
        return replace(failed, fire_at=max(plan.fire_at, failed.fire_at))

    def _failed(self, trigger: Trigger, planned_at: datetime | None, now: datetime, error: str) -> Advance:
        failures = trigger.failures + 1
        is_over = failures >= self._max_failures
        return Advance(planned_at, now + backoff(failures), None, error=error, is_failure=True, is_over=is_over)

    async def _fire(self, candidates: Sequence[Candidate]) -> list[RecordedFiring]:
        """Fire candidates in one transaction; one by one if the transaction fails for its content."""
        if not candidates:
            return []
        try:
            async with self._database.begin() as connection:
                recorded, claimed = await self._fire_in(connection, candidates)
        except Exception as error:
            if is_transient(error):
                raise
            if len(candidates) == 1:
                log.exception("triggers.fault", trigger_id=candidates[0].trigger.id)
                return await self._give_up(candidates[0])
            log.warning("triggers.batch_refused", triggers=len(candidates), error=str(error) or type(error).__name__)
        else:
            for one in claimed:
                if one.poll is not None and one.advance.state is not None:
                    self._polls.acknowledge(one.trigger, one.poll)
            return recorded
        return [fired for one in candidates for fired in await self._fire([one])]

    async def _fire_in(
        self, connection: AsyncConnection, candidates: Sequence[Candidate]
    ) -> tuple[list[RecordedFiring], list[Candidate]]:
        """Return what was recorded, and the candidates that were claimed."""
        locked = await _lock(connection, candidates)
        claimed = [one for one in candidates if (one.trigger.id, one.pending_key) in locked]
        serial = [one.trigger.id for one in claimed if one.overlap == "skip"]
        active = await _with_active_run(connection, serial) if serial else {}

        async def admit(firing: Firing) -> Firing:
            return await self._admit(connection, firing, active.get(firing.trigger.id))

        recorded = await events.record(connection, [firing for one in claimed for firing in one.firings], admit)
        polled = {one.trigger.id for one in claimed if one.poll is not None}
        waiting = [one for one in recorded if one.event.status is STATUS.SKIPPED and one.event.trigger_id in polled]
        await events.forget(connection, waiting)
        for place, one in enumerate(claimed):
            if of_poll := [each for each in waiting if each.event.trigger_id == one.trigger.id]:
                claimed[place] = polled_again(one, of_poll)
        await _advance(connection, claimed)
        return [one for one in recorded if one not in waiting], claimed

    async def _admit(self, connection: AsyncConnection, firing: Firing, active_run_id: str | None) -> Firing:
        """Return the firing, or a SKIPPED one if no run may be accepted now."""
        assert firing.new is not None
        if active_run_id is not None:
            error = f"the run {active_run_id} of the trigger is active; `overlap` of the trigger is 'skip'"
            return unfired(firing, STATUS.SKIPPED, error)
        try:
            await self._queue_limit.admit(self._database.pool, firing.trigger.project_id)
            cancelled = await admission.admit(connection, firing.trigger.caller, firing.new, self._database.deadlines)
        except Busy as error:
            return unfired(firing, STATUS.SKIPPED, error.detail)
        return replace(firing, admitted=tuple(cancelled))

    async def _give_up(self, candidate: Candidate) -> list[RecordedFiring]:
        """Record an unexpected error as a failure of the trigger, which then backs off."""
        trigger = candidate.trigger
        async with self._database.begin() as connection:
            if not await _lock(connection, [candidate]):
                return []
            now = (await connection.execute(text("SELECT now()"))).scalar_one()
            advance = self._failed(trigger, trigger.planned_at, now, FAULT)
            await _advance(connection, [replace(candidate, advance=advance)])
        return []


async def _lock(connection: AsyncConnection, candidates: Sequence[Candidate]) -> set[tuple[str, str | None]]:
    """Lock the candidates that are as they were read, and delete those that are pending firings.

    Returns their trigger ids and pending keys.
    """
    if candidates[0].pending_key is not None:
        keys = [(one.trigger.id, one.pending_key or "", one.version_id) for one in candidates]
        return set(await pending.take(connection, keys))
    rows = [(one.trigger.id, one.trigger.next_fire_at, one.trigger.updated_at, one.version_id) for one in candidates]
    ids, times, updates, versions = (list(column) for column in zip(*rows, strict=True))
    result = await connection.exec_driver_sql(_LOCK, (ids, times, updates, versions))
    return {(row.id, None) for row in result}


async def _with_active_run(connection: AsyncConnection, trigger_ids: Sequence[str]) -> dict[str, str]:
    """Return an active run of each trigger that has one, by trigger id."""
    result = await connection.exec_driver_sql(_ACTIVE, (list(trigger_ids),))
    return {row.trigger_id: row.id for row in result}


async def _advance(connection: AsyncConnection, candidates: Sequence[Candidate]) -> None:
    if not candidates:
        return
    rows = [
        (
            one.trigger.id,
            one.advance.planned_at,
            one.advance.fire_at,
            one.advance.fired_at,
            one.advance.error,
            one.advance.is_failure,
            one.advance.is_over,
            one.advance.keeps_plan,
            None if one.advance.state is None else orjson.dumps(one.advance.state).decode(),
        )
        for one in candidates
    ]
    await connection.exec_driver_sql(_ADVANCE, tuple(list(column) for column in zip(*rows, strict=True)))


_TRIGGER = ", ".join(f"t.{column.name}" for column in COLUMNS)
# SKIP LOCKED: what another worker is firing at this moment is not even read.
_DUE = f"""
SELECT {_TRIGGER}, coalesce($1, now()) AS now,
    (SELECT v.id FROM versions v WHERE v.workflow_id = t.workflow_id AND v.status = 'PUBLISHED') AS version_id
FROM triggers t WHERE t.enabled AND t.next_fire_at <= coalesce($1, now())
    AND NOT t.id = ANY($3::text[]) AND NOT t.project_id = ANY($4::text[])
ORDER BY t.next_fire_at LIMIT $2
FOR NO KEY UPDATE OF t SKIP LOCKED
"""
_FOLLOWS_RUNS = "SELECT EXISTS (SELECT FROM triggers WHERE enabled AND kind = 'run_finished')"
_NEXT = """
SELECT extract(epoch FROM min(next_fire_at) - coalesce($1, now())) FROM triggers
WHERE enabled AND next_fire_at IS NOT NULL AND NOT id = ANY($2::text[]) AND NOT project_id = ANY($3::text[])
"""
# The workflow is locked as by every transaction that accepts a run. Nothing waits here, so there is
# no deadlock with a deletion, which locks the workflow before its triggers.
_LOCK = """
SELECT t.id FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[], $4::text[])
    AS c(id, next_fire_at, updated_at, version_id)
JOIN triggers t ON t.id = c.id JOIN workflows w ON w.id = t.workflow_id
WHERE t.enabled AND t.next_fire_at = c.next_fire_at AND t.updated_at = c.updated_at
    AND c.version_id IS NOT DISTINCT FROM
        (SELECT v.id FROM versions v WHERE v.workflow_id = t.workflow_id AND v.status = 'PUBLISHED')
FOR NO KEY UPDATE OF t SKIP LOCKED FOR KEY SHARE OF w SKIP LOCKED
"""
_ACTIVE = f"""
SELECT DISTINCT ON (trigger_id) trigger_id, id FROM runs
WHERE trigger_id = ANY($1::text[]) AND status NOT IN {sql_list(TERMINAL)} ORDER BY trigger_id, id
"""
_ADVANCE = """
UPDATE triggers t SET planned_at = CASE WHEN c.keeps_plan THEN t.planned_at ELSE c.planned_at END,
    next_fire_at = CASE WHEN c.is_over THEN NULL WHEN c.keeps_plan THEN t.next_fire_at ELSE c.fire_at END,
    last_fired_at = coalesce(c.fired_at, t.last_fired_at), last_error = c.error,
    state = coalesce(c.state::json, t.state),
    failures = CASE WHEN c.is_failure THEN t.failures + 1 ELSE 0 END, enabled = t.enabled AND NOT c.is_over
FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[], $4::timestamptz[], $5::text[], $6::bool[], $7::bool[],
    $8::bool[], $9::text[]) AS c(id, planned_at, fire_at, fired_at, error, is_failure, is_over, keeps_plan, state)
WHERE t.id = c.id
"""
