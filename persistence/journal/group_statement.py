"""The SQL statement that makes a group of journal entries durable, and the columns of its arguments.

Its guarded UPDATE is fence, lock and counter for every writer: it locks the runs in the order of their ids
and raises `last_seq` where the epoch (a fencing token: Kleppmann 2016) and the expected status match. Every
INSERT joins the rows that it returned, so a run that it did not return has had nothing written.
"""

from collections.abc import Mapping
from itertools import accumulate

from engine.states import LEASED, TERMINAL, sql_list
from persistence.events.codec import NODE_STATE_COLUMNS

# The columns of each table that the statement writes, in the order of its arguments. A column's
# type is the Postgres type of its values, or "offset": the place of an event in the group, counted
# from 1, which becomes its `seq`.
RUNS = {
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
EVENTS = {
    "run_id": "text",
    "seq": "offset",
    "type": "text",
    "at": "timestamptz",
    "node_id": "text",
    "body": "json",
}
STATES = {"run_id": "text", "node_id": "text", "seq": "offset", "output_seq": "offset", **NODE_STATE_COLUMNS}
OUTPUTS = {
    "run_id": "text",
    "seq": "offset",
    "node_id": "text",
    "visit": "int",
    "lineage": "int",
    "input": "json",
    "output": "json",
}
CHECKPOINTS = {
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
OPENED_WAITS = {
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
SETTLED_WAITS = {"run_id": "text", "id": "text", "settled_seq": "offset"}
MESSAGES = {
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

_ARRAY_TYPES = {"offset": "int", "json": "text"}
_MARK, _IDLE_LIMIT_S = (f"${len(RUNS) + place}" for place in (1, 2))
_FIRST_EVENT = len(RUNS) + 3
_TABLES = (EVENTS, STATES, OUTPUTS, CHECKPOINTS, OPENED_WAITS, SETTLED_WAITS, MESSAGES)
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
    SELECT * FROM {_unnest(RUNS, 1)}
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
    {_insert("events", EVENTS)}
), new_states AS (
    {_insert("node_states", STATES)}
    ON CONFLICT (run_id, node_id) DO UPDATE SET
        {_STATE_UPDATES}, output_seq = coalesce(excluded.output_seq, node_states.output_seq)
), new_outputs AS (
    {_insert("node_outputs", OUTPUTS)}
), new_checkpoints AS (
    {_insert("checkpoints", CHECKPOINTS)}
)
"""
_WAITS = f""", new_waits AS (
    {_insert("waits", OPENED_WAITS)}
), settled_waits AS (
    UPDATE waits w SET settled_seq = run.base + x.settled_seq FROM {_rows(SETTLED_WAITS)} WHERE w.id = x.id
)
"""
# Threads are locked in the order of their keys, so that two groups cannot deadlock. A thread that was
# deleted since the run has begun is made anew.
_APPEND = f""", message AS MATERIALIZED (
    SELECT run.project_id, {", ".join(f"{_value(name, type)} AS {name}" for name, type in MESSAGES.items())},
        count(*) OVER (PARTITION BY run.project_id, x.key) AS count,
        row_number() OVER (PARTITION BY run.project_id, x.key ORDER BY x.place) AS rank
    FROM {_rows(MESSAGES)}
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
