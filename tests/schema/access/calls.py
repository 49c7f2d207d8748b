"""How to call each root field of the schema. `{kind}` stands for the id of an object of that kind.

A new root field, argument or input field needs an entry here; the walk fails without it.
`resolvers/permissions.py` has the role that each field needs.
"""

from dataclasses import dataclass, field
from typing import Any

from tests.schema_client import LINEAR, with_output


@dataclass(frozen=True)
class Call:
    """One call of a root field.

    Args:
        name: The root field.
        arguments: Its arguments, with placeholders.
        on: The type to select of an interface.
    """

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    on: str | None = None

    def __str__(self) -> str:
        return f"{self.name}({', '.join(self.arguments)}){f' on {self.on}' if self.on else ''}"


def _mutation(name: str, /, **input: Any) -> Call:
    return Call(name, {"input": input})


OPTIONS = {
    "timeoutS": 60,
    "breakpoints": ["end"],
    "stepwise": False,
    "priority": 1,
    "tags": ["a"],
    "thread": {"key": "a", "onBusy": "QUEUE"},
}
FILTER = {
    "workflowId": "{workflow}",
    "versionId": "{version}",
    "triggerId": "{webhook}",
    "status": ["COMPLETED"],
    "source": ["MANUAL"],
    "createdAfter": "2020-01-01T00:00:00Z",
    "createdBefore": "2120-01-01T00:00:00Z",
    "tags": ["a"],
    "errorCode": ["A"],
    "durationMsMin": 0,
    "durationMsMax": 1,
    "search": "a text",
}
ORDER = {"field": "FINISHED_AT", "direction": "ASC"}
AUDITED = {
    "subject": "nobody",
    "action": ["createWorkflow"],
    "resourceId": "{workflow}",
    "createdAfter": "2020-01-01T00:00:00Z",
    "createdBefore": "2120-01-01T00:00:00Z",
}
ENDPOINT = {
    "url": "https://hooks.example.com/a-path",
    "events": ["RUN_FAILED"],
    "secret": "secret",
    "description": "d",
    "workflowIds": ["{workflow}"],
    "tags": ["a"],
}
ALERT = {
    "name": "a",
    "metric": "FAILURE_RATE",
    "threshold": 0.5,
    "resolveThreshold": 0.1,
    "windowS": 600,
    "forS": 60,
    "minRuns": 2,
    "workflowIds": ["{workflow}"],
    "tags": ["a"],
}
PERIOD = {"since": "2020-01-01T00:00:00Z", "until": "2120-01-01T00:00:00Z", "bucket": "WEEK"}
CRON = {"cron": "0 * * * *"}
PAGE = {"first": 5, "after": None}
FROM_END = {"last": 5, "before": None}

NODES = {
    "project": "Project",
    "workflow": "Workflow",
    "draft": "WorkflowDraft",
    "version": "WorkflowVersion",
    "run": "Run",
    "failed_run": "Run",
    "waiting_run": "Run",
    "child_run": "Run",
    "triggered_run": "Run",
    "fork": "Run",
    "retry": "Run",
    "node_state": "NodeState",
    "failed_node_state": "NodeState",
    "checkpoint": "Checkpoint",
    "second_checkpoint": "Checkpoint",
    "trigger": "Trigger",
    "webhook": "Trigger",
    "trigger_event": "TriggerEvent",
    "delivery": "WebhookDelivery",
    "signal": "Signal",
    "endpoint": "Endpoint",
    "alert_rule": "AlertRule",
    "thread": "Thread",
    "message": "Delivery",
    "secret": "Secret",
    "api_key": "ApiKey",
    "audit_entry": "AuditEntry",
    "bulk_job": "BulkJob",
}
"""The kinds of objects that `node` finds, and their types."""

