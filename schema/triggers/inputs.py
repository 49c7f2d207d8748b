"""Inputs and payloads of the mutations of triggers."""

from datetime import datetime
from typing import Any

import strawberry

from resolvers.triggers.checks import ABSENT
from schema.payload import KeyedInput, Payload
from schema.problem import FieldProblemType
from schema.scalars import JSON
from schema.triggers.trigger import TriggerType

INPUTS = "Maps the event to the inputs of the run: templates over `event`. Default: `{{ event }}`, the event itself."


def or_absent(value: Any) -> Any:
    """Return ABSENT for a JSON field that the client has not sent."""
    return ABSENT if value is strawberry.UNSET else value


@strawberry.input
class CreateTriggerInput:
    workflow_id: strawberry.ID
    kind: str = strawberry.field(description="One of `triggerKinds`.")
    name: str
    config: JSON = strawberry.field(description="Must match the `configSchema` of the kind.")
    inputs: JSON | None = strawberry.field(default=strawberry.UNSET, description=INPUTS)
    enabled: bool | None = True
    idempotency_key: str | None = strawberry.field(
        default=None, description="A repeat with the same key returns the first trigger."
    )


@strawberry.input
class UpdateTriggerInput(KeyedInput):
    """An omitted field stays unchanged."""

    id: strawberry.ID
    name: str | None = strawberry.UNSET
    config: JSON | None = strawberry.UNSET
    inputs: JSON | None = strawberry.UNSET
    enabled: bool | None = strawberry.UNSET

    @property
    def changes(self) -> dict[str, Any]:
        """The fields that the client has sent, by name."""
        fields = {"name": self.name, "config": self.config, "inputs": self.inputs, "enabled": self.enabled}
        return {name: value for name, value in fields.items() if value is not strawberry.UNSET}


@strawberry.input
class DeleteTriggerInput(KeyedInput):
    id: strawberry.ID


@strawberry.input
class RunTriggerInput:
    id: strawberry.ID
    payload: JSON | None = strawberry.field(
        default=strawberry.UNSET, description="The event. Default, and for null: the event of a firing at this moment."
    )
    idempotency_key: str | None = None


@strawberry.input
class RotateWebhookTokenInput(KeyedInput):
    id: strawberry.ID
    overlap_s: int | None = strawberry.field(
        default=86_400, description="Seconds for which the present address still works; at most 30 days."
    )


@strawberry.input
class ReplayWebhookDeliveryInput:
    id: strawberry.ID = strawberry.field(description="The id of the delivery (`whd_…`).")
    idempotency_key: str | None = None


@strawberry.input
class BackfillTriggerInput(KeyedInput):
    id: strawberry.ID
    from_: datetime = strawberry.field(name="from", description="The first planned time that may fire.")
    to: datetime = strawberry.field(description="The last planned time that may fire; not in the future.")


@strawberry.input
class TestTriggerInput(KeyedInput):
    id: strawberry.ID | None = strawberry.field(default=None, description="A stored trigger.")
    workflow_id: strawberry.ID | None = strawberry.field(default=None, description="With `kind`, instead of `id`.")
    kind: str | None = None
    config: JSON | None = strawberry.field(default=strawberry.UNSET, description="Default: that of the stored trigger.")
    inputs: JSON | None = strawberry.field(
        default=strawberry.UNSET, description="Default: those of the stored trigger."
    )
    payload: JSON | None = strawberry.field(
        default=strawberry.UNSET, description="The event. Default, and for null: that of the next firing."
    )


@strawberry.type
class TriggerPayload(Payload):
    trigger: TriggerType | None = None
    warnings: list[FieldProblemType] = strawberry.field(
        default_factory=list,
        description="Why the trigger will start no run although it is valid, such as a workflow without a "
        "published version.",
    )


@strawberry.type
class BackfillTriggerPayload(Payload):
    trigger: TriggerType | None = None
    accepted: int | None = strawberry.field(
        default=None, description="How many firings were added. Workers start their runs one after the other."
    )


@strawberry.type(description="What a trigger would do with an event.")
class TriggerTest(Payload):
    would_fire: bool = strawberry.field(default=False, description="Whether it would start a run.")
    inputs: JSON | None = strawberry.field(default=None, description="The inputs of the run.")
    payloads: list[JSON] = strawberry.field(default_factory=list, description="The events that were tested.")
