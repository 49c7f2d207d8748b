"""Mutations that make a run of a run: retryRun and forkRun."""

import strawberry

from engine.states import RetryFrom
from resolvers.runs import derive
from schema import enums as enums
from schema.info import Info
from schema.payload import done, mutation
from schema.runs.inputs import RunOptionsInput, RunPayload, options_of
from schema.scalars import JSON

strawberry.enum(RetryFrom)
FROM = "FAILED: what has finished stays finished; the nodes that failed or were stopped run again."


@strawberry.input
class RetryRunInput:
    run_id: strawberry.ID
    from_: RetryFrom | None = strawberry.field(default=RetryFrom.FAILED, name="from", description=FROM)
    options: RunOptionsInput | None = strawberry.field(default=None, description="Default: those of the run.")
    idempotency_key: str | None = None


@strawberry.input
class ForkRunInput:
    checkpoint_id: strawberry.ID
    patch: JSON | None = strawberry.field(default=None, description="Node outputs to replace, by node id.")
    version_id: strawberry.ID | None = strawberry.field(
        default=None, description="Another version to go on with. Refused with all that does not fit."
    )
    options: RunOptionsInput | None = strawberry.field(default=None, description="Default: those of the run.")
    idempotency_key: str | None = None


@strawberry.type
class DeriveMutations:
    @mutation
    @staticmethod
    async def retry_run(info: Info, input: RetryRunInput) -> RunPayload:
        """A new run: the same inputs, from the start or from the failed nodes on."""
        ask = derive.Retry(
            input.run_id,
            input.from_ or RetryFrom.FAILED,
            None if input.options is None else options_of(input.options),
            input.idempotency_key,
        )
        return done(RunPayload, run=await derive.retry_run(info.context, ask))

    @mutation
    @staticmethod
    async def fork_run(info: Info, input: ForkRunInput) -> RunPayload:
        """A new run from any checkpoint, with edited state or another version."""
        ask = derive.Fork(
            input.checkpoint_id,
            input.patch,
            input.version_id,
            None if input.options is None else options_of(input.options),
            input.idempotency_key,
        )
        return done(RunPayload, run=await derive.fork_run(info.context, ask))
