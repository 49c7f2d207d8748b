"""Execute one node outside any run, for the mutation `testNode` and for tests of node types.

Nothing is stored, so a crash leaves nothing behind. A node that would wait ends with the wait as
its outcome.
"""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from engine.events import LogRecorded, OutputDelta, RunError, Usage
from engine.graph.bound_node import BoundNode
from engine.isolation.suspension import suspendable
from engine.isolation.turns import Owner, working_for
from engine.runtime.attempts import run_attempt
from engine.runtime.node_context import RunNodeContext, node_scope
from engine.runtime.ports import Entry
from engine.runtime.reporter import NodeReporter
from engine.runtime.run_info import RunInfo
from engine.runtime.run_state import RunState
from engine.sdk.node import NodeConfig, NodeType, Outcome
from engine.spec.model import NodeSpec
from engine.states import NodeStatus
from engine.types import JSON

NODE_ID = "test"
"""The id of the node in messages and in its idempotency key."""
EXCLUDED_RESOURCE = "runs"
"""The resource that starts child runs. Outside of a run there is no parent for them."""


@dataclass(frozen=True, slots=True)
class SingleNodeRun:
    """The result of the execution. `outcome` is None if there is an `error`.

    `input` is the effective input that the node has noted.
    """

    outcome: Outcome | None
    error: RunError | None
    input: JSON
    partial_output: str | None
    usage: Usage | None
    logs: list[LogRecorded]
    duration_ms: float
    thinking: str | None = None
    finish_reason: str | None = None


@dataclass(slots=True)
class _LogJournal:
    """A journal that keeps the log records of the node and drops everything else."""

    logs: list[LogRecorded] = field(default_factory=list)

    def post(self, entry: Entry) -> None:
        self.logs += [data for _, data in entry.events_to_write if isinstance(data, LogRecorded)]

    def stream(self, run_id: str, delta: OutputDelta) -> None:
        """Drop the text: the state of the node contains it as well."""

    def commit(self, entry: Entry) -> Awaitable[int]:
        raise RuntimeError("a node outside a run has nothing to commit")


def build_scope(values: Mapping[str, JSON], run_id: str) -> dict[str, JSON]:
    """Build the scope of templates, as it would be in a run.

    Args:
        values: The values by name. The outputs of other nodes are in `nodes: {id: {output}}`, which
            may give their `status` and `last_output` as well.
        run_id: The value of `run.id`.

    Returns:
        The values; in addition each node in `nodes` by its id, as in a run.
    """
    nodes = {node_id: _completed_view(node) for node_id, node in (values.get("nodes") or {}).items()}
    return {"input": {}, "run": {"id": run_id}, **nodes, **values, "nodes": nodes}


def _completed_view(node: Mapping[str, JSON]) -> dict[str, JSON]:
    last_output = node.get("last_output", node.get("output"))
    return {**node_scope(NodeStatus.COMPLETED, last_output), **node}


async def execute(
    node_type: NodeType[Any],
    config: NodeConfig,
    raw_config: dict[str, JSON],
    scope: Mapping[str, JSON],
    info: RunInfo,
    resources: Mapping[str, Any],
    types: Mapping[str, NodeType[Any]] | None = None,
    owner: Owner | None = None,
) -> SingleNodeRun:
    """Execute one node.

    Args:
        node_type: The type of the node.
        config: Its validated config.
        raw_config: The same config as the author wrote it.
        scope: The values that templates see.
        info: A run for the node's context. Its `timeout_s` limits the execution.
        resources: The resources of the process by name; child runs are left out.
        types: The node types of this installation by name, for a node with nested nodes.
        owner: For whose turns its work waits; None for the project and the run.

    Raises:
        asyncio.CancelledError: The task was cancelled. Failures of the node are returned.
    """
    journal, state = _LogJournal(), RunState(info.id, 1)
    reporter = NodeReporter(info, NODE_ID, 1, state, journal)
    allowed = {name: resource for name, resource in resources.items() if name != EXCLUDED_RESOURCE}
    context = RunNodeContext(info, NODE_ID, 1, scope, allowed, reporter, types=types)
    spec = NodeSpec(NODE_ID, node_type.name, config=raw_config, timeout_s=info.timeout_s)
    node = BoundNode(spec, node_type, config, types=types or {})
    with working_for(Owner(info.project_id, info.id) if owner is None else owner):
        result = await suspendable(run_attempt(node, context))
    node_state = state.node_state(NODE_ID)
    duration_ms = (result.ended_at - result.started_at).total_seconds() * 1000
    error = None if result.error is None else replace(result.error, node_id=None)
    return SingleNodeRun(
        result.outcome,
        error,
        context.noted_input,
        node_state.partial_output,
        node_state.usage,
        journal.logs,
        duration_ms,
        node_state.thinking,
        node_state.finish_reason,
    )


async def try_node(
    node_type: NodeType[Any],
    config: dict[str, JSON],
    values: Mapping[str, JSON] | None = None,
    resources: Mapping[str, Any] | None = None,
) -> SingleNodeRun:
    """Execute one node in a test of its type.

    Args:
        node_type: An instance of the type.
        config: The config as in a spec.
        values: The values that templates see by name, for example `{"input": {"name": "Ada"}}`.
        resources: The resources that the node needs, by name.

    Returns:
        The outcome or the error, and everything that the node reported.

    Raises:
        pydantic.ValidationError: The type rejects the config.
    """
    scope = build_scope(values or {}, "run_test")
    info = RunInfo("run_test", "prj_test", 1, 0, scope["input"])
    return await execute(node_type, node_type.Config.model_validate(config), config, scope, info, resources or {})
