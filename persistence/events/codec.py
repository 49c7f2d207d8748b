"""Codecs of events and node states, for rows and for payloads of Redis stream entries.

A node's input and output are stored once, in `node_outputs`, under the number of the event that
settled the node. An event's body only says that they exist; a stream payload carries them while
they are small, so that live readers need no query. Plain fields of `NodeState` follow from the
columns of `node_states`; only a JSON column needs code here. The body of a node's event leaves out
what most events have: a first visit that has completed at the moment of the event. Texts lose the
characters that Postgres cannot store, since every store is behind this module. It is pure: it stores
nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, NamedTuple, assert_never

import orjson
from sqlalchemy import make_url

from engine.events import (
    CheckpointSaved,
    EdgeVisits,
    Event,
    EventData,
    LiveDelta,
    LogRecorded,
    NodeChange,
    NodeState,
    OutputDelta,
    RunError,
    StatusChange,
    Usage,
)
from engine.states import EXECUTED, FINISHED, EventType, LogLevel, NodeStatus, RunStatus
from engine.types import JSON
from engine.values.storable import clean_json, clean_text
from persistence.db.tables import node_states

INLINE_LIMIT = 16 * 1024
"""Input and output together, in bytes of JSON, up to which a payload carries them."""

_KEYS = ("run_id", "node_id", "seq", "output_seq")
_JSON_COLUMNS = ("error", "usage", "edges")
_PLAIN_COLUMNS = tuple(str(c.name) for c in node_states.columns if c.name not in (*_KEYS, *_JSON_COLUMNS))
_POSTGRES = make_url("postgresql+asyncpg://").get_dialect()()
NODE_STATE_COLUMNS = {
    name: node_states.columns[name].type.compile(_POSTGRES).lower() for name in (*_PLAIN_COLUMNS, *_JSON_COLUMNS)
}
"""The columns of `node_states` that hold the `NodeState` field of the same name.

