"""The stored form of a node record, which is read by this release and written by earlier ones."""

import pytest

from engine.fork.frontier import Frontier, restart_unfinished
from engine.graph.channels import NodeRecord, records_from
from engine.graph.plan import make_plan
from engine.spec.parser import parse
from engine.states import NodeStatus
from tests.executor_worker import node

S = NodeStatus
RECORDS = [
    NodeRecord(S.RUNNING, 1),
    NodeRecord(S.RUNNING, 2, (3,), attempt=2),
    NodeRecord(S.RETRYING, 1),
    NodeRecord(S.RETRYING, 1, (0, 1), attempt=4),
    NodeRecord(S.WAITING, 1, ()),
    NodeRecord(S.COMPLETED, 3, (2,)),
    NodeRecord(S.SKIPPED, 3, (2,), visited=(S.COMPLETED, (1,))),
    NodeRecord(S.COMPLETED, 3, (1,), undone_skip=(2,)),
]


@pytest.mark.parametrize("record", RECORDS, ids=str)
def test_a_record_is_read_as_it_was_stored(record: NodeRecord) -> None:
    assert records_from({"a": record.pack()}) == {"a": record}


def test_only_a_node_with_attempts_to_come_stores_their_number() -> None:
    assert NodeRecord(S.COMPLETED, 1, attempt=3).pack() == ["COMPLETED", 1, []]
    assert NodeRecord(S.RETRYING, 1, attempt=3).pack() == ["RETRYING", 1, [], 3]


@pytest.mark.parametrize("status", [S.RETRYING, S.RUNNING, S.CANCELLED])
def test_a_new_run_from_a_node_in_its_attempts_begins_with_the_first_one(status: NodeStatus) -> None:
    plan = make_plan(parse({"nodes": [node("a")], "edges": []}))
    frontier = Frontier({"a": NodeRecord(status, 1, attempt=3)})
    assert restart_unfinished(plan, frontier).records["a"] == NodeRecord(S.RUNNING, 1)
