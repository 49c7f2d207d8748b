"""The node type `fail`: fails the run, or its branch, with a code and a message."""

from typing import Any, ClassVar

import orjson
from pydantic import Field

from engine.errors import NodeFailure
from engine.sdk.annotations import STORED_TEMPLATE
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output
from engine.types import JSON


class FailConfig(NodeConfig):
    """The config of a `fail`."""

    code: str = Field(
        "FAILED",
        pattern=r"^[A-Z][A-Z0-9_]{0,63}$",
        title="Code",
        description="The error code: capital letters, digits and `_`. Clients and `retry` can tell errors apart by it.",
        examples=["OUT_OF_STOCK"],
    )
    message: str = Field(
        min_length=1,
        title="Message",
        description="What happened and what to do, for people.",
        examples=["There are only {{ stock.output.left }} left of {{ input.sku }}."],
        json_schema_extra=STORED_TEMPLATE,
    )
    details: JSON = Field(
        None,
        title="Details",
        description="Any JSON for programs, shown as the `details` of the error.",
        examples=[{"sku": "{{ input.sku }}"}],
        json_schema_extra=STORED_TEMPLATE,
    )


class FailNode(NodeType[FailConfig]):
    """Raises a failure with the rendered message. It is not repeated by a `retry`."""

    name: ClassVar[str] = "fail"
    title: ClassVar[str] = "Fail"
    description: ClassVar[str] = (
        "Fails the run with a code and a message. With `onError: branch` the run goes on by the port `error`."
    )
    category: ClassVar[str] = "flow"
    icon: ClassVar[str] = "octagon-x"
    Config: ClassVar[type[NodeConfig]] = FailConfig
    inline: ClassVar[bool] = True
    output_schema: ClassVar[dict[str, Any]] = {
        "description": "With `onError: branch` the error, as of every node; else there is none.",
        "type": "object",
        "properties": {"error": {"type": "object", "description": "The code, the message and the details."}},
    }
    example: ClassVar[dict[str, Any]] = {
        "code": "OUT_OF_STOCK",
        "message": "There are only {{ stock.output.left }} left of {{ input.sku }}.",
    }

    async def execute(self, config: FailConfig, ctx: NodeContext) -> Output:
        message, details = ctx.render(config.message), ctx.render(config.details)
        ctx.note_input({"code": config.code, "message": message, "details": details})
        text = message if isinstance(message, str) else orjson.dumps(message).decode()
        raise NodeFailure(config.code, text, details=details)
