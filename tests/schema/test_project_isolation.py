"""What belongs to another project does not exist: for no query, no mutation and no subscription, whatever the id."""

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
from tests.journal_worker import working
from tests.schema_client import LINEAR, PROBLEM, call, mutate, new_workflow


@dataclass
class Theirs:
    """Ids of a project that the stranger does not have."""

    project: str
    workflow: str
    version: str
    run: str
    pending: str
    checkpoint: str
    wait: str

    def fill(self, given: Any) -> Any:
        """With the ids in the place of their names in braces."""
        if isinstance(given, dict):
            return {key: self.fill(value) for key, value in given.items()}
        if isinstance(given, str):
            for name, id in vars(self).items():
                given = given.replace(f"{{{name}}}", id)
        return given


@pytest.fixture
async def theirs(context: Context, project: str) -> Theirs:
    """A secret, a workflow with a published version, a PENDING run, and one that is PAUSED with a checkpoint and a question."""
    workflow_id = await new_workflow(context)
    made = await mutate(context, "createVersion", "version { id }", workflowId=workflow_id, publish=True)
    pending = await mutate(context, "createRun", "run { id }", workflowId=workflow_id, inputs={"value": 1})
    started = await mutate(context, "runWorkflow", "run { id }", workflowId=workflow_id, inputs={"value": 1})
    run_id, checkpoint_id, wait_id = started["run"]["id"], new_id("ckp"), new_id("wait")
    loaded = await context.loaders.run.load(run_id)
    assert loaded is not None
    async with working(context.database, context.redis) as worker:
        held = await worker.takes_up(loaded)
        await held.node("start", NodeStatus.COMPLETED, output={"secret": 1}, has_output=True)
        await held.checkpoint(checkpoint_id, step=1, next_nodes=["end"])
        await held.ends(RunStatus.PAUSED)
    asked = (
        "INSERT INTO waits (id, run_id, node_id, visit, lineage, seq, kind) VALUES ($1, $2, 'end', 1, 0, 2, 'INPUT')"
    )
    await context.database.pool.execute(asked, wait_id, run_id)
    async with context.database.begin() as connection:
        await store.put(connection, context.caller, Keyring((Key.new(),)), project, "key", "a value of it")
    version_id = made["version"]["id"]
    return Theirs(project, workflow_id, version_id, run_id, pending["run"]["id"], checkpoint_id, wait_id)


@pytest.fixture
async def stranger(context: Context) -> Context:
    """An admin of a project of their own."""
    async with context.database.begin() as connection:
        own = await projects.create(connection, "of the stranger")
    return replace(context, caller=Caller("stranger", {own.id: Role.ADMIN}))


async def everything(context: Context) -> list[Any]:
    """All that a call could have changed."""
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


async def test_a_stranger_reads_null(context: Context, stranger: Context, theirs: Theirs) -> None:
    for field, answer in QUERIES:
        query = f"{{ it: {theirs.fill(field)} {{ {answer} }} }}"
        assert (await call(stranger, query))["it"] is None, query
        assert (await call(context, query))["it"] is not None, query


async def test_a_stranger_s_lists_hold_nothing_of_others(stranger: Context, theirs: Theirs) -> None:
    answer = await call(
        stranger,
        """query($ids: [ID!]!, $of: ID!, $version: ID!) { nodes(ids: $ids) { id } workflows { nodes { id } }
        runs { nodes { id } } byWorkflow: runs(filter: {workflowId: $of}) { nodes { id } }
        byVersion: runs(filter: {versionId: $version}) { nodes { id } } viewer { projects { name } }
        projects { nodes { name } } secrets { name } }""",
        ids=[theirs.project, theirs.workflow, theirs.version, theirs.run, theirs.checkpoint],
        of=theirs.workflow,
        version=theirs.version,
    )
    assert answer.pop("nodes") == [None] * 5
    assert answer.pop("secrets") == []
    assert answer.pop("viewer")["projects"] == answer.pop("projects")["nodes"] == [{"name": "of the stranger"}]
    assert all(page == {"nodes": []} for page in answer.values())


MUTATIONS: list[tuple[str, dict[str, Any]]] = [
    ("createWorkflow", {"name": "w", "projectId": "{project}"}),
    ("updateWorkflow", {"id": "{workflow}", "name": "mine"}),
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


async def told(context: Context, mutation: str, given: dict[str, Any]) -> list[str]:
    """The codes of a mutation's problems."""
    query = f"mutation($i: {_kind(mutation)}!) {{ {mutation}(input: $i) {{ {PROBLEM} }} }}"
    return [error["code"] for error in (await call(context, query, i=given))[mutation]["errors"]]


async def test_a_stranger_changes_nothing(stranger: Context, theirs: Theirs) -> None:
    before = await everything(stranger)
    for mutation, given in MUTATIONS:
        assert await told(stranger, mutation, theirs.fill(given)) == ["NOT_FOUND"], mutation
    assert await everything(stranger) == before


async def test_what_is_one_s_own_does_not_lead_to_what_is_another_s(stranger: Context, theirs: Theirs) -> None:
    """An own workflow or run, with a version, a checkpoint or a question of somebody else."""
    own = await new_workflow(stranger)
    mine = await mutate(stranger, "runWorkflow", "run { id }", workflowId=own, inputs={"value": 1})
    run_id = mine["run"]["id"]
    before = await everything(stranger)
    for mutation, given in (
        ("runWorkflow", {"workflowId": own, "versionId": theirs.version}),
        ("createRun", {"workflowId": own, "versionId": theirs.version}),
        ("resumeRun", {"runId": run_id, "waitId": theirs.wait, "answer": 1}),
        ("resumeRun", {"runId": run_id, "checkpointId": theirs.checkpoint}),
    ):
        payload = await mutate(stranger, mutation, "run { id }", **given)
        assert payload["errors"][0]["code"] in ("NOT_FOUND", "INVALID_STATE")
    assert await everything(stranger) == before
    read = f'{{ run(id: "{run_id}") {{ checkpoint(id: "{theirs.checkpoint}") {{ id }} }} }}'
    assert (await call(stranger, read))["run"] == {"checkpoint": None}


WATCHED = (
    'nodeStates(runId: "{run}") { seq }',
    'nodeStates(runId: "{run}", after: 0) { seq }',
    'runEvents(runId: "{run}") { seq }',
    'draft(workflowId: "{workflow}") { id }',
    'runs(projectId: "{project}") { id }',
)


async def test_a_stranger_watches_nothing(stranger: Context, theirs: Theirs) -> None:
    for field in WATCHED:
        stream = await schema.subscribe(f"subscription {{ {theirs.fill(field)} }}", context_value=stranger)
        [result] = [result async for result in stream]
        [error] = result.errors or []
        assert error.extensions is not None and error.extensions["code"] == "NOT_FOUND", field


@pytest.mark.parametrize("role", [Role.VIEWER, Role.RUNNER])
async def test_who_may_only_look_or_run_is_told_so(context: Context, theirs: Theirs, role: Role) -> None:
    guest = replace(context, caller=Caller("guest", {theirs.project: role}))
    before = await everything(context)
    for mutation, given in MUTATIONS[1:11] if role is Role.RUNNER else MUTATIONS:
        assert await told(guest, mutation, theirs.fill(given)) == ["FORBIDDEN"], mutation
    assert await everything(context) == before
    assert (await call(guest, f'{{ run(id: "{theirs.run}") {{ id }} }}'))["run"] == {"id": theirs.run}
