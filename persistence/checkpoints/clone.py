"""Runs whose head is a copy: retries from the failed nodes on, and forks. Written in the transaction that accepts the run.

A copied node has an event and its output at that event's number, as if it had run here; then comes one whole checkpoint. So
whoever reads or drives the run needs to know nothing of this. A crash leaves the whole copy, or no run at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from langgraph.checkpoint.base.id import uuid6
from sqlalchemy import ARRAY, Integer, bindparam, insert, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.events import CheckpointSaved, Event, NodeChange, NodeState, StatusChange
from engine.graph.channels import NODE_RECORDS, NodeRecord
from engine.states import EXECUTED, EventType, NodeStatus, progress_of
from engine.types import JSON
from persistence.checkpoints.codec import CheckpointDelta, pack
from persistence.checkpoints.loader import checkpoint_id
from persistence.checkpoints.snapshots import HeadSnapshot, Kept
from persistence.db.tables import checkpoints, events, node_outputs, node_states, runs
from persistence.events import codec
from persistence.runs.run import CommandResult, run_of

PATCHED = "Output given by a patch"


@dataclass(frozen=True, slots=True)
class Copy:
    """What the new run begins with. `values` are the channels of its checkpoint, `due` the nodes and channels to go on with."""

    stand: HeadSnapshot
    values: dict[str, Any]
    due: tuple[list[str], list[str]]
    kept: Mapping[str, Kept]
    total: int
    """How many nodes its spec has."""
    patch: Mapping[str, JSON] = field(default_factory=dict)

    @property
    def slots(self) -> dict[str, NodeRecord]:
        found: dict[str, NodeRecord] = self.values[NODE_RECORDS]
        return found

    @property
    def running(self) -> list[str]:
        return [node_id for node_id, slot in self.slots.items() if slot.status is NodeStatus.RUNNING]

    @property
    def progress(self) -> float:
        return progress_of((slot.status for slot in self.slots.values()), self.total)


def last_visit(slot: NodeRecord) -> int:
    """The last visit of a node that has ended."""
    return slot.visits - (slot.status is NodeStatus.RUNNING)


def as_told(slot: NodeRecord, kept: Kept | None) -> NodeRecord:
    """The slot with the status that its last visit really ended with."""
    if kept is None or kept.visit != slot.visits or slot.status not in EXECUTED:
        return slot
    return replace(slot, status=NodeStatus(kept.body["status"]))


async def derive(
    connection: AsyncConnection,
    accepted: CommandResult,
    message: str,
    copy: Copy | None = None,
    *,
    retry_of: str | None = None,
    forked_from: str | None = None,
) -> CommandResult:
    """Makes of a run that this transaction has accepted one that was derived: with a head, if there is a copy to begin with."""
    last_seq = accepted.run.last_seq
    values: dict[str, Any] = {}
    if copy is not None:
        last_seq = await _write(connection, accepted.run.id, last_seq, copy)
        values = {"resumed_step": copy.stand.step, "progress": copy.progress}
    found = await connection.execute(
        update(runs)
        .where(runs.c.id == accepted.run.id)
        .values(last_seq=last_seq, retry_of_id=retry_of, forked_from_id=forked_from, **values)
        .returning(runs)
    )
    run = run_of(found.mappings().one())
    told = StatusChange(run.status, None, message)
    of_first = (events.c.run_id == run.id, events.c.seq == 1)
    await connection.execute(update(events).where(*of_first).values(body=codec.body_of(told)))
    # The copied nodes are not published one by one: a reader finds the gap, and reads them.
    *others, own = accepted.transitions
    own = replace(own, events=(Event(run.id, 1, run.created_at, told),))
    return replace(accepted, run=run, transitions=(*others, own))


async def _write(connection: AsyncConnection, run_id: str, seq: int, copy: Copy) -> int:
    """Events, outputs, node states and the checkpoint, numbered after `seq`. Returns the last number."""
    told = _Told(run_id, seq)
    for node_id, one in sorted(copy.kept.items(), key=lambda item: item[1].seq):
        if node_id not in copy.patch:
            told.keep(node_id, one)
    for node_id, slot in copy.slots.items():
        if node_id in copy.patch:
            told.patch(node_id, slot, copy.patch[node_id])
        elif slot.status is NodeStatus.SKIPPED:
            told.skip(node_id, slot)
    graph_id = str(uuid6(clock_seq=copy.stand.step))
    row = _checkpoint(run_id, told.seq + 1, graph_id, copy)
    what = CheckpointSaved(row["id"], row["step"])
    told.events.append(
        {"run_id": run_id, "seq": row["seq"], "type": what.type, "node_id": None, "body": codec.body_of(what)}
    )
    await connection.execute(insert(events), told.events)
    if told.sources:
        await connection.execute(
            _OUTPUTS,
            {"run": run_id, "source": copy.stand.run_id, "old": list(told.sources), "new": list(told.sources.values())},
        )
    if told.outputs:
        await connection.execute(insert(node_outputs), told.outputs)
    if told.states:
        await connection.execute(insert(node_states), list(told.states.values()))
    await connection.execute(insert(checkpoints), row)
    return int(row["seq"])


class _Told:
    """The rows that tell of copied nodes."""

    def __init__(self, run_id: str, seq: int) -> None:
        self.run_id, self.seq = run_id, seq
        self.events: list[dict[str, Any]] = []
        self.states: dict[str, dict[str, Any]] = {}
        self.sources: dict[int, int] = {}
        """Outputs to be copied: the number that each has there, and the one that it gets here."""
        self.outputs: list[dict[str, Any]] = []

    def keep(self, node_id: str, kept: Kept) -> None:
        self._tell(node_id, kept.body)
        self.sources[kept.seq] = self.states[node_id]["output_seq"] = self.seq

    def patch(self, node_id: str, slot: NodeRecord, output: JSON) -> None:
        now = datetime.now(UTC)
        state = NodeState(
            self.run_id,
            node_id,
            NodeStatus.COMPLETED,
            slot.visits,
            attempt=1,
            progress=1.0,
            message=PATCHED,
            output=output,
            has_output=True,
            completed_at=now,
        )
        self._tell(node_id, codec.body_of(NodeChange(state)))
        self.states[node_id]["output_seq"] = self.seq
        place = {"run_id": self.run_id, "seq": self.seq, "node_id": node_id, "visit": slot.visits}
        self.outputs.append({**place, "output": output})

    def skip(self, node_id: str, slot: NodeRecord) -> None:
        state = NodeState(self.run_id, node_id, NodeStatus.SKIPPED, slot.visits)
        before = self.states.get(node_id)
        self._tell(node_id, codec.body_of(NodeChange(state)))
        self.states[node_id]["output_seq"] = before and before["output_seq"]

    def _tell(self, node_id: str, body: dict[str, Any]) -> None:
        self.seq += 1
        place = {"run_id": self.run_id, "seq": self.seq, "node_id": node_id}
        self.events.append({**place, "type": EventType.NODE_STATE, "body": body})
        change = codec.data_of(EventType.NODE_STATE, node_id, body, self.run_id, self.seq)
        assert isinstance(change, NodeChange)
        self.states[node_id] = codec.node_state_row(change.state, self.seq, output_seq=None)


def _checkpoint(run_id: str, seq: int, graph_id: str, copy: Copy) -> dict[str, Any]:
    """One whole checkpoint, of which LangGraph has seen nothing yet: whatever is open is due."""
    nodes, channels = copy.due
    step = copy.stand.step
    delta = CheckpointDelta(
        id=graph_id,
        at=datetime.now(UTC).isoformat(),
        values=copy.values,
        versions=dict.fromkeys(copy.values, 1),
        seen={},
        updated=channels or None,
        metadata={"source": "fork", "step": step, "parents": {}},
    )
    return {
        "run_id": run_id,
        "seq": seq,
        "id": checkpoint_id(graph_id),
        "step": step,
        "is_full": True,
        "data": pack(delta),
        "next_nodes": [*nodes, *copy.running],
    }


_OUTPUTS = text("""
INSERT INTO node_outputs (run_id, seq, node_id, visit, lineage, input, output)
SELECT :run, x.new, o.node_id, o.visit, 0, o.input, o.output
FROM unnest(:old, :new) AS x(old, new) JOIN node_outputs o ON o.run_id = :source AND o.seq = x.old
""").bindparams(bindparam("old", type_=ARRAY(Integer)), bindparam("new", type_=ARRAY(Integer)))
