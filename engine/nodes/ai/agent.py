"""The node type `agent`: a model calls tools in a loop until it answers or its budget is used up.

The loop is not stored. After a crash it starts again, and a tool call that it made before has the
same idempotency key.
"""

import asyncio
from importlib import import_module
from typing import Any, ClassVar

from pydantic import AliasChoices, Field

from engine.chat_models.tool_calling import bind_tools
from engine.errors import NodeFailure
from engine.nodes.ai.memory import new_messages
from engine.nodes.ai.prompting import PromptConfig, open_conversation, open_model, time_limit
from engine.nodes.tool import tools_of
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output


class Budget(NodeConfig):
    """The limits of one attempt.

    They are checked before each model call, so the last call may exceed them.
    """

    tokens: int | None = Field(
        None, ge=1, title="Tokens", description="Input and output tokens of all calls together.", examples=[50_000]
    )
    usd: float | None = Field(
        None,
        gt=0,
        title="USD",
        description="Cost of all calls. Needs a model with a price in the catalog.",
        examples=[0.5],
    )


class AgentConfig(PromptConfig):
    """The config of an `agent`."""

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
        description="Model calls at most. In each step the model may call several tools.",
        examples=[10],
    )
    budget: Budget = Field(
        default_factory=lambda: Budget(tokens=None, usd=None),
        title="Limits",
        description="Limits at which the agent is stopped.",
        examples=[{"tokens": 50_000}],
    )


class AgentNode(NodeType[AgentConfig]):
    """Runs the loop of engine/nodes/ai/agent_loop.py within the time limit of the node."""

    name: ClassVar[str] = "agent"
    title: ClassVar[str] = "Agent"
    description: ClassVar[str] = "Lets a model call tools, step by step, until it answers."
    category: ClassVar[str] = "ai"
    icon: ClassVar[str] = "bot"
    Config: ClassVar[type[NodeConfig]] = AgentConfig
    output_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "text": {"type": "string", "description": "The answer."},
            "steps": {"type": "integer", "description": "The number of model calls."},
            "toolCalls": {
                "type": "array",
                "description": "In the order of the calls.",
                "items": {
                    "type": "object",
                    "properties": {
                        "tool": {"type": "string"},
                        "arguments": {
                            "type": "object",
                            "description": "Its arguments; `{json: text}` if a value cannot be stored, such as a whole "
                            "number beyond 64 bits.",
                        },
                        "failed": {"type": "boolean", "description": "The tool failed; the model received the reason."},
                    },
                    "required": ["tool", "arguments", "failed"],
                },
            },
            "finishReason": {
                "type": ["string", "null"],
                "description": "Why the model ended its answer, in its own word: `length` if it was cut.",
            },
        },
        "required": ["text", "steps", "toolCalls", "finishReason"],
    }
    example: ClassVar[dict[str, Any]] = {
        "model": "treadle/echo",
        "prompt": 'json_query({"data": {"a": [1, 2]}, "expression": "a[1]"})',
        "tools": ["json_query"],
        "maxSteps": 5,
        "budget": {"tokens": 10_000},
    }

    async def execute(self, config: AgentConfig, ctx: NodeContext) -> Output:
        messages, own = await open_conversation(config, ctx)
        async with time_limit(config):
            model = await open_model(config, ctx)
            if config.budget.usd is not None and model.price is None:
                message = f"the model {model.name!r} has no `price` in the catalog, which a budget in USD needs"
                raise NodeFailure("CONFIG", message)
            tools = await bind_tools(config.tools, tools_of(ctx), ctx) if config.tools else []
            # In a thread: the first import of LangChain's agents takes about a second.
            loop = await asyncio.to_thread(import_module, "engine.nodes.ai.agent_loop")
            output = await loop.answer(model, tools, messages, config, ctx)
        return Output(output, messages=new_messages(config.memory, own, output["text"]))
