"""The root type of mutations, assembled from one class for each noun."""

import strawberry

from schema.api_key import ApiKeyMutations
from schema.notifications.alert_mutations import AlertMutations
from schema.notifications.mutations import EndpointMutations
from schema.runs.bulk import BulkMutations
from schema.runs.mutations import DeriveMutations, RunMutations
from schema.runs.node_test import NodeTestMutations
from schema.runs.thread import ThreadMutations
from schema.secret import SecretMutations
from schema.triggers.mutations import TriggerMutations
from schema.workflows.mutations import WorkflowMutations


@strawberry.type
class Mutation(
    WorkflowMutations,
    RunMutations,
    DeriveMutations,
    BulkMutations,
    NodeTestMutations,
    SecretMutations,
    ApiKeyMutations,
    TriggerMutations,
    EndpointMutations,
    AlertMutations,
    ThreadMutations,
):
    """All mutations. Domain failures are in the `errors` of each payload."""
