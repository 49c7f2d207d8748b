"""Node states in events and in rows: every field is stored, and old events stay readable."""

from dataclasses import fields

from engine.events import NodeChange, NodeState
from engine.states import EventType, NodeStatus
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


def test_an_event_that_is_older_than_a_column_gives_the_default() -> None:
    state = NodeState("run_1", "a", NodeStatus.RUNNING, visits=2, message="started", seq=7)
    body = codec.body_of(NodeChange(state))
    assert codec.data_of(EventType.NODE_STATE, "a", body, "run_1", 7) == NodeChange(state)
    del body["message"]
    assert "started_at" not in body
    change = codec.data_of(EventType.NODE_STATE, "a", body, "run_1", 7)
    assert isinstance(change, NodeChange)
    assert (change.state.message, change.state.started_at, change.state.visits) == (None, None, 2)
