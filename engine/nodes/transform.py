"""The node type `transform`: builds a JSON value with templates."""

from typing import Any, ClassVar

from pydantic import Field

from engine.sdk.annotations import STORED_TEMPLATE
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output
from engine.types import JSON


class TransformConfig(NodeConfig):
    """The config of a `transform`."""

    output: JSON = Field(
        title="Output",
        description="Any JSON, with templates. A string that is a single `{{ … }}` keeps the type of the value.",
        examples=[{"name": "{{ input.name | trim }}", "total": "{{ input.price * input.count }}"}],
        json_schema_extra=STORED_TEMPLATE,
    )


class TransformNode(NodeType[TransformConfig]):
    """Renders its `output`."""

    name: ClassVar[str] = "transform"
    title: ClassVar[str] = "Transform"
    description: ClassVar[str] = "Builds a JSON value from earlier outputs with templates."
    category: ClassVar[str] = "data"
    icon: ClassVar[str] = "shuffle"
    Config: ClassVar[type[NodeConfig]] = TransformConfig
    inline: ClassVar[bool] = True
    output_schema: ClassVar[dict[str, Any]] = {"description": "The rendered `output`."}
    example: ClassVar[dict[str, Any]] = {"output": {"greeting": "Hello {{ input.name }}"}}

    async def execute(self, config: TransformConfig, ctx: NodeContext) -> Output:
        return Output(ctx.render(config.output))
