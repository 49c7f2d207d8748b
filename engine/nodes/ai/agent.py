"""`agent`: a model with tools, in a loop, until it answers or its budget is used up.

The loop is not stored: after a crash it begins again, and a call that was made before has the same idempotency key.
"""

import asyncio
from importlib import import_module
from typing import Any, ClassVar

from pydantic import AliasChoices, Field

from engine.chat_models.tool_calling import bind_tools
from engine.errors import NodeFailure
from engine.nodes.ai.prompting import Prompted, opened, rendered, within
from engine.nodes.tool import tools_of
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output


class Budget(NodeConfig):
    """What one attempt may take of the model. Looked at before each call, so the last one may go over it."""

    tokens: int | None = Field(
        None, ge=1, title="Tokens", description="Sent and received, all calls together.", examples=[50_000]
    )
    usd: float | None = Field(
        None, gt=0, title="USD", description="Needs a model with a price in the catalog.", examples=[0.5]
    )


class AgentConfig(Prompted):
    tools: tuple[str, ...] = Field(
        (),
        max_length=64,
        title="Tools",
        description="Tools of the catalog that the model may call.",
        examples=[["json_query", "mcp:search/find"]],
        json_schema_extra={"items": {"type": "string", "format": "tool-name"}},
    )
    max_steps: int = Field(
        10,
        ge=1,
        le=200,
        validation_alias=AliasChoices("maxSteps", "max_steps"),
        title="Steps",
        description="How often the model is asked; in each step it may call several tools.",
        examples=[10],
    )
    budget: Budget = Field(
        default_factory=lambda: Budget(tokens=None, usd=None),
        title="What it may take",
        description="Where the agent is stopped.",
        examples=[{"tokens": 50_000}],
    )


class AgentNode(NodeType[AgentConfig]):
    name: ClassVar[str] = "agent"
    title: ClassVar[str] = "Agent"
    description: ClassVar[str] = "Lets a model call tools, step by step, until it has an answer."
    category: ClassVar[str] = "ai"
    icon: ClassVar[str] = "bot"
    Config: ClassVar[type[NodeConfig]] = AgentConfig
    output_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "text": {"type": "string", "description": "The answer."},
            "steps": {"type": "integer", "description": "How often the model was asked."},
            "toolCalls": {
                "type": "array",
                "description": "In their order.",
                "items": {
                    "type": "object",
                    "properties": {
                        "tool": {"type": "string"},
                        "arguments": {"type": "object"},
                        "failed": {"type": "boolean", "description": "The tool said no; the model was told why."},
                    },
                    "required": ["tool", "arguments", "failed"],
                },
            },
        },
        "required": ["text", "steps", "toolCalls"],
    }
    example: ClassVar[dict[str, Any]] = {
        "model": "treadle/echo",
        "prompt": 'json_query({"data": {"a": [1, 2]}, "expression": "a[1]"})',
        "tools": ["json_query"],
        "maxSteps": 5,
        "budget": {"tokens": 10_000},
    }

    async def execute(self, config: AgentConfig, ctx: NodeContext) -> Output:
        messages = rendered(config, ctx)
        async with within(config):
            model = await opened(config, ctx)
            if config.budget.usd is not None and model.price is None:
                told = f"the model {model.name!r} has no `price` in the catalog: a budget in USD cannot be kept"
                raise NodeFailure("CONFIG", told)
            lent = await bind_tools(config.tools, tools_of(ctx), ctx) if config.tools else []
            # In a thread: LangChain's agents take a second to import, the first time.
            loop = await asyncio.to_thread(import_module, "engine.nodes.ai.agent_loop")
            return Output(await loop.answer(model, lent, messages, config, ctx))
