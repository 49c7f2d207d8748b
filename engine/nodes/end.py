"""`end`: where a run ends. What it gives is the run's output, unless the spec has `outputs` of its own."""

from typing import Any, ClassVar

from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output
from engine.types import JSON

HAS_RUN = ("COMPLETED", "FAILED")


class Passed(BaseModel):
    """A node with an edge to this one. `seen` is an expression that gives its output and status."""

    id: str
    is_choice: bool
    """The edge has a port or a condition: that the node has run does not say that it led here."""
    seen: str


class EndConfig(NodeConfig):
    output: JSON = Field(
        None,
        title="Output",
        description="The run's output: any JSON, with templates. Left out: what the nodes before it gave.",
        examples=["{{ summary.output }}", {"total": "{{ sum.output.total }}"}],
        json_schema_extra={"format": "template"},
    )
    passes: SkipJsonSchema[tuple[Passed, ...]] = Field((), alias="__passes__")
    """Not for authors: engine/spec/desugar.py puts it here."""


class EndNode(NodeType[EndConfig]):
    name: ClassVar[str] = "end"
    title: ClassVar[str] = "End"
    description: ClassVar[str] = "Where a run ends; its output is the run's output."
    category: ClassVar[str] = "flow"
    icon: ClassVar[str] = "flag"
    Config: ClassVar[type[NodeConfig]] = EndConfig
    inline: ClassVar[bool] = True
    ends_run: ClassVar[bool] = True
    output_schema: ClassVar[dict[str, Any]] = {"description": "The rendered `output`; without one, what came here."}
    example: ClassVar[dict[str, Any]] = {"output": {"greeting": "{{ greet.output }}"}}

    async def execute(self, config: EndConfig, ctx: NodeContext) -> Output:
        if "output" in config.model_fields_set:
            return Output(ctx.render(config.output))
        return Output(_passed_on(config, ctx))


def _passed_on(config: EndConfig, ctx: NodeContext) -> JSON:
    """The output of the one node that led here; of several, each by its id."""
    seen = {passed.id: ctx.evaluate(passed.seen) for passed in config.passes}
    have_run = [passed for passed in config.passes if seen[passed.id]["status"] in HAS_RUN]
    led_here = {passed.id for passed in have_run if not passed.is_choice} or {passed.id for passed in have_run}
    outputs = {node_id: seen[node_id]["output"] for node_id in seen if node_id in led_here}
    return next(iter(outputs.values())) if len(outputs) == 1 else outputs or None
