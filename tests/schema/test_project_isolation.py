"""Objects of another project do not exist for a caller in any query, mutation or subscription."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from engine.states import NodeStatus, RunStatus
from persistence.caller import Caller, Role
from persistence.db.ids import new_id
from persistence.secrets import store
from persistence.secrets.keyring import Key, Keyring
from persistence.workflows import projects
from resolvers.context import Context
from schema.schema import schema
from tests.journal_worker import open_worker
from tests.schema_client import LINEAR, PROBLEM, call, mutate, new_workflow


@dataclass
class ForeignIds:
    """Ids of objects in a project that `outsider` has no role in."""

    project: str
    workflow: str
    version: str
    run: str
    pending: str
    checkpoint: str
    wait: str

    def fill(self, value: Any) -> Any:
        """Replace names in braces by ids, in strings and in the values of objects."""
        if isinstance(value, dict):
            return {key: self.fill(item) for key, item in value.items()}
        if isinstance(value, str):
            for name, id in vars(self).items():
                value = value.replace(f"{{{name}}}", id)
        return value


@pytest.fixture
async def foreign(context: Context, project: str) -> ForeignIds:
    """Create one object of each kind, including a PENDING run and a PAUSED run."""
    workflow_id = await new_workflow(context)
    frozen = await mutate(context, "createVersion", "version { id }", workflowId=workflow_id, publish=True)
    pending = await mutate(context, "createRun", "run { id }", workflowId=workflow_id, inputs={"value": 1})
    started = await mutate(context, "runWorkflow", "run { id }", workflowId=workflow_id, inputs={"value": 1})
    run_id, checkpoint_id, wait_id = started["run"]["id"], new_id("ckp"), new_id("wait")
    loaded = await context.loaders.run.load(run_id)
    assert loaded is not None
    async with open_worker(context.database, context.redis) as worker:
        held = await worker.claim(loaded)
        await held.node("start", NodeStatus.COMPLETED, output={"secret": 1}, has_output=True)
        await held.checkpoint(checkpoint_id, step=1, next_nodes=["end"])
        await held.finish(RunStatus.PAUSED)
    insert = (
        "INSERT INTO waits (id, run_id, node_id, visit, lineage, seq, kind) VALUES ($1, $2, 'end', 1, 0, 2, 'INPUT')"
    )
    await context.database.pool.execute(insert, wait_id, run_id)
    async with context.database.begin() as connection:
        await store.put(connection, context.caller, Keyring((Key.new(),)), project, "key", "a value of it")
    version_id = frozen["version"]["id"]
    return ForeignIds(project, workflow_id, version_id, run_id, pending["run"]["id"], checkpoint_id, wait_id)


@pytest.fixture
async def outsider(context: Context) -> Context:
    """Another caller, who is admin of another project."""
    async with context.database.begin() as connection:
        own = await projects.create(connection, "of the outsider")
    return replace(context, caller=Caller("outsider", {own.id: Role.ADMIN}))


async def all_rows(context: Context) -> list[Any]:
    """Return all rows that a call could have changed."""
    tables = (
        "projects",
        "workflows",
        "drafts",
        "versions",
        "runs",
        "events",
        "checkpoints",
        "waits",
        "idempotency_keys",
        "secrets",
    )
    return [await context.database.pool.fetch(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables]


QUERIES = [
    ('project(id: "{project}")', "id"),
    ('workflow(id: "{workflow}")', "id"),
    ('run(id: "{run}")', "id output"),
    *((f'node(id: "{{{kind}}}")', "id") for kind in ("project", "workflow", "version", "run", "checkpoint")),
]


async def test_an_outsider_reads_null(context: Context, outsider: Context, foreign: ForeignIds) -> None:
    for field, answer in QUERIES:
        query = f"{{ it: {foreign.fill(field)} {{ {answer} }} }}"
        assert (await call(outsider, query))["it"] is None, query
        assert (await call(context, query))["it"] is not None, query


async def test_the_lists_of_an_outsider_hold_nothing_of_other_projects(outsider: Context, foreign: ForeignIds) -> None:
    answer = await call(
        outsider,
        """query($ids: [ID!]!, $of: ID!, $version: ID!) { nodes(ids: $ids) { id } workflows { nodes { id } }
        runs { nodes { id } } byWorkflow: runs(filter: {workflowId: $of}) { nodes { id } }
        byVersion: runs(filter: {versionId: $version}) { nodes { id } } viewer { projects { name } }
        projects { nodes { name } } secrets { name } }""",
        ids=[foreign.project, foreign.workflow, foreign.version, foreign.run, foreign.checkpoint],
        of=foreign.workflow,
        version=foreign.version,
    )
    assert answer.pop("nodes") == [None] * 5
    assert answer.pop("secrets") == []
    assert answer.pop("viewer")["projects"] == answer.pop("projects")["nodes"] == [{"name": "of the outsider"}]
    assert all(page == {"nodes": []} for page in answer.values())


MUTATIONS: list[tuple[str, dict[str, Any]]] = [
    ("createWorkflow", {"name": "w", "projectId": "{project}"}),
    ("updateWorkflow", {"id": "{workflow}", "name": "started"}),
    ("duplicateWorkflow", {"id": "{workflow}"}),
    ("deleteWorkflow", {"id": "{workflow}", "cancelRuns": True}),
    ("saveDraft", {"workflowId": "{workflow}", "spec": LINEAR, "expectedRevision": 1}),
    ("createVersion", {"workflowId": "{workflow}"}),
    ("publishVersion", {"versionId": "{version}"}),
    ("archiveVersion", {"versionId": "{version}"}),
    ("restoreVersion", {"versionId": "{version}", "expectedRevision": 1}),
    ("setSecret", {"projectId": "{project}", "name": "key", "value": "a value of it"}),
    ("deleteSecret", {"projectId": "{project}", "name": "key"}),
    ("createRun", {"workflowId": "{workflow}"}),
    ("createRun", {"workflowId": "{workflow}", "versionId": "{version}"}),
    ("runWorkflow", {"workflowId": "{workflow}"}),
    ("runWorkflow", {"workflowId": "{workflow}", "idempotencyKey": "k"}),
    ("runAdhoc", {"projectId": "{project}", "spec": LINEAR}),
    ("executeRun", {"runId": "{pending}"}),
    ("cancelRun", {"runId": "{pending}"}),
    ("cancelRun", {"runId": "{run}", "idempotencyKey": "k"}),
    ("pauseRun", {"runId": "{run}"}),
    ("resumeRun", {"runId": "{run}"}),
    ("resumeRun", {"runId": "{run}", "checkpointId": "{checkpoint}"}),
    ("resumeRun", {"runId": "{run}", "waitId": "{wait}", "answer": 1}),
    ("stepRun", {"runId": "{run}"}),
    ("setBreakpoints", {"runId": "{run}", "nodeIds": ["end"]}),
    ("retryRun", {"runId": "{run}", "from": "START"}),
    ("forkRun", {"checkpointId": "{checkpoint}"}),
]


def _kind(mutation: str) -> str:
    return (
        "VersionInput"
        if mutation in ("publishVersion", "archiveVersion")
        else mutation[0].upper() + mutation[1:] + "Input"
    )


async def codes_of(context: Context, mutation: str, input: dict[str, Any]) -> list[str]:
    """Execute a mutation, and return the codes of its problems."""
    query = f"mutation($i: {_kind(mutation)}!) {{ {mutation}(input: $i) {{ {PROBLEM} }} }}"
    return [error["code"] for error in (await call(context, query, i=input))[mutation]["errors"]]


async def test_an_outsider_changes_nothing(outsider: Context, foreign: ForeignIds) -> None:
    before = await all_rows(outsider)
    for mutation, input in MUTATIONS:
        assert await codes_of(outsider, mutation, foreign.fill(input)) == ["NOT_FOUND"], mutation
    assert await all_rows(outsider) == before


async def test_an_own_object_does_not_give_access_to_foreign_ones(outsider: Context, foreign: ForeignIds) -> None:
    """Combine an own workflow or run with a version, checkpoint or question of another project."""
    own = await new_workflow(outsider)
    started = await mutate(outsider, "runWorkflow", "run { id }", workflowId=own, inputs={"value": 1})
    run_id = started["run"]["id"]
    before = await all_rows(outsider)
    for mutation, input in (
        ("runWorkflow", {"workflowId": own, "versionId": foreign.version}),
        ("createRun", {"workflowId": own, "versionId": foreign.version}),
        ("resumeRun", {"runId": run_id, "waitId": foreign.wait, "answer": 1}),
        ("resumeRun", {"runId": run_id, "checkpointId": foreign.checkpoint}),
    ):
        payload = await mutate(outsider, mutation, "run { id }", **input)
        assert payload["errors"][0]["code"] in ("NOT_FOUND", "INVALID_STATE")
    assert await all_rows(outsider) == before
    read = f'{{ run(id: "{run_id}") {{ checkpoint(id: "{foreign.checkpoint}") {{ id }} }} }}'
    assert (await call(outsider, read))["run"] == {"checkpoint": None}


SUBSCRIPTIONS = (
    'nodeStates(runId: "{run}") { seq }',
    'nodeStates(runId: "{run}", after: 0) { seq }',
    'runEvents(runId: "{run}") { seq }',
    'draft(workflowId: "{workflow}") { id }',
    'runs(projectId: "{project}") { id }',
)


async def test_an_outsider_can_subscribe_to_nothing(outsider: Context, foreign: ForeignIds) -> None:
    for field in SUBSCRIPTIONS:
        stream = await schema.subscribe(f"subscription {{ {foreign.fill(field)} }}", context_value=outsider)
        [result] = [result async for result in stream]
        [error] = result.errors or []
        assert error.extensions is not None and error.extensions["code"] == "NOT_FOUND", field


@pytest.mark.parametrize("role", [Role.VIEWER, Role.RUNNER])
async def test_a_viewer_or_runner_is_forbidden_to_change_more(
    context: Context, foreign: ForeignIds, role: Role
) -> None:
    guest = replace(context, caller=Caller("guest", {foreign.project: role}))
    before = await all_rows(context)
    for mutation, input in MUTATIONS[1:11] if role is Role.RUNNER else MUTATIONS:
        assert await codes_of(guest, mutation, foreign.fill(input)) == ["FORBIDDEN"], mutation
    assert await all_rows(context) == before
    assert (await call(guest, f'{{ run(id: "{foreign.run}") {{ id }} }}'))["run"] == {"id": foreign.run}
