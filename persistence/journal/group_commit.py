"""The SQL statement that makes a group of journal entries durable, and its arguments.

One statement is one transaction and one round trip (group commit). Its guarded UPDATE is fence,
lock and counter for every writer: it locks the runs in the order of their ids and raises `last_seq`
where the epoch (a fencing token: Kleppmann 2016) and the expected status match. Every INSERT
joins the rows that it returned, so a run that it did not return has had nothing written.
`PostgresJournal` is the only caller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import orjson

from engine.events import NodeChange, NodeState
from engine.runtime.ports import Entry, OpenWait
from engine.states import LEASED, TERMINAL, RunStatus, WaitKind, sql_list
from engine.types import JSON
from engine.values.storable import clean_text
from engine.values.tokens import estimate_tokens
from persistence.db.ids import Prefix, new_id
from persistence.events.codec import (
    NODE_STATE_COLUMNS,
    EncodedEvent,
    encode,
    error_body,
    is_stored,
    node_state_values,
)
from persistence.events.run_transition import RunEnd

# The columns of each table that the statement writes, in the order of its arguments. A column's
# type is the Postgres type of its values, or "offset": the place of an event in the group, counted
# from 1, which becomes its `seq`.
_RUNS = {
    "id": "text",
    "epoch": "int",
    "events": "int",
    "bytes": "bigint",
    "progress": "double precision",
    "expected": "text",
    "status": "text",
    "message": "text",
    "output": "json",
    "error": "json",
    "wake_at": "timestamptz",
}
_EVENTS = {
    "run_id": "text",
    "seq": "offset",
    "type": "text",
    "at": "timestamptz",
    "node_id": "text",
    "body": "json",
}
_STATES = {"run_id": "text", "node_id": "text", "seq": "offset", "output_seq": "offset", **NODE_STATE_COLUMNS}
_OUTPUTS = {
    "run_id": "text",
    "seq": "offset",
    "node_id": "text",
    "visit": "int",
    "lineage": "int",
    "input": "json",
    "output": "json",
}
_CHECKPOINTS = {
    "run_id": "text",
    "seq": "offset",
    "id": "text",
    "parent_id": "text",
    "step": "int",
    "lineage": "int",
    "is_full": "bool",
    "data": "bytea",
    "next_nodes": "json",
    "steps": "bytea",
}
_OPENED_WAITS = {
    "run_id": "text",
    "id": "text",
    "node_id": "text",
    "visit": "int",
    "lineage": "int",
    "seq": "offset",
    "kind": "text",
    "since": "timestamptz",
    "until": "timestamptz",
    "outcome": "json",
    "prompt": "json",
    "schema": "json",
    "child_run_id": "text",
    "answerers": "json",
    "event_name": "text",
    "event_key": "text",
    "is_unmatched": "bool",
    "settled_seq": "offset",
}
_SETTLED_WAITS = {"run_id": "text", "id": "text", "settled_seq": "offset"}
_MESSAGES = {
    "run_id": "text",
    "thread_id": "text",
    "key": "text",
    "place": "int",
    "run_seq": "offset",
    "node_id": "text",
    "visit": "int",
    "role": "text",
    "content": "text",
    "tokens": "int",
}

EVENT_BYTES = 100
"""Bytes of the row of an event, and of its places in the indexes, beside its body."""
_ARRAY_TYPES = {"offset": "int", "json": "text"}
_MARK, _IDLE_LIMIT_S = (f"${len(_RUNS) + place}" for place in (1, 2))
_FIRST_EVENT = len(_RUNS) + 3
_TABLES = (_EVENTS, _STATES, _OUTPUTS, _CHECKPOINTS, _OPENED_WAITS, _SETTLED_WAITS, _MESSAGES)
_FIRST = dict(zip(map(id, _TABLES), accumulate(map(len, _TABLES), initial=_FIRST_EVENT), strict=False))
"""The number of the first argument of each table."""


def _unnest(columns: Mapping[str, str], first: int) -> str:
    """Return the call that turns array arguments, numbered from `first`, into rows `x`."""
    arrays = (f"${place}::{_ARRAY_TYPES.get(type, type)}[]" for place, type in enumerate(columns.values(), first))
    return f"unnest({', '.join(arrays)}) AS x({', '.join(columns)})"


def _rows(columns: Mapping[str, str]) -> str:
    return f"{_unnest(columns, _FIRST[id(columns)])} JOIN run ON run.id = x.run_id"


def _value(column: str, type: str) -> str:
    if type == "offset":
        return f"run.base + x.{column}"
    return f"x.{column}::json" if type == "json" else f"x.{column}"


def _insert(table: str, columns: Mapping[str, str]) -> str:
    values = ", ".join(_value(column, type) for column, type in columns.items())
    return f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {_rows(columns)}"


ENDED = f"""
CASE WHEN r.status IN {sql_list(TERMINAL)} THEN json_build_object(
    'workflow_id', r.workflow_id, 'source', r.source, 'code', r.error->>'code', 'attempt', r.attempt,
    'duration_s', extract(epoch FROM r.finished_at - r.started_at)) END AS ended
