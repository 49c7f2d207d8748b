"""Reads checkpoints for runs that are derived from them. Nothing here is written.

A checkpoint is read as it was when it was saved, even if a rewind has superseded it since. The head
is read as it is now. Used by the mutations `retryRun` and `forkRun`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ARRAY, Integer, Text, and_, bindparam, or_, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.graph.channels import NODE_RECORDS, Write, records_from
from engine.types import JSON
from persistence.checkpoints.codec import fold, unpack, unpack_write
from persistence.db.tables import checkpoints, node_outputs, pending_writes, runs


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
    """The channel values that each checkpoint up to this one has changed."""
    writes: list[Write]
    """The pending writes on top of the checkpoint; only for a head."""


@dataclass(frozen=True, slots=True)
class VisitResult:
    """The event with which a visit of a node ended."""

    seq: int
    """Number of the event, and of the output."""
    visit: int
    body: dict[str, Any]
    """The stored event, without the output."""


async def read_head(connection: AsyncConnection, run_id: str, last_seq: int) -> HeadSnapshot | None:
    """Read the head of a run that no worker executes, with its pending writes.

    None: it has no checkpoint.
    """
    snapshot = await _read(connection, run_id, last_seq, is_whole=False)
    if snapshot is None:
        return None
    rows = await connection.execute(
        select(pending_writes.c.channel, pending_writes.c.value)
        .where(pending_writes.c.run_id == run_id, pending_writes.c.checkpoint_id == snapshot.checkpoint_id)
        .order_by(pending_writes.c.idx)
    )
    snapshot.writes.extend((channel, unpack_write(channel, value)) for channel, value in rows)
    return snapshot


async def read_checkpoint(connection: AsyncConnection, run_id: str, seq: int, *, is_whole: bool) -> HeadSnapshot | None:
    """Read the checkpoint of event `seq`.

    Args:
        connection: Any connection.
        run_id: The run.
        seq: The event number of the checkpoint.
        is_whole: Whether `changes` go back to the first checkpoint of the run, instead of the last
            full one.

    Returns:
        The snapshot, or None if retention has deleted the checkpoint.
    """
    return await _read(connection, run_id, seq, is_whole=is_whole)


async def _read(connection: AsyncConnection, run_id: str, seq: int, *, is_whole: bool) -> HeadSnapshot | None:
    table = checkpoints.c
    is_current = and_(
        table.run_id == run_id, table.seq <= seq, or_(table.superseded_seq.is_(None), table.superseded_seq > seq)
    )
    query = select(table.id, table.step, table.data, table.is_full).where(is_current)
    if not is_whole:
        last_full = select(table.seq).where(is_current, table.is_full).order_by(table.seq.desc()).limit(1)
        query = query.where(table.seq >= last_full.scalar_subquery())
    rows = (await connection.execute(query.order_by(table.seq))).all()
    if not any(row.is_full for row in rows):
        return None
    deltas = [unpack(row.data) for row in rows]
    changes = [_with_records(delta.values) for delta in deltas]
    first = max(index for index, row in enumerate(rows) if row.is_full)
    checkpoint, _ = fold(deltas[first:])
    return HeadSnapshot(
        run_id, rows[-1].id, seq, rows[-1].step, _with_records(checkpoint["channel_values"]), changes, writes=[]
    )


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
    return {row.node_id: VisitResult(row.seq, row.visit, row.body) for row in rows}


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
SELECT DISTINCT ON (o.node_id) o.node_id, o.seq, o.visit, e.body
FROM unnest(:nodes, :visits) AS x(node_id, visit)
JOIN node_outputs o ON o.run_id = :run AND o.node_id = x.node_id AND o.visit <= x.visit
JOIN events e ON e.run_id = :run AND e.seq = o.seq
WHERE o.seq <= :at AND o.output IS NOT NULL AND (o.superseded_seq IS NULL OR o.superseded_seq > :at)
ORDER BY o.node_id, o.visit DESC, o.seq DESC
""").bindparams(
    bindparam("nodes", type_=ARRAY(Text)), bindparam("visits", type_=ARRAY(Integer)), bindparam("at", type_=Integer)
)
