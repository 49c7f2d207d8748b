"""The node type `start`: the first node of a run. Its output is the run's input."""

from typing import Any, ClassVar

from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output


class StartConfig(NodeConfig):
    """The config of a `start`: it has no fields."""


class StartNode(NodeType[StartConfig]):
    """Returns the input of the run."""

    name: ClassVar[str] = "start"
    title: ClassVar[str] = "Start"
    description: ClassVar[str] = "The first node of a run; its output is the run's input."
    category: ClassVar[str] = "flow"
    icon: ClassVar[str] = "play"
    Config: ClassVar[type[NodeConfig]] = StartConfig
    inline: ClassVar[bool] = True
    output_schema: ClassVar[dict[str, Any]] = {"description": "The run's input."}

    async def execute(self, config: StartConfig, ctx: NodeContext) -> Output:
        return Output(ctx.inputs)
