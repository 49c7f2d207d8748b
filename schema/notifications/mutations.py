"""Root mutations of endpoints and deliveries, their inputs and payloads."""

from typing import Any

import strawberry

from engine.states import EndpointEvent
from resolvers.notifications import endpoints
from schema.info import Info
from schema.notifications.endpoint import DeliveryType, EndpointType
from schema.payload import KeyedInput, Payload, keyed_mutation, payload
from schema.workflows.workflow import DeletePayload

URL = "An address that begins with http:// or https://. Redirects are not followed."
SECRET = "The name of a secret of the project. Its value is the key: `whsec_` and base64, or any text."
WORKFLOWS = "Only runs and triggers of these workflows. Empty: those of all workflows, without child runs."
TAGS = "Only runs that have all of these tags. Empty: all runs."


@strawberry.input
class CreateEndpointInput(KeyedInput):
    project_id: strawberry.ID | None = strawberry.field(
        default=None, description="Default: your only project, or `default`."
    )
    url: str = strawberry.field(description=URL)
    events: list[EndpointEvent] = strawberry.field(description="The events that it receives.")
    secret: str = strawberry.field(description=SECRET)
    description: str | None = None
    workflow_ids: list[strawberry.ID] | None = strawberry.field(default=None, description=WORKFLOWS)
    tags: list[str] | None = strawberry.field(default=None, description=TAGS)
    enabled: bool | None = True

    @property
    def values(self) -> dict[str, Any]:
        """The columns of the new endpoint."""
        return {
            "url": self.url.strip(),
            "events": _distinct(self.events),
            "secret": self.secret,
            "description": self.description or "",
            "workflow_ids": _distinct(self.workflow_ids or []),
            "tags": _distinct(self.tags or []),
            "enabled": self.enabled is not False,
        }


@strawberry.input
class UpdateEndpointInput(KeyedInput):
    """An omitted field stays unchanged, as does one that is null, except for lists and the description."""

    id: strawberry.ID
    url: str | None = strawberry.field(default=None, description=URL)
    events: list[EndpointEvent] | None = strawberry.field(default=None, description="The events that it receives.")
    secret: str | None = strawberry.field(default=None, description=SECRET)
    description: str | None = strawberry.UNSET
    workflow_ids: list[strawberry.ID] | None = strawberry.field(default=strawberry.UNSET, description=WORKFLOWS)
    tags: list[str] | None = strawberry.field(default=strawberry.UNSET, description=TAGS)
    enabled: bool | None = None

    @property
    def changes(self) -> dict[str, Any]:
        """The columns that the client has set."""
        fixed = {
            "url": None if self.url is None else self.url.strip(),
            "events": None if self.events is None else _distinct(self.events),
            "secret": self.secret,
            "enabled": self.enabled,
        }
        cleared = {
            "description": (self.description, ""),
            "workflow_ids": (self.workflow_ids, []),
            "tags": (self.tags, []),
        }
        values: dict[str, Any] = {name: value for name, value in fixed.items() if value is not None}
        for name, (value, empty) in cleared.items():
            if value is not strawberry.UNSET:
                values[name] = _distinct(value or []) if isinstance(empty, list) else value or empty
        return values


def _distinct(values: Any) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values))


@strawberry.input
class DeleteEndpointInput(KeyedInput):
    id: strawberry.ID


@strawberry.input
class ResendDeliveryInput(KeyedInput):
    id: strawberry.ID = strawberry.field(description="The id of the delivery (`dlv_…`).")


@strawberry.type
class EndpointPayload(Payload):
    endpoint: EndpointType | None = None


@strawberry.type
class ResendDeliveryPayload(Payload):
    delivery: DeliveryType | None = None


@strawberry.type
class EndpointMutations:
    @keyed_mutation
    @staticmethod
    async def create_endpoint(info: Info, input: CreateEndpointInput) -> EndpointPayload:
        """Creates an endpoint, which receives a signed message for each of its events from now on."""
        created = await endpoints.create_endpoint(info.context, input.project_id, input.values)
        return payload(EndpointPayload, endpoint=created)

    @keyed_mutation
    @staticmethod
    async def update_endpoint(info: Info, input: UpdateEndpointInput) -> EndpointPayload:
        """Changes an endpoint. A new address or secret, and enabling, clear its failures."""
        changed = await endpoints.update_endpoint(info.context, input.id, input.changes)
        return payload(EndpointPayload, endpoint=changed)

    @keyed_mutation
    @staticmethod
    async def delete_endpoint(info: Info, input: DeleteEndpointInput) -> DeletePayload:
        """Deletes an endpoint with its deliveries. Messages that were not delivered yet are not sent."""
        return payload(DeletePayload, deleted_id=await endpoints.delete_endpoint(info.context, input.id))

    @keyed_mutation
    @staticmethod
    async def resend_delivery(info: Info, input: ResendDeliveryInput) -> ResendDeliveryPayload:
        """Sends a delivery that has ended again, with the same `webhook-id` and new attempts."""
        return payload(ResendDeliveryPayload, delivery=await endpoints.resend_delivery(info.context, input.id))
