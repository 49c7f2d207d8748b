"""Rewinds in the database: superseded rows, kept rows and events.

The execution after a rewind is tested in tests/worker.
"""

from dataclasses import dataclass
from typing import Any

import pytest

from engine.events import NodeChange
from engine.states import NodeStatus, RunStatus
from persistence.caller import Caller
from persistence.checkpoints.rewind import rewind
from persistence.db.database import Database
from persistence.db.ids import new_id
from persistence.events import history
from persistence.problems import Conflict, Invalid, InvalidState, NotFound
from persistence.runs import node_states, waits
from persistence.runs.run import CommandResult, Run
from tests.journal_worker import JournalWorker, accept_run


@dataclass
class PausedRun:
    """A paused run with two checkpoints and two questions.

    The first checkpoint and question belong to node a; b and the late question come after them.
    """

    run: Run
    first: str
    first_seq: int
    second: str
    early: str
    late: str


@pytest.fixture
async def paused(database: Database, caller: Caller, project: str, worker: JournalWorker) -> PausedRun:
    run = (await accept_run(database, caller, project)).run
    held = await worker.claim(run)
    first, second, early, late = new_id("ckp"), new_id("ckp"), new_id("wait"), new_id("wait")
    seq = await held.node("a", NodeStatus.COMPLETED, visits=1, input=0, output=1, has_output=True)
    await _insert_question(database, run.id, early, seq)
    first_seq = await held.checkpoint(first, step=1, next_nodes=["b"])
    await held.node("b", NodeStatus.RUNNING, visits=1)
    await held.node("b", NodeStatus.COMPLETED, visits=1, output=2, has_output=True)
    seq = await held.node("a", NodeStatus.COMPLETED, visits=2, input=1, output=11, has_output=True)
    await _insert_question(database, run.id, late, seq)
    await held.checkpoint(second, step=2, next_nodes=[], parent_id=first)
    await database.pool.execute(
        "INSERT INTO pending_writes (run_id, checkpoint_id, task_id, idx, channel, value) VALUES ($1, $2, 't', 0, 'c', '')",
        run.id,
        second,
    )
    await held.finish(RunStatus.PAUSED)
    return PausedRun(run, first, first_seq, second, early, late)


async def _insert_question(database: Database, run_id: str, wait_id: str, seq: int) -> None:
    await database.pool.execute(
        """INSERT INTO waits (id, run_id, node_id, visit, lineage, seq, kind, prompt)
        VALUES ($1, $2, 'a', 1, 0, $3, 'INPUT', '"Well?"'::json)""",
        wait_id,
        run_id,
        seq,
    )


async def rewind_to(
    database: Database, caller: Caller, paused: PausedRun, to: str, *, step: bool = False
) -> CommandResult:
    async with database.begin() as connection:
        return await rewind(connection, caller, paused.run.id, to, step=step)


async def superseded(database: Database, table: str, run_id: str) -> list[tuple[Any, Any]]:
    query = f"SELECT seq, superseded_seq FROM {table} WHERE run_id = $1 ORDER BY seq"
    return [(row["seq"], row["superseded_seq"]) for row in await database.pool.fetch(query, run_id)]


async def test_a_rewind_supersedes_only_the_rows_after_the_checkpoint(
    database: Database, caller: Caller, paused: PausedRun
) -> None:
    changed = await rewind_to(database, caller, paused, paused.first)
    by = changed.run.last_seq
    for table in ("checkpoints", "node_outputs"):
        rows = await superseded(database, table, paused.run.id)
        assert {by_seq for seq, by_seq in rows if seq <= paused.first_seq} == {None}
        assert {by_seq for seq, by_seq in rows if seq > paused.first_seq} == {by}
    assert await database.pool.fetchval("SELECT count(*) FROM pending_writes") == 0
    async with database.connect() as connection:
        head = await history.head(connection, caller, paused.run.id)
    assert head is not None
    assert head.id == paused.first


