"""`end`: where a run ends. What it gives is the run's output, unless the spec has `outputs` of its own."""

from typing import Any, ClassVar

from pydantic import Field

from engine.events import JSON
from engine.nodes.base import NodeConfig, NodeContext, NodeType, Output


class EndConfig(NodeConfig):
    output: JSON = Field(
        None,
        title="Output",
        description="The run's output: any JSON, with templates.",
        examples=["{{ summary.output }}", {"total": "{{ sum.output.total }}"}],
        json_schema_extra={"format": "template"},
    )


class End(NodeType[EndConfig]):
    name: ClassVar[str] = "end"
    title: ClassVar[str] = "End"
    description: ClassVar[str] = "Where a run ends; its output is the run's output."
    category: ClassVar[str] = "flow"
    icon: ClassVar[str] = "flag"
    Config: ClassVar[type[NodeConfig]] = EndConfig
    launched: ClassVar[bool] = False
    output_schema: ClassVar[dict[str, Any]] = {"description": "The rendered `output`, or null."}
    example: ClassVar[dict[str, Any]] = {"output": {"greeting": "{{ greet.output }}"}}

    async def execute(self, config: EndConfig, ctx: NodeContext) -> Output:
        return Output(ctx.render(config.output))
