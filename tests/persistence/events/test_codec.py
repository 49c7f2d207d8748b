"""Node states in events and in rows: every field is stored, and old events stay readable."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from engine.events import EdgeVisits, Event, NodeChange, NodeState, RunError, Usage
from engine.states import EXECUTED, EventType, NodeStatus
from persistence.db.tables import node_states
from persistence.events import codec
from resolvers.runs.queries import NodeView

STORED_ELSEWHERE = {"input", "output"}
"""In `node_outputs`."""
DERIVED = {"has_output"}
"""From `seq` and `output_seq`."""


def test_every_field_of_a_node_state_has_a_column_and_every_column_a_field() -> None:
    names = {field.name for field in fields(NodeState)}
    assert set(codec.NODE_STATE_ROW) == names - STORED_ELSEWHERE - DERIVED
    assert set(codec.NODE_STATE_ROW) == {column.name for column in node_states.columns}
    assert all(hasattr(NodeView, name) for name in names)


AT = datetime(2026, 12, 2, 9, 30, 1, 123_456, tzinfo=UTC)
BEFORE = AT - timedelta(milliseconds=57, microseconds=3)
ERROR = RunError("NODE", "no", "a", retryable=True, details={"at": [1]})
STATES: dict[str, NodeState] = {
    "a first visit": NodeState("", "a", NodeStatus.COMPLETED, 1, 1, 1.0, started_at=BEFORE, completed_at=AT),
    "a later visit": NodeState("", "a", NodeStatus.COMPLETED, 7, 2, 1.0, started_at=BEFORE, completed_at=AT, port="x"),
    "an earlier end": NodeState("", "a", NodeStatus.COMPLETED, 1, 1, 1.0, completed_at=BEFORE),
    "no end": NodeState("", "a", NodeStatus.COMPLETED, 1, 1, 1.0),
    "a clock that went back": NodeState("", "a", NodeStatus.RUNNING, 1, 1, 0.5, started_at=AT + timedelta(hours=1)),
    "failed": NodeState("", "a", NodeStatus.FAILED, 1, 3, 0.25, error=ERROR, started_at=BEFORE, completed_at=AT),
    "running": NodeState("", "a", NodeStatus.RUNNING, 1, 1, message="half", partial_output="te", started_at=AT),
    "skipped": NodeState("", "a", NodeStatus.SKIPPED, edges=(EdgeVisits(3, 2, False),)),
    "cancelled": NodeState("", "a", NodeStatus.CANCELLED, 1, completed_at=AT, usage=Usage("m", 1, 2, 0.5)),
    "idle": NodeState("", "a", NodeStatus.IDLE),
}


@pytest.mark.parametrize("has_moment", [True, False])
@pytest.mark.parametrize("name", STATES)
def test_a_state_is_the_same_after_its_event(name: str, has_moment: bool) -> None:
    """Without a moment, Postgres sets that of the row."""
    given = STATES[name]
    has_output = given.status in EXECUTED
    for state in (given, replace(given, has_output=has_output), replace(given, has_output=not has_output)):
        body = orjson.loads(orjson.dumps(codec.body_of(NodeChange(state), AT if has_moment else None)))
        at = AT if has_moment else AT + timedelta(seconds=9)
        change = codec.data_of(EventType.NODE_STATE, "a", body, "", 7, at)
        assert change == NodeChange(replace(state, seq=7, output_seq=7 if codec.is_stored(state) else None))


def test_a_stream_entry_has_the_state_with_small_values_only() -> None:
    state = replace(STATES["a first visit"], has_output=True, input={"q": 1}, output="ä")
    large = replace(state, output="x" * codec.INLINE_LIMIT)
    payload = b"[" + codec.payload_of(AT, NodeChange(state)) + b"," + codec.payload_of(AT, NodeChange(large)) + b"]"
    first, second = codec.events_of("", 8, payload)
    assert first == Event("", 7, AT, NodeChange(replace(state, seq=7)))
    assert second == Event("", 8, AT, NodeChange(replace(large, seq=8, output_seq=8, input=None, output=None)))


def test_the_event_of_a_quick_node_stores_only_its_duration() -> None:
    state = replace(STATES["a first visit"], has_output=True, output=1)
    assert codec.body_of(NodeChange(state), AT) == {"took": 57_003}


def test_an_event_of_an_older_release_is_readable() -> None:
    body = {"status": "RUNNING", "visits": 2, "started_at": BEFORE.isoformat(), "error": None}
    body |= {"has_output": False, "is_stored": False}
    change = codec.data_of(EventType.NODE_STATE, "a", body, "run_1", 7, AT)
    # A column that is younger than the event has its default.
    assert change == NodeChange(NodeState("run_1", "a", NodeStatus.RUNNING, visits=2, started_at=BEFORE, seq=7))
    body |= {"status": "COMPLETED", "has_output": True, "is_stored": True}
    change = codec.data_of(EventType.NODE_STATE, "a", body, "run_1", 7, AT)
    assert isinstance(change, NodeChange)
    assert (change.state.attempt, change.state.completed_at, change.state.output_seq) == (0, None, 7)
