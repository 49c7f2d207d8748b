"""Reads where a run stands or stood, for those who make another run of it. Reads alone: nothing here is written.

A checkpoint is read as it stood when it was made, whatever a rewind has taken back since; the head as it stands now.
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
    """A run at one checkpoint. `changes` are the channel values that each checkpoint up to this one has changed."""

    run_id: str
    checkpoint_id: str
    at: int
    """The event number that it is read as of."""
    step: int
    values: dict[str, Any]
    changes: list[dict[str, Any]]
    writes: list[Write]
    """What waits on top of it."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What one visit of a node has left: its event's number and body."""

    seq: int
    visit: int
    body: dict[str, Any]


async def head(connection: AsyncConnection, run_id: str, last_seq: int) -> HeadSnapshot | None:
    """Where a run that moves no more stands, with all that came in on top of its last checkpoint. None: it has none."""
    stand = await _stand(connection, run_id, last_seq, is_whole=False)
    if stand is None:
        return None
    found = await connection.execute(
        select(pending_writes.c.channel, pending_writes.c.value)
        .where(pending_writes.c.run_id == run_id, pending_writes.c.checkpoint_id == stand.checkpoint_id)
        .order_by(pending_writes.c.idx)
    )
    stand.writes.extend((channel, unpack_write(channel, value)) for channel, value in found)
    return stand


async def at_checkpoint(connection: AsyncConnection, run_id: str, seq: int, *, is_whole: bool) -> HeadSnapshot | None:
    """The checkpoint of event `seq`. With `is_whole`, `changes` go back to the run's first one. None past retention."""
    return await _stand(connection, run_id, seq, is_whole=is_whole)


async def _stand(connection: AsyncConnection, run_id: str, at: int, *, is_whole: bool) -> HeadSnapshot | None:
    table = checkpoints.c
    stood = and_(
        table.run_id == run_id, table.seq <= at, or_(table.superseded_seq.is_(None), table.superseded_seq > at)
    )
    query = select(table.id, table.step, table.data, table.is_full).where(stood)
    if not is_whole:
        last_full = select(table.seq).where(stood, table.is_full).order_by(table.seq.desc()).limit(1)
        query = query.where(table.seq >= last_full.scalar_subquery())
    rows = (await connection.execute(query.order_by(table.seq))).all()
    if not any(row.is_full for row in rows):
        return None
    deltas = [unpack(row.data) for row in rows]
    changes = [_with_slots(delta.values) for delta in deltas]
    first = max(index for index, row in enumerate(rows) if row.is_full)
    checkpoint, _ = fold(deltas[first:])
    return HeadSnapshot(
        run_id, rows[-1].id, at, rows[-1].step, _with_slots(checkpoint["channel_values"]), changes, writes=[]
    )


def _with_slots(values: Mapping[str, Any]) -> dict[str, Any]:
    return {**values, NODE_RECORDS: records_from(values[NODE_RECORDS])} if NODE_RECORDS in values else dict(values)


async def kept(connection: AsyncConnection, stand: HeadSnapshot, visits: Mapping[str, int]) -> dict[str, Kept]:
    """By node: its last visit up to the one given that left an output, as of that checkpoint."""
    arguments = {"run": stand.run_id, "at": stand.at, "nodes": list(visits), "visits": list(visits.values())}
    found = await connection.execute(_KEPT, arguments)
    return {row.node_id: Kept(row.seq, row.visit, row.body) for row in found}


async def outputs(connection: AsyncConnection, run_id: str, seqs: Sequence[int]) -> dict[int, JSON]:
    """Outputs by the number of their event."""
    table = node_outputs.c
    found = await connection.execute(select(table.seq, table.output).where(table.run_id == run_id, table.seq.in_(seqs)))
    return dict(found.all())


async def is_pruned(connection: AsyncConnection, run_id: str) -> bool:
    """Whether retention has taken what the run did."""
    found = await connection.execute(select(runs.c.pruned_at).where(runs.c.id == run_id))
    return found.scalar_one_or_none() is not None


_KEPT = text("""
SELECT DISTINCT ON (o.node_id) o.node_id, o.seq, o.visit, e.body
FROM unnest(:nodes, :visits) AS x(node_id, visit)
JOIN node_outputs o ON o.run_id = :run AND o.node_id = x.node_id AND o.visit <= x.visit
JOIN events e ON e.run_id = :run AND e.seq = o.seq
WHERE o.seq <= :at AND (o.superseded_seq IS NULL OR o.superseded_seq > :at)
ORDER BY o.node_id, o.visit DESC, o.seq DESC
""").bindparams(
    bindparam("nodes", type_=ARRAY(Text)), bindparam("visits", type_=ARRAY(Integer)), bindparam("at", type_=Integer)
)
