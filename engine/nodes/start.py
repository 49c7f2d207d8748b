"""`start`: where a run begins. Its output is the run's input."""

from typing import Any, ClassVar

from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output


class StartConfig(NodeConfig):
    """Nothing to set."""


class StartNode(NodeType[StartConfig]):
    name: ClassVar[str] = "start"
    title: ClassVar[str] = "Start"
    description: ClassVar[str] = "Where a run begins; its output is the run's input."
    category: ClassVar[str] = "flow"
    icon: ClassVar[str] = "play"
    Config: ClassVar[type[NodeConfig]] = StartConfig
    inline: ClassVar[bool] = True
    output_schema: ClassVar[dict[str, Any]] = {"description": "The run's input."}

    async def execute(self, config: StartConfig, ctx: NodeContext) -> Output:
        return Output(ctx.inputs)
