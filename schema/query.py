"""The root of queries, put together from one part a noun."""

import strawberry

from schema.catalog_query import CatalogQueries
from schema.run_query import RunQueries
from schema.secret import SecretQueries
from schema.workflow_query import WorkflowQueries


@strawberry.type
class Query(WorkflowQueries, RunQueries, CatalogQueries, SecretQueries):
    """Everything that can be read."""
