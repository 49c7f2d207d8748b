"""Events that systems outside send to runs, as clients see them."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

from engine.states import SignalStatus
from persistence.signals.signal import SentSignal
from schema import enums as enums
from schema.payload import Payload
from schema.relay import Node
from schema.scalars import JSON

if TYPE_CHECKING:
    from schema.runs.run import RunType


@strawberry.type(name="Signal", description="An event that was sent to runs. docs/signals.md draws the statuses.")
class SignalType(Node):
    name: str
    key: str | None
    payload: JSON | None
    status: SignalStatus
    error: str | None = strawberry.field(description="Why it has ended no wait.")
    sent_by: str
    created_at: datetime
    expires_at: datetime | None = strawberry.field(description="Until when an event for a workflow and a key is kept.")

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, SentSignal)


@strawberry.input(description="Either `runId`, or `workflowId` and `key`.")
class SendEventInput:
    run_id: strawberry.ID | None = strawberry.field(default=None, description="The run that receives the event.")
    workflow_id: strawberry.ID | None = strawberry.field(
        default=None, description="All runs of the workflow that wait with the `key` receive the event."
    )
    key: str | None = None
    name: str = strawberry.field(description="The name that the node waits for: its `name`, or its id.")
    payload: JSON | None = strawberry.field(default=None, description="The output of the node. Default: null.")
    idempotency_key: str | None = strawberry.field(
        default=None, description="A repeat with the same key sends nothing, and returns the runs of the first call."
    )


@strawberry.type
class SendEventPayload(Payload):
    runs: list[Annotated["RunType", strawberry.lazy("schema.runs.run")]] = strawberry.field(
        default_factory=list, description="Runs that were waiting for it."
    )
    kept: bool = strawberry.field(default=False, description="Kept for a run that will wait for it.")
    signal: SignalType | None = None
