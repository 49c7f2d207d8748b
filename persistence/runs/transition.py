"""How a server changes runs: it locks the rows, looks, and writes status, events and numbers in the caller's transaction.

Of two changes at once, one waits for the other's commit and then sees what that one left.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ARRAY, FromClause, Integer, Select, Text, cast, column, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.events import Event, EventData, NodeChange, NodeState, StatusChange
from engine.states import RunStatus, check_transition
from persistence.caller import Caller
from persistence.db.tables import events, node_states, runs, waits
from persistence.events import codec
from persistence.events.run_transition import RunTransition
from persistence.problems import NotFound
from persistence.runs import node_states as nodes
from persistence.runs.run import CommandResult, Run, run_of


async def lock_run(connection: AsyncConnection, caller: Caller, run_id: str) -> Run:
    """The run as it stands, ours until the transaction ends. Raises NotFound."""
    query = select(runs).where(runs.c.id == run_id, runs.c.project_id.in_(caller.projects))
    row = (await connection.execute(for_no_key_update(query))).mappings().one_or_none()
    if row is None:
        raise NotFound(run_id)
    return run_of(row)


def for_no_key_update(query: Select[Any]) -> Select[Any]:
    """Locks the rows as an UPDATE would, and no harder: others may refer to them meanwhile.

    FOR UPDATE would wait for every row that was made to point at the run, an idempotency key say. Of two calls with keys of
    their own, each would wait for the other's.
    """
    return query.with_for_update(key_share=True)


async def change_status(
    connection: AsyncConnection, run: Run, change: StatusChange, *before: NodeChange, **values: Any
) -> CommandResult:
    """Writes `before` and then the status change as the next events of a run that this transaction has locked."""
    [result] = await change_statuses(connection, [run], change.status, change.message, {run.id: before}, **values)
    return result


async def change_statuses(
    connection: AsyncConnection,
    moving: Sequence[Run],
    status: RunStatus,
    message: str,
    before: Mapping[str, Sequence[NodeChange]],
    **values: Any,
) -> list[CommandResult]:
    """The same change of many runs that this transaction has locked, in four statements however many they are."""
    for run in moving:
        check_transition(run.status, status)
    given = _given(moving, before)
    found = await connection.execute(
        update(runs)
        .where(runs.c.id == given.c.id, runs.c.status == given.c.status)
        .values(status=status, status_message=message, last_seq=runs.c.last_seq + given.c.count, **values)
        .returning(runs, func.now().label("at"))
    )
    rows = {row["id"]: row for row in found.mappings()}
    results = [_result(run, rows[run.id], message, before.get(run.id, ())) for run in moving]
    written = [event for result in results for event in result.events]
    await connection.execute(insert(events), [_row(event) for event in written])
    await _write_states(connection, written)
    return results


def _given(moving: Sequence[Run], before: Mapping[str, Sequence[NodeChange]]) -> FromClause:
    """Rows of (id, the status that it has, how many events it gets)."""
    ids, stands = [run.id for run in moving], [run.status.value for run in moving]
    counts = [len(before.get(run.id, ())) + 1 for run in moving]
    arrays = cast(ids, ARRAY(Text)), cast(stands, ARRAY(Text)), cast(counts, ARRAY(Integer))
    columns = column("id", Text), column("status", Text), column("count", Integer)
    return func.unnest(*arrays).table_valued(*columns, name="given").render_derived()


def _result(run: Run, row: Mapping[str, Any], message: str, before: Sequence[NodeChange]) -> CommandResult:
    after = run_of(row)
    change = StatusChange(after.status, run.status, message)
    events_to_write: list[EventData] = [*before, change]
    numbered = enumerate(events_to_write, start=run.last_seq + 1)
    written = tuple(Event(run.id, seq, row["at"], data) for seq, data in numbered)
    return CommandResult(after, (RunTransition.of(run.project_id, run.id, change, written),))


async def finish(connection: AsyncConnection, run: Run, change: StatusChange, **values: Any) -> CommandResult:
    """A terminal status, for a run whose code does not run any more."""
    [result] = await finish_all(connection, [run], change.status, change.message, **values)
    return result


async def finish_all(
    connection: AsyncConnection, ending: Sequence[Run], status: RunStatus, message: str, **values: Any
) -> list[CommandResult]:
    """The same for many: nothing of them may look as if it ran or waited, and their leases are nobody's any more."""
    under_way = await nodes.unfinished_of_runs(connection, [run.id for run in ending])
    before = {
        run_id: [NodeChange(nodes.as_cancelled(state)) for state in states] for run_id, states in under_way.items()
    }
    let_go = {"epoch": runs.c.epoch + 1, "worker_id": None, "lease_until": None, "deadline_at": None}
    rest = {**let_go, "finished_at": func.now(), **values}
    results = await change_statuses(connection, ending, status, message, before, **rest)
    ids = [run.id for run in ending]
    still_open = (waits.c.run_id.in_(ids), waits.c.settled_seq.is_(None), waits.c.superseded_seq.is_(None))
    last = select(runs.c.last_seq).where(runs.c.id == waits.c.run_id).scalar_subquery()
    await connection.execute(update(waits).where(*still_open).values(superseded_seq=last))
    return results


async def _write_states(connection: AsyncConnection, written: Sequence[Event]) -> None:
    rows = [_state_row(event.data.state, event.seq) for event in written if isinstance(event.data, NodeChange)]
    if not rows:
        return
    query = upsert(node_states)
    given = {name: query.excluded[name] for name in rows[0] if name not in ("run_id", "node_id")}
    # Row by row, in one round trip: all in one VALUES would be over what Postgres takes, for a graph of 3,000 nodes.
    await connection.execute(query.on_conflict_do_update(index_elements=["run_id", "node_id"], set_=given), rows)


def _state_row(state: NodeState, seq: int) -> dict[str, Any]:
    # A restored state keeps the number under which its values are stored.
    return codec.node_state_row(state, seq if state.output_seq is None else state.output_seq, state.output_seq)


def _row(event: Event) -> dict[str, Any]:
    what = event.data
    return {
        "run_id": event.run_id,
        "seq": event.seq,
        "type": what.type,
        "at": event.at,
        "node_id": what.node_id,
        "body": codec.body_of(what),
    }
