"""Stores objects of every kind in a project, as its admin and a worker make them."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from redis.asyncio import Redis

from engine.nodes.registry import load_node_types
from engine.triggers.webhook import WebhookMessage
from persistence.caller import Caller, Role
from persistence.db.ids import Prefix, new_id
from persistence.runs.run import Run, RunOptions, RunThread
from persistence.workflows import projects
from resolvers.context import Context
from resolvers.runs.start import StartArguments, run_workflow, wait_until_idle
from resolvers.triggers.webhooks import receive
from tests.schema_client import LINEAR, call, mutate, with_output
from tests.worker.running_worker import running

ASKING: dict[str, Any] = {
    "nodes": [
        {"id": "start", "type": "start"},
        {"id": "ask", "type": "human", "config": {"prompt": "Go on?", "answerers": {"role": "runner"}}},
    ],
    "edges": [{"source": "start", "target": "ask"}],
}
FAILING: dict[str, Any] = {
    "nodes": [
        {"id": "start", "type": "start"},
        {"id": "no", "type": "fail", "config": {"code": "NO", "message": "Not today"}},
    ],
    "edges": [{"source": "start", "target": "no"}],
}
WAITS = """
INSERT INTO waits (id, run_id, node_id, visit, lineage, seq, kind, until, child_run_id)
SELECT 'wait_' || kind || $1, $1, 'ask', 1, 0, 1000, kind, now() + interval '1 day', $2
FROM unnest(ARRAY['TIMER', 'RUN', 'RETRY', 'EVENT']) kind
"""


@dataclass(frozen=True)
class ProjectObjects:
    """A project, its admin, and the ids of its objects by kind."""

    name: str
    admin: Context
    ids: Mapping[str, str]

    def caller(self, role: Role, **roles: Role) -> Context:
        """Return a caller with a role in this project."""
        return replace(self.admin, caller=Caller(f"a {role}", {self.ids["project"]: role, **roles}))


async def store_objects(context: Context, redis: Redis, names: Sequence[str]) -> list[ProjectObjects]:
    """Create projects with objects of every kind."""
    stored = [await _new_project(context, name) for name in names]
    ids = {one.name: dict(one.ids) for one in stored}
    for one in stored:
        await _store_workflows(one.admin, ids[one.name], one.name)
        await _store_triggers(one.admin, ids[one.name])
        await _store_endpoint(one.admin, ids[one.name])
    started = {one.name: await _start_runs(one.admin, ids[one.name]) for one in stored}
    async with running(context.database, redis, load_node_types()) as runner:
        runner.poll()
        for one in stored:
            ended = [await wait_until_idle(one.admin, run, 20_000) for run in started[one.name]]
            await _note_runs(one.admin, ids[one.name], ended)
    for one in stored:
        await _store_waiting(one.admin, ids[one.name])
    for one in stored:
        await _store_thread(one.admin, ids[one.name])
    return [replace(one, ids=ids[one.name]) for one in stored]


async def _new_project(context: Context, name: str) -> ProjectObjects:
    async with context.database.begin() as connection:
        project = await projects.create(connection, name)
    admin = replace(context, caller=Caller(f"admin of {name}", {project.id: Role.ADMIN}))
    return ProjectObjects(name, admin, {"project": project.id})


async def _make(admin: Context, mutation: str, answer: str, **input: Any) -> dict[str, Any]:
    payload = await mutate(admin, mutation, answer, **input)
    assert payload["errors"] == [], (mutation, payload)
    return payload


async def _store_workflows(admin: Context, ids: dict[str, str], name: str) -> None:
    for kind, spec in (("workflow", LINEAR), ("edited", with_output(name)), ("asking", ASKING), ("failing", FAILING)):
        made = await _make(admin, "createWorkflow", "workflow { id }", name=f"{kind} workflow of {name}", spec=spec)
        ids[kind] = made["workflow"]["id"]
        frozen = await _make(admin, "createVersion", "version { id }", workflowId=ids[kind], publish=True)
        ids[f"{kind}_version"] = frozen["version"]["id"]
    ids["version"] = ids.pop("workflow_version")
    await _make(
        admin, "updateWorkflow", "workflow { id }", id=ids["workflow"], expose={"name": "by-name", "http": True}
    )
    ids["draft"] = Prefix.DRAFT + ids["workflow"].removeprefix(Prefix.WORKFLOW)
    made = await _make(admin, "setSecret", "secret { id }", name="secret", value=f"the value of {name}")
    ids["secret"] = made["secret"]["id"]
    made = await _make(admin, "createApiKey", "apiKey { id }", name=f"key of {name}", role="VIEWER")
    ids["api_key"] = made["apiKey"]["id"]
    entries = (await call(admin, "{ auditLog { nodes { id } } }"))["auditLog"]["nodes"]
    ids["audit_entry"] = entries[0]["id"]


async def _store_triggers(admin: Context, ids: dict[str, str]) -> None:
    for kind, config in (("schedule", {"cron": "0 * * * *"}), ("webhook", {})):
        input = {"workflowId": ids["workflow"], "kind": kind, "name": kind, "config": config, "inputs": {"value": 1}}
        made = await _make(admin, "createTrigger", "trigger { id webhookUrl }", **input)
        ids[kind] = made["trigger"]["id"]
    ids["trigger"] = ids.pop("schedule")
    token = made["trigger"]["webhookUrl"].rpartition("/")[2]
    message = WebhookMessage("POST", {"content-type": "application/json"}, {}, b"{}")
    response = await receive(lambda caller: replace(admin, caller=caller), admin, token, message, "192.0.2.1")
    assert isinstance(response.body, dict) and response.status == 202
    ids["trigger_event"], ids["triggered_run"] = response.body["eventId"], response.body["runId"]
    query = "query($id: ID!) { trigger(id: $id) { webhookDeliveries { nodes { id } } } }"
    read = await call(admin, query, id=ids["webhook"])
    ids["delivery"] = read["trigger"]["webhookDeliveries"]["nodes"][0]["id"]


async def _store_endpoint(admin: Context, ids: dict[str, str]) -> None:
    """Create an endpoint, to which the failed run of the project is reported, and an alert rule."""
    values = {"url": "https://hooks.example.com/a-path", "events": ["RUN_FAILED"], "secret": "secret"}
    made = await _make(admin, "createEndpoint", "endpoint { id }", **values, workflowIds=[ids["failing"]])
    ids["endpoint"] = made["endpoint"]["id"]
    rule = {"name": "Failures", "metric": "FAILURE_RATE", "threshold": 0.5, "workflowIds": [ids["failing"]]}
    ids["alert_rule"] = (await _make(admin, "createAlertRule", "alertRule { id }", **rule))["alertRule"]["id"]


async def _store_thread(admin: Context, ids: dict[str, str]) -> None:
    """Store a thread with a message, as the journal does."""
    ids["thread"] = new_id(Prefix.THREAD)
    pool = admin.database.pool
    await pool.execute(
        "INSERT INTO threads (id, project_id, key, last_number) VALUES ($1, $2, 'a chat', 1)",
        *(ids["thread"], ids["project"]),
    )
    await pool.execute(
        "INSERT INTO thread_messages (thread_id, number, run_id, run_seq, node_id, visit, role, content, tokens)"
        "VALUES ($1, 1, $2, 1, 'ask', 1, 'user', 'a message', 7)",
        *(ids["thread"], ids["run"]),
    )


async def _start_runs(admin: Context, ids: dict[str, str]) -> list[Run]:
    """Start runs that complete, fail, pause and ask."""
    stepwise = RunOptions(stepwise=True)
    wanted = {
        "run": StartArguments(ids["workflow"], inputs={"value": 1}, options=RunOptions(thread=RunThread("a chat"))),
        "failed_run": StartArguments(ids["failing"]),
        "waiting_run": StartArguments(ids["asking"]),
        "paused_run": StartArguments(ids["workflow"], inputs={"value": 1}, options=stepwise),
        "stepped_run": StartArguments(ids["workflow"], inputs={"value": 1}, options=stepwise),
    }
    runs = {kind: await run_workflow(admin, arguments) for kind, arguments in wanted.items()}
    ids |= {kind: run.id for kind, run in runs.items()}
    return list(runs.values())


async def _note_runs(admin: Context, ids: dict[str, str], ended: list[Run]) -> None:
    """Note the checkpoints, node states and questions of the runs."""
    assert [run.status for run in ended] == ["COMPLETED", "FAILED", "WAITING", "PAUSED", "PAUSED"]
    query = (
        """query($id: ID!) { run(id: $id) { waits { ... on InputWait { waitId } } checkpoints { nodes { id } } } }"""
    )
    done, paused, waiting = [
        (await call(admin, query, id=ids[kind]))["run"] for kind in ("run", "paused_run", "waiting_run")
    ]
    ids["second_checkpoint"], ids["checkpoint"] = (one["id"] for one in done["checkpoints"]["nodes"][:2])
    ids["paused_checkpoint"] = paused["checkpoints"]["nodes"][0]["id"]
    ids["wait"] = waiting["waits"][0]["waitId"]
    ids["node_state"], ids["failed_node_state"] = f"{ids['run']}/start", f"{ids['failed_run']}/no"


async def _store_waiting(admin: Context, ids: dict[str, str]) -> None:
    """Create runs that no worker executes, and what a worker would have written to others."""
    made = await _make(admin, "createRun", "run { id }", workflowId=ids["workflow"], inputs={"value": 1})
    ids["pending_run"] = made["run"]["id"]
    for kind in ("child_run", "cancelled_run", "queued_run"):
        made = await _make(admin, "runWorkflow", "run { id }", workflowId=ids["workflow"], inputs={"value": 1})
        ids[kind] = made["run"]["id"]
    made = await _make(admin, "forkRun", "run { id }", checkpointId=ids["checkpoint"])
    ids["fork"] = made["run"]["id"]
    made = await _make(admin, "retryRun", "run { id }", runId=ids["failed_run"])
    ids["retry"] = made["run"]["id"]
    made = await _make(admin, "sendEvent", "signal { id }", runId=ids["waiting_run"], name="kept", payload=1)
    ids["signal"] = made["signal"]["id"]
    bulk = {"projectId": ids["project"], "filter": {"tags": ["none"]}}
    text = "mutation($input: BulkInput!) { cancelRuns(input: $input) { job { id } } }"
    ids["bulk_job"] = (await call(admin, text, input=bulk))["cancelRuns"]["job"]["id"]
    pool = admin.database.pool
    ended = "UPDATE deliveries SET status = 'FAILED' WHERE endpoint_id = $1 RETURNING id"
    ids["message"] = await pool.fetchval(ended, ids["endpoint"])
    await pool.execute(WAITS, ids["waiting_run"], ids["child_run"])
    await pool.execute("UPDATE runs SET parent_id = $2, parent_key = 'k' WHERE id = $1", ids["child_run"], ids["run"])


def unknown_ids(ids: Mapping[str, str]) -> dict[str, str]:
    """Return ids of the same kinds that do not exist. Those that share a part still do.

    The last two characters stay: they say which checkpoint of a stored row is meant.
    """
    fresh: dict[str, str] = {}
    for id in ids.values():
        suffix = id.partition("/")[0].partition("_")[2]
        fresh.setdefault(suffix[:-2], new_id("x").removeprefix("x_")[:-2])
    renamed = {}
    for kind, id in ids.items():
        prefix, _, rest = id.partition("_")
        suffix, slash, node = rest.partition("/")
        renamed[kind] = f"{prefix}_{fresh[suffix[:-2]]}{suffix[-2:]}{slash}{node}"
    return renamed


def fill(value: Any, ids: Mapping[str, str]) -> Any:
    """Replace placeholders by ids."""
    text = json.dumps(value)
    for kind, id in ids.items():
        text = text.replace(f"{{{kind}}}", id)
    return json.loads(text)


def cursors() -> dict[str, str]:
    """Return cursors that lie before and after all objects, by argument and type.

    Lists within one run need none.
    """
    prefixes = {
        "AuditEntry": Prefix.AUDIT_ENTRY,
        "Delivery": Prefix.DELIVERY,
        "Project": Prefix.PROJECT,
        "Run": Prefix.RUN,
        "Trigger": Prefix.TRIGGER,
        "TriggerEvent": Prefix.TRIGGER_EVENT,
        "WebhookDelivery": Prefix.WEBHOOK_DELIVERY,
        "Workflow": Prefix.WORKFLOW,
        "WorkflowVersion": Prefix.VERSION,
    }
    ends = {"after": "7" + "z" * 25, "before": "0" * 26}
    return {
        f"{argument} {kind}": base64.urlsafe_b64encode(f"{prefix}_{end}".encode()).decode().rstrip("=")
        for kind, prefix in prefixes.items()
        for argument, end in ends.items()
    }
