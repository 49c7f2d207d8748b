"""The one statement that makes a group of entries durable, and how entries become its arguments.

Its guarded UPDATE is fence, lock and counter at once: it takes the rows in id order, raises `last_seq` where the epoch
(and, for a status change, the status) is what the writer believes, and every insert joins what it returned. A run that
it does not return has had nothing written. One statement is one transaction and one round trip.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate
from typing import Any

import orjson

from engine.events import EventData, NodeChange, NodeState
from engine.runtime.ports import Entry, OpenWait
from engine.types import JSON
from persistence.events.codec import body_of, error_body, is_stored, usage_body

_GROUP = """
WITH given AS (
    SELECT * FROM unnest($1::text[], $2::int[], $3::int[], $4::real[], $5::text[], $6::text[], $7::text[],
        $8::text[], $9::text[], $10::timestamptz[])
        AS g(id, epoch, events, progress, expected, status, message, output, error, wake_at)
), held AS (
    SELECT r.id FROM runs r JOIN given g USING (id)
    WHERE r.epoch = g.epoch AND r.status IN ('RUNNING', 'PAUSING', 'CANCELLING')
        AND (g.expected IS NULL OR r.status = g.expected)
        -- Sent again after a connection was lost, it may follow itself: what it has written already is left alone.
        AND r.written_by IS DISTINCT FROM $11
    ORDER BY r.id FOR NO KEY UPDATE OF r
), run AS (
    UPDATE runs r SET
        last_seq = r.last_seq + g.events,
        written_by = $11,
        written_seq = r.last_seq + g.events,
        progress = coalesce(g.progress, r.progress),
        status = coalesce(g.status, r.status),
        -- Whoever cancelled a run said why; that stays to be read once the code has stopped.
        status_message = CASE WHEN g.status IS NULL THEN r.status_message
            WHEN g.status = 'CANCELLED' THEN coalesce(g.message, r.cancel_reason) ELSE g.message END,
        output = CASE WHEN g.status IS NULL THEN r.output ELSE g.output::json END,
        -- A failure is durable with the wave that failed; the status follows when the code has stopped.
        error = coalesce(g.error::json, r.error),
        worker_id = CASE WHEN g.status IS NULL THEN r.worker_id END,
        lease_until = CASE WHEN g.status IS NULL THEN r.lease_until END,
        finished_at = CASE WHEN g.status IN ('COMPLETED', 'FAILED', 'CANCELLED') THEN now() ELSE r.finished_at END,
        cancelled_at = CASE WHEN g.status = 'CANCELLED' THEN now() ELSE r.cancelled_at END,
        paused_at = CASE WHEN g.status = 'PAUSED' THEN now() ELSE r.paused_at END,
        queued_at = CASE WHEN g.status = 'QUEUED' THEN now() ELSE r.queued_at END,
        -- An answer that came meanwhile has set wake_at to now: least() keeps it.
        wake_at = CASE WHEN g.status = 'WAITING' THEN least(r.wake_at, g.wake_at) ELSE r.wake_at END,
        deadline_at = CASE WHEN g.status IN ('PAUSED', 'WAITING') THEN now() + make_interval(secs => $12)
            WHEN g.status IS NULL THEN r.deadline_at END,
        takeup = CASE WHEN g.status = 'QUEUED' THEN r.takeup + 1 ELSE r.takeup END
    FROM given g JOIN held USING (id)
    WHERE r.id = g.id AND r.epoch = g.epoch AND (g.expected IS NULL OR r.status = g.expected)
    RETURNING r.id, r.last_seq - g.events AS base, r.project_id
), new_events AS (
    INSERT INTO events (run_id, seq, type, at, node_id, body)
    SELECT run.id, run.base + x.i, x.type, x.at, x.node_id, x.body::json
    FROM unnest($13::text[], $14::int[], $15::text[], $16::timestamptz[], $17::text[], $18::text[])
        AS x(run_id, i, type, at, node_id, body) JOIN run ON run.id = x.run_id
), new_states AS (
    INSERT INTO node_states (run_id, node_id, seq, status, visits, attempt, progress, message, partial_output, error,
        started_at, completed_at, output_seq, usage)
    SELECT run.id, x.node_id, run.base + x.i, x.status, x.visits, x.attempt, x.progress, x.message, x.partial_output,
        x.error::json, x.started_at, x.completed_at, run.base + x.output_i, x.usage::json
    FROM unnest($19::text[], $20::text[], $21::int[], $22::text[], $23::int[], $24::smallint[], $25::real[],
        $26::text[], $27::text[], $28::text[], $29::timestamptz[], $30::timestamptz[], $31::int[], $32::text[])
        AS x(run_id, node_id, i, status, visits, attempt, progress, message, partial_output, error, started_at,
        completed_at, output_i, usage) JOIN run ON run.id = x.run_id
    ON CONFLICT (run_id, node_id) DO UPDATE SET
        seq = excluded.seq, status = excluded.status, visits = excluded.visits, attempt = excluded.attempt,
        progress = excluded.progress, message = excluded.message, partial_output = excluded.partial_output,
        error = excluded.error, started_at = excluded.started_at, completed_at = excluded.completed_at,
        usage = excluded.usage, output_seq = coalesce(excluded.output_seq, node_states.output_seq)
), new_outputs AS (
    INSERT INTO node_outputs (run_id, seq, node_id, visit, lineage, input, output)
    SELECT run.id, run.base + x.i, x.node_id, x.visit, x.lineage, x.input::json, x.output::json
    FROM unnest($33::text[], $34::int[], $35::text[], $36::int[], $37::int[], $38::text[], $39::text[])
        AS x(run_id, i, node_id, visit, lineage, input, output) JOIN run ON run.id = x.run_id
), new_checkpoints AS (
    INSERT INTO checkpoints (run_id, seq, id, parent_id, step, lineage, is_full, data, next_nodes)
    SELECT run.id, run.base + x.i, x.id, x.parent_id, x.step, x.lineage, x.is_full, x.data, x.next_nodes::json
    FROM unnest($40::text[], $41::int[], $42::text[], $43::text[], $44::int[], $45::int[], $46::bool[], $47::bytea[],
        $48::text[]) AS x(run_id, i, id, parent_id, step, lineage, is_full, data, next_nodes)
        JOIN run ON run.id = x.run_id
), new_writes AS (
    INSERT INTO pending_writes (run_id, checkpoint_id, task_id, idx, channel, value)
    SELECT run.id, x.checkpoint_id, x.task_id, x.idx, x.channel, x.value
    FROM unnest($49::text[], $50::text[], $51::text[], $52::int[], $53::text[], $54::bytea[])
        AS x(run_id, checkpoint_id, task_id, idx, channel, value) JOIN run ON run.id = x.run_id
    ON CONFLICT DO NOTHING
)
"""
_WAITS = """, new_waits AS (
    INSERT INTO waits (id, run_id, node_id, visit, lineage, seq, kind, since, until, outcome, prompt, schema,
        child_run_id, settled_seq)
    SELECT x.id, run.id, x.node_id, x.visit, x.lineage, run.base + x.i, x.kind, x.since, x.until, x.outcome::json,
        x.prompt::json, x.schema::json, x.child_run_id, run.base + x.settled_i
    FROM unnest($55::text[], $56::text[], $57::text[], $58::int[], $59::int[], $60::int[], $61::text[],
        $62::timestamptz[], $63::timestamptz[], $64::text[], $65::text[], $66::text[], $67::text[], $68::int[])
        AS x(run_id, id, node_id, visit, lineage, i, kind, since, until, outcome, prompt, schema, child_run_id, settled_i)
        JOIN run ON run.id = x.run_id
), settled_waits AS (
    UPDATE waits w SET settled_seq = run.base + x.i
    FROM unnest($69::text[], $70::text[], $71::int[]) AS x(run_id, id, i) JOIN run ON run.id = x.run_id
    WHERE w.id = x.id
)
"""
_ANSWER = "SELECT id, base, project_id FROM run"
GROUP = _GROUP + _ANSWER
GROUP_WITH_WAITS = _GROUP + _WAITS + _ANSWER
"""For groups in which something begins or ends to wait: few do, and the others need not pay."""


@dataclass(slots=True)
class Batch:
    """All entries of one run in one group. A status change stands alone with its entry: it may be refused."""

    run_id: str
    entries: list[Entry] = field(default_factory=list)

    @property
    def events_to_write(self) -> list[tuple[datetime, EventData]]:
        return [pair for entry in self.entries for pair in entry.events_to_write]


class _Columns:
    """Rows, turned into the arrays that `unnest` takes."""

    def __init__(self, width: int) -> None:
        self.arrays: list[list[Any]] = [[] for _ in range(width)]

    def add(self, *row: Any) -> None:
        for array, value in zip(self.arrays, row, strict=True):
            array.append(value)


def statement(batches: Sequence[Batch], mark: int, idle_limit_s: float) -> tuple[str, list[Any]]:
    """The statement for these batches and its arguments, told apart from all other groups by `mark`.

    `idle_limit_s`: how long a run may be PAUSED or WAITING before its deadline, in seconds.
    """
    plain = _arguments(batches, mark, idle_limit_s)
    if not any(entry.waits or entry.settled for batch in batches for entry in batch.entries):
        return GROUP, plain
    return GROUP_WITH_WAITS, [*plain, *_wait_arguments(batches)]


def _wait_arguments(batches: Sequence[Batch]) -> list[list[Any]]:
    opened, settled = _Columns(14), _Columns(3)
    for batch in batches:
        places = list(accumulate(len(entry.events_to_write) for entry in batch.entries))
        ends = {wait_id: place for entry, place in zip(batch.entries, places, strict=True) for wait_id in entry.settled}
        for entry, place in zip(batch.entries, places, strict=True):
            for wait in entry.waits:
                # The part that settles does not see a row of the same statement.
                _add_wait(opened, entry, wait, place, ends.pop(wait.id, None))
        for wait_id, place in ends.items():
            settled.add(batch.run_id, wait_id, place)
    return [*opened.arrays, *settled.arrays]


def _add_wait(opened: _Columns, entry: Entry, wait: OpenWait, place: int, settled: int | None) -> None:
    outcome = wait.outcome
    opened.add(
        entry.run_id,
        wait.id,
        wait.node_id,
        wait.visit,
        entry.lineage,
        place,
        wait.kind.value,
        wait.since,
        wait.until,
        None if outcome is None else _json({"value": outcome.value, "port": outcome.port}),
        _json(wait.prompt),
        None if wait.schema is None else _json(wait.schema),
        wait.child_run_id,
        settled,
    )


def _arguments(batches: Sequence[Batch], mark: int, idle_limit_s: float) -> list[Any]:
    runs, events, states, outputs = _Columns(10), _Columns(6), _Columns(14), _Columns(7)
    checkpoints, writes = _Columns(9), _Columns(6)
    for batch in batches:
        latest: dict[str, tuple[int, NodeState, int | None]] = {}
        place = 0
        for entry in batch.entries:
            for at, what in entry.events_to_write:
                place += 1
                events.add(batch.run_id, place, what.type.value, at, what.node_id, _json(body_of(what)))
                if isinstance(what, NodeChange):
                    _add_state(outputs, latest, entry, place, what.state)
            _add_checkpoint(checkpoints, entry, place)
            for write in entry.writes:
                writes.add(batch.run_id, write.checkpoint_id, write.task_id, write.idx, write.channel, write.value)
        for place_, state, output_place in latest.values():
            _add_latest(states, place_, state, output_place)
        _add_run(runs, batch, place)
    tables = (events, states, outputs, checkpoints, writes)
    return [*runs.arrays, mark, idle_limit_s, *(array for table in tables for array in table.arrays)]


def _add_run(runs: _Columns, batch: Batch, count: int) -> None:
    last = batch.entries[-1]
    progress = next((entry.progress for entry in reversed(batch.entries) if entry.progress is not None), None)
    change = last.change
    failure = next((entry.failure for entry in reversed(batch.entries) if entry.failure is not None), None)
    failure = change.error if change is not None else failure
    error = _json(error_body(failure)) if failure is not None else None
    if change is None:
        runs.add(batch.run_id, last.epoch, count, progress, None, None, None, None, error, None)
        return
    output = _json(change.output) if change.status == "COMPLETED" else None
    runs.add(
        batch.run_id,
        last.epoch,
        count,
        progress,
        change.expected.value,
        change.status.value,
        change.message,
        output,
        error,
        change.wake_at,
    )


def _add_state(
    outputs: _Columns,
    latest: dict[str, tuple[int, NodeState, int | None]],
    entry: Entry,
    place: int,
    state: NodeState,
) -> None:
    before = latest.get(state.node_id)
    output_place = before[2] if before else None
    if is_stored(state):
        output_place = place
        given = None if state.input is None else _json(state.input)
        output = _json(state.output) if state.has_output else None
        outputs.add(entry.run_id, place, state.node_id, state.visits, entry.lineage, given, output)
    latest[state.node_id] = (place, state, output_place)


def _add_latest(states: _Columns, place: int, state: NodeState, output_place: int | None) -> None:
    error = _json(error_body(state.error)) if state.error else None
    states.add(
        state.run_id,
        state.node_id,
        place,
        state.status.value,
        state.visits,
        state.attempt,
        state.progress,
        state.message,
        state.partial_output,
        error,
        state.started_at,
        state.completed_at,
        output_place,
        None if state.usage is None else _json(usage_body(state.usage)),
    )


def _add_checkpoint(checkpoints: _Columns, entry: Entry, place: int) -> None:
    record = entry.checkpoint
    if record is None:
        return
    # Its event is the last of the wave, or the one before the run's last word.
    place -= entry.change is not None
    next_nodes = _json(record.next_nodes)
    checkpoints.add(
        entry.run_id,
        place,
        record.id,
        record.parent_id,
        record.step,
        entry.lineage,
        record.is_full,
        record.data,
        next_nodes,
    )


def _json(value: JSON) -> str:
    return orjson.dumps(value).decode()
