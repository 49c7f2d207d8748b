"""The root type of queries, assembled from one class for each noun."""

import strawberry

from schema.api_key import ApiKeyQueries
from schema.catalog import CatalogQueries
from schema.notifications.alert_rule import AlertQueries
from schema.notifications.endpoint import EndpointQueries
from schema.runs.bulk import BulkQueries
from schema.runs.comparison import ComparisonQueries
from schema.runs.queries import RunQueries
from schema.runs.thread import ThreadQueries
from schema.runs.worker import WorkerQueries
from schema.secret import SecretQueries
from schema.triggers.queries import TriggerQueries
from schema.workflows.audit_log import AuditQueries
from schema.workflows.differences import DifferenceQueries
from schema.workflows.queries import WorkflowQueries


@strawberry.type
class Query(
    WorkflowQueries,
    RunQueries,
    BulkQueries,
    CatalogQueries,
    SecretQueries,
    ApiKeyQueries,
    AuditQueries,
    TriggerQueries,
    EndpointQueries,
    AlertQueries,
    WorkerQueries,
    DifferenceQueries,
    ComparisonQueries,
    ThreadQueries,
):
    """All queries."""