"""
"""The fields of `RunEnd` of a row `r` of `runs`, or null if the run has not ended."""
_STATE_UPDATES = ", ".join(f"{column} = excluded.{column}" for column in ("seq", *NODE_STATE_COLUMNS))
_GROUP = f"""
WITH entry AS (
    SELECT * FROM {_unnest(_RUNS, 1)}
), locked AS (
    SELECT r.id FROM runs r JOIN entry e USING (id)
    WHERE r.epoch = e.epoch AND r.status IN {sql_list(LEASED)} AND (e.expected IS NULL OR r.status = e.expected)
        -- After a lost connection the statement is sent again: runs that carry its mark are already written.
        AND r.written_by IS DISTINCT FROM {_MARK}
    ORDER BY r.id FOR NO KEY UPDATE OF r
), run AS (
    UPDATE runs r SET
        last_seq = r.last_seq + e.events,
        stored_bytes = r.stored_bytes + e.bytes,
        written_by = {_MARK},
        written_seq = r.last_seq + e.events,
        progress = coalesce(e.progress, r.progress),
        status = coalesce(e.status, r.status),
        -- The reason of a cancel stays readable after the code has stopped.
        status_message = CASE WHEN e.status IS NULL THEN r.status_message
            WHEN e.status = 'CANCELLED' THEN coalesce(e.message, r.cancel_reason) ELSE e.message END,
        output = CASE WHEN e.status IS NULL THEN r.output ELSE e.output::json END,
        -- A failure is durable with the superstep that failed; the status follows when the code has stopped.
        error = coalesce(e.error::json, r.error),
        worker_id = CASE WHEN e.status IS NULL THEN r.worker_id END,
        lease_until = CASE WHEN e.status IS NULL THEN r.lease_until END,
        finished_at = CASE WHEN e.status IN {sql_list(TERMINAL)} THEN now() ELSE r.finished_at END,
        cancelled_at = CASE WHEN e.status = 'CANCELLED' THEN now() ELSE r.cancelled_at END,
        paused_at = CASE WHEN e.status = 'PAUSED' THEN now() ELSE r.paused_at END,
        -- A released run keeps its place where runs are executed one after another.
        queued_at = CASE WHEN e.status = 'QUEUED' AND r.lane_limit IS DISTINCT FROM 1 THEN now() ELSE r.queued_at END,
        -- An answer that arrived meanwhile has set wake_at to now: least() keeps it.
        wake_at = CASE WHEN e.status = 'WAITING' THEN least(r.wake_at, e.wake_at) ELSE r.wake_at END,
        -- greatest() ignores null. No deadline is earlier than the timer that ends the rest.
        deadline_at = CASE WHEN e.status IN ('PAUSED', 'WAITING')
            THEN greatest(now(), e.wake_at) + make_interval(secs => {_IDLE_LIMIT_S})
            WHEN e.status IS NULL THEN r.deadline_at END,
        takeup = CASE WHEN e.status = 'QUEUED' THEN r.takeup + 1 ELSE r.takeup END
    FROM entry e JOIN locked USING (id)
    WHERE r.id = e.id AND r.epoch = e.epoch AND (e.expected IS NULL OR r.status = e.expected)
    RETURNING r.id, r.last_seq - e.events AS base, r.project_id, {ENDED}
), new_events AS (
    {_insert("events", _EVENTS)}
), new_states AS (
    {_insert("node_states", _STATES)}
    ON CONFLICT (run_id, node_id) DO UPDATE SET
        {_STATE_UPDATES}, output_seq = coalesce(excluded.output_seq, node_states.output_seq)
), new_outputs AS (
    {_insert("node_outputs", _OUTPUTS)}
), new_checkpoints AS (
    {_insert("checkpoints", _CHECKPOINTS)}
)
"""
_WAITS = f""", new_waits AS (
    {_insert("waits", _OPENED_WAITS)}
), settled_waits AS (
    UPDATE waits w SET settled_seq = run.base + x.settled_seq FROM {_rows(_SETTLED_WAITS)} WHERE w.id = x.id
)
"""
# Threads are locked in the order of their keys, so that two groups cannot deadlock. A thread that was
# deleted since the run has begun is made anew.
_APPEND = f""", message AS MATERIALIZED (
    SELECT run.project_id, {", ".join(f"{_value(name, type)} AS {name}" for name, type in _MESSAGES.items())},
        count(*) OVER (PARTITION BY run.project_id, x.key) AS count,
        row_number() OVER (PARTITION BY run.project_id, x.key ORDER BY x.place) AS rank
    FROM {_rows(_MESSAGES)}
), thread AS (
    INSERT INTO threads AS t (id, project_id, key, last_number)
    SELECT min(thread_id), project_id, key, count(*) FROM message GROUP BY project_id, key ORDER BY project_id, key
    ON CONFLICT (project_id, key) DO UPDATE
        SET last_number = t.last_number + excluded.last_number, updated_at = now()
    RETURNING t.id, t.project_id, t.key, t.last_number
), new_messages AS (
    INSERT INTO thread_messages (thread_id, number, run_id, run_seq, node_id, visit, role, content, tokens)
    SELECT t.id, t.last_number - m.count + m.rank, m.run_id, m.run_seq, m.node_id, m.visit, m.role, m.content, m.tokens
    FROM message m JOIN thread t USING (project_id, key)
)
"""
_RESULT = "SELECT id, base, project_id, ended FROM run"
GROUP = _GROUP + _RESULT
GROUP_WITH_WAITS = _GROUP + _WAITS + _RESULT
"""For groups in which a wait is opened or settled.

