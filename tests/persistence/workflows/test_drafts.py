"""Drafts: of many saves at once one wins, and only a change of the content raises the revision."""

import asyncio

import pytest

from persistence.caller import Caller
from persistence.db.database import Database
from persistence.problems import Conflict, NotFound
from persistence.workflows import drafts, workflows
from persistence.workflows.drafts import Content, Draft


def content(value: object) -> Content:
    return Content({"nodes": [], "edges": [], "outputs": {"value": value}}, f"hash of {value}")


@pytest.fixture
async def workflow_id(database: Database, caller: Caller, project: str) -> str:
    async with database.begin() as connection:
        workflow = await workflows.create(
            connection, caller, project, name="w", description="", content=content("first")
        )
    return workflow.id


async def save(database: Database, caller: Caller, workflow_id: str, value: object, revision: int) -> Draft:
    async with database.begin() as connection:
        return (await drafts.save(connection, caller, workflow_id, content(value), revision))[0]


async def test_of_fifty_saves_at_once_exactly_one_wins(database: Database, caller: Caller, workflow_id: str) -> None:
    saves = (save(database, caller, workflow_id, number, 1) for number in range(50))
    answers = await asyncio.gather(*saves, return_exceptions=True)

    won = [answer for answer in answers if isinstance(answer, Draft)]
    lost = [answer for answer in answers if isinstance(answer, Conflict)]
    assert (len(won), len(lost)) == (1, 49)
    assert won[0].revision == 2
    assert {conflict.current_revision for conflict in lost} == {2}
    assert all(conflict.current == won[0] for conflict in lost)


async def test_a_save_of_the_same_content_leaves_the_revision(
    database: Database, caller: Caller, workflow_id: str
) -> None:
    async with database.begin() as connection:
        reordered = Content({"outputs": {"value": "first"}, "edges": [], "nodes": []}, content("first").hash)
        draft, changed = await drafts.save(connection, caller, workflow_id, reordered, 1)
    assert (draft.revision, changed) == (1, False)


async def test_a_stale_save_is_a_conflict_even_with_the_current_content(
    database: Database, caller: Caller, workflow_id: str
) -> None:
    await save(database, caller, workflow_id, "second", 1)
    with pytest.raises(Conflict):
        await save(database, caller, workflow_id, "second", 1)


async def test_a_save_based_on_a_later_revision_is_a_conflict(
    database: Database, caller: Caller, workflow_id: str
) -> None:
    with pytest.raises(Conflict):
        await save(database, caller, workflow_id, "second", 7)


async def test_a_draft_of_another_project_cannot_be_saved(database: Database, workflow_id: str) -> None:
    with pytest.raises(NotFound):
        await save(database, Caller("outsider", {}), workflow_id, "second", 1)
