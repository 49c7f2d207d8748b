"""The steps of a stored checkpoint: due nodes, ids and the stored form."""

from typing import Any

import pytest
from langgraph.types import Send

from engine.graph.channels import NODE_RECORDS, Signal
from engine.runtime.ports import CheckpointStep
from engine.states import NodeStatus
from persistence.db.ids import new_id
from persistence.events.steps import StoredStep, derived_ids, pack_steps, stored_id, unpack_steps, with_stored_ids


def step(due: str = "", **statuses: NodeStatus) -> StoredStep:
    """Return a step that changes these nodes, and after which the nodes `due` are due."""
    records: dict[str, Any] = {name: [status.value, 1, []] for name, status in statuses.items()}
    return StoredStep(1, {NODE_RECORDS: records}, [(name, ()) for name in due])


CHANGES = {
    "a node that ended leads to the next": ("ab", step("c", a=NodeStatus.COMPLETED), ["b", "c"], "bc"),
    "a node that loops is due again": ("a", step("a", a=NodeStatus.COMPLETED), ["a"], "a"),
    "a task that was started goes on": ("ab", step("", a=NodeStatus.RUNNING), ["b", "a"], "b"),
    "a task that ended is gone": ("ab", step("", a=NodeStatus.FAILED), ["b"], "b"),
    "a task in backoff goes on": ("ab", step("c", a=NodeStatus.RETRYING), ["b", "a", "c"], "bc"),
    "a node that waits is gone": ("a", step("", a=NodeStatus.WAITING), [], ""),
    "a cancelled or skipped node is gone": ("ab", step("", a=NodeStatus.CANCELLED, b=NodeStatus.SKIPPED), [], ""),
    "other nodes stay": ("abc", step(""), ["a", "b", "c"], "abc"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_step_changes_the_nodes_that_follow(name: str) -> None:
    before, change, next_nodes, due = CHANGES[name]
    assert change.next_nodes(list(before)) == next_nodes
    sends = change.sends([Send(node_id, Signal(())) for node_id in before])
    assert [send.node for send in sends] == list(due)


def test_steps_are_read_as_they_were_written() -> None:
    values = {NODE_RECORDS: {"a": ["COMPLETED", 2, [1, 0]]}, "gate:b": [[1], [[3, True]], False]}
    steps = [CheckpointStep(2, values, [("b", (1, 0))]), CheckpointStep(5, {NODE_RECORDS: {}}, [])]
    assert unpack_steps(pack_steps(steps, 6)) == [
        StoredStep(5, values, [("b", (1, 0))]),
        StoredStep(2, {NODE_RECORDS: {}}, []),
    ]
    assert unpack_steps(pack_steps([], 6)) == []


def test_the_ids_of_derived_checkpoints_sort_before_the_stored_one_and_lead_to_it() -> None:
    stored = stored_id(new_id("ckp"))
    ids = [*derived_ids(stored, 1023), stored]
    assert ids == sorted(set(ids))
    assert {stored_id(id_) for id_ in ids} == {stored}
    assert with_stored_ids(ids[:2]) == [ids[0], stored, ids[1]]
