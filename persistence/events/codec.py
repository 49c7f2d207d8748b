"""How a happening is written: as `events.body`, and as the payload of a Redis stream entry. Pure; it stores nothing.

A node's input and output are kept once, in `node_outputs` at the seq of the event that settled the node; a body only
says that they are there (`is_stored`). A payload carries them along while they are small: live readers need no query.
"""

from dataclasses import asdict
from datetime import datetime
from typing import Any, assert_never

import orjson

from engine.events import (
    CheckpointSaved,
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
from engine.states import FINISHED, EventType, LogLevel, NodeStatus, RunStatus
from engine.types import JSON

INLINE_LIMIT = 16 * 1024
"""Bytes of JSON, input and output together, up to which a payload carries them."""


def is_stored(state: NodeState) -> bool:
    """Whether this change has a row in `node_outputs` at its own seq: an output, or the input of a settled node."""
    return state.has_output or (state.status in FINISHED and state.input is not None)


def error_body(error: RunError | None) -> dict[str, JSON] | None:
    """As kept in `runs.error`, `node_states.error` and event bodies."""
    if error is None:
        return None
    return {
        "code": error.code,
        "message": error.message,
        "node_id": error.node_id,
        "retryable": error.retryable,
        "details": error.details,
    }


def error_of(body: dict[str, Any] | None) -> RunError | None:
    return None if body is None else RunError(**body)


def usage_body(usage: Usage | None) -> dict[str, JSON] | None:
    return None if usage is None else asdict(usage)


def usage_of(body: dict[str, Any] | None) -> Usage | None:
    return None if body is None else Usage(**body)


def body_of(data: EventData) -> dict[str, JSON]:
    """What `events.body` holds: everything but type, node id, number and moment, which have columns."""
    match data:
        case NodeChange():
            return _state_body(data.state)
        case StatusChange():
            return {"status": data.status, "previous": data.previous, "message": data.message}
        case CheckpointSaved():
            return {"checkpoint_id": data.checkpoint_id, "step": data.step}
        case LogRecorded():
            return {"level": data.level, "message": data.message, "fields": data.fields}
        case _:
            assert_never(data)


def _state_body(state: NodeState) -> dict[str, JSON]:
    return {
        "status": state.status,
        "visits": state.visits,
        "attempt": state.attempt,
        "progress": state.progress,
        "message": state.message,
        "partial_output": state.partial_output,
        "error": error_body(state.error),
        "started_at": _text(state.started_at),
        "completed_at": _text(state.completed_at),
        "has_output": state.has_output,
        "is_stored": is_stored(state),
        **({} if state.usage is None else {"usage": usage_body(state.usage)}),
        # Set where a rewind puts a state back: its values stay where they were stored.
        **({} if state.output_seq is None else {"output_seq": state.output_seq}),
    }


def happening_of(type: EventType | str, node_id: str | None, body: dict[str, Any], run_id: str, seq: int) -> EventData:
    """The reverse of `body_of`. A node's values come from the payload if it carried them; else see `output_seq`."""
    match EventType(type):
        case EventType.RUN_STATUS:
            previous = body["previous"]
            return StatusChange(RunStatus(body["status"]), previous and RunStatus(previous), body["message"])
        case EventType.NODE_STATE:
            return NodeChange(_state_of(node_id or "", body, run_id, seq))
        case EventType.CHECKPOINT:
            return CheckpointSaved(body["checkpoint_id"], body["step"])
        case EventType.LOG:
            return LogRecorded(LogLevel(body["level"]), body["message"], node_id, body["fields"])


def _state_of(node_id: str, body: dict[str, Any], run_id: str, seq: int) -> NodeState:
    values = body.get("values")
    return NodeState(
        run_id=run_id,
        node_id=node_id,
        status=NodeStatus(body["status"]),
        visits=body["visits"],
        attempt=body["attempt"],
        progress=body["progress"],
        message=body["message"],
        input=values[0] if values else None,
        output=values[1] if values else None,
        has_output=body["has_output"],
        partial_output=body["partial_output"],
        error=error_of(body["error"]),
        started_at=_moment(body["started_at"]),
        completed_at=_moment(body["completed_at"]),
        usage=usage_of(body.get("usage")),
        seq=seq,
        output_seq=body.get("output_seq", seq) if body["is_stored"] and not values else None,
    )


def payload_of(at: datetime, what: EventData) -> bytes:
    """A stream entry's payload. `at` is the moment in the event's row."""
    body = body_of(what)
    if isinstance(what, NodeChange) and is_stored(what.state) and what.state.output_seq is None:
        values = orjson.dumps([what.state.input, what.state.output])
        if len(values) <= INLINE_LIMIT:
            body["values"] = orjson.Fragment(values)
    return orjson.dumps({"type": what.type, "at": at, "node_id": what.node_id, "body": body})


def events_of(run_id: str, last_seq: int, payload: bytes) -> list[Event]:
    """The reverse of `payload_of`, for a JSON list of payloads: the events up to `last_seq`.

    Raises ValueError, TypeError or KeyError on what we did not write.
    """
    read = orjson.loads(payload)
    return [_event(run_id, seq, one) for seq, one in enumerate(read, last_seq - len(read) + 1)]


def _event(run_id: str, seq: int, read: dict[str, Any]) -> Event:
    what = happening_of(read["type"], read["node_id"], read["body"], run_id, seq)
    return Event(run_id, seq, datetime.fromisoformat(read["at"]), what)


def delta_payload(at: datetime, what: OutputDelta) -> bytes:
    return orjson.dumps({"at": at, **asdict(what)})


def delta_of(run_id: str, seq: int, payload: bytes) -> LiveDelta:
    """The reverse of `delta_payload`. Raises as `events_of` does."""
    read = orjson.loads(payload)
    at = datetime.fromisoformat(read.pop("at"))
    return LiveDelta(run_id, seq, at, OutputDelta(**read))


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