Few groups do, and the others need not pay for it.
"""
GROUP_WITH_MESSAGES = _GROUP + _WAITS + _APPEND + _RESULT
"""For groups in which a message is appended to a thread."""


@dataclass(slots=True)
class Batch:
    """All entries of one run in one group.

    Only the last one may carry a status change, which may be refused.
    """

    run_id: str
    entries: list[Entry] = field(default_factory=list)
    weight: int = 0
    encoded: list[EncodedEvent] = field(default_factory=list)
    """The events of all entries, in order. `statement` encodes them."""


@dataclass(frozen=True, slots=True)
class WrittenRun:
    """A run that a group has written."""

    base: int
    """The number before its first event of the group."""
    project_id: str
    end: RunEnd | None
    """How the run has ended, if the group has ended it."""

    @classmethod
    def of(cls, row: Any, base: int) -> "WrittenRun":
        """Read a row with the columns `project_id` and `ended`."""
        return cls(base, row["project_id"], None if row["ended"] is None else RunEnd(**row["ended"]))


class _Arrays:
    """The rows of one table as the arrays that `unnest` takes, one a column."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        self.arrays: list[list[Any]] = [[] for _ in columns]

    def add(self, *row: Any) -> None:
        for array, value in zip(self.arrays, row, strict=True):
            array.append(value)


def statement(batches: Sequence[Batch], mark: int, idle_limit_s: float | None) -> tuple[str, list[Any]]:
    """Build the statement that commits a group.

    Args:
        batches: The group, one batch a run.
        mark: A number that no other group has; it is stored with the runs that the statement wrote.
        idle_limit_s: How long a run may be PAUSED or WAITING before its deadline, in seconds; None
            for no deadline.

    Returns:
        The SQL and its arguments. Its rows are (id, base, project_id, ended) of the runs that were
        written; the events of a run have the numbers `base + 1`, `base + 2` and so on.
    """
    plain = _arguments(batches, mark, idle_limit_s)
    entries = [entry for batch in batches for entry in batch.entries]
    if any(entry.messages for entry in entries):
        return GROUP_WITH_MESSAGES, [*plain, *_wait_arguments(batches), *_message_arguments(batches)]
    if not any(entry.opened_waits or entry.settled_wait_ids for entry in entries):
        return GROUP, plain
    return GROUP_WITH_WAITS, [*plain, *_wait_arguments(batches)]


def _message_arguments(batches: Sequence[Batch]) -> list[list[Any]]:
    rows, place = _Arrays(_MESSAGES), 0
    for batch in batches:
        last_event = 0
        for entry in batch.entries:
            last_event += len(entry.events_to_write)
            for key, node_id, visit, message in entry.messages:
                place += 1
                tokens = estimate_tokens([message.content])
                thread_id = new_id(Prefix.THREAD)
                row = (thread_id, key, place, last_event, node_id, visit, message.role, message.content, tokens)
                rows.add(batch.run_id, *row)
    return rows.arrays


