"""Workflows, drafts and versions through the schema."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import event

from persistence.caller import Caller, Role
from resolvers.context import Context
from tests.schema_client import LINEAR, call, mutate, new_workflow, with_output


async def save(context: Context, workflow_id: str, spec: object, revision: int) -> dict[str, Any]:
    answer = "draft { id revision specHash matchesVersion { id number } }"
    return await mutate(context, "saveDraft", answer, workflowId=workflow_id, spec=spec, expectedRevision=revision)


async def freeze(context: Context, workflow_id: str, **more: object) -> dict[str, Any]:
    answer = "created version { id number status specHash publishedAt }"
    return await mutate(context, "createVersion", answer, workflowId=workflow_id, **more)


async def test_a_workflow_without_a_spec_gets_one_that_runs(context: Context) -> None:
    answer = "workflow { id project { name } draft { revision problems { message } spec } publishedVersion { id } }"
    payload = await mutate(context, "createWorkflow", answer, name="  New  ")
    workflow = payload["workflow"]
    assert workflow["project"]["name"] == "default"
    assert workflow["publishedVersion"] is None
    assert (workflow["draft"]["revision"], workflow["draft"]["problems"]) == (1, [])
    assert all(edge["id"] for edge in workflow["draft"]["spec"]["edges"])


async def test_a_stale_save_gets_a_conflict_with_the_current_draft(context: Context) -> None:
    workflow_id = await new_workflow(context)
    assert (await save(context, workflow_id, with_output("b"), 1))["draft"]["revision"] == 2
    payload = await save(context, workflow_id, with_output("c"), 1)
    assert payload["draft"] is None
    [problem] = payload["errors"]
    assert (problem["__typename"], problem["code"], problem["status"]) == ("ConflictProblem", "CONFLICT", 409)
    assert problem["currentRevision"] == problem["draft"]["revision"] == 2
    assert problem["draft"]["spec"]["nodes"][1]["config"]["output"] == "b"


async def test_of_fifty_simultaneous_saves_one_wins(context: Context) -> None:
    workflow_id = await new_workflow(context)
    payloads = await asyncio.gather(*(save(context, workflow_id, with_output(n), 1) for n in range(50)))
    assert [len(payload["errors"]) for payload in payloads].count(0) == 1


async def test_another_key_order_or_layout_is_not_a_new_version(context: Context) -> None:
    workflow_id = await new_workflow(context)
    first = await freeze(context, workflow_id)
    moved = [{**node, "label": "Renamed", "position": {"x": 9, "y": 9}} for node in LINEAR["nodes"]]
    reordered = {"edges": LINEAR["edges"], "nodes": [dict(reversed(node.items())) for node in moved]}
    saved = await save(context, workflow_id, reordered, 1)
    again = await freeze(context, workflow_id)

    assert saved["draft"]["revision"] == 2
    assert saved["draft"]["matchesVersion"] == {"id": first["version"]["id"], "number": 1}
    assert (first["created"], again["created"]) == (True, False)
    assert again["version"]["id"] == first["version"]["id"]


async def test_publishing_another_version_archives_the_first(context: Context) -> None:
    workflow_id = await new_workflow(context)
    await freeze(context, workflow_id, publish=True)
    await save(context, workflow_id, with_output("b"), 1)
    second = await freeze(context, workflow_id, expectedRevision=2)
    await mutate(context, "publishVersion", "version { status }", versionId=second["version"]["id"])

    query = """query($id: ID!) { workflow(id: $id) { publishedVersion { number publishedAt }
      versions { nodes { number status } } archived: versions(status: ARCHIVED) { nodes { number } }
      version(number: 2) { status inputSchema workflow { id } } } }"""
    workflow = (await call(context, query, id=workflow_id))["workflow"]
    assert workflow["publishedVersion"]["number"] == 2
    assert workflow["publishedVersion"]["publishedAt"].endswith("Z")
    assert workflow["versions"]["nodes"] == [
        {"number": 2, "status": "PUBLISHED"},
        {"number": 1, "status": "ARCHIVED"},
    ]
    assert workflow["archived"]["nodes"] == [{"number": 1}]
    assert workflow["version"] == {"status": "PUBLISHED", "inputSchema": None, "workflow": {"id": workflow_id}}


async def test_a_version_of_a_draft_with_another_revision_is_refused(context: Context) -> None:
    workflow_id = await new_workflow(context)
    payload = await freeze(context, workflow_id, expectedRevision=3)
    assert payload["errors"][0]["code"] == "CONFLICT"


async def test_a_draft_with_errors_can_be_saved_but_not_made_a_version(context: Context) -> None:
    workflow_id = await new_workflow(context)
    broken = {**LINEAR, "nodes": [*LINEAR["nodes"], {"id": "x", "type": "nonsense", "config": {}}]}
    assert (await save(context, workflow_id, broken, 1))["errors"] == []
    [problem] = (await freeze(context, workflow_id))["errors"]
    assert problem["__typename"] == "ValidationProblem"
    assert "x" in [error["nodeId"] for error in problem["errors"]]


async def test_restoring_a_version_creates_a_new_revision_of_the_draft(context: Context) -> None:
    workflow_id = await new_workflow(context)
    version = (await freeze(context, workflow_id))["version"]
    await save(context, workflow_id, with_output("b"), 1)
    answer = "draft { revision specHash }"
    payload = await mutate(context, "restoreVersion", answer, versionId=version["id"], expectedRevision=2)
    assert payload["draft"] == {"revision": 3, "specHash": version["specHash"]}


async def test_an_omitted_field_stays_unchanged_and_null_clears_it(context: Context) -> None:
    answer = "workflow { id name description }"
    created = await mutate(context, "createWorkflow", answer, name="One", description="Long")
    workflow_id = created["workflow"]["id"]
    renamed = await mutate(context, "updateWorkflow", answer, id=workflow_id, name="Two")
    cleared = await mutate(context, "updateWorkflow", answer, id=workflow_id, description=None)
    nameless = await mutate(context, "updateWorkflow", answer, id=workflow_id, name=None)

    assert (renamed["workflow"]["name"], renamed["workflow"]["description"]) == ("Two", "Long")
    assert (cleared["workflow"]["name"], cleared["workflow"]["description"]) == ("Two", "")
    assert nameless["errors"][0]["errors"][0]["field"] == "input.name"


async def test_a_duplicate_has_its_own_draft(context: Context) -> None:
    workflow_id = await new_workflow(context, with_output("copied"), name="Source")
    answer = "workflow { id name draft { revision spec } versions { nodes { id } } }"
    copy = (await mutate(context, "duplicateWorkflow", answer, id=workflow_id))["workflow"]
    assert copy["id"] != workflow_id
    assert (copy["name"], copy["draft"]["revision"], copy["versions"]["nodes"]) == ("Source (copy)", 1, [])
    assert copy["draft"]["spec"]["nodes"][1]["config"]["output"] == "copied"


async def test_a_workflow_with_active_runs_is_deleted_only_with_them(context: Context) -> None:
    workflow_id = await new_workflow(context)
    await mutate(context, "createRun", "run { id status }", workflowId=workflow_id, inputs={})
    refused = await mutate(context, "deleteWorkflow", "deletedId", id=workflow_id)
    deleted = await mutate(context, "deleteWorkflow", "deletedId", id=workflow_id, cancelRuns=True)
    again = await mutate(context, "deleteWorkflow", "deletedId", id=workflow_id)

    assert refused["errors"][0]["code"] == "INVALID_STATE"
    assert deleted == {"deletedId": workflow_id, "errors": []}
    assert again["errors"][0]["resourceId"] == workflow_id


async def test_nodes_are_returned_in_the_order_of_the_ids_with_null_for_unknown_ones(context: Context) -> None:
    workflow_id = await new_workflow(context)
    version_id = (await freeze(context, workflow_id))["version"]["id"]
    viewer = (await call(context, "{ viewer { subject projects { id } } }"))["viewer"]
    ids = [version_id, "wf_01h455vb4pex5vsknk084sn02q", "nonsense", viewer["projects"][0]["id"], workflow_id]
    query = "query($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }"
    nodes = (await call(context, query, ids=ids))["nodes"]
    assert [node and node["__typename"] for node in nodes] == ["WorkflowVersion", None, None, "Project", "Workflow"]
    assert [node and node["id"] for node in nodes] == [ids[0], None, None, ids[3], ids[4]]


async def test_lists_are_connections_with_cursors(context: Context) -> None:
    created = [await new_workflow(context, name=f"w{number}") for number in range(3)]
    query = """query($after: String, $search: String) { workflows(first: 2, after: $after, search: $search) {
      edges { cursor node { id } } nodes { id }
      pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"""
    one = (await call(context, query))["workflows"]
    two = (await call(context, query, after=one["pageInfo"]["endCursor"]))["workflows"]
    matches = (await call(context, query, search="W1"))["workflows"]
    assert [edge["node"]["id"] for edge in one["edges"] + two["edges"]] == created[::-1]
    assert [one["pageInfo"]["hasNextPage"], two["pageInfo"]["hasNextPage"]] == [True, False]
    assert [one["pageInfo"]["hasPreviousPage"], two["pageInfo"]["hasPreviousPage"]] == [False, True]
    assert [node["id"] for node in matches["nodes"]] == [created[1]]


async def test_the_creator_of_a_project_belongs_to_it(context: Context) -> None:
    project = (await mutate(context, "createProject", "project { id name }", name="Second"))["project"]
    second = await mutate(context, "createProject", "project { id }", name="Second")
    query = "{ viewer { projects { name } } projects { nodes { id } } }"
    data = await call(context, query)
    assert second["errors"][0]["code"] == "CONFLICT"
    assert [project["name"] for project in data["viewer"]["projects"]] == ["Second", "default"]
    assert data["projects"]["nodes"][0]["id"] == project["id"]


@pytest.mark.parametrize(
    ("role", "code"), [(Role.VIEWER, "FORBIDDEN"), (Role.RUNNER, "FORBIDDEN"), (None, "NOT_FOUND")]
)
async def test_a_caller_without_the_role_changes_nothing(
    context: Context, project: str, role: Role | None, code: str
) -> None:
    workflow_id = await new_workflow(context)
    version_id = (await freeze(context, workflow_id))["version"]["id"]
    roles = {} if role is None else {project: role}
    other = Context(
        Caller("other", roles, frozenset()),
        context.database,
        context.node_types,
        context.redis,
        context.notifier,
        context.feed,
    )
    payloads: list[dict[str, Any]] = [
        await save(other, workflow_id, with_output("theirs"), 1),
        await freeze(other, workflow_id),
        await mutate(other, "publishVersion", "version { id }", versionId=version_id),
        await mutate(other, "archiveVersion", "version { id }", versionId=version_id),
        await mutate(other, "restoreVersion", "draft { id }", versionId=version_id, expectedRevision=1),
        await mutate(other, "updateWorkflow", "workflow { id }", id=workflow_id, name="theirs"),
        await mutate(other, "duplicateWorkflow", "workflow { id }", id=workflow_id),
        await mutate(other, "deleteWorkflow", "deletedId", id=workflow_id, cancelRuns=True),
        await mutate(other, "createWorkflow", "workflow { id }", projectId=project, name="theirs"),
    ]
    assert [payload["errors"][0]["code"] for payload in payloads] == [code] * len(payloads)


async def test_a_list_needs_one_statement_a_field_and_none_a_row(context: Context) -> None:
    query = """{ workflows(first: 100) { nodes { project { name } publishedVersion { id }
      draft { matchesVersion { number workflow { draft { revision } } } } } } }"""
    statements: list[str] = []

    def count(_c: object, _k: object, statement: str, *_: object) -> None:
        statements.append(statement)

    for number in range(20):
        await new_workflow(context, name=f"w{number}")
    event.listen(context.database.engine.sync_engine, "before_cursor_execute", count)
    await call(context, query)
    assert len(statements) <= 8
