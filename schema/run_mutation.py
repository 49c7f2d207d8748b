"""Mutations that create, start and cancel runs. A repeat with the same `idempotencyKey` answers with the same run."""

import strawberry

from resolvers import control
from schema.info import Info
from schema.payload import done, mutation
from schema.run_input import (
    CancelRunInput,
    CreateRunInput,
    ExecuteRunInput,
    RunAdhocInput,
    RunPayload,
    RunWorkflowInput,
)


@strawberry.type
class RunMutations:
    @mutation
    @staticmethod
    async def create_run(info: Info, input: CreateRunInput) -> RunPayload:
        """Creates a run without starting it (PENDING)."""
        return done(RunPayload, run=await control.create_run(info.context, input.start()))

    @mutation
    @staticmethod
    async def execute_run(info: Info, input: ExecuteRunInput) -> RunPayload:
        """Starts a PENDING run."""
        run = await control.execute_run(
            info.context,
            input.run_id,
            input.inputs,
            replace_inputs=input.inputs is not None,
            idempotency_key=input.idempotency_key,
        )
        return done(RunPayload, run=run)

    @mutation
    @staticmethod
    async def run_workflow(info: Info, input: RunWorkflowInput) -> RunPayload:
        """createRun and executeRun in one."""
        return done(RunPayload, run=await control.run_workflow(info.context, input.start()))

    @mutation
    @staticmethod
    async def run_adhoc(info: Info, input: RunAdhocInput) -> RunPayload:
        """Runs a spec that belongs to no workflow."""
        return done(RunPayload, run=await control.run_adhoc(info.context, input.start()))

    @mutation
    @staticmethod
    async def cancel_run(info: Info, input: CancelRunInput) -> RunPayload:
        """CANCELLED at once where nothing of it runs; else CANCELLING until its code has stopped."""
        run = await control.cancel_run(info.context, input.run_id, input.reason, input.idempotency_key)
        return done(RunPayload, run=run)