The values are their Postgres types. Every INSERT and SELECT of the table is made from this mapping.
Its order is the order of `node_state_values`.
"""
NODE_STATE_ROW = (*_KEYS, *NODE_STATE_COLUMNS)
"""All columns of `node_states`, in the order that `node_state_of` reads."""
_TIMESTAMPS = tuple(name for name, type in NODE_STATE_COLUMNS.items() if type.startswith("timestamp"))
_raw_values: Callable[[NodeState], tuple[Any, ...]] = attrgetter(*_PLAIN_COLUMNS)
_OPTIONAL_COLUMNS = tuple(
    name for name in _PLAIN_COLUMNS if name not in ("status", "visits", "attempt", "progress", *_TIMESTAMPS)
)
_optional_values: Callable[[NodeState], tuple[Any, ...]] = attrgetter(*_OPTIONAL_COLUMNS)
_MICROSECOND = timedelta(microseconds=1)


def _plain_values(state: NodeState) -> list[Any]:
    """Return one value for each of _PLAIN_COLUMNS."""
    return [clean_text(value) if type(value) is str else value for value in _raw_values(state)]


def is_stored(state: NodeState) -> bool:
    """Whether this change has a row in `node_outputs` at its own seq.

    It has one for an output, and for the input of a finished node.
    """
    return state.has_output or (state.status in FINISHED and state.input is not None)


def error_body(error: RunError | None) -> dict[str, JSON] | None:
    """Encode an error for `runs.error`, `node_states.error` and event bodies."""
    if error is None:
        return None
    return {
        "code": clean_text(error.code),
        "message": clean_text(error.message),
        "node_id": error.node_id,
        "retryable": error.retryable,
        "details": clean_json(error.details),
    }


def error_of(body: dict[str, Any] | None) -> RunError | None:
    """Decode what `error_body` returned."""
    return None if body is None else RunError(**body)


def usage_body(usage: Usage | None) -> dict[str, JSON] | None:
    """Encode the usage of a node for `node_states.usage` and event bodies."""
    return None if usage is None else {**asdict(usage), "model": clean_text(usage.model)}


def usage_of(body: dict[str, Any] | None) -> Usage | None:
    """Decode what `usage_body` returned."""
    return None if body is None else Usage(**body)


def _edges_body(edges: Sequence[EdgeVisits]) -> list[JSON]:
    # orjson does not encode named tuples.
    return [list(edge) for edge in edges]


def edges_of(body: list[Any] | None) -> tuple[EdgeVisits, ...] | None:
    """Decode the edges of a node from `node_states.edges` and event bodies."""
    return None if body is None else tuple(EdgeVisits(*edge) for edge in body)


def _unchanged(body: JSON) -> JSON:
    return body


def node_state_values(state: NodeState, encode: Callable[[JSON], Any] = _unchanged) -> tuple[Any, ...]:
    """Return one value for each of NODE_STATE_COLUMNS.

    `encode` is applied to the JSON ones that are not None.
    """
    error, usage = state.error, state.usage
    return (
        *_plain_values(state),
        None if error is None else encode(error_body(error)),
        None if usage is None else encode(usage_body(usage)),
        None if state.edges is None else encode(_edges_body(state.edges)),
    )


def node_state_row(state: NodeState, seq: int, output_seq: int | None) -> dict[str, Any]:
    """Return the whole row of `node_states` for SQLAlchemy, JSON as Python objects."""
    columns = dict(zip(NODE_STATE_COLUMNS, node_state_values(state), strict=True))
    return {"run_id": state.run_id, "node_id": state.node_id, "seq": seq, "output_seq": output_seq, **columns}


def node_state_of(row: Sequence[Any]) -> NodeState:
    """Decode a row of NODE_STATE_ROW. By position, because a page of runs has hundreds of them."""
    run_id, node_id, seq, output_seq, *values = row
    fields = dict(zip(NODE_STATE_COLUMNS, values, strict=True))
    fields["status"] = NodeStatus(fields["status"])
    fields["error"], fields["usage"] = error_of(fields["error"]), usage_of(fields["usage"])
    fields["edges"] = edges_of(fields["edges"])
    # The output of an earlier visit is not the output of a node in its next visit; events say the
    # same.
    has_output = output_seq == seq
    output_seq = output_seq if has_output else None
    return NodeState(run_id, node_id, has_output=has_output, seq=seq, output_seq=output_seq, **fields)


def body_of(data: EventData, at: datetime | None = None) -> dict[str, JSON]:
    """Encode an event for `events.body`.

    Type, node id, number and moment have columns of their own. `at` is the moment in the column;
    None if Postgres sets it.
    """
    match data:
        case NodeChange():
            return _state_body(data.state, at)
        case StatusChange():
            return {"status": data.status, "previous": data.previous, "message": clean_text(data.message)}
        case CheckpointSaved():
            return {"checkpoint_id": data.checkpoint_id, "step": data.step}
        case LogRecorded():
            return {"level": data.level, "message": clean_text(data.message), "fields": clean_json(data.fields)}
        case _:
            assert_never(data)


def _state_body(state: NodeState, at: datetime | None) -> dict[str, JSON]:
    status = state.status
    body: dict[str, Any] = {} if status is NodeStatus.COMPLETED else {"status": status}
    if state.visits != 1:
        body["visits"] = state.visits
    if state.attempt != 1:
        body["attempt"] = state.attempt
    if state.progress != (status is NodeStatus.COMPLETED):
        body["progress"] = state.progress
    for name, value in zip(_OPTIONAL_COLUMNS, _optional_values(state), strict=False):
        if value is not None:
            body[name] = clean_text(value) if type(value) is str else value
    _add_times(body, state, at)
    if state.has_output is not (status in EXECUTED):
        body["has_output"] = state.has_output
    if (stored := is_stored(state)) is not state.has_output:
        body["stored"] = stored
    if state.error is not None:
        body["error"] = error_body(state.error)
    if state.usage is not None:
        body["usage"] = usage_body(state.usage)
    if state.edges is not None:
        body["edges"] = _edges_body(state.edges)
    if state.output_seq is not None:
        # Set where a rewind restores a state: its values stay where they were stored.
        body["output_seq"] = state.output_seq
    return body


def _add_times(body: dict[str, Any], state: NodeState, at: datetime | None) -> None:
    """Add the start as the microseconds up to the event, and an end that is not its moment."""
    began, ended = state.started_at, state.completed_at
    if began is not None and at is not None:
        body["took"] = (at - began) // _MICROSECOND
    elif began is not None:
        body["started_at"] = began.isoformat()
    if at is None or ended != (at if state.status in EXECUTED else None):
        body["completed_at"] = None if ended is None else ended.isoformat()


def data_of(
    type: EventType | str, node_id: str | None, body: dict[str, Any], run_id: str, seq: int, at: datetime
) -> EventData:
    """Decode what `body_of` returned. `at` is the moment of the event.

    A node's values are set if the payload carried them; else see `output_seq`.
    """
    match EventType(type):
        case EventType.RUN_STATUS:
            previous = body["previous"]
            return StatusChange(RunStatus(body["status"]), previous and RunStatus(previous), body["message"])
        case EventType.NODE_STATE:
            return NodeChange(_state_of(node_id or "", body, run_id, seq, at))
        case EventType.CHECKPOINT:
            return CheckpointSaved(body["checkpoint_id"], body["step"])
        case EventType.LOG:
            return LogRecorded(LogLevel(body["level"]), body["message"], node_id, body["fields"])
        case live:
            raise ValueError(f"an event of the type {live} is never stored")


def _state_of(node_id: str, body: dict[str, Any], run_id: str, seq: int, at: datetime) -> NodeState:
    status = NodeStatus(body.get("status", NodeStatus.COMPLETED))
    fields = _plain_fields(body, status, at)
    has_output: bool = body.get("has_output", status in EXECUTED)
    if values := body.get("values"):
        fields["input"], fields["output"] = values
    elif body.get("is_stored", body.get("stored", has_output)):
        fields["output_seq"] = body.get("output_seq", seq)
    fields["error"], fields["usage"] = error_of(body.get("error")), usage_of(body.get("usage"))
    fields["edges"] = edges_of(body.get("edges"))
    return NodeState(run_id, node_id, has_output=has_output, seq=seq, **fields)


def _plain_fields(body: dict[str, Any], status: NodeStatus, at: datetime) -> dict[str, Any]:
    # An event that is older than a column does not have it: the field keeps its default.
    fields = {name: body[name] for name in _PLAIN_COLUMNS if name in body}
    for name in _TIMESTAMPS:
        if (moment := fields.get(name)) is not None:
            fields[name] = datetime.fromisoformat(moment)
    if "is_stored" not in body:  # Older releases have stored every field that is not None.
        fields = {"visits": 1, "attempt": 1, "progress": float(status is NodeStatus.COMPLETED), **fields}
        if (took := body.get("took")) is not None:
            fields["started_at"] = at - took * _MICROSECOND
        if status in EXECUTED:
            fields.setdefault("completed_at", at)
    fields["status"] = status
    return fields


class EncodedEvent(NamedTuple):
    """An event whose JSON is made once, for its row and for its stream entry.

    `input` and `output` are the values of the event's row in `node_outputs`; both are None if it has
    none.
    """

    at: datetime
    data: EventData
    body: bytes
    input: bytes | None
    output: bytes | None

    def payload(self) -> bytes:
        """Encode the event for a stream entry. It carries the values of a node if they are small."""
        data = self.data
        entry: dict[str, Any] = {"type": data.type, "at": self.at, "node_id": data.node_id}
        entry["body"] = orjson.Fragment(self.body)
        if self._has_small_values:
            entry["values"] = [None if value is None else orjson.Fragment(value) for value in (self.input, self.output)]
        return orjson.dumps(entry)

    @property
    def _has_small_values(self) -> bool:
        is_elsewhere = isinstance(self.data, NodeChange) and self.data.state.output_seq is not None
        size = len(self.input or b"") + len(self.output or b"")
        return not is_elsewhere and 0 < size <= INLINE_LIMIT


def encode(at: datetime, data: EventData) -> EncodedEvent:
    """Encode an event with the moment `at` in its row."""
    input = output = None
    if isinstance(data, NodeChange) and is_stored(data.state):
        state = data.state
        input = None if state.input is None else orjson.dumps(state.input)
        output = orjson.dumps(state.output) if state.has_output else None
    return EncodedEvent(at, data, orjson.dumps(body_of(data, at)), input, output)


def payload_of(at: datetime, data: EventData) -> bytes:
    """Encode an event for a stream entry. `at` is the moment in the event's row."""
    return encode(at, data).payload()


def events_of(run_id: str, last_seq: int, payload: bytes) -> list[Event]:
    """Decode a JSON list of what `payload_of` returned: the events of a run up to `last_seq`.

    Raises:
        ValueError, TypeError, KeyError: For a payload that this module did not write.
    """
    entries = orjson.loads(payload)
    return [_event(run_id, seq, entry) for seq, entry in enumerate(entries, last_seq - len(entries) + 1)]


def _event(run_id: str, seq: int, entry: dict[str, Any]) -> Event:
    body, at = entry["body"], datetime.fromisoformat(entry["at"])
    if "values" in entry:
        body["values"] = entry["values"]
    return Event(run_id, seq, at, data_of(entry["type"], entry["node_id"], body, run_id, seq, at))


def delta_payload(at: datetime, delta: OutputDelta) -> bytes:
    """Encode streamed text for a stream entry."""
    return orjson.dumps({"at": at, **asdict(delta)})


def delta_of(run_id: str, seq: int, payload: bytes) -> LiveDelta:
    """Decode what `delta_payload` returned. Raises the errors of `events_of`."""
    fields = orjson.loads(payload)
    at = datetime.fromisoformat(fields.pop("at"))
    return LiveDelta(run_id, seq, at, OutputDelta(**fields))
