"""Root mutations of triggers."""

import strawberry

from persistence.triggers.trigger import Trigger
from resolvers.triggers import checks, commands, start, webhooks
from schema.info import Info
from schema.payload import keyed_mutation, mutation, payload
from schema.problem import ProblemValue
from schema.runs.inputs import RunPayload
from schema.triggers.inputs import (
    BackfillTriggerInput,
    BackfillTriggerPayload,
    CreateTriggerInput,
    DeleteTriggerInput,
    ReplayWebhookDeliveryInput,
    RotateWebhookTokenInput,
    RunTriggerInput,
    TestTriggerInput,
    TriggerPayload,
    TriggerTest,
    UpdateTriggerInput,
    or_absent,
)
from schema.workflows.workflow import DeletePayload


async def _saved(info: Info, trigger: Trigger) -> TriggerPayload:
    return payload(TriggerPayload, trigger=trigger, warnings=await checks.warnings_of(info.context, trigger))


@strawberry.type
class TriggerMutations:
    @mutation
    @staticmethod
    async def create_trigger(info: Info, input: CreateTriggerInput) -> TriggerPayload:
        """Creates a trigger, which starts runs of the version that is published when it fires."""
        created = await commands.create_trigger(
            info.context,
            workflow_id=input.workflow_id,
            kind=input.kind,
            name=input.name,
            config=input.config,
            inputs=or_absent(input.inputs),
            enabled=input.enabled is not False,
            idempotency_key=input.idempotency_key,
        )
        return await _saved(info, created)

    @keyed_mutation
    @staticmethod
    async def update_trigger(info: Info, input: UpdateTriggerInput) -> TriggerPayload:
        """Changes a trigger. New config or inputs, and enabling, clear its failures."""
        return await _saved(info, await commands.update_trigger(info.context, input.id, input.changes))

    @keyed_mutation
    @staticmethod
    async def delete_trigger(info: Info, input: DeleteTriggerInput) -> DeletePayload:
        """Deletes a trigger with its events. Its runs stay."""
        return payload(DeletePayload, deleted_id=await commands.delete_trigger(info.context, input.id))

    @mutation
    @staticmethod
    async def run_trigger(info: Info, input: RunTriggerInput) -> RunPayload:
        """Starts a run as the trigger would, also if it is disabled."""
        run = await start.run_trigger(info.context, input.id, or_absent(input.payload), input.idempotency_key)
        return payload(RunPayload, run=run)

    @keyed_mutation
    @staticmethod
    async def backfill_trigger(info: Info, input: BackfillTriggerInput) -> BackfillTriggerPayload:
        """Fires for the planned times of a range that have not fired. A repeat starts no run twice."""
        trigger, accepted = await start.backfill_trigger(info.context, input.id, input.from_, input.to)
        return payload(BackfillTriggerPayload, trigger=trigger, accepted=accepted)

    @keyed_mutation
    @staticmethod
    async def rotate_webhook_token(info: Info, input: RotateWebhookTokenInput) -> TriggerPayload:
        """Gives a webhook new addresses. The present one works for `overlapS` more seconds."""
        overlap_s = 86_400 if input.overlap_s is None else input.overlap_s
        return payload(TriggerPayload, trigger=await webhooks.rotate_token(info.context, input.id, overlap_s))

    @mutation
    @staticmethod
    async def replay_webhook_delivery(info: Info, input: ReplayWebhookDeliveryInput) -> RunPayload:
        """Starts a run for a stored request again, with the version that is published now."""
        run = await webhooks.replay_delivery(info.context, input.id, input.idempotency_key)
        return payload(RunPayload, run=run)

    @keyed_mutation
    @staticmethod
    async def test_trigger(info: Info, input: TestTriggerInput) -> TriggerTest:
        """Shows what a trigger would do with an event, without a run. A stored trigger records the test."""
        result = await start.test_trigger(
            info.context,
            trigger_id=input.id,
            workflow_id=input.workflow_id,
            kind=input.kind,
            config=or_absent(input.config),
            inputs=or_absent(input.inputs),
            payload=or_absent(input.payload),
        )
        return payload(
            TriggerTest,
            would_fire=result.would_fire,
            inputs=result.inputs,
            payloads=result.payloads,
            errors=[ProblemValue(problem) for problem in result.errors],
        )
