"""Reads checkpoints for runs that are derived from them. Nothing here is written.

A checkpoint is read as it was when it was saved, even if a rewind has superseded it since. The head
is read as it is now. Used by the mutations `retryRun` and `forkRun`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ARRAY, Integer, Text, and_, bindparam, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.events import NodeChange, NodeState
from engine.graph.channels import NODE_RECORDS, Write, records_from
from engine.states import EventType
from engine.types import JSON
from persistence.checkpoints.codec import CheckpointDelta, apply_step, fold, unpack, unpack_write
from persistence.db.tables import checkpoints, node_outputs, pending_writes, runs
from persistence.events import codec
from persistence.events.history import Checkpoint


@dataclass(frozen=True, slots=True)
class HeadSnapshot:
    """The state of a run at one checkpoint."""

    run_id: str
    checkpoint_id: str
    as_of_seq: int
    """The event number as of which the state is read."""
    step: int
    values: dict[str, Any]
    changes: list[dict[str, Any]]
    """The channel values that each checkpoint up to this one has changed, derived ones included."""
    writes: list[Write]
    """The pending writes on top of the checkpoint; only for a head."""


@dataclass(frozen=True, slots=True)
class VisitResult:
    """The event with which a visit of a node ended."""

    seq: int
    """Number of the event, and of the output."""
    visit: int
    state: NodeState
    """The state of the node in the event, without the output."""


async def read_head(connection: AsyncConnection, run_id: str, last_seq: int) -> HeadSnapshot | None:
    """Read the head of a run that no worker executes, with its pending writes.

    None: it has no checkpoint.
    """
    stored = await read_deltas(connection, run_id, last_seq)
    if not stored:
        return None
    last = stored[-1]
    snapshot = HeadSnapshot(run_id, last.id, last_seq, last.step, _values(stored), [], [])
    rows = await connection.execute(
        select(pending_writes.c.channel, pending_writes.c.value)
        .where(pending_writes.c.run_id == run_id, pending_writes.c.checkpoint_id == snapshot.checkpoint_id)
        .order_by(pending_writes.c.idx)
    )
    snapshot.writes.extend((channel, unpack_write(channel, value)) for channel, value in rows)
    return snapshot


async def read_checkpoint(
    connection: AsyncConnection, checkpoint: Checkpoint, *, is_whole: bool
) -> HeadSnapshot | None:
    """Read a checkpoint, which may be derived from the steps of a stored one.

    Args:
        connection: Any connection.
        checkpoint: The checkpoint.
        is_whole: Whether to read `changes`, from the first checkpoint of the run on.

    Returns:
        The snapshot, or None if retention has deleted the checkpoint.
    """
    stored = await read_deltas(
        connection, checkpoint.run_id, checkpoint.stored_seq, is_whole=is_whole, is_derived=checkpoint.is_derived
    )
    if not stored or stored[-1].seq != checkpoint.stored_seq:
        return None
    last = stored[-1]
    steps = [step for step in last.delta.steps if last.seq - step.back <= checkpoint.seq]
    values = _values(stored, len(steps)) if checkpoint.is_derived else _values(stored)
    changes = [_with_records(each) for one in stored[:-1] for each in _changes(one.delta)]
    changes += [_with_records(step.values) for step in steps]
    if not checkpoint.is_derived:
        changes.append(_with_records(last.delta.values))
    return HeadSnapshot(checkpoint.run_id, checkpoint.id, checkpoint.seq, checkpoint.step, values, changes, [])


@dataclass(frozen=True, slots=True)
class StoredDelta:
    """One row of `checkpoints` that a checkpoint is folded from."""

    id: str
    seq: int
    step: int
    is_full: bool
    delta: CheckpointDelta


async def read_deltas(
    connection: AsyncConnection, run_id: str, seq: int, *, is_whole: bool = False, is_derived: bool = False
) -> list[StoredDelta]:
    """Read the rows that the checkpoint of the event `seq` is folded from, oldest first.

    Args:
        connection: Any connection.
        run_id: The run.
        seq: The number of its event.
        is_whole: Read from the first checkpoint of the run on, instead of the last full one.
        is_derived: Read what is needed for the state before its steps, which a full checkpoint does
            not have.
    """
    table = checkpoints.c
    is_current = and_(
        table.run_id == run_id, table.seq <= seq, or_(table.superseded_seq.is_(None), table.superseded_seq > seq)
    )
    query = select(table.id, table.seq, table.step, table.is_full, table.data, table.steps).where(is_current)
    if not is_whole:
        fulls = select(func.max(table.seq)).where(is_current, table.is_full)
        first = fulls.where(table.seq < seq) if is_derived else fulls
        query = query.where(table.seq >= func.coalesce(first.scalar_subquery(), 0))
    rows = await connection.execute(query.order_by(table.seq))
    return [StoredDelta(row.id, row.seq, row.step, row.is_full, unpack(row.data, row.steps)) for row in rows]


def _changes(delta: CheckpointDelta) -> list[dict[str, Any]]:
    return [*(step.values for step in delta.steps), delta.values]


def _values(stored: Sequence[StoredDelta], step_count: int | None = None) -> dict[str, Any]:
    """Fold the channel values; with `step_count`, those after so many steps of the last row."""
    if step_count is None:
        first = max(index for index, one in enumerate(stored) if one.is_full)
        return _with_records(fold([one.delta for one in stored[first:]])[0]["channel_values"])
    before = values_before(stored)
    for step in stored[-1].delta.steps[:step_count]:
        apply_step(before, step)
    return _with_records(before)


def values_before(stored: Sequence[StoredDelta]) -> dict[str, Any]:
    """Fold the channel values before the steps of the last row. Node records stay packed."""
    earlier = [one.delta for one in stored[:-1]]
    first = max((index for index, one in enumerate(stored[:-1]) if one.is_full), default=0)
    return dict(fold(earlier[first:])[0]["channel_values"]) if earlier else {}


def _with_records(values: Mapping[str, Any]) -> dict[str, Any]:
    return {**values, NODE_RECORDS: records_from(values[NODE_RECORDS])} if NODE_RECORDS in values else dict(values)


async def visit_results(
    connection: AsyncConnection, snapshot: HeadSnapshot, visits: Mapping[str, int]
) -> dict[str, VisitResult]:
    """Find the last result of each node, as of the snapshot.

    Args:
        connection: Any connection.
        snapshot: The state of the run.
        visits: For each node, the number of the last visit that counts.

    Returns:
        The result of the last of these visits that has an output, by node.
    """
    arguments = {
        "run": snapshot.run_id,
        "at": snapshot.as_of_seq,
        "nodes": list(visits),
        "visits": list(visits.values()),
    }
    rows = await connection.execute(_VISIT_RESULTS, arguments)
    return {row.node_id: VisitResult(row.seq, row.visit, _state_of(snapshot.run_id, row)) for row in rows}


def _state_of(run_id: str, row: Any) -> NodeState:
    change = codec.data_of(EventType.NODE_STATE, row.node_id, row.body, run_id, row.seq, row.at)
    assert isinstance(change, NodeChange)
    return change.state


async def read_outputs(connection: AsyncConnection, run_id: str, seqs: Sequence[int]) -> dict[int, JSON]:
    """Read outputs by the numbers of their events."""
    table = node_outputs.c
    rows = await connection.execute(select(table.seq, table.output).where(table.run_id == run_id, table.seq.in_(seqs)))
    return dict(rows.all())


async def is_pruned(connection: AsyncConnection, run_id: str) -> bool:
    """Return whether retention has deleted the history of the run."""
    pruned_at = await connection.execute(select(runs.c.pruned_at).where(runs.c.id == run_id))
    return pruned_at.scalar_one_or_none() is not None


_VISIT_RESULTS = text("""
SELECT DISTINCT ON (o.node_id) o.node_id, o.seq, o.visit, e.at, e.body
FROM unnest(:nodes, :visits) AS x(node_id, visit)
JOIN node_outputs o ON o.run_id = :run AND o.node_id = x.node_id AND o.visit <= x.visit
JOIN events e ON e.run_id = :run AND e.seq = o.seq
WHERE o.seq <= :at AND o.output IS NOT NULL AND (o.superseded_seq IS NULL OR o.superseded_seq > :at)
ORDER BY o.node_id, o.visit DESC, o.seq DESC
""").bindparams(
    bindparam("nodes", type_=ARRAY(Text)), bindparam("visits", type_=ARRAY(Integer)), bindparam("at", type_=Integer)
)
