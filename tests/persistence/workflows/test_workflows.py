"""Lists of workflows: each one is on exactly one page, even while others are created."""

import pytest

from persistence.caller import Caller
from persistence.db.database import Database
from persistence.db.ids import Prefix
from persistence.db.pagination import PageArguments, PageRange
from persistence.problems import Conflict, Invalid
from persistence.workflows import projects, workflows
from persistence.workflows.drafts import Content
from tests.journal_worker import accept_run

EMPTY = Content({"nodes": []}, "empty")


async def create(database: Database, caller: Caller, project: str, *names: str) -> list[str]:
    async with database.begin() as connection:
        created = [
            await workflows.create(connection, caller, project, name=name, description="", content=EMPTY)
            for name in names
        ]
    return [workflow.id for workflow in created]


async def read_all(database: Database, caller: Caller, first: int) -> list[str]:
    seen: list[str] = []
    after = None
    while True:
        async with database.connect() as connection:
            page = await workflows.page(connection, caller, PageRange(first, after))
        assert page.has_previous == (after is not None)
        seen += [workflow.id for workflow in page.items]
        if not page.has_next:
            return seen
        after = page.items[-1].id


@pytest.mark.parametrize("first", [1, 3, 10, 11, 100])
async def test_pages_contain_every_workflow_once_newest_first(
    database: Database, caller: Caller, project: str, first: int
) -> None:
    ids = await create(database, caller, project, *(f"w{number}" for number in range(10)))
    assert await read_all(database, caller, first) == sorted(ids, reverse=True)


async def test_a_workflow_created_meanwhile_does_not_shift_later_pages(
    database: Database, caller: Caller, project: str
) -> None:
    ids = await create(database, caller, project, "a", "b", "c", "d")
    async with database.connect() as connection:
        one = await workflows.page(connection, caller, PageRange(2))
    await create(database, caller, project, "new")
    async with database.connect() as connection:
        two = await workflows.page(connection, caller, PageRange(2, one.items[-1].id))
    assert [workflow.id for workflow in one.items + two.items] == ids[::-1]


async def test_a_search_text_is_taken_literally(database: Database, caller: Caller, project: str) -> None:
    wanted, *_ = await create(database, caller, project, "100% Sure", "100 sure", "other")
    async with database.connect() as connection:
        page = await workflows.page(connection, caller, PageRange(10), search="0% s")
    assert [workflow.id for workflow in page.items] == [wanted]


async def test_workflows_of_other_projects_are_not_visible(database: Database, caller: Caller, project: str) -> None:
    ids = await create(database, caller, project, "mine")
    async with database.begin() as connection:
        elsewhere = await projects.create(connection, "elsewhere")
        outsider = Caller("outsider", {elsewhere.id: caller.roles[project]})
        assert await workflows.get_many(connection, outsider, ids) == {}
        assert (await workflows.page(connection, outsider, PageRange(10))).items == []


async def test_a_project_name_is_unique(database: Database) -> None:
    async with database.begin() as connection:
        await projects.create(connection, "twice")
        with pytest.raises(Conflict):
            await projects.create(connection, "twice")


@pytest.mark.parametrize("cursor", ["", "%%%", "no cursor", "ÿ", "/w=="])
def test_a_malformed_cursor_is_invalid(cursor: str) -> None:
    for arguments in (PageArguments(after=cursor), PageArguments(before=cursor)):
        with pytest.raises(Invalid):
            arguments.checked(Prefix.WORKFLOW)


@pytest.mark.parametrize("first", [0, -1, 101])
def test_the_size_of_a_page_is_limited(first: int) -> None:
    with pytest.raises(Invalid):
        PageArguments(first=first).checked(Prefix.WORKFLOW)
    with pytest.raises(Invalid):
        PageArguments(last=first).checked(Prefix.WORKFLOW)


async def test_a_deletion_locks_every_run_including_ended_ones(
    database: Database, caller: Caller, project: str
) -> None:
    """Their number is unlimited: the ids are no arguments of a statement, which takes 32,767 at most."""
    run = (await accept_run(database, caller, project)).run
    [workflow_id] = await create(database, caller, project, "busy")
    await database.pool.execute("UPDATE runs SET workflow_id = $1", workflow_id)
    copies = """INSERT INTO runs (id, project_id, workflow_id, version_id, source, mode, status, inputs, options, priority,
        is_step, created_by, lane, takeup, last_seq, finished_at, parent_id, parent_key)
    SELECT 'run_x' || n, project_id, CASE WHEN n > 1 THEN workflow_id END, version_id, source, mode, 'COMPLETED', inputs,
        options, priority, is_step, created_by, lane, takeup, last_seq, now(), id, n FROM runs, generate_series(1, 40000) n
    WHERE id = $1"""
    await database.pool.execute(copies, run.id)
    async with database.begin() as connection:
        streamed = await workflows.lock_runs(connection, caller, workflow_id)
        assert await database.pool.fetch("SELECT id FROM runs FOR KEY SHARE SKIP LOCKED") == []
    assert len(streamed) == 40_000
