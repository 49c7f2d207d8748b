"""`tool`: calls one tool of the catalog, with arguments by template."""

from typing import Any, ClassVar

from pydantic import AliasChoices, Field

from engine.errors import NodeFailure
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output
from engine.tools.catalog import Tools
from engine.types import JSON


class ToolConfig(NodeConfig):
    tool: str = Field(
        min_length=1,
        max_length=200,
        title="Tool",
        description="Its name in the catalog: built in, of a package, or `mcp:<server>/<tool>`.",
        examples=["json_query"],
        json_schema_extra={"format": "tool-name"},
    )
    arguments: dict[str, JSON] = Field(
        default_factory=dict,
        title="Arguments",
        description="By name, with templates; they have to fit the tool's schema.",
        examples=[{"data": "{{ input.orders }}", "expression": "[?total > `10`].id"}],
        json_schema_extra={"format": "template"},
    )
    timeout_s: float = Field(
        60.0,
        gt=0,
        le=3600,
        validation_alias=AliasChoices("timeoutS", "timeout_s"),
        title="Time limit (s)",
        description="Seconds the call may take.",
        examples=[60],
    )


class ToolNode(NodeType[ToolConfig]):
    name: ClassVar[str] = "tool"
    title: ClassVar[str] = "Tool"
    description: ClassVar[str] = "Calls one tool of the catalog."
    category: ClassVar[str] = "integration"
    icon: ClassVar[str] = "wrench"
    Config: ClassVar[type[NodeConfig]] = ToolConfig
    output_schema: ClassVar[dict[str, Any]] = {"description": "What the tool gives."}
    example: ClassVar[dict[str, Any]] = {
        "tool": "json_query",
        "arguments": {"data": "{{ input.orders }}", "expression": "[?total > `10`].id"},
    }

    async def execute(self, config: ToolConfig, ctx: NodeContext) -> Output:
        arguments = ctx.render(config.arguments)
        ctx.note_input(arguments)
        return Output(await tools_of(ctx).call(config.tool, arguments, ctx, timeout_s=config.timeout_s))


def tools_of(ctx: NodeContext) -> Tools:
    tools: Tools | None = ctx.resources.get("tools")
    if tools is None:
        raise NodeFailure("TOOL_UNKNOWN", "this process has no tools", retryable=True)
    return tools
