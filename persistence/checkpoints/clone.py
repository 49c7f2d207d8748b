"""Starts a run from a copy of another run's checkpoint: a retry from the failed nodes, or a fork.

The copy is written in the transaction that accepts the run, so a crash leaves the whole copy or no
run. Each copied node gets an event and, under the number of that event, its output, as if it had
run here. One full checkpoint follows. So readers and executors need no special case for such a run.
Used by the mutations `retryRun` and `forkRun`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from langgraph.checkpoint.base.id import uuid6
from sqlalchemy import ARRAY, Integer, Text, bindparam, cast, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.events import (
    CANCELLED_BEFORE,
    CheckpointSaved,
    EdgeVisits,
    Event,
    EventData,
    NodeChange,
    NodeState,
    StatusChange,
)
from engine.graph.channels import NODE_RECORDS, NodeRecord
from engine.states import EXECUTED, WITHOUT_OUTPUT, EventType, NodeStatus, progress_of
from engine.types import JSON
from persistence.checkpoints.codec import CheckpointDelta, pack
from persistence.checkpoints.loader import checkpoint_id
from persistence.checkpoints.snapshots import HeadSnapshot, VisitResult
from persistence.db.tables import checkpoints, events, node_outputs, node_states, runs
from persistence.events import codec
from persistence.runs.run import RUN_COLUMNS, CommandResult, run_of

PATCHED = "The patch of the fork set this output"
"""The message of a node whose output a patch replaced."""
"""The message of a node that a `join: any` had made superfluous."""


@dataclass(frozen=True, slots=True)
class RunClone:
    """The state that a derived run starts with."""

    snapshot: HeadSnapshot
    """The checkpoint of the other run."""
    values: dict[str, Any]
    """The channel values of the new checkpoint."""
    due: list[str]
    """The nodes that run next."""
    results: Mapping[str, VisitResult]
    """The copied results, by node."""
    node_count: int
    """The number of nodes in the spec of the new run."""
    patch: Mapping[str, JSON] = field(default_factory=dict)
    """Outputs that replace the copied ones, by node."""
    leaves: Mapping[str, tuple[str | None, Sequence[EdgeVisits] | None]] = field(default_factory=dict)
    """The port and the taken edges of each patched node."""
    edge_indexes: Mapping[int, int] | None = None
    """For a run of another version: the index of each edge of the old version in the new one."""

    @property
    def records(self) -> dict[str, NodeRecord]:
        records: dict[str, NodeRecord] = self.values[NODE_RECORDS]
        return records

    @property
    def running_nodes(self) -> list[str]:
        return [node_id for node_id, record in self.records.items() if record.status is NodeStatus.RUNNING]

    @property
    def progress(self) -> float:
        return progress_of((record.status for record in self.records.values()), self.node_count)


def last_visit(record: NodeRecord) -> int:
    """Return the number of the last visit of a node that has ended."""
    return record.visits - (record.status is NodeStatus.RUNNING)


def with_final_status(record: NodeRecord, result: VisitResult | None) -> NodeRecord:
    """Give the record the status of the event with which its last visit ended."""
    if result is None or result.visit != record.visits or record.status not in EXECUTED:
        return record
    return replace(record, status=result.state.status)


async def derive(
    connection: AsyncConnection,
    accepted: CommandResult,
    message: str,
    clone: RunClone | None = None,
    *,
    retry_of: str | None = None,
    forked_from: str | None = None,
) -> CommandResult:
    """Turn a run that this transaction has accepted into a derived one.

    Args:
        connection: The transaction that has accepted the run.
        accepted: The run.
        message: The message of its first event.
        clone: What it starts with. None: it starts like any other run.
        retry_of: The run that it retries.
        forked_from: The checkpoint that it was forked from.

    Returns:
        The run, with its first event as the only one to publish.
    """
    last_seq = accepted.run.last_seq
    values: dict[str, Any] = {}
    if clone is not None:
        last_seq = await _write(connection, accepted.run.id, last_seq, clone)
        copied = func.coalesce(
            select(func.sum(func.coalesce(func.octet_length(cast(node_outputs.c.output, Text)), 0)))
            .where(node_outputs.c.run_id == accepted.run.id)
            .scalar_subquery(),
            0,
        )
        stored_bytes = runs.c.stored_bytes + copied
        values = {"resumed_step": clone.snapshot.step, "progress": clone.progress, "stored_bytes": stored_bytes}
    row = await connection.execute(
        update(runs)
        .where(runs.c.id == accepted.run.id)
        .values(last_seq=last_seq, retry_of_id=retry_of, forked_from_id=forked_from, **values)
        .returning(*RUN_COLUMNS)
    )
    run = run_of(row.mappings().one())
    change = StatusChange(run.status, None, message)
    is_first = (events.c.run_id == run.id, events.c.seq == 1)
    await connection.execute(update(events).where(*is_first).values(body=codec.body_of(change)))
    # The events of copied nodes are not published: a reader notices the gap, and reads them from
    # Postgres.
    *others, own = accepted.transitions
    own = replace(own, events=(Event(run.id, 1, run.created_at, change),))
    return replace(accepted, run=run, transitions=(*others, own))


async def _write(connection: AsyncConnection, run_id: str, seq: int, clone: RunClone) -> int:
    """Write events, outputs, node states and the checkpoint, numbered after `seq`.

    Return the last number.
    """
    rows = _CloneRows(run_id, seq, clone.edge_indexes)
    for node_id, result in sorted(clone.results.items(), key=lambda item: item[1].seq):
        if node_id not in clone.patch:
            rows.copy(node_id, result)
    for node_id, record in clone.records.items():
        if node_id in clone.patch:
            rows.patch(node_id, record, clone.patch[node_id], *clone.leaves.get(node_id, (None, None)))
        if record.status in WITHOUT_OUTPUT:
            rows.set_without_output(node_id, record)
    graph_id = str(uuid6(clock_seq=clone.snapshot.step))
    checkpoint = _checkpoint(run_id, rows.seq + 1, graph_id, clone)
    rows.add_event(checkpoint["seq"], None, CheckpointSaved(checkpoint["id"], checkpoint["step"]))
    await rows.insert(connection, clone.snapshot.run_id)
    await connection.execute(insert(checkpoints), checkpoint)
    return int(checkpoint["seq"])


class _CloneRows:
    """The rows of the copied nodes: events, node states and outputs."""

    def __init__(self, run_id: str, seq: int, edge_indexes: Mapping[int, int] | None) -> None:
        self.run_id, self.seq, self._edge_indexes = run_id, seq, edge_indexes
        self._events: list[dict[str, Any]] = []
        self._states: dict[str, dict[str, Any]] = {}
        self._copied_seqs: dict[int, int] = {}
        """Outputs to copy: the number of each in the other run, and its number here."""
        self._outputs: list[dict[str, Any]] = []

    def copy(self, node_id: str, result: VisitResult) -> None:
        """Copy the result of a visit."""
        self._add(self._with_new_indexes(replace(result.state, run_id=self.run_id, output_seq=None)))
        self._copied_seqs[result.seq] = self._states[node_id]["output_seq"] = self.seq

    def _with_new_indexes(self, state: NodeState) -> NodeState:
        """Return the state of a node with the edges of the new version."""
        if self._edge_indexes is None or state.edges is None:
            return state
        indexes = self._edge_indexes
        edges = (one._replace(edge=indexes[one.edge]) for one in state.edges if one.edge in indexes)
        return replace(state, edges=tuple(edges))

    def patch(
        self,
        node_id: str,
        record: NodeRecord,
        output: JSON,
        port: str | None,
        edges: Sequence[EdgeVisits] | None,
    ) -> None:
        """Complete a node with an output from the patch."""
        state = NodeState(
            self.run_id,
            node_id,
            NodeStatus.COMPLETED,
            record.visits,
            attempt=1,
            progress=1.0,
            message=PATCHED,
            output=output,
            has_output=True,
            completed_at=datetime.now(UTC),
            port=port,
            edges=None if edges is None else tuple(edges),
        )
        self._add(state)
        self._states[node_id]["output_seq"] = self.seq
        key = {"run_id": self.run_id, "seq": self.seq, "node_id": node_id, "visit": record.visits}
        self._outputs.append({**key, "output": output})

    def set_without_output(self, node_id: str, record: NodeRecord) -> None:
        """Set a node to SKIPPED or CANCELLED. It keeps the output of an earlier visit."""
        previous = self._states.get(node_id)
        edges = codec.edges_of(previous["edges"]) if previous else None
        state = NodeState(self.run_id, node_id, record.status, record.visits, edges=edges)
        if record.status is NodeStatus.CANCELLED:
            state = replace(state, message=CANCELLED_BEFORE, completed_at=datetime.now(UTC))
        self._add(state)
        self._states[node_id]["output_seq"] = previous and previous["output_seq"]

    def add_event(self, seq: int, node_id: str | None, data: EventData) -> None:
        self._events.append(_event_row(self.run_id, seq, node_id, data.type, codec.body_of(data)))

    def _add(self, state: NodeState) -> None:
        self.seq += 1
        self.add_event(self.seq, state.node_id, NodeChange(state))
        self._states[state.node_id] = codec.node_state_row(state, self.seq, output_seq=None)

    async def insert(self, connection: AsyncConnection, source_id: str) -> None:
        """Insert all rows. Outputs that are not patched are copied from the run `source_id`."""
        await connection.execute(insert(events), self._events)
        if self._copied_seqs:
            old, new = list(self._copied_seqs), list(self._copied_seqs.values())
            await connection.execute(_COPY_OUTPUTS, {"run": self.run_id, "source": source_id, "old": old, "new": new})
        if self._outputs:
            await connection.execute(insert(node_outputs), self._outputs)
        if self._states:
            await connection.execute(insert(node_states), list(self._states.values()))


def _event_row(run_id: str, seq: int, node_id: str | None, type: EventType, body: dict[str, Any]) -> dict[str, Any]:
    return {"run_id": run_id, "seq": seq, "type": type, "node_id": node_id, "body": body}


def _checkpoint(run_id: str, seq: int, graph_id: str, clone: RunClone) -> dict[str, Any]:
    """Make one full checkpoint. No node has seen any version in it, so all open tasks are due."""
    step = clone.snapshot.step
    delta = CheckpointDelta(
        id=graph_id,
        at=datetime.now(UTC).isoformat(),
        values=clone.values,
        versions=dict.fromkeys(clone.values, 1),
        seen={},
        metadata={"source": "fork", "step": step, "parents": {}},
    )
    return {
        "run_id": run_id,
        "seq": seq,
        "id": checkpoint_id(graph_id),
        "step": step,
        "is_full": True,
        "data": pack(delta),
        "next_nodes": [*clone.due, *clone.running_nodes],
    }


_COPY_OUTPUTS = text("""
INSERT INTO node_outputs (run_id, seq, node_id, visit, lineage, input, output)
SELECT :run, x.new, o.node_id, o.visit, 0, o.input, o.output
FROM unnest(:old, :new) AS x(old, new) JOIN node_outputs o ON o.run_id = :source AND o.seq = x.old
""").bindparams(bindparam("old", type_=ARRAY(Integer)), bindparam("new", type_=ARRAY(Integer)))
