"""Mutations that start and control runs.

A repeat with the same `idempotencyKey` returns the run of the first call.
"""

import strawberry

from engine.states import RetryFrom
from persistence.problems import invalid
from resolvers.runs import control, derive, signals, start
from schema import enums as enums
from schema.info import Info
from schema.payload import mutation, payload
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
    run_options,
)
from schema.runs.signal import SendEventInput, SendEventPayload
from schema.scalars import JSON


@strawberry.type
class RunMutations:
    @mutation
    @staticmethod
    async def create_run(info: Info, input: CreateRunInput) -> RunPayload:
        """Creates a run without starting it (PENDING)."""
        return payload(RunPayload, run=await start.create_run(info.context, input.arguments()))

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
        return payload(RunPayload, run=run)

    @mutation
    @staticmethod
    async def run_workflow(info: Info, input: RunWorkflowInput) -> RunPayload:
        """Creates and starts a run: createRun and executeRun in one call."""
        return payload(RunPayload, run=await start.run_workflow(info.context, input.arguments()))

    @mutation
    @staticmethod
    async def run_adhoc(info: Info, input: RunAdhocInput) -> RunPayload:
        """Runs a spec that belongs to no workflow."""
        return payload(RunPayload, run=await start.run_adhoc(info.context, input.arguments()))

    @mutation
    @staticmethod
    async def cancel_run(info: Info, input: CancelRunInput) -> RunPayload:
        """Cancels a run at once if no worker executes it, else CANCELLING until its code stops."""
        run = await control.cancel_run(info.context, input.run_id, input.reason, input.idempotency_key)
        return payload(RunPayload, run=run)

    @mutation
    @staticmethod
    async def pause_run(info: Info, input: PauseRunInput) -> RunPausePayload:
        """Pauses after the running nodes. Returns when PAUSED, or PAUSING after `timeoutMs`."""
        run, checkpoint = await control.pause_run(
            info.context, input.run_id, _timeout_or_default(input.timeout_ms), input.idempotency_key
        )
        return payload(RunPausePayload, run=run, checkpoint=checkpoint)

    @mutation
    @staticmethod
    async def resume_run(info: Info, input: ResumeRunInput) -> RunPayload:
        """Continues a PAUSED run, from an earlier checkpoint if named, or answers a question."""
        if input.wait_id is None:
            if input.answer is not strawberry.UNSET and input.answer is not None:
                raise invalid("input.waitId", "REQUIRED", "an answer needs the waitId of its question")
            run = await control.resume_run(info.context, input.run_id, input.checkpoint_id, input.idempotency_key)
            return payload(RunPayload, run=run)
        if input.checkpoint_id is not None:
            raise invalid("input.waitId", "EXCLUSIVE", "waitId and checkpointId cannot be given together")
        answer = None if input.answer is strawberry.UNSET else input.answer
        run = await control.answer_run(info.context, input.run_id, input.wait_id, answer, input.idempotency_key)
        return payload(RunPayload, run=run)

    @mutation
    @staticmethod
    async def step_run(info: Info, input: StepRunInput) -> RunPausePayload:
        """Runs exactly the next step of a PAUSED run, then pauses again."""
        run, checkpoint = await control.step_run(
            info.context, input.run_id, _timeout_or_default(input.timeout_ms), input.idempotency_key
        )
        return payload(RunPausePayload, run=run, checkpoint=checkpoint)

    @mutation
    @staticmethod
    async def send_event(info: Info, input: SendEventInput) -> SendEventPayload:
        """Sends an event to a run, or to the runs of a workflow that wait with a key, and keeps an early one."""
        arguments = signals.EventArguments(
            input.name, input.payload, input.run_id, input.workflow_id, input.key, input.idempotency_key
        )
        waiting, sent = await signals.send_event(info.context, arguments)
        return payload(SendEventPayload, runs=waiting, kept=not waiting, signal=sent)

    @mutation
    @staticmethod
    async def set_breakpoints(info: Info, input: SetBreakpointsInput) -> RunPayload:
        """Sets the nodes that the run pauses before. An empty list clears them."""
        node_ids = [str(node_id) for node_id in input.node_ids]
        run = await control.set_breakpoints(info.context, input.run_id, node_ids, input.idempotency_key)
        return payload(RunPayload, run=run)


def _timeout_or_default(timeout_ms: int | None) -> int:
    return 1000 if timeout_ms is None else timeout_ms


FROM = "FAILED: finished nodes keep their output; only nodes that failed or were stopped run again."


@strawberry.input
class RetryRunInput:
    run_id: strawberry.ID
    from_: RetryFrom | None = strawberry.field(default=RetryFrom.FAILED, name="from", description=FROM)
    options: RunOptionsInput | None = strawberry.field(default=None, description="Default: the options of the run.")
    idempotency_key: str | None = None


@strawberry.input
class ForkRunInput:
    checkpoint_id: strawberry.ID
    patch: JSON | None = strawberry.field(default=None, description="Node outputs to replace, by node id.")
    version_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="Another version to continue with. Refused, with all reasons, if the checkpoint does not fit it.",
    )
    options: RunOptionsInput | None = strawberry.field(default=None, description="Default: the options of the run.")
    idempotency_key: str | None = None


@strawberry.type
class DeriveMutations:
    @mutation
    @staticmethod
    async def retry_run(info: Info, input: RetryRunInput) -> RunPayload:
        """Creates a run with the same inputs, from the start or from the failed nodes."""
        arguments = derive.RetryArguments(
            input.run_id,
            input.from_ or RetryFrom.FAILED,
            None if input.options is None else run_options(input.options),
            input.idempotency_key,
        )
        return payload(RunPayload, run=await derive.retry_run(info.context, arguments))

    @mutation
    @staticmethod
    async def fork_run(info: Info, input: ForkRunInput) -> RunPayload:
        """Creates a run from any checkpoint, with changed outputs or another version."""
        arguments = derive.ForkArguments(
            input.checkpoint_id,
            input.patch,
            input.version_id,
            None if input.options is None else run_options(input.options),
            input.idempotency_key,
        )
        return payload(RunPayload, run=await derive.fork_run(info.context, arguments))