async def test_a_rewound_run_is_queued_in_a_new_lineage_at_the_checkpoints_step(
    database: Database, caller: Caller, paused: PausedRun
) -> None:
    changed = await rewind_to(database, caller, paused, paused.first, step=True)
    row = await database.pool.fetchrow("SELECT * FROM runs WHERE id = $1", paused.run.id)
    assert (row["status"], row["lineage"], row["takeup"]) == ("QUEUED", 1, 2)
    assert (row["resumed_step"], row["is_step"], row["progress"]) == (1, True, 0.5)
    assert changed.run.status_message == f"Rewound to {paused.first}"


async def test_the_restored_node_states_are_published_before_the_status_change(
    database: Database, caller: Caller, paused: PausedRun
) -> None:
    changed = await rewind_to(database, caller, paused, paused.first)
    *states, _ = changed.events
    restored = {event.data.node_id: event.data.state for event in states if isinstance(event.data, NodeChange)}
    assert [event.seq for event in changed.events] == [
        changed.run.last_seq - 2,
        changed.run.last_seq - 1,
        changed.run.last_seq,
    ]
    assert (restored["a"].status, restored["a"].visits) == (NodeStatus.COMPLETED, 1)
    assert (restored["b"].status, restored["b"].visits) == (NodeStatus.IDLE, 0)
    async with database.connect() as connection:
        live = (await node_states.states(connection, caller, [paused.run.id]))[paused.run.id]
        place = (paused.run.id, live[0].output_seq or 0)
        assert (await node_states.values(connection, caller, [place]))[place] == node_states.Values(0, 1)
        place = (paused.run.id, changed.run.last_seq)
        then = (await node_states.states_at(connection, caller, [place]))[place]
        assert [state.status for state in live] == [state.status for state in then]
        assert await node_states.outputs_at(connection, caller, *place) == {"a": 1}
        assert await node_states.outputs_at(connection, caller, paused.run.id, changed.run.last_seq - 3) == {
            "a": 11,
            "b": 2,
        }


async def test_an_earlier_question_stays_open_and_a_later_one_is_superseded(
    database: Database, caller: Caller, paused: PausedRun
) -> None:
    await rewind_to(database, caller, paused, paused.first)
    async with database.connect() as connection:
        open_waits = (await waits.of_runs(connection, caller, [paused.run.id]))[paused.run.id]
    assert [wait.id for wait in open_waits] == [paused.early]
    with pytest.raises(Conflict):
        async with database.begin() as connection:
            await waits.answer(connection, caller, paused.run.id, paused.late, 1)


async def test_a_superseded_checkpoint_cannot_be_rewound_to(
    database: Database, caller: Caller, paused: PausedRun
) -> None:
    await rewind_to(database, caller, paused, paused.first)
    await database.pool.execute("UPDATE runs SET status = 'PAUSED', paused_at = now() WHERE id = $1", paused.run.id)
    with pytest.raises(Conflict):
        await rewind_to(database, caller, paused, paused.second)
    again = await rewind_to(database, caller, paused, paused.first)
    assert (again.run.lineage, len(again.events)) == (2, 1)
    rows = await superseded(database, "checkpoints", paused.run.id)
    assert rows[-1][1] != again.run.last_seq


async def test_a_refused_rewind_changes_nothing(
    database: Database, caller: Caller, project: str, paused: PausedRun
) -> None:
    before = await database.pool.fetchrow("SELECT * FROM runs WHERE id = $1", paused.run.id)
    other = (await accept_run(database, caller, project)).run
    await database.pool.execute(
        """INSERT INTO checkpoints (run_id, seq, id, step, is_full, data, next_nodes)
        VALUES ($1, 1, 'ckp_of_another', 0, true, '', '[]')""",
        other.id,
    )
    for to, problem in ((new_id("ckp"), NotFound), ("ckp_of_another", Invalid)):
        with pytest.raises(problem):
            await rewind_to(database, caller, paused, to)
    assert await database.pool.fetchrow("SELECT * FROM runs WHERE id = $1", paused.run.id) == before
    await database.pool.execute("UPDATE runs SET status = 'WAITING' WHERE id = $1", paused.run.id)
    with pytest.raises(InvalidState):
        await rewind_to(database, caller, paused, paused.first)
