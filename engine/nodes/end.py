"""The node type `end`: the last node of a run.

Its output is the run's output, unless the spec has `outputs`.
"""

from typing import Any, ClassVar

from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from engine.sdk.annotations import STORED_TEMPLATE
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output
from engine.states import EXECUTED
from engine.types import JSON


class Predecessor(BaseModel):
    """A node with an edge to an `end`. `seen` is an expression for its output and status."""

    id: str
    is_choice: bool
    """The edge has a port or a condition, so the node may have run and not led to the `end`."""
    seen: str


class EndConfig(NodeConfig):
    """The config of an `end`."""

    output: JSON = Field(
        None,
        title="Output",
        description="The run's output: any JSON, with templates. Without it, the output of the node that led here.",
        examples=["{{ summary.output }}", {"total": "{{ sum.output.total }}"}],
        json_schema_extra=STORED_TEMPLATE,
    )
    passes: SkipJsonSchema[tuple[Predecessor, ...]] = Field((), alias="__passes__")
    """Internal: written by engine/spec/desugar.py, never by authors."""


class EndNode(NodeType[EndConfig]):
    """Renders its `output`; without one it passes on the outputs of its predecessors."""

    name: ClassVar[str] = "end"
    title: ClassVar[str] = "End"
    description: ClassVar[str] = "The last node of a run; its output is the run's output."
    category: ClassVar[str] = "flow"
    icon: ClassVar[str] = "flag"
    Config: ClassVar[type[NodeConfig]] = EndConfig
    inline: ClassVar[bool] = True
    ends_run: ClassVar[bool] = True
    output_schema: ClassVar[dict[str, Any]] = {
        "description": "The rendered `output`; without it, the output of the node that led here."
    }
    example: ClassVar[dict[str, Any]] = {"output": {"greeting": "{{ greet.output }}"}}

    async def execute(self, config: EndConfig, ctx: NodeContext) -> Output:
        if "output" in config.model_fields_set:
            return Output(ctx.render(config.output))
        return Output(_predecessor_outputs(config, ctx))


def _predecessor_outputs(config: EndConfig, ctx: NodeContext) -> JSON:
    """Return the output of the node that led here; if several did, their outputs by node id."""
    states = {node.id: ctx.evaluate(node.seen) for node in config.passes}
    have_run = [node for node in config.passes if states[node.id]["status"] in EXECUTED]
    led_here = {node.id for node in have_run if not node.is_choice} or {node.id for node in have_run}
    outputs = {node_id: state["output"] for node_id, state in states.items() if node_id in led_here}
    return next(iter(outputs.values())) if len(outputs) == 1 else outputs or None
