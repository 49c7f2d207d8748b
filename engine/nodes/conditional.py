"""The node type `conditional`: leaves by the port `true` or `false`."""

from typing import Any, ClassVar

from pydantic import Field

from engine.sdk.annotations import STORED_EXPRESSION
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output, PortUndecided
from engine.types import JSON

TRUE, FALSE = "true", "false"


class ConditionalConfig(NodeConfig):
    """The config of a `conditional`. Validation turns `true_edge` and `false_edge` into edges."""

    condition: str = Field(
        min_length=1,
        title="Condition",
        description="An expression. Braces around the whole of it or a part of it are allowed.",
        examples=["input.value > 10", "{{input.value}} > 10"],
        json_schema_extra=STORED_EXPRESSION,
    )
    true_edge: str | None = Field(
        None,
        title="If true",
        description="The id of the node or of the edge to follow if the condition is true.",
        examples=["big"],
    )
    false_edge: str | None = Field(
        None,
        title="If false",
        description="The id of the node or of the edge to follow if the condition is false.",
        examples=["small"],
    )


class ConditionalNode(NodeType[ConditionalConfig]):
    """Evaluates an expression; its truth, as in Python, selects the port."""

    name: ClassVar[str] = "conditional"
    title: ClassVar[str] = "Condition"
    description: ClassVar[str] = "Leaves by the port `true` if its condition is true, else by `false`."
    icon: ClassVar[str] = "git-branch"
    Config: ClassVar[type[NodeConfig]] = ConditionalConfig
    inline: ClassVar[bool] = True
    ports: ClassVar[tuple[str, ...]] = (TRUE, FALSE)
    default_port: ClassVar[str | None] = FALSE
    output_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"result": {"type": "boolean"}},
        "required": ["result"],
    }
    example: ClassVar[dict[str, Any]] = {"condition": "input.value > 10"}

    def port_of(self, config: ConditionalConfig, output: JSON) -> str:
        result = output.get("result") if isinstance(output, dict) else None
        if not isinstance(result, bool):
            raise PortUndecided(self.ports, '{"result": true}')
        return TRUE if result else FALSE

    async def execute(self, config: ConditionalConfig, ctx: NodeContext) -> Output:
        result = bool(ctx.evaluate(config.condition))
        return Output({"result": result}, TRUE if result else FALSE)
