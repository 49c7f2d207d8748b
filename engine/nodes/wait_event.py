"""The node type `wait_event`: waits for an event that a system outside sends.

The wait is a row in the database, so it survives crashes and occupies no worker. An event that comes
before the wait is kept (persistence/signals).
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from engine.errors import NodeFailure
from engine.sdk.annotations import STORED_TEMPLATE
from engine.sdk.node import EXPIRED, RECEIVED, NodeConfig, NodeContext, NodeType, WaitForEvent
from engine.types import JSON
from engine.values.json_schema import checked_schema
from engine.values.kinds import quoted_json

MAX_EXPIRY_S = 3650 * 86_400
"""Ten years, in seconds."""
MAX_NAME = 200
"""Characters of the name and of the key of an event."""


class WaitEventConfig(NodeConfig):
    """The config of a `wait_event`."""

    name: str = Field(
        "",
        title="Event",
        description="The name of the event, or a template that gives it. By default the id of the node.",
        examples=["payment.received"],
        json_schema_extra=STORED_TEMPLATE,
    )
    key: JSON = Field(
        None,
        title="Key",
        description="What `sendEvent` to the workflow finds the run by, such as the id of an order: a text or a "
        "number, or a template that gives it. Without it, events are sent to the run or to its callback address.",
        examples=["{{ input.order }}"],
        json_schema_extra=STORED_TEMPLATE,
    )
    schema_: Annotated[dict[str, Any] | None, AfterValidator(checked_schema)] = Field(
        None,
        alias="schema",
        title="Payload",
        description="JSON Schema of the payload. An event that does not match it is refused, and the node waits on. "
        "Without a schema, any JSON is accepted.",
        examples=[{"type": "object", "properties": {"paid": {"type": "boolean"}}, "required": ["paid"]}],
        json_schema_extra={"format": "json-schema"},
    )
    expires_s: float | None = Field(
        None,
        alias="expiresS",
        gt=0,
        le=MAX_EXPIRY_S,
        title="Expires after",
        description="Seconds after which the node leaves by the port `expired`, with the output null.",
        examples=[86_400],
    )


class WaitEventNode(NodeType[WaitEventConfig]):
    """Returns a wait for an event, whose payload becomes the output."""

    name: ClassVar[str] = "wait_event"
    title: ClassVar[str] = "Wait for event"
    description: ClassVar[str] = (
        "Waits for an event of another system: by `sendEvent`, or by a POST to its signed address, which templates "
        "of nodes before it see as `callback_url`. The payload is the output."
    )
    category: ClassVar[str] = "flow"
    icon: ClassVar[str] = "bell"
    Config: ClassVar[type[NodeConfig]] = WaitEventConfig
    ports: ClassVar[tuple[str, ...]] = (RECEIVED, EXPIRED)
    example: ClassVar[dict[str, Any]] = {
        "name": "payment.received",
        "key": "{{ input.order }}",
        "schema": {"type": "object", "properties": {"paid": {"type": "boolean"}}, "required": ["paid"]},
        "expiresS": 86_400,
    }
    output_schema: ClassVar[dict[str, Any]] = {"description": "The payload of the event, or null after the expiry."}
    waits: ClassVar[bool] = True
    has_callback: ClassVar[bool] = True

    def port_of(self, config: WaitEventConfig, output: JSON) -> str:
        """Return `received`: an output that a user enters is a payload."""
        return RECEIVED

    async def execute(self, config: WaitEventConfig, ctx: NodeContext) -> WaitForEvent:
        name = _text("name", ctx.render(config.name)) or ctx.node_id
        key = _text("key", ctx.render(config.key))
        ctx.note_input({"name": name, "key": key})
        expires_at = None if config.expires_s is None else datetime.now(UTC) + timedelta(seconds=config.expires_s)
        return WaitForEvent(name, key, config.schema_, expires_at)


def _text(field: str, value: JSON) -> str | None:
    """Return the text of a name or a key; None for none. Raises NodeFailure(CONFIG)."""
    if value is None or value == "":
        return None
    is_plain = isinstance(value, str | int) and not isinstance(value, bool)
    if not is_plain or len(str(value)) > MAX_NAME:
        message = f"`{field}` must give a text of at most {MAX_NAME} characters or an integer, not {quoted_json(value)}"
        raise NodeFailure("CONFIG", message)
    return str(value)
