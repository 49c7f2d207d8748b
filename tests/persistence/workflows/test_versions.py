"""Versions: a workflow has one for each content, under any concurrency."""

import asyncio

import pytest

from engine.states import VersionStatus
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.db.pagination import PageRange
from persistence.problems import Conflict, InvalidState, NotFound
from persistence.workflows import drafts, versions, workflows
from persistence.workflows.drafts import Content
from persistence.workflows.versions import Version, VersionPageRequest


def content(value: object) -> Content:
    return Content({"nodes": [], "outputs": {"value": value}}, f"hash of {value}")


@pytest.fixture
async def workflow_id(database: Database, caller: Caller, project: str) -> str:
    async with database.begin() as connection:
        workflow = await workflows.create(connection, caller, project, name="w", description="", content=content(0))
    return workflow.id


async def freeze(database: Database, caller: Caller, workflow_id: str) -> tuple[Version, bool]:
    async with database.begin() as connection:
        draft = await drafts.get(connection, caller, workflow_id)
        return await versions.freeze(connection, caller, draft)


async def save(database: Database, caller: Caller, workflow_id: str, value: object) -> None:
    async with database.begin() as connection:
        draft = await drafts.get(connection, caller, workflow_id)
        await drafts.save(connection, caller, workflow_id, content(value), draft.revision)


async def test_concurrent_freezes_of_one_draft_make_one_version(
    database: Database, caller: Caller, workflow_id: str
) -> None:
    answers = await asyncio.gather(*(freeze(database, caller, workflow_id) for _ in range(20)))
    assert len({version.id for version, _ in answers}) == 1
    assert [created for _, created in answers].count(True) == 1


async def test_an_archived_version_of_the_same_content_is_used_again(
    database: Database, caller: Caller, workflow_id: str
) -> None:
    first, _ = await freeze(database, caller, workflow_id)
    async with database.begin() as connection:
        await versions.archive(connection, caller, first)
    await save(database, caller, workflow_id, 1)
    second, _ = await freeze(database, caller, workflow_id)
    await save(database, caller, workflow_id, 0)
    again, created = await freeze(database, caller, workflow_id)

    assert (again.id, again.status, created) == (first.id, VersionStatus.ARCHIVED, False)
    assert (first.number, second.number) == (1, 2)


async def test_a_publication_archives_the_version_published_before(
    database: Database, caller: Caller, workflow_id: str
) -> None:
    first, _ = await freeze(database, caller, workflow_id)
    await save(database, caller, workflow_id, 1)
    second, _ = await freeze(database, caller, workflow_id)
    for version in (first, second):
        async with database.begin() as connection:
            await versions.publish(connection, caller, version)

    async with database.connect() as connection:
        by_id = await versions.get_many(connection, caller, [first.id, second.id])
        published = await versions.get_published(connection, caller, [workflow_id])
    assert by_id[first.id].status is VersionStatus.ARCHIVED
    assert published[workflow_id].id == second.id


async def test_concurrent_publications_leave_one_published_version(
    database: Database, caller: Caller, workflow_id: str
) -> None:
    frozen = []
    for value in range(6):
        await save(database, caller, workflow_id, value)
        frozen.append((await freeze(database, caller, workflow_id))[0])

    async def publish(version: Version) -> Version:
        async with database.begin() as connection:
            return await versions.publish(connection, caller, version)

    answers = await asyncio.gather(*map(publish, frozen))
    assert all(version.status is VersionStatus.PUBLISHED for version in answers)
    async with database.connect() as connection:
        request = VersionPageRequest(workflow_id, PageRange(100), status=VersionStatus.PUBLISHED)
        page = (await versions.get_pages(connection, caller, [request]))[request]
    assert len(page.items) == 1


async def test_a_run_gets_the_published_version_and_the_draft_without_one(
    database: Database, caller: Caller, workflow_id: str
) -> None:
    async with database.begin() as connection:
        trial = await versions.get_for_run(connection, caller, workflow_id)
        with pytest.raises(InvalidState):
            await versions.publish(connection, caller, trial)
    numbered, _ = await freeze(database, caller, workflow_id)
    async with database.begin() as connection:
        assert (trial.number, numbered.number) == (0, 1)
        assert (await versions.get_for_run(connection, caller, workflow_id)).id == numbered.id
        await versions.publish(connection, caller, numbered)
    await save(database, caller, workflow_id, 1)
    async with database.begin() as connection:
        assert (await versions.get_for_run(connection, caller, workflow_id)).id == numbered.id
        assert (await versions.get_for_run(connection, caller, workflow_id, draft_revision=2)).number == 0
        with pytest.raises(Conflict):
            await versions.get_for_run(connection, caller, workflow_id, draft_revision=1)


async def test_a_version_of_another_workflow_is_not_found(
    database: Database, caller: Caller, project: str, workflow_id: str
) -> None:
    version, _ = await freeze(database, caller, workflow_id)
    async with database.begin() as connection:
        other = await workflows.create(connection, caller, project, name="x", description="", content=content(9))
        with pytest.raises(NotFound):
            await versions.get_for_run(connection, caller, other.id, version.id)


async def test_an_ad_hoc_spec_has_one_version_without_a_workflow(
    database: Database, caller: Caller, project: str
) -> None:
    async def make() -> Version:
        async with database.begin() as connection:
            return await versions.ensure_adhoc(connection, caller, project, content("adhoc"))

    adhoc = await asyncio.gather(*(make() for _ in range(10)))
    assert {(version.id, version.number, version.workflow_id) for version in adhoc} == {(adhoc[0].id, 0, None)}
    async with database.begin() as connection:
        with pytest.raises(InvalidState):
            await versions.publish(connection, caller, adhoc[0])
