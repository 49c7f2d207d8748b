"""How a server changes a run: it locks the row, looks, and writes status, events and number in the caller's transaction.

Of two changes at once, one waits for the other's commit and then sees what that one left.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.events import Event, Happening, NodeChange, NodeState, StatusChange
from persistence import wire
from persistence.caller import Caller
from persistence.problems import NotFound
from persistence.runs import Changed, Run, run_of
from persistence.tables import events, node_states, runs


async def locked(connection: AsyncConnection, caller: Caller, run_id: str) -> Run:
    """The run as it stands, ours until the transaction ends. Raises NotFound."""
    found = await connection.execute(
        select(runs).where(runs.c.id == run_id, runs.c.project_id.in_(caller.projects)).with_for_update()
    )
    row = found.mappings().one_or_none()
    if row is None:
        raise NotFound(run_id)
    return run_of(row)


async def move(
    connection: AsyncConnection, run: Run, change: StatusChange, *before: NodeChange, **values: Any
) -> Changed:
    """Writes `before` and then the status change as the next events of a run that this transaction has locked."""
    found = await connection.execute(
        update(runs)
        .where(runs.c.id == run.id, runs.c.status == run.status)
        .values(
            status=change.status, status_message=change.message, last_seq=runs.c.last_seq + len(before) + 1, **values
        )
        .returning(runs, func.now().label("at"))
    )
    row = dict(found.mappings().one())
    at = row.pop("at")
    happenings: list[Happening] = [*before, change]
    written = tuple(Event(run.id, run.last_seq + place, at, what) for place, what in enumerate(happenings, start=1))
    await connection.execute(insert(events), [_row(event) for event in written])
    await _write_states(connection, written)
    return Changed(run_of(row), run.status, written)


async def _write_states(connection: AsyncConnection, written: Sequence[Event]) -> None:
    rows = [_state_row(event.what.state, event.seq) for event in written if isinstance(event.what, NodeChange)]
    if not rows:
        return
    query = upsert(node_states).values(rows)
    given = {name: query.excluded[name] for name in rows[0] if name not in ("run_id", "node_id")}
    await connection.execute(query.on_conflict_do_update(index_elements=["run_id", "node_id"], set_=given))


def _state_row(state: NodeState, seq: int) -> dict[str, Any]:
    return {
        "run_id": state.run_id,
        "node_id": state.node_id,
        "status": state.status,
        "visits": state.visits,
        "attempt": state.attempt,
        "progress": state.progress,
        "message": state.message,
        "partial_output": state.partial_output,
        "error": wire.error_body(state.error),
        "started_at": state.started_at,
        "completed_at": state.completed_at,
        # A state that is put back keeps the number under which its values are stored.
        "seq": seq if state.output_seq is None else state.output_seq,
        "output_seq": state.output_seq,
    }


def _row(event: Event) -> dict[str, Any]:
    what = event.what
    return {
        "run_id": event.run_id,
        "seq": event.seq,
        "type": what.type,
        "at": event.at,
        "node_id": what.node_id,
        "body": wire.body_of(what),
    }
