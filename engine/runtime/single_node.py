"""One node executed by itself, outside any run: with the values it is given, what it told, and how it ended.

Nothing is stored and nobody waits: a node that would wait for a person or a moment ends with what it would wait for.
"""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from engine.events import EventData, LogRecorded, OutputDelta, RunError, Usage
from engine.graph.bound_node import BoundNode
from engine.runtime.attempts import attempt
from engine.runtime.node_context import RunNodeContext
from engine.runtime.ports import Entry
from engine.runtime.reporter import NodeReporter
from engine.runtime.run_info import RunInfo
from engine.runtime.run_state import RunState
from engine.sdk.node import NodeConfig, NodeType, Outcome
from engine.spec.model import NodeSpec
from engine.states import NodeStatus
from engine.types import JSON

NODE_ID = "test"
"""What the node is called where it needs a name: in its idempotency key, and in messages."""
NEVER_HERE = "runs"
"""The resource that starts child runs: without a run there is no parent for them."""


@dataclass(frozen=True, slots=True)
class SingleNodeRun:
    """`outcome` is None where there is an `error`. `input` is what the node noted that it was given."""

    outcome: Outcome | None
    error: RunError | None
    input: JSON
    partial_output: str | None
    usage: Usage | None
    logs: list[LogRecorded]
    duration_ms: float


@dataclass(slots=True)
class _Heard:
    """A journal that keeps what the node tells for as long as it runs."""

    logs: list[LogRecorded] = field(default_factory=list)

    def post(self, entry: Entry) -> None:
        self.logs += [what for what in _told(entry) if isinstance(what, LogRecorded)]

    def stream(self, run_id: str, delta: OutputDelta) -> None:
        """The text is in the node's state as well."""

    def commit(self, entry: Entry) -> Awaitable[int]:
        raise RuntimeError("outside of a run there is nothing to commit")


def _told(entry: Entry) -> list[EventData]:
    return [what for _, what in entry.events_to_write]


def scope_of(given: Mapping[str, JSON], run_id: str) -> dict[str, JSON]:
    """The names of templates: what was given, with `nodes: {id: {output}}` by their ids as well, as in a run."""
    nodes = {node_id: _as_run(node) for node_id, node in (given.get("nodes") or {}).items()}
    return {"input": {}, "run": {"id": run_id}, **nodes, **given, "nodes": nodes}


def _as_run(node: Mapping[str, JSON]) -> dict[str, JSON]:
    return {"output": None, "status": NodeStatus.COMPLETED.value, **node}


async def execute(
    kind: NodeType[Any],
    config: NodeConfig,
    raw: dict[str, JSON],
    scope: Mapping[str, JSON],
    info: RunInfo,
    resources: Mapping[str, Any],
    types: Mapping[str, NodeType[Any]] | None = None,
) -> SingleNodeRun:
    """`raw` is the config as it was written; `facts.timeout_s` is how long it may take. Raises only CancelledError."""
    heard, memory = _Heard(), RunState(info.id, 1, {})
    report = NodeReporter(info, NODE_ID, 1, memory, heard)
    reached = {name: thing for name, thing in resources.items() if name != NEVER_HERE}
    context = RunNodeContext(info, NODE_ID, 1, scope, reached, report, types=types)
    work = BoundNode(
        NodeSpec(NODE_ID, kind.name, config=raw, timeout_s=info.timeout_s), kind, config, types=types or {}
    )
    result = await attempt(work, context, report.retrying, report.again)
    state = memory.state(NODE_ID)
    took_ms = (result.ended_at - result.started_at).total_seconds() * 1000
    error = None if result.error is None else replace(result.error, node_id=None)
    return SingleNodeRun(
        result.outcome, error, context.noted_input, state.partial_output, state.usage, heard.logs, took_ms
    )


async def try_node(
    kind: NodeType[Any],
    config: dict[str, JSON],
    given: Mapping[str, JSON] | None = None,
    resources: Mapping[str, Any] | None = None,
) -> SingleNodeRun:
    """For tests of node types: one of them with this config and these names. Raises pydantic's ValidationError."""
    scope = scope_of(given or {}, "run_test")
    info = RunInfo("run_test", "prj_test", 1, 0, scope["input"])
    return await execute(kind, kind.Config.model_validate(config), config, scope, info, resources or {})