QUERIES = [
    *(Call("node", {"id": f"{{{kind}}}"}, on=kind_type) for kind, kind_type in NODES.items()),
    Call("nodes", {"ids": [f"{{{kind}}}" for kind in NODES]}),
    Call("viewer"),
    Call("project", {"id": "{project}"}),
    Call("projects", FROM_END),
    Call("projects", PAGE),
    Call("workflow", {"id": "{workflow}"}),
    Call("workflows", FROM_END),
    Call("workflows", {"projectId": "{project}", **PAGE, "search": "workflow"}),
    Call("workflows"),
    Call("run", {"id": "{run}"}),
    Call("runs", FROM_END),
    Call("runs", {"projectId": "{project}", **PAGE}),
    Call("runs", {"projectId": "{project}", "filter": FILTER}),
    Call("runs", {"projectId": "{project}", "orderBy": ORDER}),
    Call("runs", {"filter": {"search": "{run}"}}),
    *(Call("runs", {"filter": {name: FILTER[name]}}) for name in ("workflowId", "versionId", "triggerId")),
    Call("stats", {"projectId": "{project}", **PERIOD}),
    Call("stats", {"workflowId": "{workflow}"}),
    Call("bulkJob", {"id": "{bulk_job}"}),
    Call("nodeTypes"),
    Call("nodeType", {"name": "start"}),
    Call("specSchema"),
    Call("tools"),
    Call("models", {"projectId": "{project}"}),
    Call("templates"),
    Call("triggerKinds"),
    Call("validateSpec", {"spec": LINEAR, "projectId": "{project}"}),
    Call("evaluateExpression", {"expression": "1", "context": {}, "kind": "EXPRESSION"}),
    Call("secrets", {"projectId": "{project}"}),
    Call("secrets"),
    Call("apiKeys", {"projectId": "{project}"}),
    Call("apiKeys"),
    Call("auditLog", {"projectId": "{project}", **PAGE}),
    Call("auditLog", FROM_END),
    Call("auditLog", {"projectId": "{project}", "filter": AUDITED}),
    Call("auditLog", {"filter": {"resourceId": "{workflow}"}}),
    Call("endpoint", {"id": "{endpoint}"}),
    Call("endpoints", {"projectId": "{project}"}),
    Call("endpoints"),
    Call("alertRule", {"id": "{alert_rule}"}),
    Call("alertRules", {"projectId": "{project}"}),
    Call("alertRules"),
    Call("thread", {"projectId": "{project}", "key": "a chat"}),
    Call("threads", FROM_END),
    Call("threads", {"projectId": "{project}", **PAGE}),
    Call("threads"),
    Call("workers"),
    Call("diffVersions", {"from": "{version}", "to": "{edited_version}"}),
    Call("diffVersions", {"from": "{draft}", "to": "{asking_version}"}),
    Call("compareRuns", {"a": "{run}", "b": "{failed_run}"}),
    Call("trigger", {"id": "{trigger}"}),
    Call("triggers", FROM_END),
    Call("triggers", {"projectId": "{project}", **PAGE}),
    Call("triggers"),
]

