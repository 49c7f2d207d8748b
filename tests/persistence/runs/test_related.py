"""Pages of derived runs, forks and checkpoints: newest first, limited to the caller's projects."""

from engine.states import RunSource
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.db.ids import new_id
from persistence.db.pagination import PageRange
from persistence.runs import related
from persistence.runs.related import RelatedRunsQuery
from persistence.runs.run import Run
from tests.journal_worker import JournalWorker, accept_run

OTHER_CALLER = Caller("other", {})


async def derived_run(database: Database, caller: Caller, project: str, column: str, of: str, source: RunSource) -> str:
    run_id = (await accept_run(database, caller, project)).run.id
    await database.pool.execute(f"UPDATE runs SET {column} = $2, source = $3 WHERE id = $1", run_id, of, source)
    return run_id


async def test_checkpoints_are_paged_newest_first(
    database: Database, caller: Caller, worker: JournalWorker, run: Run
) -> None:
    held = await worker.claim(run)
    # The second worker's clock is behind, so its id is the lowest.
    ids = sorted(new_id("ckp") for _ in range(3))
    ids = [ids[1], ids[0], ids[2]]
    for step, id in enumerate(ids):
        await held.checkpoint(id, step=step, next_nodes=["a"], parent_id=ids[step - 1] if step else None)
    async with database.connect() as connection:
        page = (await related.checkpoints_of(connection, caller, [RelatedRunsQuery(run.id, PageRange(2))]))[
            RelatedRunsQuery(run.id, PageRange(2))
        ]
        after = RelatedRunsQuery(run.id, PageRange(2, page.items[-1].id))
        rest = (await related.checkpoints_of(connection, caller, [after]))[after]
        hidden = (await related.checkpoints_of(connection, OTHER_CALLER, [RelatedRunsQuery(run.id, PageRange(2))]))[
            RelatedRunsQuery(run.id, PageRange(2))
        ]
    assert [one.id for one in page.items] == [ids[2], ids[1]]
    assert [one.id for one in rest.items] == [ids[0]]
    assert (page.has_next, rest.has_next, rest.has_previous) == (True, False, True)
    assert (page.items[0].parent_id, page.items[0].size_bytes) == (ids[1], 5)
    assert hidden.items == []


async def test_derived_runs_are_retries_forks_and_children_of_each_run(
    database: Database, caller: Caller, project: str, worker: JournalWorker, run: Run
) -> None:
    checkpoint_id = new_id("ckp")
    await (await worker.claim(run)).checkpoint(checkpoint_id, step=1, next_nodes=[])
    other = (await accept_run(database, caller, project)).run
    retry = await derived_run(database, caller, project, "retry_of_id", run.id, RunSource.RETRY)
    fork = await derived_run(database, caller, project, "forked_from_id", checkpoint_id, RunSource.FORK)
    sub = await derived_run(database, caller, project, "parent_id", run.id, RunSource.SUBWORKFLOW)
    others = await derived_run(database, caller, project, "retry_of_id", other.id, RunSource.RETRY)
    whole, forks, two = (
        RelatedRunsQuery(run.id, PageRange(10)),
        RelatedRunsQuery(run.id, PageRange(10), source=(RunSource.FORK,)),
        RelatedRunsQuery(run.id, PageRange(2)),
    )
    other_parent, childless = RelatedRunsQuery(other.id, PageRange(10)), RelatedRunsQuery(sub, PageRange(10))
    async with database.connect() as connection:
        by_query = await related.derived_runs(connection, caller, [whole, forks, two, other_parent, childless])
        after = RelatedRunsQuery(run.id, PageRange(2, by_query[two].items[-1].id))
        rest = (await related.derived_runs(connection, caller, [after]))[after]
        from_checkpoint = await related.forks(connection, caller, [RelatedRunsQuery(checkpoint_id, PageRange(5))])
        hidden = await related.derived_runs(connection, OTHER_CALLER, [whole])
    pages = {query: [one.id for one in page.items] for query, page in by_query.items()}
    assert pages == {whole: [sub, fork, retry], forks: [fork], two: [sub, fork], other_parent: [others], childless: []}
    assert (by_query[two].has_next, [one.id for one in rest.items], rest.has_next) == (True, [retry], False)
    assert [one.id for one in from_checkpoint[RelatedRunsQuery(checkpoint_id, PageRange(5))].items] == [fork]
    assert hidden[whole].items == []
