"""The audit log: an entry with each change or none, and no way to change it afterwards."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from persistence.audit_log import MAX_BYTES
from persistence.caller import Caller, Role
from persistence.problems import Conflict
from resolvers.context import Context
from resolvers.projects import create_project
from tests.executor_worker import eventually
from tests.schema_client import call, mutate, new_workflow, with_output

ENTRIES = """query($first: Int, $filter: AuditFilter) { auditLog(first: $first, filter: $filter) {
  nodes { id at subject action resourceId address before after } pageInfo { hasNextPage } } }"""


@pytest.fixture
def admin(context: Context, project: str) -> Context:
    return replace(context, caller=Caller("ada", {project: Role.ADMIN}, address="192.0.2.7"))


async def test_an_entry_says_who_changed_what_from_where_and_how(admin: Context) -> None:
    workflow_id = await new_workflow(admin, name="First")
    await mutate(admin, "updateWorkflow", "workflow { id }", id=workflow_id, name="Second")
    spec = with_output("changed")
    await mutate(admin, "saveDraft", "draft { id }", workflowId=workflow_id, spec=spec, expectedRevision=1)
    await mutate(admin, "deleteWorkflow", "deletedId", id=workflow_id)
    entries = (await call(admin, ENTRIES))["auditLog"]["nodes"]
    assert [entry["action"] for entry in entries] == ["deleteWorkflow", "saveDraft", "updateWorkflow", "createWorkflow"]
    assert {(entry["subject"], entry["address"], entry["resourceId"]) for entry in entries} == {
        ("ada", "192.0.2.7", workflow_id)
    }
    first, second = {"name": "First", "description": ""}, {"name": "Second", "description": ""}
    assert (entries[2]["before"], entries[2]["after"]) == (first, second)
    assert (entries[0]["before"], entries[0]["after"]) == (second, None)
    assert entries[1]["before"] == {"revision": 1} and entries[1]["after"]["revision"] == 2


async def test_a_change_that_fails_or_changes_nothing_leaves_no_entry(admin: Context) -> None:
    workflow_id = await new_workflow(admin)
    before = (await call(admin, ENTRIES))["auditLog"]["nodes"]
    save = {"workflowId": workflow_id, "spec": with_output("{{ input.value }}")}
    await mutate(admin, "saveDraft", "draft { id }", **save, expectedRevision=9)  # A conflict.
    await mutate(admin, "saveDraft", "draft { id }", **save, expectedRevision=1)  # The same content.
    await mutate(admin, "deleteSecret", "deletedId", name="unknown")
    admin.caller = replace(admin.caller, may_create_projects=True)
    with pytest.raises(Conflict):
        await create_project(admin, "default")
    assert (await call(admin, ENTRIES))["auditLog"]["nodes"] == before


@pytest.mark.parametrize("mutation", ["updateWorkflow", "publishVersion", "archiveVersion"])
async def test_what_a_change_replaced_is_what_was_there_when_it_was_made(admin: Context, mutation: str) -> None:
    """Another change is committed between the begin of this one and its write."""
    workflow_id = await new_workflow(admin, name="First")
    frozen = await mutate(admin, "createVersion", "version { id }", workflowId=workflow_id)
    version_id, pool = frozen["version"]["id"], admin.database.pool
    call_of = {
        "updateWorkflow": ("workflow { id }", {"id": workflow_id, "name": "Third"}),
        "publishVersion": ("version { id }", {"versionId": version_id}),
        "archiveVersion": ("version { id }", {"versionId": version_id}),
    }
    answer, input = call_of[mutation]
    async with pool.acquire() as other, other.transaction():
        await other.execute("UPDATE workflows SET name = 'Second' WHERE id = $1", workflow_id)
        await other.execute("UPDATE versions SET status = 'ARCHIVED' WHERE id = $1", version_id)
        changing = asyncio.create_task(mutate(admin, mutation, answer, **input))
        await eventually(lambda: pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))
    assert (await changing)["errors"] == []
    before = (await call(admin, ENTRIES))["auditLog"]["nodes"][0]["before"]
    assert before.get("name", "Second") == "Second" and before.get("status", "ARCHIVED") == "ARCHIVED"


async def test_entries_are_filtered(admin: Context) -> None:
    first, second = await new_workflow(admin, name="a"), await new_workflow(admin, name="b")
    await mutate(admin, "updateWorkflow", "workflow { id }", id=first, name="c")
    other = replace(admin, caller=replace(admin.caller, subject="bob"))
    await mutate(other, "updateWorkflow", "workflow { id }", id=second, name="d")
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    for filter, expected in (
        ({"subject": "bob"}, [second]),
        ({"action": ["createWorkflow"]}, [second, first]),
        ({"resourceId": first}, [first, first]),
        ({"action": ["updateWorkflow"], "resourceId": first}, [first]),
        ({"createdAfter": later}, []),
        ({"createdBefore": later}, [second, first, second, first]),
        ({"action": []}, []),
    ):
        nodes = (await call(admin, ENTRIES, filter=filter))["auditLog"]["nodes"]
        assert [node["resourceId"] for node in nodes] == expected, filter
    page = (await call(admin, ENTRIES, first=3))["auditLog"]
    assert len(page["nodes"]) == 3 and page["pageInfo"]["hasNextPage"]


async def test_a_large_value_is_kept_as_its_hash(admin: Context) -> None:
    workflow_id = await new_workflow(admin)
    inputs = {"text": "x" * MAX_BYTES}
    input = {"workflowId": workflow_id, "kind": "schedule", "name": "t", "config": {"cron": "0 * * * *"}}
    assert (await mutate(admin, "createTrigger", "trigger { id }", **input, inputs=inputs))["errors"] == []
    after = (await call(admin, ENTRIES))["auditLog"]["nodes"][0]["after"]
    assert after["config"] == {"cron": "0 * * * *"} and after["inputs"].keys() == {"bytes", "sha256"}


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_log SET subject = 'eve'", "DELETE FROM audit_log", "TRUNCATE audit_log"]
)
async def test_the_database_refuses_to_change_entries(admin: Context, statement: str) -> None:
    await new_workflow(admin)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
        await admin.database.pool.execute(statement)
    assert await admin.database.pool.fetchval("SELECT count(*) FROM audit_log") == 1


async def test_only_the_owner_deletes_old_entries_and_only_on_purpose(admin: Context) -> None:
    await new_workflow(admin)
    retention = "SET LOCAL treadle.audit_retention = 'on'"
    async with admin.database.pool.acquire() as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
            async with connection.transaction():
                await connection.execute(retention)
                await connection.execute("UPDATE audit_log SET subject = 'eve'")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
            async with connection.transaction():
                role = "audit_guest_" + str(await connection.fetchval("SELECT pg_backend_pid()"))
                await connection.execute(f"CREATE ROLE {role}")
                await connection.execute(f"GRANT SELECT, DELETE ON audit_log TO {role}")
                await connection.execute(f"SET LOCAL ROLE {role}")
                await connection.execute(retention)
                await connection.execute("DELETE FROM audit_log")
        async with connection.transaction():
            await connection.execute(retention)
            await connection.execute("DELETE FROM audit_log WHERE at < now() + interval '1 day'")
        assert await connection.fetchval("SELECT count(*) FROM audit_log") == 0