MUTATIONS = [
    _mutation("createProject", name="another project", idempotencyKey="createProject"),
    _mutation(
        "createWorkflow", projectId="{project}", name="w", description="d", spec=LINEAR, idempotencyKey="createWorkflow"
    ),
    _mutation("createWorkflow", projectId="{project}", name="w", template="draft_and_revise"),
    _mutation(
        "updateWorkflow",
        id="{workflow}",
        name="workflow",
        description="d",
        expose={"name": "a-tool", "description": "d", "mcp": True, "http": True},
        idempotencyKey="updateWorkflow",
    ),
    _mutation("duplicateWorkflow", id="{workflow}", name="copy", idempotencyKey="duplicateWorkflow"),
    _mutation(
        "saveDraft", workflowId="{edited}", spec=with_output("other"), expectedRevision=1, idempotencyKey="saveDraft"
    ),
    _mutation(
        "createVersion",
        workflowId="{edited}",
        expectedRevision=2,
        publish=False,
        name="n",
        note="a note",
        idempotencyKey="createVersion",
    ),
    _mutation("updateVersion", versionId="{edited_version}", name="n", note="a note", idempotencyKey="updateVersion"),
    _mutation("publishVersion", versionId="{edited_version}", idempotencyKey="publishVersion"),
    _mutation("archiveVersion", versionId="{edited_version}", idempotencyKey="archiveVersion"),
    _mutation("restoreVersion", versionId="{edited_version}", expectedRevision=2, idempotencyKey="restoreVersion"),
    _mutation(
        "createRun",
        workflowId="{workflow}",
        versionId="{version}",
        inputs={"value": 1},
        options=OPTIONS,
        idempotencyKey="create",
    ),
    _mutation("createRun", workflowId="{workflow}", draftRevision=1),
    _mutation(
        "runWorkflow",
        workflowId="{workflow}",
        versionId="{version}",
        inputs={"value": 1},
        mode="ASYNC",
        timeoutMs=0,
        options=OPTIONS,
        idempotencyKey="run",
    ),
    _mutation("runWorkflow", workflowId="{workflow}", draftRevision=1),
    _mutation("runWorkflow", workflowId="{workflow}", inputs={"value": 1}),
    _mutation(
        "runAdhoc",
        projectId="{project}",
        spec=LINEAR,
        inputs={"value": 1},
        mode="ASYNC",
        timeoutMs=0,
        options=OPTIONS,
        idempotencyKey="adhoc",
    ),
    _mutation("executeRun", runId="{pending_run}", inputs={"value": "a value of the run"}, idempotencyKey="execute"),
    _mutation("cancelRun", runId="{cancelled_run}", reason="enough", idempotencyKey="cancel"),
    *(
        _mutation(name, projectId="{project}", filter=FILTER, max=1, dryRun=True)
        for name in ("cancelRuns", "retryRuns", "deleteRuns")
    ),
    _mutation("cancelRuns", projectId="{project}", filter={"tags": ["a"]}, dryRun=True, idempotencyKey="bulk"),
    _mutation("pauseRun", runId="{queued_run}", timeoutMs=0, idempotencyKey="pause"),
    _mutation("resumeRun", runId="{paused_run}", checkpointId="{paused_checkpoint}", idempotencyKey="resume"),
    _mutation("resumeRun", runId="{waiting_run}", waitId="{wait}", answer="an answer", idempotencyKey="answer"),
    _mutation("stepRun", runId="{stepped_run}", timeoutMs=0, idempotencyKey="step"),
    _mutation("setBreakpoints", runId="{waiting_run}", nodeIds=["ask"], idempotencyKey="breakpoints"),
    _mutation(
        "retryRun",
        runId="{failed_run}",
        **{"from": "START"},
        options=OPTIONS | {"breakpoints": ["no"]},
        idempotencyKey="retry",
    ),
    _mutation(
        "forkRun",
        checkpointId="{checkpoint}",
        versionId="{version}",
        patch={"start": {"value": "a value of the run"}},
        options=OPTIONS,
        idempotencyKey="fork",
    ),
    _mutation("sendEvent", runId="{waiting_run}", name="paid", payload={"value": 1}, idempotencyKey="event"),
    _mutation("sendEvent", workflowId="{workflow}", key="an order", name="paid", payload={"value": 1}),
    _mutation(
        "testNode",
        projectId="{project}",
        type="transform",
        config={"output": 1},
        context={"input": 1},
        idempotencyKey="testNode",
    ),
    _mutation(
        "setSecret", projectId="{project}", name="another", value="the value of another", idempotencyKey="setSecret"
    ),
    _mutation("deleteSecret", projectId="{project}", name="another", idempotencyKey="deleteSecret"),
    _mutation(
        "createApiKey",
        projectId="{project}",
        name="k",
        role="VIEWER",
        expiresAt="2120-01-01T00:00:00Z",
        idempotencyKey="createApiKey",
    ),
    _mutation("revokeApiKey", id="{api_key}", idempotencyKey="revokeApiKey"),
    _mutation(
        "createTrigger",
        workflowId="{workflow}",
        kind="schedule",
        name="t",
        config=CRON,
        inputs={"value": 1},
        enabled=True,
        idempotencyKey="trigger",
    ),
    _mutation(
        "updateTrigger",
        id="{trigger}",
        name="t",
        config=CRON,
        inputs={"value": 2},
        enabled=True,
        idempotencyKey="updateTrigger",
    ),
    _mutation("runTrigger", id="{trigger}", payload={"value": "a value of the run"}, idempotencyKey="run trigger"),
    _mutation(
        "backfillTrigger",
        id="{trigger}",
        idempotencyKey="backfillTrigger",
        **{"from": "2020-01-01T00:00:00Z", "to": "2020-01-01T02:00:00Z"},
    ),
    _mutation("rotateWebhookToken", id="{webhook}", overlapS=60, idempotencyKey="rotateWebhookToken"),
    _mutation("replayWebhookDelivery", id="{delivery}", idempotencyKey="replay"),
    _mutation("testTrigger", id="{trigger}", payload={"value": 1}, idempotencyKey="testTrigger"),
    _mutation("testTrigger", workflowId="{workflow}", kind="schedule", config=CRON, inputs={"value": 1}),
    _mutation("createEndpoint", projectId="{project}", **ENDPOINT, enabled=True, idempotencyKey="createEndpoint"),
    _mutation("updateEndpoint", id="{endpoint}", **ENDPOINT, enabled=True, idempotencyKey="updateEndpoint"),
    _mutation("deleteThread", id="{thread}", idempotencyKey="deleteThread"),
    _mutation("createAlertRule", projectId="{project}", **ALERT, enabled=True, idempotencyKey="createAlertRule"),
    _mutation("updateAlertRule", id="{alert_rule}", **ALERT, enabled=True, idempotencyKey="updateAlertRule"),
    _mutation("deleteAlertRule", id="{alert_rule}", idempotencyKey="deleteAlertRule"),
    _mutation("resendDelivery", id="{message}", idempotencyKey="resendDelivery"),
    _mutation("deleteEndpoint", id="{endpoint}", idempotencyKey="deleteEndpoint"),
    _mutation("deleteTrigger", id="{trigger}", idempotencyKey="deleteTrigger"),
    _mutation("deleteWorkflow", id="{edited}", cancelRuns=True, idempotencyKey="deleteWorkflow"),
]

