"""The node type `subworkflow`: starts another workflow as a child run and waits for it.

The wait occupies no worker. After a crash the node starts the same child run again by its key, so
there is never a second one.
"""

from typing import Any, ClassVar

from pydantic import Field

from engine.errors import NodeFailure
from engine.sdk.annotations import STORED_TEMPLATE
from engine.sdk.node import NodeConfig, NodeContext, NodeType, WaitForRun
from engine.sdk.resources import ChildRun, ChildRuns
from engine.types import JSON
from engine.values.kinds import quoted_json


class SubworkflowConfig(NodeConfig):
    """The config of a `subworkflow`."""

    workflow: str = Field(
        title="Workflow",
        description="Id of a workflow in the same project, or a template that gives it.",
        examples=["wf_01h45ytscbebyvny4gc8cr8ma2"],
        json_schema_extra=STORED_TEMPLATE,
    )
    version: int | None = Field(
        None,
        ge=1,
        title="Version",
        description="Number of the version to run. Without it: the version published at that time, else the draft.",
        examples=[3],
    )
    inputs: JSON = Field(
        default_factory=dict,
        title="Inputs",
        description="The input of the child run: any JSON, with templates.",
        examples=[{"customer": "{{ input.customer }}"}],
        json_schema_extra=STORED_TEMPLATE,
    )


class SubworkflowNode(NodeType[SubworkflowConfig]):
    """Starts the child run and returns a wait for its end."""

    name: ClassVar[str] = "subworkflow"
    title: ClassVar[str] = "Subworkflow"
    description: ClassVar[str] = (
        "Runs another workflow and waits for it. A cancel applies to both; if the child run fails, the node fails."
    )
    category: ClassVar[str] = "flow"
    icon: ClassVar[str] = "workflow"
    Config: ClassVar[type[NodeConfig]] = SubworkflowConfig
    output_schema: ClassVar[dict[str, Any]] = {"description": "The output of the child run."}
    example: ClassVar[dict[str, Any]] = {
        "workflow": "wf_01h45ytscbebyvny4gc8cr8ma2",
        "inputs": {"customer": "{{ input.customer }}"},
    }

    waits: ClassVar[bool] = True

    async def execute(self, config: SubworkflowConfig, ctx: NodeContext) -> WaitForRun:
        workflow_id, inputs = ctx.render(config.workflow), ctx.render(config.inputs)
        if not isinstance(workflow_id, str) or not workflow_id:
            raise NodeFailure("CONFIG", f"`workflow` must give the id of a workflow, not {quoted_json(workflow_id)}")
        ctx.note_input(inputs)
        runs: ChildRuns | None = ctx.resources.get("runs")
        if runs is None:
            raise NodeFailure("CONFIG", "a child run needs a parent run: test this node inside a workflow")
        # The key without the run id: the parent id has it.
        key = ctx.idempotency_key.partition("/")[2]
        return WaitForRun(await runs.start(ChildRun(ctx.run_id, key, workflow_id, config.version, inputs)))
