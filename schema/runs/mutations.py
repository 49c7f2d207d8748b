"""Mutations that start runs and control them. A repeat with the same `idempotencyKey` answers with the same run."""

import strawberry

from engine.states import RetryFrom
from persistence.problems import invalid
from resolvers.runs import control, derive, start
from schema import enums as enums
from schema.info import Info
from schema.payload import done, mutation
from schema.runs.inputs import (
    CancelRunInput,
    CreateRunInput,
    ExecuteRunInput,
    PauseRunInput,
    ResumeRunInput,
    RunAdhocInput,
    RunOptionsInput,
    RunPausePayload,
    RunPayload,
    RunWorkflowInput,
    SetBreakpointsInput,
    StepRunInput,
    options_of,
)
from schema.scalars import JSON


@strawberry.type
class RunMutations:
    @mutation
    @staticmethod
    async def create_run(info: Info, input: CreateRunInput) -> RunPayload:
        """Creates a run without starting it (PENDING)."""
        return done(RunPayload, run=await start.create_run(info.context, input.start()))

    @mutation
    @staticmethod
    async def execute_run(info: Info, input: ExecuteRunInput) -> RunPayload:
        """Starts a PENDING run."""
        run = await start.execute_run(
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
        return done(RunPayload, run=await start.run_workflow(info.context, input.start()))

    @mutation
    @staticmethod
    async def run_adhoc(info: Info, input: RunAdhocInput) -> RunPayload:
        """Runs a spec that belongs to no workflow."""
        return done(RunPayload, run=await start.run_adhoc(info.context, input.start()))

    @mutation
    @staticmethod
    async def cancel_run(info: Info, input: CancelRunInput) -> RunPayload:
        """CANCELLED at once where nothing of it runs; else CANCELLING until its code has stopped."""
        run = await control.cancel_run(info.context, input.run_id, input.reason, input.idempotency_key)
        return done(RunPayload, run=run)

    @mutation
    @staticmethod
    async def pause_run(info: Info, input: PauseRunInput) -> RunPausePayload:
        """Stops after the nodes now running; answers when PAUSED, or PAUSING if that takes longer than `timeoutMs`."""
        run, checkpoint = await control.pause_run(
            info.context, input.run_id, _wait_of(input.timeout_ms), input.idempotency_key
        )
        return done(RunPausePayload, run=run, checkpoint=checkpoint)

    @mutation
    @staticmethod
    async def resume_run(info: Info, input: ResumeRunInput) -> RunPayload:
        """Continues a PAUSED run (from its last checkpoint, or rewound to an earlier one), or answers a question."""
        if input.wait_id is None:
            if input.answer is not strawberry.UNSET and input.answer is not None:
                raise invalid("input.waitId", "REQUIRED", "an answer needs the waitId of its question")
            run = await control.resume_run(info.context, input.run_id, input.checkpoint_id, input.idempotency_key)
            return done(RunPayload, run=run)
        if input.checkpoint_id is not None:
            raise invalid("input.waitId", "EXCLUSIVE", "waitId and checkpointId cannot be given together")
        given = None if input.answer is strawberry.UNSET else input.answer
        run = await control.answer_run(info.context, input.run_id, input.wait_id, given, input.idempotency_key)
        return done(RunPayload, run=run)

    @mutation
    @staticmethod
    async def step_run(info: Info, input: StepRunInput) -> RunPausePayload:
        """Runs exactly the next step of a PAUSED run, then pauses again."""
        run, checkpoint = await control.step_run(
            info.context, input.run_id, _wait_of(input.timeout_ms), input.idempotency_key
        )
        return done(RunPausePayload, run=run, checkpoint=checkpoint)

    @mutation
    @staticmethod
    async def set_breakpoints(info: Info, input: SetBreakpointsInput) -> RunPayload:
        """Pause before these nodes from now on; an empty list clears."""
        node_ids = [str(node_id) for node_id in input.node_ids]
        run = await control.set_breakpoints(info.context, input.run_id, node_ids, input.idempotency_key)
        return done(RunPayload, run=run)


def _wait_of(timeout_ms: int | None) -> int:
    return 1000 if timeout_ms is None else timeout_ms


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
        ask = derive.RetryArguments(
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
        ask = derive.ForkArguments(
            input.checkpoint_id,
            input.patch,
            input.version_id,
            None if input.options is None else options_of(input.options),
            input.idempotency_key,
        )
        return done(RunPayload, run=await derive.fork_run(info.context, ask))