SUBSCRIPTIONS = [
    Call("runUpdates", {"runId": "{run}", "after": 0, "types": ["NODE_STATE", "EDGE_STATE"]}),
    Call("runUpdates", {"runId": "{failed_run}"}),
    Call("nodeStates", {"runId": "{run}", "after": 0}),
    Call("runEvents", {"runId": "{run}", "after": 0}),
    Call("runs", {"projectId": "{project}", "filter": {"workflowId": "{workflow}"}}),
    Call("draft", {"workflowId": "{asking}"}),
    Call("triggerEvents", {"projectId": "{project}", "triggerId": "{trigger}"}),
    Call("triggerEvents", {"projectId": "{project}"}),
]
"""Those of a run that has ended end by themselves."""

NESTED = {
    "Run.nodeState": {"nodeId": "start"},
    "Run.events": {"types": ["RUN_STATUS", "NODE_STATE", "CHECKPOINT", "LOG"]},
    "Run.events from the end": {"nodeId": "start"},
    "Run.logs": {"nodeId": "start", "minLevel": "DEBUG", "search": "a text"},
    "Run.eventsConnection": {"types": ["RUN_STATUS", "NODE_STATE", "CHECKPOINT", "LOG"]},
    "Run.eventsConnection from the end": {"nodeId": "start"},
    "Run.logsConnection": {"nodeId": "start", "minLevel": "DEBUG", "search": "a text"},
    "Run.checkpoint": {"id": "{checkpoint}"},
    "Run.derivedRuns": {"source": ["RETRY", "FORK", "SUBWORKFLOW"]},
    "Checkpoint.evaluate": {"expression": "1", "kind": "EXPRESSION"},
    "Workflow.version": {"number": 1},
    "Workflow.versions": {"status": "PUBLISHED"},
    "Workflow.runs": {"filter": {"versionId": "{version}"}, "orderBy": {"field": "CREATED_AT", "direction": "DESC"}},
    "Trigger.nextTimes": {"first": 1},
    "Endpoint.deliveries": {"status": "FAILED"},
    "Endpoint.deliveries from the end": {},
    "Workflow.stats": PERIOD,
    "RunStats.series": {"bucket": "WEEK"},
    "RunStats.slowestNodes": {"first": 1},
    "RunStats.failingNodes": {"first": 1},
}
"""Arguments of fields of objects. Those of pages need no entry; pages from the end may have others."""
