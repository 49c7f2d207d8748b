"""The bookkeeping of a rewind: what it takes back, what it leaves, and what it tells. The drive's side is in tests/worker."""

from dataclasses import dataclass
from typing import Any

import pytest

from engine.events import NodeChange
from engine.states import NodeStatus, RunStatus
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.db.ids import new_id
from persistence.events import history
from persistence.problems import Conflict, Invalid, InvalidState, NotFound
from persistence.runs import node_states, waits
from persistence.runs.rewind import rewind
from persistence.runs.run import CommandResult, Run
from tests.journal_worker import JournalWorker, accept_run


@dataclass
class Story:
    """A paused run. `first` is saved after node a, with a question of a's open; b and another question come later."""

    run: Run
    first: str
    first_seq: int
    second: str
    early: str
    late: str


@pytest.fixture
async def story(database: Database, caller: Caller, project: str, worker: JournalWorker) -> Story:
    run = (await accept_run(database, caller, project)).run
    held = await worker.claim(run)
    first, second, early, late = new_id("ckp"), new_id("ckp"), new_id("wait"), new_id("wait")
    seq = await held.node("a", NodeStatus.COMPLETED, visits=1, input=0, output=1, has_output=True)
    await _question(database, run.id, early, seq)
    first_seq = await held.checkpoint(first, step=1, next_nodes=["b"])
    await held.node("b", NodeStatus.RUNNING, visits=1)
    await held.node("b", NodeStatus.COMPLETED, visits=1, output=2, has_output=True)
    seq = await held.node("a", NodeStatus.COMPLETED, visits=2, input=1, output=11, has_output=True)
    await _question(database, run.id, late, seq)
    await held.checkpoint(second, step=2, next_nodes=[], parent_id=first)
    await database.pool.execute(
        "INSERT INTO pending_writes (run_id, checkpoint_id, task_id, idx, channel, value) VALUES ($1, $2, 't', 0, 'c', '')",
        run.id,
        second,
    )
    await held.finish(RunStatus.PAUSED)
    return Story(run, first, first_seq, second, early, late)


async def _question(database: Database, run_id: str, wait_id: str, seq: int) -> None:
    await database.pool.execute(
        """INSERT INTO waits (id, run_id, node_id, visit, lineage, seq, kind, prompt)
        VALUES ($1, $2, 'a', 1, 0, $3, 'INPUT', '"Well?"'::json)""",
        wait_id,
        run_id,
        seq,
    )


async def rewound(database: Database, caller: Caller, story: Story, to: str, *, step: bool = False) -> CommandResult:
    async with database.begin() as connection:
        return await rewind(connection, caller, story.run.id, to, step=step)


async def taken_back(database: Database, table: str, run_id: str) -> list[tuple[Any, Any]]:
    query = f"SELECT seq, superseded_seq FROM {table} WHERE run_id = $1 ORDER BY seq"
    return [(row["seq"], row["superseded_seq"]) for row in await database.pool.fetch(query, run_id)]


async def test_what_came_after_the_checkpoint_is_taken_back_and_the_rest_stands(
    database: Database, caller: Caller, story: Story
) -> None:
    changed = await rewound(database, caller, story, story.first)
    by = changed.run.last_seq
    for table in ("checkpoints", "node_outputs"):
        rows = await taken_back(database, table, story.run.id)
        assert {gone for seq, gone in rows if seq <= story.first_seq} == {None}
        assert {gone for seq, gone in rows if seq > story.first_seq} == {by}
    assert await database.pool.fetchval("SELECT count(*) FROM pending_writes") == 0
    async with database.connect() as connection:
        head = await history.head(connection, caller, story.run.id)
    assert head is not None
    assert head.id == story.first


async def test_the_run_is_queued_in_a_new_lineage_from_the_checkpoints_step(
    database: Database, caller: Caller, story: Story
) -> None:
    changed = await rewound(database, caller, story, story.first, step=True)
    row = await database.pool.fetchrow("SELECT * FROM runs WHERE id = $1", story.run.id)
    assert (row["status"], row["lineage"], row["takeup"]) == ("QUEUED", 1, 2)
    assert (row["resumed_step"], row["is_step"], row["progress"]) == (1, True, 0.5)
    assert changed.run.status_message == f"Rewound to {story.first}"


async def test_nodes_are_told_as_they_stood_before_the_run_says_that_it_goes_on(
    database: Database, caller: Caller, story: Story
) -> None:
    changed = await rewound(database, caller, story, story.first)
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
        live = (await node_states.states(connection, caller, [story.run.id]))[story.run.id]
        place = (story.run.id, live[0].output_seq or 0)
        assert (await node_states.values(connection, caller, [place]))[place] == node_states.Values(0, 1)
        place = (story.run.id, changed.run.last_seq)
        then = (await node_states.states_at(connection, caller, [place]))[place]
        assert [state.status for state in live] == [state.status for state in then]
        assert await node_states.outputs_at(connection, caller, *place) == {"a": 1}
        assert await node_states.outputs_at(connection, caller, story.run.id, changed.run.last_seq - 3) == {
            "a": 11,
            "b": 2,
        }


async def test_a_question_of_before_stays_open_and_a_later_one_is_taken_back(
    database: Database, caller: Caller, story: Story
) -> None:
    await rewound(database, caller, story, story.first)
    async with database.connect() as connection:
        found = (await waits.of_runs(connection, caller, [story.run.id]))[story.run.id]
    assert [wait.id for wait in found] == [story.early]
    with pytest.raises(Conflict):
        async with database.begin() as connection:
            await waits.answer(connection, caller, story.run.id, story.late, 1)


async def test_a_checkpoint_that_was_taken_back_is_no_place_to_go(
    database: Database, caller: Caller, story: Story
) -> None:
    await rewound(database, caller, story, story.first)
    await database.pool.execute("UPDATE runs SET status = 'PAUSED', paused_at = now() WHERE id = $1", story.run.id)
    with pytest.raises(Conflict):
        await rewound(database, caller, story, story.second)
    again = await rewound(database, caller, story, story.first)
    assert (again.run.lineage, len(again.events)) == (2, 1)
    rows = await taken_back(database, "checkpoints", story.run.id)
    assert rows[-1][1] != again.run.last_seq


async def test_a_rewind_that_is_refused_changes_nothing(
    database: Database, caller: Caller, project: str, story: Story
) -> None:
    before = await database.pool.fetchrow("SELECT * FROM runs WHERE id = $1", story.run.id)
    other = (await accept_run(database, caller, project)).run
    await database.pool.execute(
        """INSERT INTO checkpoints (run_id, seq, id, step, is_full, data, next_nodes)
        VALUES ($1, 1, 'ckp_of_another', 0, true, '', '[]')""",
        other.id,
    )
    for to, problem in ((new_id("ckp"), NotFound), ("ckp_of_another", Invalid)):
        with pytest.raises(problem):
            await rewound(database, caller, story, to)
    assert await database.pool.fetchrow("SELECT * FROM runs WHERE id = $1", story.run.id) == before
    await database.pool.execute("UPDATE runs SET status = 'WAITING' WHERE id = $1", story.run.id)
    with pytest.raises(InvalidState):
        await rewound(database, caller, story, story.first)
