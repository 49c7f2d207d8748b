"""The role that each operation requires in the project of the objects that it names.

This is the only place that assigns roles to operations. A test compares the tables with the schema.
Resolvers pass the roles to `resolvers.authorise`. Fields of an object need no entry: whoever may see
the object may read its fields.
"""

from collections.abc import Mapping
from types import MappingProxyType

from persistence.caller import Role

PUBLIC = None
"""Any caller: the operation shows or changes nothing of a project."""

QUERIES: Mapping[str, Role | None] = MappingProxyType(
    {
        "alertRule": Role.VIEWER,
        "alertRules": Role.VIEWER,
        "apiKeys": Role.ADMIN,
        "auditLog": Role.ADMIN,
        "bulkJob": Role.VIEWER,
        "compareRuns": Role.VIEWER,
        "diffVersions": Role.VIEWER,
        "endpoint": Role.VIEWER,
        "endpoints": Role.VIEWER,
        "evaluateExpression": PUBLIC,
        "models": Role.VIEWER,
        "node": Role.VIEWER,
        "nodeType": PUBLIC,
        "nodeTypes": PUBLIC,
        "nodes": Role.VIEWER,
        "project": Role.VIEWER,
        "projects": Role.VIEWER,
        "run": Role.VIEWER,
        "runs": Role.VIEWER,
        "secrets": Role.VIEWER,
        "specSchema": PUBLIC,
        "stats": Role.VIEWER,
        "templates": PUBLIC,
        "tools": PUBLIC,
        "thread": Role.VIEWER,
        "threads": Role.VIEWER,
        "trigger": Role.VIEWER,
        "triggerKinds": PUBLIC,
        "triggers": Role.VIEWER,
        "validateSpec": PUBLIC,
        "viewer": PUBLIC,
        # In no project: see Caller.may_create_projects.
        "workers": Role.ADMIN,
        "workflow": Role.VIEWER,
        "workflows": Role.VIEWER,
    }
)
MUTATIONS: Mapping[str, Role] = MappingProxyType(
    {
        "archiveVersion": Role.EDITOR,
        "backfillTrigger": Role.RUNNER,
        "cancelRun": Role.RUNNER,
        "cancelRuns": Role.RUNNER,
        # In no project: see Caller.may_create_projects.
        "createProject": Role.ADMIN,
        "createAlertRule": Role.EDITOR,
        "createEndpoint": Role.EDITOR,
        "createApiKey": Role.ADMIN,
        "createRun": Role.RUNNER,
        "createTrigger": Role.EDITOR,
        "createVersion": Role.EDITOR,
        "createWorkflow": Role.EDITOR,
        "deleteAlertRule": Role.EDITOR,
        "deleteEndpoint": Role.EDITOR,
        "deleteRuns": Role.EDITOR,
        "deleteSecret": Role.EDITOR,
        "deleteThread": Role.EDITOR,
        "deleteTrigger": Role.EDITOR,
        "deleteWorkflow": Role.EDITOR,
        "duplicateWorkflow": Role.EDITOR,
        "executeRun": Role.RUNNER,
        "forkRun": Role.RUNNER,
        "pauseRun": Role.RUNNER,
        "publishVersion": Role.EDITOR,
        "replayWebhookDelivery": Role.RUNNER,
        "resendDelivery": Role.EDITOR,
        "restoreVersion": Role.EDITOR,
        "resumeRun": Role.RUNNER,
        "retryRun": Role.RUNNER,
        "retryRuns": Role.RUNNER,
        "revokeApiKey": Role.ADMIN,
        "rotateWebhookToken": Role.EDITOR,
        "runAdhoc": Role.RUNNER,
        "runTrigger": Role.RUNNER,
        "runWorkflow": Role.RUNNER,
        "saveDraft": Role.EDITOR,
        "sendEvent": Role.RUNNER,
        "setBreakpoints": Role.RUNNER,
        "setSecret": Role.EDITOR,
        "stepRun": Role.RUNNER,
        "testNode": Role.RUNNER,
        "testTrigger": Role.EDITOR,
        "updateAlertRule": Role.EDITOR,
        "updateEndpoint": Role.EDITOR,
        "updateTrigger": Role.EDITOR,
        "updateVersion": Role.EDITOR,
        "updateWorkflow": Role.EDITOR,
    }
)
SUBSCRIPTIONS: Mapping[str, Role] = MappingProxyType(
    {
        "draft": Role.VIEWER,
        "nodeStates": Role.VIEWER,
        "runEvents": Role.VIEWER,
        "runUpdates": Role.VIEWER,
        "runs": Role.VIEWER,
        "triggerEvents": Role.VIEWER,
    }
)
SEE_WEBHOOK_ADDRESS = Role.EDITOR
"""To see the address of a webhook: whoever knows it may post to it."""
SEE_ENDPOINT_ADDRESS = Role.EDITOR
"""To see the whole address of an endpoint: its path may be a credential."""
SEE_CALLBACK_ADDRESS = Role.RUNNER
"""To see the callback address of a wait: whoever knows it may end the wait."""
REPLACE_ANSWERS = Role.EDITOR
"""To fork a version that names who may answer, with other outputs or as another version: both replace
what such a person decides."""
USE_SECRETS_UNSAVED = Role.EDITOR
"""To run a spec or a node that is not saved and uses secrets, or a fork with other outputs: it can send
their values anywhere."""
