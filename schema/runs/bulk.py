"""Bulk operations on runs."""

from datetime import datetime
from typing import Any

import strawberry

from persistence.bulk_jobs.job import BulkAction, BulkJob
from resolvers.runs import bulk
from schema.info import Info
from schema.payload import KeyedInput, Payload, keyed_mutation, payload
from schema.relay import Node
from schema.runs.inputs import RunFilterInput, run_filter


@strawberry.type(name="BulkJob")
class BulkJobType(Node):
    action: BulkAction
    matched: int
    done: int
    failed: int
    last_error: str | None
    created_by: str
    created_at: datetime
    finished_at: datetime | None

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, BulkJob)

    @strawberry.field
    @staticmethod
    def dry_run(job: strawberry.Parent[BulkJob]) -> bool:
        return job.is_dry_run


@strawberry.input
class BulkInput(KeyedInput):
    project_id: strawberry.ID | None = None
    filter: RunFilterInput
    max: int | None = 1000
    dry_run: bool | None = False

    async def idempotency_arguments(self) -> dict[str, Any]:
        values = vars(self.filter)
        dates = {name: value.isoformat() for name, value in values.items() if isinstance(value, datetime)}
        return {**await super().idempotency_arguments(), "filter": {**values, **dates}}


@strawberry.type
class BulkPayload(Payload):
    job: BulkJobType | None = None


async def _start(info: Info, action: BulkAction, input: BulkInput) -> BulkPayload:
    most = 1000 if input.max is None else input.max
    where, is_dry_run = run_filter(input.filter), bool(input.dry_run)
    job = await bulk.create_job(info.context, action, input.project_id, where, most, is_dry_run=is_dry_run)
    return payload(BulkPayload, job=job)


@strawberry.type
class BulkQueries:
    @strawberry.field(graphql_type=BulkJobType | None)
    @staticmethod
    async def bulk_job(info: Info, id: strawberry.ID) -> BulkJob | None:
        return await info.context.loaders.bulk_job.load(id)


@strawberry.type
class BulkMutations:
    @keyed_mutation
    @staticmethod
    async def cancel_runs(info: Info, input: BulkInput) -> BulkPayload:
        """Cancels the active runs that match, in the background. Requires the role RUNNER."""
        return await _start(info, BulkAction.CANCEL, input)

    @keyed_mutation
    @staticmethod
    async def retry_runs(info: Info, input: BulkInput) -> BulkPayload:
        """Retries the failed and cancelled runs that match from their failed nodes, in the background. Requires the
        role RUNNER."""
        return await _start(info, BulkAction.RETRY, input)

    @keyed_mutation
    @staticmethod
    async def delete_runs(info: Info, input: BulkInput) -> BulkPayload:
        """Deletes the finished runs that match, with their history, in the background. Requires the role EDITOR."""
        return await _start(info, BulkAction.DELETE, input)