def _wait_arguments(batches: Sequence[Batch]) -> list[list[Any]]:
    opened, settled = _Arrays(_OPENED_WAITS), _Arrays(_SETTLED_WAITS)
    for batch in batches:
        places = list(accumulate(len(entry.events_to_write) for entry in batch.entries))
        ends = {
            wait_id: place
            for entry, place in zip(batch.entries, places, strict=True)
            for wait_id in entry.settled_wait_ids
        }
        for entry, place in zip(batch.entries, places, strict=True):
            for wait in entry.opened_waits:
                # The UPDATE that settles waits does not see rows that the same statement inserts.
                _add_wait(opened, entry, wait, place, ends.pop(wait.id, None))
        for wait_id, place in ends.items():
            settled.add(batch.run_id, wait_id, place)
    return [*opened.arrays, *settled.arrays]


def _add_wait(opened: _Arrays, entry: Entry, wait: OpenWait, place: int, settled: int | None) -> None:
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
        None if wait.answerers is None else _json(wait.answerers.to_json()),
        wait.event_name,
        wait.event_key,
        wait.kind is WaitKind.EVENT,
        settled,
    )


def _arguments(batches: Sequence[Batch], mark: int, idle_limit_s: float | None) -> list[Any]:
    runs, events, states, outputs = _Arrays(_RUNS), _Arrays(_EVENTS), _Arrays(_STATES), _Arrays(_OUTPUTS)
    checkpoints = _Arrays(_CHECKPOINTS)
    for batch in batches:
        latest: dict[str, tuple[int, NodeState, int | None]] = {}
        place = size = 0
        batch.encoded.clear()
        for entry in batch.entries:
            for at, data in entry.events_to_write:
                place += 1
                event = encode(at, data)
                batch.encoded.append(event)
                size += EVENT_BYTES + len(event.body)
                events.add(batch.run_id, place, data.type.value, at, data.node_id, event.body.decode())
                if isinstance(data, NodeChange):
                    size += _add_state(outputs, latest, entry, place, data.state, event)
            size += _add_checkpoint(checkpoints, entry, place)
            size += sum(len(appended.message.content) for appended in entry.messages)
        for state_place, state, output_place in latest.values():
            states.add(state.run_id, state.node_id, state_place, output_place, *node_state_values(state, _json))
        _add_run(runs, batch, place, size)
    tables = (events, states, outputs, checkpoints)
    return [*runs.arrays, mark, idle_limit_s, *(array for table in tables for array in table.arrays)]


def _add_run(runs: _Arrays, batch: Batch, count: int, size: int) -> None:
    last = batch.entries[-1]
    progress = next((entry.progress for entry in reversed(batch.entries) if entry.progress is not None), None)
    change = last.change
    failure = next((entry.failure for entry in reversed(batch.entries) if entry.failure is not None), None)
    failure = change.error if change is not None else failure
    error = _json(error_body(failure)) if failure is not None else None
    if change is None:
        runs.add(batch.run_id, last.epoch, count, size, progress, None, None, None, None, error, None)
        return
    output = _json(change.output) if change.status is RunStatus.COMPLETED else None
    runs.add(
        batch.run_id,
        last.epoch,
        count,
        size + len(output or ""),
        progress,
        change.expected.value,
        change.status.value,
        None if change.message is None else clean_text(change.message),
        output,
        error,
        change.wake_at,
    )


def _add_state(
    outputs: _Arrays,
    latest: dict[str, tuple[int, NodeState, int | None]],
    entry: Entry,
    place: int,
    state: NodeState,
    event: EncodedEvent,
) -> int:
    """Remember the node's latest state of the group, and add a row for its stored values.

    Return the bytes of these values.
    """
    before = latest.get(state.node_id)
    output_place = before[2] if before else None
    if is_stored(state):
        output_place = place
        input = None if event.input is None else event.input.decode()
        output = None if event.output is None else event.output.decode()
        outputs.add(entry.run_id, place, state.node_id, state.visits, entry.lineage, input, output)
    latest[state.node_id] = (place, state, output_place)
    return len(event.input or b"") + len(event.output or b"") if output_place == place else 0


def _add_checkpoint(checkpoints: _Arrays, entry: Entry, place: int) -> int:
    """Add the row of a checkpoint, if the entry has one. Return its bytes."""
    record = entry.checkpoint
    if record is None:
        return 0
    # Its event is the last one of the entry, or the one before the run's status change.
    place -= entry.change is not None
    checkpoints.add(
        entry.run_id,
        place,
        record.id,
        record.parent_id,
        record.step,
        entry.lineage,
        record.is_full,
        record.data,
        _json(record.next_nodes),
        record.steps,
    )
    return len(record.data) + len(record.steps or b"")


def _json(value: JSON) -> str:
    return orjson.dumps(value).decode()
