"""The node type `tool`: calls one tool of the catalog with arguments from templates."""

from time import monotonic
from typing import Any, ClassVar

from pydantic import AliasChoices, Field

from engine.errors import NodeFailure
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output
from engine.states import LogLevel
from engine.tools.builtin import BUILTIN_NAMES
from engine.tools.catalog import Tools
from engine.types import JSON


class ToolConfig(NodeConfig):
    """The config of a `tool` node."""

    tool: str = Field(
        min_length=1,
        max_length=200,
        title="Tool",
        description="The name in the catalog: a built-in tool, one of a package, or `mcp:<server>/<tool>`.",
        examples=["json_query"],
        json_schema_extra={"format": "tool-name"},
    )
    arguments: dict[str, JSON] = Field(
        default_factory=dict,
        title="Arguments",
        description="Arguments by name, with templates. They must match the schema of the tool.",
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
    """Calls the tool; its result is the output."""

    name: ClassVar[str] = "tool"
    title: ClassVar[str] = "Tool"
    description: ClassVar[str] = "Calls one tool of the catalog."
    category: ClassVar[str] = "integration"
    icon: ClassVar[str] = "wrench"
    Config: ClassVar[type[NodeConfig]] = ToolConfig
    output_schema: ClassVar[dict[str, Any]] = {"description": "The result of the tool."}
    example: ClassVar[dict[str, Any]] = {
        "tool": "json_query",
        "arguments": {"data": "{{ input.orders }}", "expression": "[?total > `10`].id"},
    }

    async def execute(self, config: ToolConfig, ctx: NodeContext) -> Output:
        arguments = ctx.render(config.arguments)
        ctx.note_input(arguments)
        tools, began = tools_of(ctx), monotonic()
        result = await tools.call(config.tool, arguments, ctx, timeout_s=config.timeout_s)
        if config.tool not in BUILTIN_NAMES:
            # A built-in tool is quick and calls no other system, so its line would only cost time.
            ctx.log(LogLevel.INFO, f"{config.tool} answered", tool=config.tool, seconds=round(monotonic() - began, 3))
        return Output(result)


def tools_of(ctx: NodeContext) -> Tools:
    """Return the tool catalog of this process. Raises NodeFailure(TOOL_UNKNOWN) if it has none."""
    tools: Tools | None = ctx.resources.get("tools")
    if tools is None:
        raise NodeFailure("TOOL_UNKNOWN", "this process has no tool catalog")
    return tools
